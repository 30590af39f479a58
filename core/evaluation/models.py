"""A model scored on rows it has not seen, and a challenger compared with the champion, in one call each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.evaluation.estimates import Rows, measure
from prefect_mlops.core.evaluation.gates import Comparison, judge_gates, require_gates
from prefect_mlops.core.evaluation.intervals import shown
from prefect_mlops.core.evaluation.positive_class import unlearned_classes
from prefect_mlops.core.evaluation.predictions import CachedPredictions
from prefect_mlops.core.evaluation.resampling_units import resampling_units
from prefect_mlops.core.evaluation.slices import judge_slices
from prefect_mlops.core.evaluation.unseen_rows import find_unseen_rows
from prefect_mlops.core.lineage.training_data import estimator_name, lineage_of
from prefect_mlops.core.metrics import Metric, metric_name, require_metrics
from prefect_mlops.core.reports import Report
from prefect_mlops.core.text import one_line
from prefect_mlops.core.values import Evaluation, Gate, LoadedModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


def evaluate_model(
    estimator: Any,
    X: pd.DataFrame,
    y: pd.Series,
    *,
    metrics: Sequence[Metric],
    order_by: str | None = None,
    group_by: str | None = None,
    positive: object = None,
) -> Evaluation:
    """Score a fitted model on rows it has not seen.

    Args:
        estimator: fitted scikit-learn compatible estimator, or a `LoadedModel`.
        X: features, (rows, columns); columns the model does not know are left out.
        y: truth, (rows,), in the order of ``X``.
        metrics: scikit-learn scorer names, and functions ``f(estimator, X, y) -> float``; larger is better for each.
        order_by: column of time in ``X``; the intervals then rest on blocks in time.
        group_by: column in ``X`` whose groups are independent of each other; the intervals then rest on groups.
        positive: the positive one of two classes, for metrics given by name: they see 1 for it and 0 for the other.
            None leaves classes as they are.

    Returns:
        The scores, how many rows they rest on, and a 95 % interval for each. A metric that only scikit-learn or its
        author knows is computed up to 200 times for that (`core.evaluation.estimates`).

    Raises:
        ConfigError: unknown metric, or one that does not fit model or target; a column that is not there; a positive
            class that is none of the model's two.
        DataCheckError: no rows, or a score that is not defined on these rows.

    Source: `sklearn.metrics.get_scorer`; the intervals as in `core.evaluation.influence_functions`.
    """
    wanted = require_metrics(metrics)
    rows = _rows(X, y, order_by=order_by, group_by=group_by, positive=positive)
    answers = _answers(estimator, X, role="model", besides=(order_by, group_by))
    roles = {f"the model {model_title(estimator)}": answers}
    unlearned = _check_classes(roles, rows, wanted)
    with _reasons(unlearned):
        measured = {metric_name(metric): measure(metric, answers, rows) for metric in wanted}
    intervals = {name: shown(found) for name, found in measured.items()}
    return Evaluation(
        metrics={name: found.score for name, found in measured.items()},
        rows=len(X),
        intervals={name: interval for name, interval in intervals.items() if interval is not None},
        notes=unlearned,
    )


def judge_model(  # noqa: PLR0913 - a spec's options of the judge, one by one
    challenger: Any,
    champion: Any | None,
    X: pd.DataFrame,
    y: pd.Series,
    *,
    gates: Sequence[Gate],
    order_by: str | None = None,
    group_by: str | None = None,
    seed: int = 0,
    known_groups: Iterable[Any] | None = None,
    set_apart: bool = False,
    positive: object = None,
) -> Report:
    """Compare a challenger with the champion on the same rows, which neither has learned from.

    The lineage of each model says which rows it may have learned from: those are left out and counted. Where it cannot
    tell, the report holds one failed check, ``unseen-rows``, and no comparison.

    Differences are judged by their interval, so that luck on few rows decides nothing: ``may_lose`` and ``must_gain``
    hold where the lower bound lies above minus the margin, or above the gain. docs/gates.md tells which interval
    belongs to which metric. Predictions are made once; a metric that only its author knows is computed up to
    200 times for each model.

    Args:
        challenger: fitted estimator that wants to be promoted.
        champion: `LoadedModel` or fitted estimator that is live now; None where there is none, then only ``at_least``
            and ``max_gap`` count.
        X: the test rows, (rows, columns): the features of both, and the columns named by the options, the slices and
            the lineages: of time, group or key.
        y: truth, (rows,), in the order of ``X``.
        gates: conditions; all have to hold.
        order_by: column of time; rows close in time are then taken together, in up to 50 blocks.
        group_by: column whose groups are independent of each other; rows of one group are then taken together, also
            where ``order_by`` is given.
        seed: of the resamples.
        known_groups: values of ``group_by`` among the training rows, where a split by time leaves groups on both sides:
            scores on rows of these and of new groups are then noted apart.
        set_apart: vouch that a model whose lineage cannot tell, such as one from elsewhere, was not trained on these
            rows.
        positive: the positive one of two classes, for metrics given by name; None leaves classes as they are.

    Returns:
        A ``gate`` report: the check ``unseen-rows``, then one for each condition, and for the groups of the slices.

    Raises:
        ConfigError: no gates, unknown metric or column, a slice with too many values, a champion that needs other
            columns than ``X`` has, or a positive class that is none of a model's two.
        DataCheckError: no rows, or a score that is not defined on these rows.

    Source: `sklearn.metrics.get_scorer`; `influence_functions`, `intervals`, `gates` of `core.evaluation` name theirs.
    """
    metrics = require_gates(gates)
    require_rows(X, y)
    given = {"challenger": challenger, "champion": champion}
    models = {role: estimator_of(one) for role, one in given.items() if one is not None}
    unseen = find_unseen_rows(models, X, order_by=order_by, set_apart=set_apart)
    subject = comparison_title(challenger, champion)
    if not unseen.check.passed:
        return Report(kind="gate", subject=subject, checks=(unseen.check,), rows=int(unseen.mask.sum()))
    identities = unseen.identities
    if not unseen.mask.all():
        X, y = X[unseen.mask], y[unseen.mask]
        identities = None if identities is None else identities[unseen.mask]
    rows = _rows(X, y, order_by=order_by, group_by=group_by, seed=seed, identities=identities, positive=positive)
    besides = (order_by, group_by)
    ours = _answers(challenger, X, role="challenger", besides=besides)
    theirs = None if champion is None else _answers(champion, X, role="champion", besides=besides)
    contest = Comparison(ours, theirs, rows, X)
    roles = {f"the challenger {model_title(challenger)}": ours, f"the champion {model_title(champion)}": theirs}
    unlearned = _check_classes(roles, rows, metrics)
    with _reasons(unlearned):
        checks = (unseen.check, *judge_gates(contest, gates), *judge_slices(contest, gates))
    said = "" if positive is None else f"Metrics by name take {positive!r:.80} as the positive class."
    notes = [note for note in (rows.units.note, said, *unlearned) if note]
    if known_groups is not None and group_by:
        known = X[group_by].isin(list(known_groups)).to_numpy(dtype=bool)
        notes += _apart(contest, gates, {f"known {group_by}": known, f"new {group_by}": ~known})
    return Report(kind="gate", subject=subject, checks=checks, rows=len(X), notes=tuple(notes))


def _apart(comparison: Comparison, gates: Sequence[Gate], parts: dict[str, npt.NDArray[np.bool_]]) -> Iterator[str]:
    """Write the challenger's scores on parts of the rows, a sentence for each."""
    import numpy as np

    for words, mask in parts.items():
        scores = []
        for gate in gates if mask.any() else ():
            try:
                found = measure(gate.scorer, comparison.challenger, comparison.rows, np.flatnonzero(mask))
            except (ConfigError, DataCheckError) as error:
                scores.append(f"{gate.metric} cannot be computed ({one_line(error)})")
                continue
            interval = shown(found)
            within = f" (95 % from {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
            scores.append(f"{gate.metric} {found.score:.4f}{within}")
        yield f"Rows of a {words}: {int(mask.sum()):,}; {', '.join(scores)}." if scores else f"Rows of a {words}: none."


def require_rows(X: pd.DataFrame, y: pd.Series) -> None:
    """Check that there is a target for each row; raises a ConfigError."""
    if len(X) != len(y):
        raise ConfigError(f"{len(X):,} rows but {len(y):,} values of the target: give one for each row")


def _rows(
    X: pd.DataFrame,
    y: pd.Series,
    *,
    order_by: str | None,
    group_by: str | None,
    seed: int = 0,
    identities: npt.NDArray[np.uint64] | None = None,
    positive: object = None,
) -> Rows:
    import pandas as pd

    require_rows(X, y)
    units = resampling_units(X, order_by=order_by, group_by=group_by, identities=identities)
    return Rows(pd.Series(y).reset_index(drop=True), units, seed, positive)


def _check_classes(
    roles: Mapping[str, CachedPredictions | None], rows: Rows, metrics: Iterable[Metric]
) -> tuple[str, ...]:
    """Check the positive class, and say of each model which classes of the rows it has not learned.

    Raises:
        ConfigError: named metrics need two classes with the positive one, and a model or the rows have others.
    """
    models = {name: answers for name, answers in roles.items() if answers is not None}
    unlearned = tuple(filter(None, (unlearned_classes(model, rows.y, name=name) for name, model in models.items())))
    if rows.positive is not None and not all(map(callable, metrics)):
        for name, answers in models.items():
            answers.binary(rows.positive, name=name)
        if unlearned:
            raise ConfigError(f"positive={rows.positive!r:.80} is for two classes, but {' '.join(unlearned)}")
        _ = rows.binary
    return tuple(sentence[0].upper() + sentence[1:] for sentence in unlearned)


@contextlib.contextmanager
def _reasons(unlearned: Sequence[str]) -> Iterator[None]:
    """Add to an error that a model has not learned a class, which is mostly its reason."""
    try:
        yield
    except (ConfigError, DataCheckError) as error:
        if not unlearned:
            raise
        message = " ".join([f"{error}.", *unlearned])
        if isinstance(error, DataCheckError):
            raise DataCheckError(message, error.report) from error
        raise ConfigError(message) from error


def _answers(given: Any, X: pd.DataFrame, *, role: str, besides: tuple[str | None, ...]) -> CachedPredictions:
    """Let a model answer on the columns it knows, which need not be all the rows have."""
    return CachedPredictions(estimator_of(given), known_columns(given, X, role=role, besides=besides))


def known_columns(given: Any, X: pd.DataFrame, *, role: str, besides: tuple[str | None, ...]) -> pd.DataFrame:
    """Return the columns that a model was trained on, in its order.

    Args:
        given: `LoadedModel` or fitted estimator.
        X: (rows, columns).
        role: what messages call it.
        besides: columns that are no features where it does not say what it was trained on.

    Raises:
        ConfigError: ``X`` lacks one.
    """
    estimator = estimator_of(given)
    learned = lineage_of(estimator)
    wanted = list(learned.columns) if learned else [str(name) for name in getattr(estimator, "feature_names_in_", [])]
    missing = sorted(set(wanted) - {str(name) for name in X.columns})
    if missing:
        named = ", ".join(map(repr, missing))
        raise ConfigError(
            f"the {role} {model_title(given)} needs column {named}, which the test rows do not have: judge on rows "
            "with the features of both"
        )
    return X[wanted] if wanted else X.drop(columns=[name for name in besides if name])


def estimator_of(given: Any) -> Any:
    """Return the fitted estimator of a `LoadedModel`, or the one that was given."""
    return given.estimator if isinstance(given, LoadedModel) else given


def model_title(given: Any) -> str:
    """Name a `LoadedModel` by its version, an estimator by its kind."""
    if isinstance(given, LoadedModel):
        return f"{given.version.name} v{given.version.version}"
    return estimator_name(given)


def comparison_title(challenger: Any, champion: Any | None) -> str:
    """Name both models of a comparison."""
    against = f" against {model_title(champion)}" if champion is not None else ", no champion yet"
    return f"{model_title(challenger)}{against}"
