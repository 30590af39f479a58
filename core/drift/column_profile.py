"""Column profiles: what every drift test needs of a column, in memory that does not grow with the rows."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from prefect_mlops.core.drift.quantiles import Distribution, Quantiles, weighted
from prefect_mlops.core.tables.columns import CellKind, read_column

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from prefect_mlops.core.tables.columns import Column

MAX_COUNTED = 20_000  # different values; a column with more is text, or an identifier
LONGEST = 4_000  # characters; longer values count as so long
BUCKETS = 1 << 14  # words fall into so many, by a hash; two that share one count as the same word
HOURS, WEEKDAYS = 24, 7
_DAY = 86_400

ColumnProfileKind = Literal[CellKind, "torn"]


@dataclass
class Text:
    """Strings that are not counted one by one.

    Attributes:
        lengths: values by number of characters, shape (LONGEST + 1,).
        words: words by bucket, shape (BUCKETS,); the same word, whatever its case, falls into the same one.
    """

    lengths: NDArray[Any]
    words: NDArray[Any]

    @classmethod
    def empty(cls) -> Text:
        """Make one that holds nothing yet."""
        import numpy as np

        return cls(np.zeros(LONGEST + 1, "int64"), np.zeros(BUCKETS, "int64"))

    def add(self, values: pd.Series) -> None:
        """Add strings, shape (n,)."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            texts = pa.array(values, pa.large_string())
            sizes, words = pc.utf8_length(texts).to_numpy(zero_copy_only=False), _counted_words(texts)
        except (pa.ArrowException, UnicodeError):  # half a surrogate pair, or objects spelled out
            plain = [str(value) for value in values]
            sizes = np.fromiter(map(len, plain), "int64", len(plain))
            words = Counter(word for text in plain for word in text.lower().split())
        self._note(sizes, words)

    def add_counted(self, counts: Mapping[Any, int]) -> None:
        """Add strings that were counted."""
        import numpy as np

        words: Counter[str] = Counter()
        for value, rows in counts.items():
            for word in str(value).lower().split():
                words[word] += rows
        sizes = np.fromiter((len(str(value)) for value in counts), "int64", len(counts))
        self._note(sizes, words, np.fromiter(counts.values(), "int64", len(counts)))

    def _note(self, sizes: NDArray[Any], words: Mapping[str, int], rows: NDArray[Any] | None = None) -> None:
        import numpy as np

        self.lengths += np.bincount(np.minimum(sizes, LONGEST), rows, LONGEST + 1).astype("int64")
        for word, times in words.items():
            self.words[zlib.crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS] += times

    def merge(self, other: Text) -> None:
        """Take in other rows."""
        self.lengths += other.lengths
        self.words += other.words


@dataclass
class Times:
    """Hours and weekdays of a column of times, and its span.

    Attributes:
        hours: values by hour of the day (UTC), shape (24,).
        weekdays: values by day of the week, Monday first, shape (7,).
        low: first moment, in seconds since 1970.
        high: last moment.
    """

    hours: NDArray[Any]
    weekdays: NDArray[Any]
    low: float = float("inf")
    high: float = float("-inf")

    @classmethod
    def empty(cls) -> Times:
        """Make one that holds nothing yet."""
        import numpy as np

        return cls(np.zeros(HOURS, "int64"), np.zeros(WEEKDAYS, "int64"))

    @property
    def days(self) -> float:
        """Days from the first moment to the last; 0 without any."""
        return max(0.0, self.high - self.low) / _DAY

    def add(self, seconds: NDArray[Any]) -> None:
        """Add moments in seconds since 1970, shape (n,)."""
        import numpy as np

        if len(seconds) == 0:
            return
        hours = (np.floor(seconds / 3600) % HOURS).astype("int64")
        weekdays = ((np.floor(seconds / _DAY) + 3) % WEEKDAYS).astype("int64")  # 1970 began on a Thursday
        self.hours += np.bincount(hours, minlength=HOURS)
        self.weekdays += np.bincount(weekdays, minlength=WEEKDAYS)
        self.low, self.high = min(self.low, float(seconds.min())), max(self.high, float(seconds.max()))

    def merge(self, other: Times) -> None:
        """Take in other rows."""
        self.hours += other.hours
        self.weekdays += other.weekdays
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


@dataclass
class ColumnProfile:
    """One column, summarised.

    Attributes:
        kind: what its values mean; ``torn`` when parts of the table disagree about it.
        rows: number of cells.
        nulls: number of missing cells.
        nominal: the table declares it categorical, so numbers in it are names.
        infinite: number of infinite values.
        numbers: for numbers.
        times: for datetimes.
        counts: rows by value, for everything else and for numbers that are names; None once there were more than
            `MAX_COUNTED`.
        text: for strings that are not counted any more.
    """

    kind: ColumnProfileKind = "empty"
    rows: int = 0
    nulls: int = 0
    nominal: bool = False
    infinite: int = 0
    numbers: Quantiles = field(default_factory=Quantiles)
    times: Times = field(default_factory=Times.empty)
    counts: Counter[Any] | None = field(default_factory=Counter)
    text: Text | None = None

    @property
    def values(self) -> int:
        """Number of cells that are not missing."""
        return self.rows - self.nulls

    @property
    def type_words(self) -> str:
        """The type in words."""
        if self.kind == "torn":
            return "several types in one column"
        return f"{self.kind} (declared categorical)" if self.nominal else self.kind

    @property
    def only_value(self) -> object:
        """The one value of a constant column; None where there are several."""
        if self.counts:
            return next(iter(self.counts)) if len(self.counts) == 1 else None
        return self.numbers.low if self.numbers.rows and self.numbers.low == self.numbers.high else None

    def add(self, cells: pd.Series) -> None:
        """Add the cells of a part of the table, shape (n,), of any dtype."""
        column = read_column(cells)
        self.rows += column.rows
        self.nulls += column.nulls
        if column.kind == "empty":
            return
        self._agree(column.kind, nominal=column.nominal)
        if self.kind == "torn":
            return
        if column.kind in ("datetime", "datetime with time zone"):
            self.times.add(column.values.to_numpy("float64"))
            return
        if column.kind == "numeric":
            self._add_numbers(column.values.to_numpy("float64"))
        if column.kind != "numeric" or column.nominal:
            self._add_names(column)

    def merge(self, other: ColumnProfile) -> None:
        """Take in the summary of other rows; ``other`` is not to be used afterwards."""
        self.rows += other.rows
        self.nulls += other.nulls
        self.infinite += other.infinite
        if other.kind == "empty":
            return
        self._agree(other.kind, nominal=other.nominal)
        self.numbers.merge(other.numbers)
        self.times.merge(other.times)
        if other.text is not None:
            self._as_text().merge(other.text)
        elif other.counts:
            self._count(other.counts)

    def lengths(self) -> Distribution:
        """Return how long the strings are."""
        if self.text is not None:
            return weighted(range(LONGEST + 1), self.text.lengths)
        sizes: Counter[int] = Counter()
        for value, rows in (self.counts or {}).items():
            sizes[min(len(str(value)), LONGEST)] += rows
        return weighted(sorted(sizes), (sizes[size] for size in sorted(sizes)))

    def words(self) -> NDArray[Any]:
        """Return the words by bucket, shape (BUCKETS,)."""
        return (self.text or _text_of(self.counts or {})).words

    def _agree(self, kind: ColumnProfileKind, *, nominal: bool) -> None:
        """Merge the kind so far with that of new cells."""
        if self.kind == "empty":
            self.kind, self.nominal = kind, nominal
            return
        self.nominal = self.nominal and nominal  # otherwise not every value was counted
        if self.kind != kind:
            self.kind = "torn"
            self.numbers, self.times, self.counts, self.text = Quantiles(), Times.empty(), Counter(), None

    def _add_numbers(self, values: NDArray[Any]) -> None:
        import numpy as np

        self.infinite += int(np.isinf(values).sum())
        self.numbers.add(values)

    def _add_names(self, column: Column) -> None:
        if self.text is not None:
            self.text.add(column.values)
            return
        counted = column.counts()
        if len(counted) > MAX_COUNTED:
            self._as_text().add(column.values)
        else:
            self._count(dict(zip(counted.index, counted.tolist(), strict=True)))

    def _count(self, counts: Mapping[Any, int]) -> None:
        if self.text is not None:
            self.text.add_counted(counts)
            return
        assert self.counts is not None  # noqa: S101 - either counted or text
        self.counts.update(counts)
        if len(self.counts) > MAX_COUNTED:
            self._as_text()

    def _as_text(self) -> Text:
        """Switch from counting values to bounded text statistics."""
        if self.text is None:
            self.text = _text_of(self.counts or {})
            self.counts = None
        return self.text


def profile_column(cells: pd.Series) -> ColumnProfile:
    """Summarise one column in one go."""
    summary = ColumnProfile()
    summary.add(cells)
    return summary


def _text_of(counts: Mapping[Any, int]) -> Text:
    text = Text.empty()
    if counts:
        text.add_counted(counts)
    return text


def _counted_words(texts: pa.Array) -> dict[str, int]:
    """Count words, in lower case, without making a Python string of each."""
    import pyarrow.compute as pc

    words = pc.list_flatten(pc.utf8_split_whitespace(pc.utf8_lower(texts)))
    counted = pc.value_counts(words.filter(pc.not_equal(words, "")))
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
