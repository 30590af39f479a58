"""How far a score, or the difference of two models on the same rows, may be off by chance."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.evaluation.estimates import DRAWS, ScoreEstimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN = 0.95  # two-sided confidence of the interval shown beside a score
MIN_UNITS = 5  # fewer independent pieces say next to nothing about chance
_LEAST_DRAWS = DRAWS // 2
_ROUNDING = 1e-9  # a standard error as small as this, beside the value, is none


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error.

    Attributes:
        value: score or difference.
        error: standard error; 0 where every unit says the same.
        freedom: degrees of freedom of Student's t.
        rows: rows it rests on.
        units: independent pieces it rests on.
        method: what the interval is called.
        pairs: rows both models, only the first, only the second, and neither answered rightly; Newcombe's interval is
            taken from it.
        problem: why chance cannot be judged; the bounds are then infinite.
        pieces: what the units are called: rows, groups or blocks.
        share: the value is a share of independent rows; Wilson's interval is taken.
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
        """True where no unit tells the two apart."""
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
    if plain.error <= _ROUNDING * abs(plain.value) and not plain.none:  # all that counts lies in one row or block
        return _impossible(plain, "every piece says the same, which tells nothing of chance")
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
    """Return the two-sided interval to show beside a score, or None where chance cannot be judged."""
    found, side = alone(measured), (1 + SHOWN) / 2
    if found.problem or (found.error <= _ROUNDING * abs(found.value) and not found.share):
        return None
    return found.lower(side), max(found.value, min(found.upper(side), measured.best))


def gap(first: ScoreEstimate, second: ScoreEstimate) -> Estimate:
    """Estimate how far one model's score on a group of rows is above its score on another group.

    A unit with rows of both groups, such as a block in time, counts once, with what it does to either. Where only
    scores of resamples are known, the groups are taken as independent.

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
        A unit pulls the score towards itself by its share of the rows, which is made up for: Bell and McCaffrey 2002.
        Satterthwaite 1946: where few units make most of the spread, or hold most of the rows, its estimate is as
        uncertain as that of few units, and the degrees of freedom, matched by the fourth moment, are fewer. Newey and
        West 1987, with one lag: the covariance of neighbouring blocks, where it is positive. Of resamples: Efron and
        Tibshirani 1993, chapter 12, t interval with the bootstrap's standard error.
    """
    import numpy as np

    known = spread[np.isfinite(spread)]
    same = not np.ptp(known) if len(known) and of.resampled else not known.any()
    sure = Estimate(value, 0.0, max(of.units - 1, 1), of.rows, of.units, of.method, pieces=of.pieces)
    if same and value == 0 and len(known):
        return sure
    if of.units < MIN_UNITS:
        return _impossible(sure, f"{of.units} independent pieces, at least {MIN_UNITS} are needed")
    if len(known) < min(len(spread), _LEAST_DRAWS):
        return _impossible(sure, f"the metric is undefined on {len(spread) - len(known)} of {len(spread)} resamples")
    if same:
        return sure
    shares = of.sizes / of.sizes.sum()
    most = min(of.units - 1, float((shares**2).sum() ** 2 / (shares**4).sum()))
    if of.resampled:
        left_out = len(spread) - len(known)
        method = of.method + (f", {left_out} of them undefined" if left_out else "")
        error = math.sqrt(of.units / (of.units - 1) * known.var(ddof=1))
        return replace(sure, error=error, freedom=most, method=method)
    moved = known / np.sqrt(1 - shares)
    squares = float((moved**2).sum())
    kurtosis = of.units * float((moved**4).sum()) / squares**2
    if of.pieces == "blocks":  # what lasts longer than a block ties it to the next one
        squares += 2 * max(0.0, float((moved[1:] * moved[:-1]).sum()))
    freedom = most if kurtosis <= 1 else max(1.0, min(most, 2 * of.units / (kurtosis - 1)))
    return replace(sure, error=math.sqrt(squares), freedom=freedom)


def _impossible(sure: Estimate, problem: str) -> Estimate:
    return replace(sure, error=math.inf, problem=problem)


def _newcombe(pairs: tuple[int, int, int, int], z: float) -> tuple[float, float]:
    """Bound the difference of two paired shares; it does not collapse where few rows tell the models apart.

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
