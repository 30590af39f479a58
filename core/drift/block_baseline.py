"""The block baseline: how much a table changes between its own blocks of neighbouring rows, which is no drift.

Tests assume independent rows. Rows that arrive together are not: they share an hour, a storm, a campaign. So blocks of
neighbouring rows are compared with all rows, and drift has to be larger than the change of any block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.drift.column_drift import joint_kind
from prefect_mlops.core.drift.column_profile import ColumnProfile, profile_column
from prefect_mlops.core.drift.statistical_tests import as_texts, counts_distance, numbers_distance
from prefect_mlops.core.drift.table_profile import in_order
from prefect_mlops.core.drift.thresholds import (
    BLOCK_GROWTH,
    LARGEST_BLOCK,
    MAX_BLOCKS,
    MIN_BLOCKS,
    MIN_ROWS,
    SMALLEST_BLOCK,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.drift.column_drift import Aspect
    from prefect_mlops.core.drift.table_profile import TableProfile


@dataclass(frozen=True)
class BlockBaseline:
    """The largest changes of blocks of neighbouring rows.

    Attributes:
        sizes: for each column and aspect, pairs of a block's rows and the largest size seen, by ascending rows.
        auc: how well a classifier separates the first or the last quarter of the rows from the others; the larger AUC.
    """

    sizes: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]] = field(default_factory=dict)
    auc: float = 0.5

    def of(self, rows: int) -> dict[tuple[str, str], float]:
        """Return the size of change by column and aspect for a table of so many rows: that of blocks half as large.

        Beyond the largest block it shrinks with the square root of the rows, as the mean of many blocks does.
        """
        return {
            (column, aspect): _size_at(rows, seen)
            for column, aspects in self.sizes.items()
            for aspect, seen in aspects.items()
            if seen
        }


def _size_at(rows: int, seen: Sequence[tuple[int, float]]) -> float:
    half = rows / 2  # blocks begin anywhere, files with a day: a block as large as a file mostly holds parts of two
    known = [pair for pair in seen if pair[0] <= half] or [seen[0]]
    block, size = known[-1]
    return size * math.sqrt(block / half) if len(known) == len(seen) and half > block else size


def measure_block_baseline(
    table: pd.DataFrame, whole: TableProfile, *, scale: float = 1.0, order: NDArray[Any] | None = None
) -> BlockBaseline:
    """Compare blocks of neighbouring rows with all rows.

    Args:
        table: all rows in order of arrival, (rows, columns).
        whole: their profile.
        scale: share of the rows that `table` holds, where it is a sample in order; blocks are named by all rows.
        order: places of the rows in order of arrival, where that is another one.

    Returns:
        An empty baseline for fewer than `MIN_BLOCKS` blocks.
    """
    sizes: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for block, taken in _block_sizes(round(len(table) / scale), scale):
        inside = taken / len(table)  # a block is part of the whole, so the distance is too small by this share
        largest: dict[tuple[str, str], float] = {}
        for start in _starts(len(table), taken):
            for name, cells in in_order(table, order, slice(start, start + taken)).items():
                known = whole.columns.get(str(name))  # a repeated name has none
                for aspect, size in _sizes(profile_column(cells), known) if known else ():
                    key = (str(name), aspect)
                    largest[key] = max(largest.get(key, 0.0), min(size / (1 - inside), 1.0))
        for (name, of), size in largest.items():
            sizes.setdefault(name, {}).setdefault(of, []).append((block, size))
    return BlockBaseline(sizes)


def _sizes(block: ColumnProfile, whole: ColumnProfile) -> Iterator[tuple[Aspect, float]]:
    """Measure how far a block is from the whole, as `core.drift.column_drift` does."""
    yield "missing values", abs(block.nulls / block.rows - whole.nulls / whole.rows)
    kind = joint_kind(block, whole)
    if not block.values or kind == "empty" or block.kind != whole.kind:
        return
    if kind == "numeric":
        yield "distribution", numbers_distance(block.numbers.distribution(), whole.numbers.distribution())
    elif kind == "text":
        yield "length of text", numbers_distance(block.lengths(), whole.lengths())
        words = as_texts(block.words(), block.values), as_texts(whole.words(), whole.values)
        if all(side.any() for side in words):
            yield "vocabulary", counts_distance(*words)
    elif kind == "datetime":
        yield "hour of the day", counts_distance(block.times.hours, whole.times.hours)
        yield "day of the week", counts_distance(block.times.weekdays, whole.times.weekdays)
    else:
        yield "distribution", _categories_distance(block.counts or {}, whole.counts or {})


def _categories_distance(block: Mapping[Any, int], whole: Mapping[Any, int]) -> float:
    import numpy as np

    sides = [np.fromiter((side.get(name, 0) for name in whole), "float64", len(whole)) for side in (block, whole)]
    return counts_distance(*sides)


def _block_sizes(rows: int, scale: float) -> Iterator[tuple[int, int]]:
    """Yield the sizes of blocks, and the rows of the table that each takes."""
    block = SMALLEST_BLOCK
    while block <= min(rows // MIN_BLOCKS, LARGEST_BLOCK):
        if (taken := round(block * scale)) >= MIN_ROWS:
            yield block, taken
        block *= BLOCK_GROWTH


def _starts(rows: int, taken: int) -> list[int]:
    import numpy as np

    count = min(MAX_BLOCKS, rows // taken)
    return [int(start) for start in np.linspace(0, rows - taken, count)]
