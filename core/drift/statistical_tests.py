"""Size and p-value of the change of a column.

A size without a p-value alarms on small samples, a p-value without a size alarms on large ones: every measure here
carries both. scipy computes the tests; what is ours is named in each docstring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prefect_mlops.core.drift.thresholds import MIN_EXPECTED, MIN_ROWS

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.drift.quantiles import Distribution

_MOVERS_SHOWN = 3  # the categories that moved most explain the change; the rest is in the page


@dataclass(frozen=True)
class Measure:
    """The change of one thing between two samples.

    Attributes:
        statistic: name of the size and of the test behind the p-value.
        size: from 0 (no change) to 1.
        p_value: chance of a change at least as large when nothing changed; None where there are too few rows.
        words: the change as a sentence part.
    """

    statistic: str
    size: float
    p_value: float | None
    words: str = ""


def measure_numbers(*, current: Distribution, reference: Distribution) -> Measure:
    """Measure how far a numeric distribution moved.

    Args:
        current: values and how many rows each stands for.
        reference: likewise.

    Returns:
        The Kolmogorov-Smirnov distance: the largest gap between the two cumulated shares, which is the share of rows
        that would have to move. `words` is left to the caller.

    Source:
        `scipy.stats.kstwo` for the p-value, as `scipy.stats.ks_2samp` takes it for large samples: accurate from
        `MIN_ROWS` on and conservative for tied values.
    """
    import numpy as np
    from scipy import stats

    statistic = "Kolmogorov-Smirnov distance"
    rows, reference_rows = current.rows, reference.rows
    if min(rows, reference_rows) < MIN_ROWS:
        return _too_few(statistic, rows, reference_rows)
    distance = numbers_distance(current, reference)
    p_value = stats.kstwo.sf(distance, np.round(rows * reference_rows / (rows + reference_rows)))
    return Measure(statistic, distance, float(np.clip(p_value, 0, 1)))


def numbers_distance(current: Distribution, reference: Distribution) -> float:
    """Return the largest gap between two cumulated shares; neither side is empty."""
    import numpy as np

    # Between two points of the one side only the other side grows, so the largest gap is at or just below such a point.
    few, many = sorted((current, reference), key=lambda side: len(side.points))
    at = _cumulated(few, few.points, "right") - _cumulated(many, few.points, "right")
    below = _cumulated(few, few.points, "left") - _cumulated(many, few.points, "left")
    return float(max(np.abs(at).max(), np.abs(below).max()))


def _cumulated(of: Distribution, points: NDArray[Any], side: Literal["left", "right"]) -> NDArray[Any]:
    """Return the share of rows below each point; on the right, also of those at the point."""
    import numpy as np

    shares = np.concatenate([[0.0], np.cumsum(of.weights) / of.weights.sum()])
    cumulated: NDArray[Any] = shares[np.searchsorted(of.points, points, side=side)]
    return cumulated


def shift_words(*, now: float, before: float, spread: float) -> str:
    """Describe how a mean moved.

    Args:
        now: mean now; NaN or infinite where the values have none.
        before: mean of the reference.
        spread: standard deviation of the reference.
    """
    words = f"mean {before:.4g} → {now:.4g}"
    moved = (now - before) / spread if spread > 0 else math.nan
    return words + (f" ({moved:+.2f} standard deviations)" if math.isfinite(moved) else "")


def measure_words(*, current: NDArray[Any], rows: int, reference: NDArray[Any], reference_rows: int) -> Measure:
    """Measure how far the words of a text moved.

    Args:
        current: words by bucket, shape (buckets,).
        rows: texts they come from; the words of one text go together, so each text counts as one observation.
        reference: likewise, the same buckets.
        reference_rows: likewise.

    Returns:
        The share of words that would have to be others, less what chance alone can give.

    Source: as `measure_categories`, on counts scaled down to the number of texts, which is conservative.
    """
    statistic = "share of words that changed"
    if min(rows, reference_rows) < MIN_ROWS:
        return _too_few(statistic, rows, reference_rows)
    words = [float(side.sum()) for side in (current, reference)]
    if not all(words):
        both = not any(words)
        return Measure(statistic, 0.0 if both else 1.0, 1.0 if both else 0.0, "no words on one side" * (not both))
    scaled = as_texts(current, rows), as_texts(reference, reference_rows)
    distance, p_value = _moved(scaled)
    unseen = float(current[reference == 0].sum()) / words[0]
    return Measure(statistic, distance, p_value, f"{percent(unseen)} of the words are new")


def as_texts(words: NDArray[Any], texts: int) -> NDArray[Any]:
    """Scale counts of words down to the number of texts they come from: the words of one text go together."""
    scaled: NDArray[Any] = words * min(1.0, texts / max(1, words.sum()))
    return scaled


def measure_categories(*, current: pd.Series, reference: pd.Series) -> Measure:
    """Measure how far the shares of categories moved.

    Args:
        current: rows by category, integers > 0 indexed by category.
        reference: likewise.

    Returns:
        The total variation distance: the share of rows that would have to change category, less what chance alone
        can give with this many categories (its expectation is at most half the summed standard errors).

    Source:
        `scipy.stats.chi2_contingency` over cells of at least five expected rows (rarer categories are pooled by their
        total, which does not depend on the side); `scipy.stats.fisher_exact` where that leaves fewer than two cells.
    """
    statistic = "share of rows that changed category"
    rows, reference_rows = int(current.sum()), int(reference.sum())
    if min(rows, reference_rows) < MIN_ROWS:
        return _too_few(statistic, rows, reference_rows)
    # In an order that does not depend on the side: pooling equally rare categories side by side would make a change.
    names = current.index.union(reference.index, sort=False)
    names = names[sorted(range(len(names)), key=lambda place: str(names[place]))]
    counts = [side.reindex(names, fill_value=0).to_numpy(dtype="int64") for side in (current, reference)]
    distance, p_value = _moved(counts)
    shares = [side / side.sum() for side in counts]
    words = _movers(names, now=shares[0], before=shares[1])
    return Measure(statistic, distance, p_value, words)


def _moved(sides: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Return the distance of two rows of counts, and its p-value."""
    import numpy as np

    counts = np.stack(sides)
    counts = counts[:, counts.sum(axis=0) > 0]
    p_value = 1.0 if counts.shape[1] < 2 else _table_p_value(counts)  # noqa: PLR2004 - one category cannot move
    return counts_distance(*counts), p_value


def counts_distance(current: NDArray[Any], reference: NDArray[Any]) -> float:
    """Return the total variation distance of two rows of counts, less what chance gives; neither side is empty.

    Args:
        current: rows by category, shape (categories,).
        reference: likewise, the same categories.
    """
    import numpy as np

    rows, reference_rows = current.sum(), reference.sum()
    pooled = (current + reference) / (rows + reference_rows)
    by_chance = 0.5 * np.sqrt(pooled * (1 - pooled) * (1 / rows + 1 / reference_rows)).sum()
    return float(max(0.0, 0.5 * np.abs(current / rows - reference / reference_rows).sum() - by_chance))


def measure_share(*, count: int, rows: int, reference_count: int, reference_rows: int) -> Measure:
    """Measure how far the share of rows with some property moved.

    Args:
        count: rows that have it now.
        rows: all rows now, > 0.
        reference_count: rows of the reference that have it.
        reference_rows: all rows of the reference, > 0.

    Returns:
        The difference of the two shares.

    Source:
        `scipy.stats.chi2_contingency` on the two-by-two table, which is the two-proportion z-test squared;
        `scipy.stats.fisher_exact` where fewer than five rows are expected in a cell.
    """
    import numpy as np

    statistic = "difference of the shares"
    if min(rows, reference_rows) < MIN_ROWS:
        return _too_few(statistic, rows, reference_rows)
    now, before = count / rows, reference_count / reference_rows
    counts = np.array([[count, rows - count], [reference_count, reference_rows - reference_count]])
    p_value = 1.0 if 0 in counts.sum(axis=0) else _table_p_value(counts)
    return Measure(statistic, abs(now - before), p_value, f"{percent(before)} → {percent(now)} of the rows")


def measure_unseen(*, unseen: int, rows: int, reference_rows: int, seen_once: int) -> Measure:
    """Measure how many rows hold something the reference never held, beyond what a fresh sample holds anyway.

    Args:
        unseen: rows now with a value the reference does not have, or outside its range.
        rows: all rows now, >= `MIN_ROWS`.
        reference_rows: all rows of the reference, >= `MIN_ROWS`.
        seen_once: values that the reference holds in one row only; 1 for a range.

    Returns:
        The share of unseen rows.

    Source:
        Ours. Without change the unseen rows follow a negative hypergeometric law: exactly so for a range (two ends
        are the outermost of all rows), and with Good and Turing's estimate of the unseen mass for categories.
        `scipy.stats.hypergeom` has the tail: the first ``unseen + seen_once`` rows in order of rarity hold at most
        ``seen_once`` rows of the reference.
    """
    from scipy import stats

    drawn = min(unseen + seen_once, rows + reference_rows)
    p_value = stats.hypergeom.cdf(seen_once, rows + reference_rows, reference_rows, drawn) if unseen else 1.0
    return Measure("share of rows", unseen / rows, float(p_value), f"{percent(unseen / rows)} of the rows")


def correct(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests, so that one report over many columns alarms no more than one column.

    Args:
        p_values: of all tests of a report, in any order.

    Returns:
        Corrected p-values in the same order.

    Source:
        `scipy.stats.false_discovery_control` (Benjamini and Hochberg). When nothing changed at all, the chance that
        any corrected value falls below alpha is at most alpha; when something did, few of the named columns are wrong.
    """
    from scipy import stats

    return [float(value) for value in stats.false_discovery_control(p_values)] if p_values else []


def smallest_visible(*, rows: int, reference_rows: int, tests: int, alpha: float) -> float:
    """Return the smallest Kolmogorov-Smirnov distance that would be found, when it is the only change.

    Args:
        rows: current values.
        reference_rows: reference values.
        tests: number of tests the p-values are corrected for.
        alpha: level of the corrected p-value.

    Returns:
        A distance; above 1 means that nothing could be found.

    Source:
        The leading term of Kolmogorov's distribution, ``p = 2 exp(-2 n d²)``, solved for d.
    """
    return math.sqrt(math.log(2 * tests / alpha) / 2 * (1 / rows + 1 / reference_rows))


def percent(share: float) -> str:
    """Write a share so that a few rows are never shown as none."""
    return "under 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"  # noqa: PLR2004 - what one digit can show


def _too_few(statistic: str, rows: int, reference_rows: int) -> Measure:
    seen = f"{rows:,} values now and {reference_rows:,} in the reference"
    return Measure(statistic, 0.0, None, f"too few rows to judge: {seen}, {MIN_ROWS} a side are needed")


def _table_p_value(counts: NDArray[Any]) -> float:
    """Test whether two rows of counts, shape (2, categories), come from the same shares."""
    import numpy as np
    from scipy import stats

    counts = counts[:, np.argsort(-counts.sum(axis=0), kind="stable")]
    totals = counts.sum(axis=0)
    expected = totals * (counts.sum(axis=1).min() / counts.sum())
    rare = np.cumsum(np.where(expected < MIN_EXPECTED, expected, 0.0)) // MIN_EXPECTED
    cells = np.where(expected < MIN_EXPECTED, (expected >= MIN_EXPECTED).sum() + rare, np.arange(len(totals)))
    numbers = np.unique(cells, return_inverse=True)[1]
    pooled = np.stack([np.bincount(numbers, weights=side) for side in counts])
    if pooled.shape[1] > 1 and expected[numbers == numbers[-1]].sum() < MIN_EXPECTED:  # the rest joins its neighbour
        pooled = np.column_stack([pooled[:, :-2], pooled[:, -2:].sum(axis=1)])
    if pooled.shape[1] > 1:
        return float(stats.chi2_contingency(pooled, correction=False).pvalue)
    return float(stats.fisher_exact(np.column_stack([counts[:, 0], counts[:, 1:].sum(axis=1)]).astype(int)).pvalue)


def _movers(names: pd.Index, *, now: NDArray[Any], before: NDArray[Any]) -> str:
    """Name the categories whose share moved most, largest first."""
    import numpy as np

    from prefect_mlops.core.text import show

    order = np.argsort(-np.abs(now - before), kind="stable")[:_MOVERS_SHOWN]
    return ", ".join(f"{show(names[place])!r} {percent(before[place])} → {percent(now[place])}" for place in order)
