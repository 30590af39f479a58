"""Score a model, and judge a challenger against the champion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lineage import estimator_name, lineage_of
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.values import Evaluation, Gate, LoadedModel
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    import pandas as pd


def _evaluate_name(parameters: dict[str, Any]) -> str:
    return f"evaluate-{_name(parameters['model'])}-on-{len(parameters['X'])}-rows"


def _judge_name(parameters: dict[str, Any]) -> str:
    return f"judge-{_name(parameters['challenger'])}-on-{len(parameters['X'])}-rows"


@step(_evaluate_name)
def evaluate_model(model: Any, X: pd.DataFrame, y: pd.Series, *, metrics: Sequence[str]) -> Evaluation:
    """Score a fitted model on rows it has not seen.

    Args:
        model: fitted scikit-learn compatible estimator, or a `LoadedModel`.
        X: features, (rows, columns).
        y: truth, (rows,), in the order of ``X``.
        metrics: scikit-learn scorer names; larger is better for each.

    Returns:
        The scores and how many rows they rest on.

    Raises:
        ConfigError: unknown metric, or one that does not fit model or target.
        DataCheckError: no rows, or a score that is not defined on these rows.

    Source: `sklearn.metrics.get_scorer`.
    """
    from prefect_mlops.core.scoring import score_model

    return Evaluation(metrics=score_model(_estimator(model), X, y, metrics=metrics), rows=len(X))


@step(_judge_name)
def judge_model(
    challenger: Any,
    champion: Any | None,
    X: pd.DataFrame,
    y: pd.Series,
    *,
    gates: Sequence[Gate],
) -> Report:
    """Compare a challenger with the champion on the same rows, which neither was trained on.

    Scores are compared as they are, without an interval: on few rows a small margin is decided by luck.

    Args:
        challenger: fitted estimator that wants to be promoted.
        champion: `LoadedModel` or fitted estimator that is live now; None where there is none, then only
            ``at_least`` counts.
        X: features of the judging rows, (rows, columns).
        y: truth, (rows,), in the order of ``X``.
        gates: conditions; all have to hold.

    Returns:
        A ``gate`` report with one check for each condition.

    Raises:
        ConfigError: no gates, unknown metric, or a champion that needs other columns than ``X`` has.
        DataCheckError: no rows, or a score that is not defined on these rows.

    Source: `sklearn.metrics.get_scorer`.
    """
    if not gates:
        raise ConfigError("no gate was given: a promotion needs at least one, e.g. Gate('roc_auc', at_least=0.8)")
    metrics = [gate.metric for gate in gates]
    ours = _scores(challenger, X, y, metrics=metrics, role="challenger")
    theirs = None if champion is None else _scores(champion, X, y, metrics=metrics, role="champion")
    checks = tuple(check for gate in gates for check in _checks(gate, ours, theirs))
    return Report(kind="gate", subject=_subject(challenger, champion), checks=checks, rows=len(X))


def _scores(model: Any, X: pd.DataFrame, y: pd.Series, *, metrics: list[str], role: str) -> dict[str, float]:
    """Score a model on the columns it knows, which need not be all the judging rows have."""
    from prefect_mlops.core.scoring import score_model

    estimator = _estimator(model)
    learned = lineage_of(estimator)
    wanted = list(learned.columns) if learned else [str(name) for name in getattr(estimator, "feature_names_in_", [])]
    missing = sorted(set(wanted) - {str(name) for name in X.columns})
    if missing:
        raise ConfigError(
            f"the {role} {_name(model)} needs column {', '.join(map(repr, missing))}, which the judging rows do not "
            "have: judge on rows with the features of both"
        )
    return score_model(estimator, X[wanted] if wanted else X, y, metrics=metrics)


def _checks(gate: Gate, ours: dict[str, float], theirs: dict[str, float] | None) -> list[Check]:
    """Answer each condition of one gate."""
    score = ours[gate.metric]
    checks = []
    if gate.at_least is not None:
        checks.append(_check(gate, "minimum score", score >= gate.at_least, score, None, f"≥ {gate.at_least:g}"))
    if theirs is None:
        return checks or [_check(gate, "no champion to beat", True, score, None, "any score")]
    live = theirs[gate.metric]
    if gate.may_lose is not None:
        floor = live - gate.may_lose
        wanted = f"≥ {floor:.4f} (champion {live:.4f} - {gate.may_lose:g})"
        checks.append(_check(gate, "not worse than the champion", score >= floor, score, live, wanted))
    if gate.must_gain is not None:
        floor = live + gate.must_gain
        wanted = f"≥ {floor:.4f} (champion {live:.4f} + {gate.must_gain:g})"
        checks.append(_check(gate, "better than the champion", score >= floor, score, live, wanted))
    return checks


def _check(gate: Gate, name: str, passed: bool, score: float, live: float | None, wanted: str) -> Check:
    difference = "" if live is None else f" ({score - live:+.4f})"
    return Check(name=name, passed=passed, subject=gate.metric, observed=f"{score:.4f}{difference}", expected=wanted)


def _estimator(model: Any) -> Any:
    return model.estimator if isinstance(model, LoadedModel) else model


def _name(model: Any) -> str:
    if isinstance(model, LoadedModel):
        return f"{model.version.name} v{model.version.version}"
    return estimator_name(model)


def _subject(challenger: Any, champion: Any | None) -> str:
    against = f" against {_name(champion)}" if champion is not None else ", no champion yet"
    return f"{_name(challenger)}{against}"
