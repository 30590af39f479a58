"""One column of a table in the form the statistics read: what kind it is, its values, how many are missing.

Kinds are about meaning, not storage: 32 or 64 bits, nullable or not, strings as objects or as strings give one kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

CellKind = Literal["numeric", "boolean", "datetime", "datetime with time zone", "string", "mixed", "empty"]

ColumnKind = Literal["numeric", "boolean", "datetime", "categorical", "text", "empty"]

MAX_CATEGORIES = 1000  # strings with more values than this are names, comments or identifiers: text
UNIQUE_SHARE = 0.5  # likewise strings of which more than every other one is new

_OBJECT_KINDS: dict[str, CellKind] = {  # pandas' names for what an object column holds
    "string": "string",
    "boolean": "boolean",
    "integer": "numeric",
    "floating": "numeric",
    "mixed-integer-float": "numeric",
    "decimal": "numeric",
    "timedelta": "numeric",
    "timedelta64": "numeric",
    "datetime": "datetime",
    "datetime64": "datetime",
    "date": "datetime",
}


@dataclass(frozen=True)
class Column:
    """One column, read.

    Attributes:
        kind: what its values mean; ``empty`` where every cell is missing or there are no rows.
        values: the cells that are there, shape (rows - nulls,): float64 for numbers, seconds since 1970 (UTC) for
            datetimes, seconds for time spans; booleans, strings, or mixed objects spelled out as strings otherwise.
        rows: number of cells.
        nulls: number of missing cells.
        nominal: the table declares it categorical, so numbers in it are names.
    """

    kind: CellKind
    values: pd.Series
    rows: int
    nulls: int
    nominal: bool = False

    @property
    def type_words(self) -> str:
        """The type in words."""
        return f"{self.kind} (declared categorical)" if self.nominal else self.kind

    def lengths(self) -> pd.Series:
        """Count the characters of each value of a text column; float64, shape (rows - nulls,)."""
        import numpy as np
        import pandas as pd

        return pd.Series(np.fromiter(map(len, self.values), "float64", len(self.values)))

    def counts(self) -> pd.Series:
        """Count rows by value, most frequent first; names are objects, so that strings of different storage meet."""
        counts = self.values.value_counts()
        counts.index = counts.index.astype(object)
        return counts


def read_column(cells: pd.Series) -> Column:
    """Read one column of a table.

    Args:
        cells: shape (rows,), of any dtype, missing cells included.

    Returns:
        Kind and values; what fits no kind is spelled out and called ``mixed`` instead of raising.

    Source:
        `pandas.api.types.infer_dtype` says what columns of Python objects hold.
    """
    import pandas as pd

    nominal = isinstance(cells.dtype, pd.CategoricalDtype)
    if nominal:
        cells = cells.astype(cells.cat.categories.dtype if not cells.isna().any() else object)
    kind = _kind(cells)
    try:
        values = _values(cells, kind)
    except (ValueError, TypeError, OverflowError, ArithmeticError):  # e.g. an integer beyond what a float holds
        kind, values = "mixed", _values(cells, "mixed")
    empty = len(values) == 0
    return Column("empty" if empty else kind, values, len(cells), len(cells) - len(values), nominal)


def _kind(cells: pd.Series) -> CellKind:
    """Return the kind of cells by their dtype, or by the cells where the dtype is `object`."""
    from pandas.api import types

    dtype = cells.dtype
    if types.is_object_dtype(dtype):
        kind = _OBJECT_KINDS.get(types.infer_dtype(cells, skipna=True), "mixed")
        return "datetime with time zone" if kind == "datetime" and _first_zone(cells) else kind
    if types.is_bool_dtype(dtype):
        return "boolean"
    if types.is_timedelta64_dtype(dtype) or (types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype)):
        return "numeric"
    if types.is_datetime64_any_dtype(dtype):
        zone = getattr(getattr(dtype, "pyarrow_dtype", dtype), "tz", None)
        return "datetime with time zone" if zone is not None else "datetime"
    return "string" if types.is_string_dtype(dtype) else "mixed"


def _first_zone(cells: pd.Series) -> object:
    there = cells.dropna()
    return getattr(there.iloc[0], "tzinfo", None) if len(there) else None


def _values(cells: pd.Series, kind: CellKind) -> pd.Series:
    import numpy as np
    import pandas as pd
    from pandas.api import types

    if kind in ("datetime", "datetime with time zone"):
        numbers = _seconds(pd.to_datetime(cells, utc=True, errors="coerce"))
    elif kind == "numeric" and (types.is_timedelta64_dtype(cells.dtype) or _holds_timedeltas(cells)):
        numbers = np.asarray(pd.to_timedelta(cells, errors="coerce").dt.total_seconds(), dtype="float64")
    elif kind == "numeric":
        numbers = cells.to_numpy(dtype="float64", na_value=np.nan)
    elif kind == "mixed":
        there = cells.dropna()
        return pd.Series([str(cell) for cell in there], index=there.index, dtype=object)
    else:
        return cells.dropna()
    return pd.Series(numbers[~np.isnan(numbers)])


def _holds_timedeltas(cells: pd.Series) -> bool:
    from pandas.api import types

    return types.is_object_dtype(cells.dtype) and types.infer_dtype(cells, skipna=True).startswith("timedelta")


def _seconds(moments: pd.Series) -> NDArray[Any]:
    """Turn UTC datetimes of any resolution into seconds since 1970, missing as NaN."""
    import numpy as np

    plain = np.asarray(moments.dt.tz_localize(None), dtype="datetime64")
    return cast("NDArray[Any]", (plain - np.datetime64(0, "s")) / np.timedelta64(1, "s"))
