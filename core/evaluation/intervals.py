"""Standard errors and confidence bounds of a score, and of the difference of two models on the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.evaluation.estimates import DRAWS, ScoreEstimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN = 0.95  # two-sided confidence of the interval shown beside a score
MIN_UNITS = 5  # independent units; with fewer, a standard error means next to nothing
_LEAST_DRAWS = DRAWS // 2
_ROUNDING = 1e-9  # standard errors below this share of the value are rounding errors


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error.

    Attributes:
        value: score or difference.
        error: standard error; 0 where all units agree.
        freedom: degrees of freedom of Student's t.
        rows: rows it rests on.
        units: independent units it rests on.
        method: what the interval is called.
        pairs: number of rows that both models, only the first, only the second, and neither predicted correctly, for
            Newcombe's interval.
        problem: why there is no standard error; the bounds are then infinite.
        pieces: what the units are called: rows, groups or blocks.
        share: the value is a share of independent rows, for Wilson's interval.
    """

    value: float
    error: float
    freedom: float
    rows: int
    units: int
    method: str
    pairs: tuple[int, int, int, int] | None = None
    problem: str = ""
    pieces: str = "rows"
    share: bool = False

    @property
    def none(self) -> bool:
        """True where two models do not differ on any unit."""
        return self.value == 0 and self.error == 0

    def lower(self, confidence: float) -> float:
        """Return the one-sided lower bound."""
        return self._bound(confidence, -1)

    def upper(self, confidence: float) -> float:
        """Return the one-sided upper bound."""
        return self._bound(confidence, 1)

    def _bound(self, confidence: float, side: int) -> float:
        from scipy import special

        if self.problem:
            return side * math.inf
        if self.share:
            return _wilson(self.value, self.rows, float(special.ndtri(confidence)))[side > 0]
        if self.error == 0:
            return self.value
        if self.pairs is not None:
            return _newcombe(self.pairs, float(special.ndtri(confidence)))[side > 0]
        return self.value + side * float(special.stdtrit(self.freedom, confidence)) * self.error


def difference(first: ScoreEstimate, second: ScoreEstimate) -> Estimate:
    """Estimate how far the first model is above the second, from what `measure_both` gave."""
    import numpy as np

    plain = _estimate(first.score - second.score, first.spread - second.spread, first)
    if plain.error <= _ROUNDING * abs(plain.value) and not plain.none:  # one row or block makes the whole difference
        return _unbounded(plain, "all units agree, so chance cannot be estimated")
    if first.right is None or second.right is None or plain.problem or plain.none:
        return plain
    table = np.bincount(2 * first.right + second.right, minlength=4)
    pairs = (int(table[3]), int(table[2]), int(table[1]), int(table[0]))
    return replace(plain, method="Newcombe", pairs=pairs)


def alone(measured: ScoreEstimate) -> Estimate:
    """Estimate one model's score."""
    found = _estimate(measured.score, measured.spread, measured)
    return found if measured.right is None or found.problem else replace(found, share=True)


def shown(measured: ScoreEstimate) -> tuple[float, float] | None:
    """Return the two-sided interval to show beside a score, or None where there is no standard error."""
    found, side = alone(measured), (1 + SHOWN) / 2
    if found.problem or (found.error <= _ROUNDING * abs(found.value) and not found.share):
        return None
    return found.lower(side), max(found.value, min(found.upper(side), measured.best))


def gap(first: ScoreEstimate, second: ScoreEstimate) -> Estimate:
    """Estimate how far one model's score on a group of rows is above its score on another group.

    A unit with rows of both groups, such as a block in time, counts once, with its influence on both scores. Where
    only scores of resamples are known, the groups are taken as independent.

    Source: Welch 1947 for the degrees of freedom of independent groups.
    """
    import numpy as np

    value = first.score - second.score
    one, two = alone(first), alone(second)
    if one.problem or two.problem:
        return one if one.problem else two
    if first.pieces != "rows" and not first.resampled and not second.resampled:
        shared = np.union1d(first.used, second.used)
        spread, sizes = np.zeros(len(shared)), np.zeros(len(shared))
        for side, sign in ((first, 1), (second, -1)):
            places = np.searchsorted(shared, side.used)
            spread[places] += sign * side.spread
            sizes[places] += side.sizes
        return _estimate(value, spread, replace(first, used=shared, sizes=sizes, rows=first.rows + second.rows))
    squares, rows = one.error**2 + two.error**2, first.rows + second.rows
    if squares == 0:
        return replace(one, value=value, rows=rows, share=False)
    freedom = squares**2 / (one.error**4 / one.freedom + two.error**4 / two.freedom)
    units = first.units + second.units
    error = math.sqrt(squares)
    return replace(one, value=value, error=error, freedom=freedom, rows=rows, units=units, share=False)


def _estimate(value: float, spread: NDArray[Any], of: ScoreEstimate) -> Estimate:
    """Turn a spread into a standard error with its degrees of freedom.

    Source:
        Bell and McCaffrey 2002: corrects for leverage, as a unit pulls the score towards itself by its share of the
        rows. Satterthwaite 1946: fewer degrees of freedom, matched by the fourth moment, where few units make most of
        the spread or hold most of the rows. Newey and West 1987, with one lag: the covariance of neighbouring blocks,
        where it is positive. Resamples: Efron and Tibshirani 1993, chapter 12, t interval with the bootstrap's
        standard error.
    """
    import numpy as np

    finite = spread[np.isfinite(spread)]
    all_equal = not np.ptp(finite) if len(finite) and of.resampled else not finite.any()
    exact = Estimate(value, 0.0, max(of.units - 1, 1), of.rows, of.units, of.method, pieces=of.pieces)
    if all_equal and value == 0 and len(finite):
        return exact
    if problem := _undefined(spread, finite, of):
        return _unbounded(exact, problem)
    if all_equal:
        return exact
    shares = of.sizes / of.sizes.sum()
    most = min(of.units - 1, float((shares**2).sum() ** 2 / (shares**4).sum()))
    if of.resampled:
        left_out = len(spread) - len(finite)
        method = of.method + (f", {left_out} of them undefined" if left_out else "")
        error = math.sqrt(of.units / (of.units - 1) * finite.var(ddof=1))
        return replace(exact, error=error, freedom=most, method=method)
    corrected = finite / np.sqrt(1 - shares)
    squares = float((corrected**2).sum())
    kurtosis = of.units * float((corrected**4).sum()) / squares**2
    if of.pieces == "blocks":  # what lasts longer than a block correlates neighbouring blocks
        squares += 2 * max(0.0, float((corrected[1:] * corrected[:-1]).sum()))
    freedom = most if kurtosis <= 1 else max(1.0, min(most, 2 * of.units / (kurtosis - 1)))
    return replace(exact, error=math.sqrt(squares), freedom=freedom)


def _undefined(spread: NDArray[Any], finite: NDArray[Any], of: ScoreEstimate) -> str:
    """Say why there is no standard error; empty where there is one."""
    if of.units < MIN_UNITS:
        return f"{of.units} independent units, at least {MIN_UNITS} are needed"
    lost = len(spread) - len(finite)
    if of.resampled and len(finite) < min(len(spread), _LEAST_DRAWS):
        return f"the metric is undefined on {lost} of {len(spread)} resamples"
    return "a class has a single row, so chance cannot be estimated" if lost and not of.resampled else ""


def _unbounded(estimate: Estimate, problem: str) -> Estimate:
    return replace(estimate, error=math.inf, problem=problem)


def _newcombe(pairs: tuple[int, int, int, int], z: float) -> tuple[float, float]:
    """Bound the difference of two paired shares; not degenerate where the models differ on few rows.

    Source:
        Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired
        data", method 10.
    """
    both, first, second, neither = pairs
    rows = sum(pairs)
    one, two = (both + first) / rows, (both + second) / rows
    (low_one, high_one), (low_two, high_two) = _wilson(one, rows, z), _wilson(two, rows, z)
    product = float(both + first) * (second + neither) * (both + second) * (first + neither)
    together = float(both) * neither - float(first) * second
    corrected = max(together - rows / 2, 0.0) if together > 0 else together
    phi = corrected / math.sqrt(product) if product > 0 else 0.0
    down = (one - low_one) ** 2 - 2 * phi * (one - low_one) * (high_two - two) + (high_two - two) ** 2
    up = (high_one - one) ** 2 - 2 * phi * (high_one - one) * (two - low_two) + (two - low_two) ** 2
    return one - two - math.sqrt(max(down, 0.0)), one - two + math.sqrt(max(up, 0.0))


def _wilson(share: float, rows: int, z: float) -> tuple[float, float]:
    """Bound a share. Source: Wilson 1927."""
    middle = share + z**2 / (2 * rows)
    half = z * math.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return (middle - half) / (1 + z**2 / rows), (middle + half) / (1 + z**2 / rows)
