"""Aggregates of a column, merged over its chunks.

Each becomes a short column with the same aggregate as the whole one, so that Great Expectations applies the bounds,
handles columns without values, and makes the outcome.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from prefect_mlops.data_checks.scopes import EXTREMES, MOMENTS

if TYPE_CHECKING:
    import pandas as pd


class Figure(Protocol):
    """An aggregate that chunks are added to."""

    def add(self, values: pd.Series) -> None:
        """Add the next chunk of the column."""

    def stand_in(self) -> pd.Series:
        """Return a short column with the same aggregate."""


def figure_of(configuration: Any) -> Figure:
    """Return the aggregate of an expectation whose scope is ``figure``."""
    if configuration.type in EXTREMES:
        return _Extremes()
    return _Moments(configuration.type) if configuration.type in MOMENTS else _Distinct()


@dataclass
class _Extremes:
    """The smallest and the largest value of each chunk."""

    parts: list[pd.Series] = field(default_factory=list)

    def add(self, values: pd.Series) -> None:
        import pandas as pd

        self.parts.append(pd.Series([values.min(), values.max()], dtype=values.dtype))

    def stand_in(self) -> pd.Series:
        import pandas as pd

        return pd.concat(self.parts, ignore_index=True)


@dataclass
class _Distinct:
    """Every value once, in order of appearance."""

    seen: pd.Series | None = None

    def add(self, values: pd.Series) -> None:
        import pandas as pd

        parts = [values.drop_duplicates()] if self.seen is None else [self.seen, values.drop_duplicates()]
        self.seen = pd.concat(parts, ignore_index=True).drop_duplicates()

    def stand_in(self) -> pd.Series:
        import pandas as pd

        return pd.Series(dtype="float64") if self.seen is None else self.seen


@dataclass
class _Moments:
    """Count, sum and squared distances from the mean.

    Source: Chan, Golub and LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances".
    """

    kind: str
    count: int = 0
    total: Any = 0
    squares: float = 0.0

    def add(self, values: pd.Series) -> None:
        import numpy as np

        there = values.dropna()
        if there.empty:
            return
        whole = there.dtype.kind == "i"
        there = there if whole else there.astype("float64")
        total: Any = int(there.sum()) if whole else float(there.sum())
        count = len(there)
        with np.errstate(invalid="ignore"):  # infinite values have no spread
            squares = float(np.square(there.to_numpy(dtype="float64") - total / count).sum())
            if self.count:
                delta = np.float64(total / count) - np.float64(self.total / self.count)
                squares += float(self.squares + delta * delta * (count * self.count / (count + self.count)))
        self.count, self.total, self.squares = self.count + count, self.total + total, squares

    def stand_in(self) -> pd.Series:
        import pandas as pd

        if not self.count:
            return pd.Series([math.nan])
        if math.isnan(self.total):
            return pd.Series([math.inf, -math.inf])  # has no mean either
        if self.kind == "expect_column_sum_to_be_between":
            return pd.Series([self.total])
        mean = self.total / self.count
        if self.kind == "expect_column_mean_to_be_between" or self.count == 1:
            return pd.Series([mean])
        delta = math.sqrt(self.squares / (self.count - 1) / 2)
        return pd.Series([-delta, delta])
