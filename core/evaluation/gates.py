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

from prefect_mlops.core.evaluation.estimates import Rows, ScoreEstimate, measure, measure_both
from prefect_mlops.core.evaluation.intervals import SHOWN, Estimate, alone, difference, shown
from prefect_mlops.core.reports import Check

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.evaluation.predictions import CachedPredictions
    from prefect_mlops.core.values import Gate


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
    checks = [_minimum_score(gate, challenger)] if gate.at_least is not None else []
    if champion is None:
        if gate.at_least is None and (gate.may_lose is not None or gate.must_gain is not None):
            seen = f"{challenger.score:.4f} ({counted(alone(challenger))})"
            checks.append(
                Check(
                    id="no-champion",
                    name="no champion to beat",
                    passed=True,
                    subject=gate.metric,
                    observed=seen,
                    expected="any score",
                )
            )
        return checks
    apart = difference(challenger, champion)
    if gate.may_lose is not None:
        checks.append(_non_inferiority(gate, gate.may_lose, seen_both(challenger, champion), apart))
    if gate.must_gain is not None:
        limit, bound = gate.must_gain, apart.lower(gate.confidence)
        checks.append(
            Check(
                id="minimum-improvement",
                name="better than the champion",
                passed=bound > limit,
                subject=gate.metric,
                observed=seen_both(challenger, champion) + _interval(apart, gate.confidence, limit=limit),
                expected=f"a lower bound above {limit:g}",
                value=bound,
                threshold=limit,
            )
        )
    return checks


def _minimum_score(gate: Gate, challenger: ScoreEstimate) -> Check:
    """Compare the score with its threshold, the minimum score; the interval is shown and does not decide.

    Where chance cannot be estimated at all, as from two years, the score is no evidence and the check fails.
    """
    threshold, estimate = gate.at_least or 0.0, alone(challenger)
    interval = shown(challenger)
    seen = f"{challenger.score:.4f} ("
    seen += f"{SHOWN * 100:g} % from {interval[0]:.4f} to {interval[1]:.4f}, " if interval else ""
    seen += f"{counted(estimate)})"
    passed = challenger.score >= threshold and not estimate.problem
    if estimate.problem:
        seen += f", which cannot be judged: {estimate.problem}"
    elif passed and interval and interval[0] < threshold:
        seen += "; the interval reaches below the minimum"
    return Check(
        id="minimum-score",
        name="minimum score",
        passed=passed,
        subject=gate.metric,
        observed=seen,
        expected=f"≥ {threshold:g}",
        value=challenger.score,
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


def seen_both(challenger: ScoreEstimate, champion: ScoreEstimate) -> str:
    """Write both scores and their difference."""
    return f"{challenger.score:.4f}, champion {champion.score:.4f}, difference {challenger.score - champion.score:+.4f}"


def _interval(apart: Estimate, confidence: float, *, limit: float) -> str:
    """Write the deciding bound, its rows and units, and why it does not suffice."""
    if apart.none:
        return f", none in any row ({counted(apart)})" if apart.units == apart.rows else f", none ({counted(apart)})"
    if apart.problem:
        return f", which cannot be judged: {apart.problem}"
    bound = apart.lower(confidence)
    seen = f" ({confidence * 100:g} % from {bound:+.4f}, {counted(apart)}, {apart.method})"
    return seen + ("; it could be chance" if bound <= limit < apart.value else "")


def counted(estimate: Estimate) -> str:
    """Write the number of rows, and of independent units, that a value rests on."""
    rows = f"{estimate.rows:,} rows"
    return rows if estimate.units == estimate.rows else f"{rows} in {estimate.units:,} {estimate.pieces}"
