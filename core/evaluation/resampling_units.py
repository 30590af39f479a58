"""Resampling units: which rows of the test set depend on each other: rows, groups or blocks in time.

Source:
    Blocks of equal length, their means compared as independent: Ibragimov and Müller 2010, "t-statistic based
    correlation and heterogeneity robust inference"; the batch means of simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.tables.ordering import text_problem

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MAX_BLOCKS = 50  # more would be shorter, and what lasts for hours or days would correlate neighbours
MIN_BLOCKS = 10
_ROWS_A_BLOCK = 20  # at least, so few rows make fewer blocks

UnitKind = Literal["rows", "groups", "blocks"]


@dataclass(frozen=True)
class ResamplingUnits:
    """The independent units of a set of rows.

    Attributes:
        kind: rows, groups or blocks in time.
        of: unit of each row, numbered from 0, (rows,).
        note: how they were made, as a sentence; empty for rows.
    """

    kind: UnitKind
    of: NDArray[Any]
    note: str = ""


def resampling_units(
    rows: pd.DataFrame, *, order_by: str | None, group_by: str | None, identities: NDArray[Any] | None = None
) -> ResamplingUnits:
    """Assign each row to a resampling unit.

    Args:
        rows: the test set.
        order_by: column of time; consecutive rows are then put into up to `MAX_BLOCKS` blocks of about equal size, and
            rows of one time stamp into one block.
        group_by: column whose groups are independent of each other; with both given, groups are the units.
        identities: (rows,), equal for rows of one identity, which are units where neither of the two is given.

    Raises:
        ConfigError: there is no such column, or its values have no order.
    """
    import numpy as np

    if group_by:
        of, names = codes_of(column_of(rows, group_by, "group_by"), group_by)
        return ResamplingUnits(
            "groups", of, f"Rows of one {group_by} count together: {len(names):,} groups were compared."
        )
    if order_by:
        return _blocks(rows, order_by)
    if identities is not None:
        found, of = np.unique(identities, return_inverse=True)
        if len(found) < len(rows):
            note = f"Rows of one identity count together: {len(found):,} were compared, in {len(rows):,} rows."
            return ResamplingUnits("groups", of, note)
    return ResamplingUnits("rows", np.arange(len(rows)))


def column_of(rows: pd.DataFrame, name: str, role: str) -> pd.Series:
    """Return a column of the test set.

    Raises:
        ConfigError: it is not there, or there twice.
    """
    if name not in rows.columns:
        raise unknown_name(f"column of the test rows ({role})", name, [str(column) for column in rows.columns])
    count = list(rows.columns).count(name)
    if count > 1:
        raise ConfigError(f"{role}: the test rows have {count} columns called {name!r}")
    return rows[name]


def codes_of(column: pd.Series, name: str, *, sort: bool = False) -> tuple[NDArray[Any], list[Any]]:
    """Number the values of a column from 0; missing ones are a value of their own, the last.

    Returns:
        The number of each row's value, and the values by number, None for missing.

    Raises:
        ConfigError: the values cannot be hashed or sorted.
    """
    import numpy as np
    import pandas as pd

    try:
        codes, names = pd.factorize(column, sort=sort)
    except TypeError as error:
        raise ConfigError(f"column {name!r} cannot be used to put rows together: {error}"[:200]) from None
    if sort and pd.api.types.infer_dtype(names, skipna=True).startswith("mixed"):
        raise ConfigError(f"column {name!r} cannot be used to put rows in order: it holds values of several kinds")
    missing = codes < 0
    return np.where(missing, len(names), codes), [*names, *([None] if missing.any() else [])]


def _blocks(rows: pd.DataFrame, order_by: str) -> ResamplingUnits:
    """Cut the rows, in order of time, into blocks of about equal size without cutting a time stamp."""
    import numpy as np

    times = column_of(rows, order_by, "order_by")
    if problem := text_problem(times):
        raise ConfigError(f"order_by: column {order_by!r} holds {problem}: make a time of it first")
    place, stamps = codes_of(times, order_by, sort=True)
    count = min(MAX_BLOCKS, max(MIN_BLOCKS, len(rows) // _ROWS_A_BLOCK))
    sizes = np.bincount(place, minlength=len(stamps))
    middle = np.cumsum(sizes) - sizes / 2
    block = np.minimum((middle / max(len(rows), 1) * count).astype("int64"), count - 1)
    used, of = np.unique(block[place], return_inverse=True)
    few = "" if len(used) >= MAX_BLOCKS else f", fewer than {MAX_BLOCKS} because the rows or their times are few"
    note = f"Rows close in {order_by} depend on each other: {len(used)} blocks in time were compared{few}."
    return ResamplingUnits("blocks", of, note)
