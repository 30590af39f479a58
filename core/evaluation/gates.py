"""Gates: each condition for replacing the champion, tested by a paired confidence interval.

All conditions have to hold, so the chance of promoting a challenger that violates one of them is at most that of its
one test: no correction for multiple tests is needed. Of the checks of groups any one refuses; they are corrected, in
`core.evaluation.slices`.

Source:
    Berger 1982, "Multiparameter hypothesis testing and acceptance sampling" (intersection-union tests). Non-inferiority
    by the bound of an interval: Schuirmann 1987.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.evaluation.estimates import Rows, ScoreEstimate, measure, measure_both
from prefect_mlops.core.evaluation.intervals import SHOWN, Estimate, alone, difference, shown
from prefect_mlops.core.metrics import Metric, require_metrics
from prefect_mlops.core.reports import Check

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.evaluation.predictions import CachedPredictions
    from prefect_mlops.core.values import Gate

FEW_ROWS = 400  # judging rows, of a table of 2,000: up to there cross-validation cuts ten times
CROSS_VALIDATE = (
    f"below {FEW_ROWS} judging rows, evaluation='cross_validation' in the spec compares both recipes on all rows"
)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows.

    Attributes:
        challenger: predictions of the model that may be promoted.
        champion: predictions of the champion; None where there is none.
        rows: the test set: ground truth and resampling units.
        table: the test set with all its columns, in the same order.
    """

    challenger: CachedPredictions
    champion: CachedPredictions | None
    rows: Rows
    table: pd.DataFrame

    def measure(self, gate: Gate, chosen: NDArray[Any] | None = None) -> tuple[ScoreEstimate, ScoreEstimate | None]:
        """Score both models by a gate's metric, on all rows or on some."""
        if self.champion is None:
            return measure(gate.scorer, self.challenger, self.rows, chosen), None
        return measure_both(gate.scorer, self.challenger, self.champion, self.rows, chosen)


def require_gates(gates: Sequence[Gate]) -> tuple[Metric, ...]:
    """Return the metrics of gates.

    Raises:
        ConfigError: no gate, or an unknown metric.
    """
    if not gates:
        raise ConfigError("no gate was given: a promotion needs at least one, e.g. Gate('roc_auc', at_least=0.8)")
    return require_metrics([gate.scorer for gate in gates])


def judge_gates(comparison: Comparison, gates: Sequence[Gate]) -> list[Check]:
    """Check each condition on all rows of the test set.

    Args:
        comparison: the two models and the test set.
        gates: conditions; all have to hold.

    Returns:
        One check for each condition.

    Raises:
        ConfigError: a metric that does not fit the models or the target.
        DataCheckError: a score that is not defined on these rows.
    """
    measured: dict[str, tuple[ScoreEstimate, ScoreEstimate | None]] = {}
    checks: list[Check] = []
    for gate in gates:
        if gate.metric not in measured:
            measured[gate.metric] = comparison.measure(gate)
        challenger, champion = measured[gate.metric]
        checks += _conditions(gate, challenger, champion)
    return checks


def _conditions(gate: Gate, challenger: ScoreEstimate, champion: ScoreEstimate | None) -> list[Check]:
    own, interval = alone(challenger), shown(challenger)
    if champion is None:
        return check_conditions(gate, own, interval)
    return check_conditions(gate, own, interval, champion=champion.score, apart=difference(challenger, champion))


def check_conditions(
    gate: Gate,
    own: Estimate,
    interval: tuple[float, float] | None,
    *,
    champion: float | None = None,
    apart: Estimate | None = None,
) -> list[Check]:
    """Check each condition of a gate.

    Args:
        gate: the conditions.
        own: the challenger's score.
        interval: its two-sided interval to show, where there is one.
        champion: the champion's score; None where there is no champion.
        apart: how far the challenger is above it.

    Returns:
        One check for each condition.
    """
    checks = [_minimum_score(gate, own, interval)] if gate.at_least is not None else []
    if champion is None or apart is None:
        if gate.at_least is None and (gate.may_lose is not None or gate.must_gain is not None):
            checks.append(
                Check(
                    id="no-champion",
                    name="no champion to beat",
                    passed=True,
                    subject=gate.metric,
                    observed=f"{own.value:.4f} ({counted(own)})",
                    expected="any score",
                )
            )
        return checks
    seen = seen_both(own.value, champion)
    if gate.may_lose is not None:
        checks.append(_non_inferiority(gate, gate.may_lose, seen, apart))
    if gate.must_gain is not None:
        limit, bound = gate.must_gain, apart.lower(gate.confidence)
        checks.append(
            Check(
                id="minimum-improvement",
                name="better than the champion",
                passed=bound > limit,
                subject=gate.metric,
                observed=seen + _interval(apart, gate.confidence, limit=limit),
                expected=f"a lower bound above {limit:g}",
                value=bound,
                threshold=limit,
            )
        )
    return checks


def _minimum_score(gate: Gate, own: Estimate, interval: tuple[float, float] | None) -> Check:
    """Compare the score with its threshold, the minimum score; the interval is shown and does not decide.

    Where chance cannot be estimated at all, as from two years, the score is no evidence and the check fails.
    """
    threshold = gate.at_least or 0.0
    seen = f"{own.value:.4f} ("
    seen += f"{SHOWN * 100:g} % from {interval[0]:.4f} to {interval[1]:.4f}, " if interval else ""
    seen += f"{counted(own)})"
    passed = own.value >= threshold and not own.problem
    if own.problem:
        seen += f", which cannot be judged: {own.problem}{few_rows(own)}"
    elif passed and interval and interval[0] < threshold:
        seen += "; the interval reaches below the minimum"
    return Check(
        id="minimum-score",
        name="minimum score",
        passed=passed,
        subject=gate.metric,
        observed=seen,
        expected=f"≥ {threshold:g}",
        value=own.value,
        threshold=threshold,
    )


def _non_inferiority(gate: Gate, margin: float, seen: str, apart: Estimate) -> Check:
    """Test non-inferiority: the lower bound is above minus the margin, or the two models do not differ."""
    bound = 0.0 if apart.none else apart.lower(gate.confidence)
    return Check(
        id="non-inferiority",
        name="not worse than the champion",
        passed=apart.none or bound > -margin,
        subject=gate.metric,
        observed=seen + _interval(apart, gate.confidence, limit=-margin),
        expected=f"a lower bound above {-margin:g}" if margin else "a lower bound above 0, or no difference",
        value=bound,
        threshold=-margin,
    )


def seen_both(challenger: float, champion: float) -> str:
    """Write both scores and their difference."""
    return f"{challenger:.4f}, champion {champion:.4f}, difference {challenger - champion:+.4f}"


def _interval(apart: Estimate, confidence: float, *, limit: float) -> str:
    """Write the deciding bound, its rows and units, and why it does not suffice."""
    if apart.none:
        return f", none in any row ({counted(apart)})" if apart.units == apart.rows else f", none ({counted(apart)})"
    if apart.problem:
        return f", which cannot be judged: {apart.problem}{few_rows(apart)}"
    bound = apart.lower(confidence)
    seen = f" ({confidence * 100:g} % from {bound:+.4f}, {counted(apart)}, {apart.method})"
    return seen + (f"; it could be chance{few_rows(apart)}" if bound <= limit < apart.value else "")


def few_rows(estimate: Estimate) -> str:
    """Point to cross-validation where few rows of a holdout cannot tell."""
    return "" if estimate.pieces == "folds" or estimate.rows >= FEW_ROWS else f" ({CROSS_VALIDATE})"


def counted(estimate: Estimate) -> str:
    """Write the number of rows, and of independent units, that a value rests on."""
    rows = f"{estimate.rows:,} rows"
    return rows if estimate.units == estimate.rows else f"{rows} in {estimate.units:,} {estimate.pieces}"
