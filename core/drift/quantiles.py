"""A quantile sketch: one pass, bounded memory, mergeable.

It is our own because a verdict has to be deterministic, and Apache DataSketches' KLL is randomised without a seed.
Sorting pieces with NumPy is also about seven times as fast as updating KLL (benchmarks/drift_sketch.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS = 1 << 14  # values kept of a full piece or of two merged ones
PIECE = 1 << 17  # values kept as they are before they become `POINTS`; tables up to this size are judged exactly
STORED_POINTS = 10_000  # enough for a file: a point stands for a ten-thousandth of the rows


@dataclass(frozen=True)
class Distribution:
    """Sorted values and how many rows each stands for.

    Attributes:
        points: shape (k,), float64, ascending, infinities at the ends.
        weights: shape (k,), float64, above 0; they add up to the number of rows.
    """

    points: NDArray[Any]
    weights: NDArray[Any]

    @property
    def rows(self) -> int:
        """Number of rows it stands for."""
        return round(float(self.weights.sum()))

    def outside(self, low: float, high: float) -> float:
        """Return how many rows lie below ``low`` or above ``high``."""
        far = (self.points < low) | (self.points > high)
        return float(self.weights[far].sum())


@dataclass
class Quantiles:
    """Numbers, summarised.

    The rank of every value is known within `error` rows: 0 up to `PIECE` values, then a share of about
    ``(1 + log2(n / PIECE)) / (2 * POINTS)``, e.g. 0.0002 of ten million.

    Attributes:
        rows: how many values were added.
        low: smallest value.
        high: largest value.
        mean: of the finite values.
        squares: sum of squared distances from the mean, of the finite values.
        finite: how many values are finite.
        error: bound on the error of any rank, in rows.

    Source: Manku, Rajagopalan and Lindsay 1998, "Approximate medians and other quantiles in one pass and with limited
        memory"; moments after Chan, Golub and LeVeque 1983. `numpy.sort` does the work.
    """

    rows: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    mean: float = 0.0
    squares: float = 0.0
    finite: int = 0
    error: float = 0.0
    _raw: list[NDArray[Any]] = field(default_factory=list)  # values not sorted into buffers yet
    _buffers: dict[float, NDArray[Any]] = field(default_factory=dict)  # by weight, at most one of each
    _merges: Counter[float] = field(default_factory=Counter)  # by weight
    _stored: list[Distribution] = field(default_factory=list)  # from a file: points of any weight

    @property
    def spread(self) -> float:
        """Standard deviation of the finite values; NaN without any."""
        return (self.squares / self.finite) ** 0.5 if self.finite else float("nan")

    def add(self, values: NDArray[Any]) -> None:
        """Add values: float64 without NaN, shape (n,)."""
        if len(values) == 0:
            return
        self._note(values)
        self._raw.append(values)
        if sum(map(len, self._raw)) >= PIECE:
            self._sort_pieces()

    def merge(self, other: Quantiles) -> None:
        """Take in the summary of other rows; ``other`` is not to be used afterwards."""
        self._join_moments(other.finite, other.mean, other.squares)
        self.rows += other.rows
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.error += other.error
        self._stored += other._stored
        self._raw += other._raw
        for weight, points in sorted(other._buffers.items()):
            self._keep(weight, points)
        self._sort_pieces()

    def distribution(self) -> Distribution:
        """Return all points with their weights."""
        import numpy as np

        pieces = [Distribution(raw, np.ones(len(raw))) for raw in self._raw]
        pieces += [Distribution(points, np.full(len(points), weight)) for weight, points in self._buffers.items()]
        pieces += self._stored
        if len(pieces) == 1 and not self._raw:
            return pieces[0]
        if not pieces:
            return Distribution(np.empty(0), np.empty(0))
        points = np.concatenate([piece.points for piece in pieces])
        weights = np.concatenate([piece.weights for piece in pieces])
        order = np.argsort(points, kind="stable")
        return Distribution(points[order], weights[order])

    def compacted(self) -> Quantiles:
        """Return a summary of at most `STORED_POINTS` points, for a file; its error is a little larger."""
        import numpy as np

        whole = self.distribution()
        points, weights, error = whole.points, whole.weights, self.error
        if len(points) > STORED_POINTS:
            step = self.rows / STORED_POINTS
            middles = (np.arange(STORED_POINTS) + 0.5) * step
            places = np.searchsorted(np.cumsum(weights), middles)
            points, weights = points[np.minimum(places, len(points) - 1)], np.full(STORED_POINTS, step)
            error += step / 2
        return Quantiles.of(
            Distribution(points, weights),
            rows=self.rows,
            low=self.low,
            high=self.high,
            mean=self.mean,
            squares=self.squares,
            finite=self.finite,
            error=error,
        )

    @classmethod
    def of(cls, points: Distribution, **moments: Any) -> Quantiles:
        """Make a summary of points with their weights; ``moments`` are the attributes."""
        made = cls(**moments)
        made._stored = [points]
        return made

    def _note(self, values: NDArray[Any]) -> None:
        import numpy as np

        self.rows += len(values)
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        finite = values if np.isfinite([self.low, self.high]).all() else values[np.isfinite(values)]
        if len(finite):
            with np.errstate(all="ignore"):  # the square of a huge number is infinite, and the words then say so
                self._join_moments(len(finite), float(finite.mean()), float(finite.var() * len(finite)))

    def _join_moments(self, count: int, mean: float, squares: float) -> None:
        total = self.finite + count
        if not total:
            return
        apart = mean - self.mean
        self.squares += squares + apart * apart * self.finite * count / total
        self.mean += apart * count / total
        self.finite = total

    def _sort_pieces(self) -> None:
        """Turn full pieces into points: of each group of neighbours the middle one stays."""
        import numpy as np

        if sum(map(len, self._raw)) < PIECE:
            return
        values, step = np.concatenate(self._raw), PIECE // POINTS
        whole = len(values) - len(values) % PIECE
        for start in range(0, whole, PIECE):
            self.error += step / 2
            self._keep(float(step), np.sort(values[start : start + PIECE])[step // 2 :: step])
        self._raw = [values[whole:].copy()] if whole < len(values) else []

    def _keep(self, weight: float, points: NDArray[Any]) -> None:
        """Keep a buffer; two of one weight become one of twice the weight."""
        import numpy as np

        while weight in self._buffers:
            both = np.sort(np.concatenate([points, self._buffers.pop(weight)]))
            points = both[self._merges[weight] % 2 :: 2]  # the lower and the upper in turn, so that errors cancel
            self._merges[weight] += 1
            self.error += weight
            weight *= 2
        self._buffers[weight] = points


def weighted(points: Iterable[float], weights: Iterable[float]) -> Distribution:
    """Make a distribution of values that were counted, e.g. lengths.

    Args:
        points: values, ascending.
        weights: rows for each; those without rows are left out.
    """
    import numpy as np

    values, rows = np.fromiter(points, "float64"), np.fromiter(weights, "float64")
    return Distribution(values[rows > 0], rows[rows > 0])
