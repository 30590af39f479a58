"""A table, summarised for comparing it with another: one pass, bounded memory, parts merge into the whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.drift.column_profile import ColumnProfile
from prefect_mlops.core.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SAMPLE_ROWS = 10_000  # for pages, predictions and whatever needs whole rows
SAMPLE_SEED = 0  # the same table gives the same sample


@dataclass
class Sample:
    """Some rows of a table, each as likely as any other.

    Every row draws a number from a seeded stream, and those with the smallest numbers stay: so samples of parts merge
    into a sample of the whole.

    Attributes:
        frames: kept rows of each chunk.
        draws: their numbers, an array for each frame.
        size: rows to keep.
    """

    frames: list[pd.DataFrame] = field(default_factory=list)
    draws: list[NDArray[Any]] = field(default_factory=list)
    size: int = SAMPLE_ROWS

    def add(self, rows: pd.DataFrame, draws: NDArray[Any]) -> None:
        """Add rows with the numbers they drew."""
        import numpy as np

        if len(rows) > self.size:
            kept = np.sort(np.argpartition(draws, self.size)[: self.size])
            rows, draws = rows.iloc[kept], draws[kept]
        self.frames.append(rows)
        self.draws.append(draws)
        if sum(map(len, self.draws)) > 4 * self.size:  # seldom enough to cost nothing
            self._prune()

    def rows(self) -> tuple[pd.DataFrame, NDArray[Any]]:
        """Return the rows, in their order, numbered from 0, and the numbers they drew."""
        import numpy as np
        import pandas as pd

        self._prune()
        frames = [frame for frame in self.frames if len(frame)] or self.frames[:1]
        if not frames:
            return pd.DataFrame(), np.empty(0)
        return pd.concat(frames, ignore_index=True), np.concatenate(self.draws)

    def _prune(self) -> None:
        import numpy as np

        drawn = np.concatenate(self.draws) if self.draws else np.empty(0)
        if len(drawn) <= self.size:
            return
        limit = np.partition(drawn, self.size - 1)[self.size - 1]
        self.frames = [frame[draws <= limit] for frame, draws in zip(self.frames, self.draws, strict=True)]
        self.draws = [draws[draws <= limit] for draws in self.draws]


@dataclass(frozen=True)
class TableProfile:
    """A table, summarised.

    Attributes:
        columns: summary by name as text; a name that stands twice has none.
        rows: number of rows.
        sample: up to `SAMPLE_ROWS` of them, in their order.
        repeated: how often a name stands over a column, where that is more than once.
        draws: the random numbers of the sampled rows, by which samples merge; None where they were not kept.
    """

    columns: dict[str, ColumnProfile]
    rows: int
    sample: pd.DataFrame
    repeated: dict[str, int] = field(default_factory=dict)
    draws: NDArray[Any] | None = None

    @property
    def error(self) -> float:
        """Bound on the error of any share of rows in any numeric column: 0 for tables that were kept as they are."""
        shares = [one.numbers.error / one.numbers.rows for one in self.columns.values() if one.numbers.rows]
        return max(shares, default=0.0)


class ProfileBuilder:
    """Takes in a table chunk by chunk, or the profiles of its parts.

    Args:
        columns: names to profile; None takes all.
        part: number of the part of the table, so that parts draw different samples.
    """

    def __init__(self, columns: Sequence[str] | None = None, *, part: int = 0) -> None:
        import numpy as np

        self.wanted = None if columns is None else set(columns)
        self.summaries: dict[str, ColumnProfile] = {}
        self.repeated: dict[str, int] = {}
        self.rows = 0
        self.sample = Sample()
        self._random = np.random.default_rng([SAMPLE_SEED, part])

    def add(self, chunk: pd.DataFrame) -> None:
        """Add the next rows."""
        places: dict[str, list[int]] = {}
        for place, label in enumerate(chunk.columns):
            if self.wanted is None or str(label) in self.wanted:
                places.setdefault(str(label), []).append(place)
        for name, found in places.items():
            if len(found) > 1:
                self.repeated[name] = len(found)
            else:
                self._summary(name).add(chunk.iloc[:, found[0]])
        self.rows += len(chunk)
        kept = chunk.iloc[:, [found[0] for found in places.values() if len(found) == 1]]
        self.sample.add(kept.set_axis([str(label) for label in kept.columns], axis=1), self._random.random(len(chunk)))

    def merge(self, part: TableProfile) -> None:
        """Take in another part of the table, made with another number of part."""
        for name, summary in part.columns.items():
            self._summary(name).merge(summary)
        self.repeated |= part.repeated
        self.rows += part.rows
        if part.draws is None:
            raise ConfigError("the sample of a stored profile cannot be merged: profile the rows again")
        self.sample.add(part.sample, part.draws)

    def profile(self) -> TableProfile:
        """Return what was found."""
        columns = {name: one for name, one in self.summaries.items() if name not in self.repeated}
        rows, draws = self.sample.rows()
        return TableProfile(columns, self.rows, rows, self.repeated, draws)

    def _summary(self, name: str) -> ColumnProfile:
        return self.summaries.setdefault(name, ColumnProfile())


def profile_chunks(
    chunks: Iterable[pd.DataFrame], columns: Sequence[str] | None = None, *, part: int = 0
) -> TableProfile:
    """Summarise a table that comes in chunks.

    Args:
        chunks: rows, in order; each (n, columns).
        columns: names to profile; None takes all.
        part: number of the part of a table whose parts are to be merged.
    """
    builder = ProfileBuilder(columns, part=part)
    for chunk in chunks:
        builder.add(chunk)
    return builder.profile()


def in_order(table: pd.DataFrame, order: NDArray[Any] | None, part: slice) -> pd.DataFrame:
    """Return some rows of a table by their place in an order, without putting all of them in it.

    Args:
        table: (rows, columns).
        order: places of the rows, one after the other; None for as they are.
        part: which of them.
    """
    return table.iloc[part if order is None else order[part]]


def merge_profiles(parts: Iterable[TableProfile]) -> TableProfile:
    """Make the profile of a table from those of its parts.

    Args:
        parts: from `profile_table`, each with another number of part, in the order of the table.

    Returns:
        The profile of all rows. Which rows are sampled depends on the parts, how often a value occurs does not.

    Raises:
        ConfigError: a part was stored, and its sample cannot be merged.
    """
    builder = ProfileBuilder()
    for part in parts:
        builder.merge(part)
    return builder.profile()
