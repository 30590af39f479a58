"""The side of a row, training or test, by a hash of what identifies it: the same for ever, whatever else arrives.

A split drawn by chance is drawn anew when the table grows: rows the champion was trained on then judge it, which is
leakage. Here a row's own identity decides: its group, its key, or the values of its features. Rows that are equal stand
on one side, growth and order change nothing, and any later run can tell from the rule alone on which side a row stood.

Values are hashed by meaning: integers of any width, whole floats and booleans alike, strings and categories alike,
times of any unit in UTC. So the same values from CSV, JSON lines and Parquet stand on the same side.

Source:
    Assignment by a hash of a stable identifier: Kohavi et al. 2009, "Controlled experiments on the web", section 4.1.
    The mixing function and the hash of strings are those of `pandas.util.hash_array` (splitmix64, SipHash).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.text import listed, one_line
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Hashes = npt.NDArray[np.uint64]

CHUNK_ROWS = 1 << 18  # bounds the temporary arrays to a few megabytes
MAX_SAMPLE = 64  # hashes of test rows that a rule keeps; of 64 rows that are still there, all are found
MIN_FOUND = 0.9  # of the sample; some rows may have been erased since
MAX_NAMED = 3  # columns in a sentence

_BITS = 53  # a hash is compared as a fraction, which a float holds exactly to 53 bits
_PRIME, _SEED = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03  # odd 64-bit constants: the golden ratio's, and another
_MISSING, _FRACTION = 0x9E6C63D0876A9A47, 0xA0761D6478BD642F
_EXACT = 2.0**53  # whole floats below it are integers
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class SideRule(Value):
    """How a row's side follows from the row.

    Attributes:
        by: what the columns are: the ``group`` rows belong to, their ``key``, or their ``features``.
        columns: names of the columns, as text, in the order they are hashed.
        share: of the identities on the test side.
        seed: changes who is on which side.
        sample: hashes of test rows, for `features` only, lowest first: where they are not found among later test rows,
            the features are computed in another way, and the rule can tell nothing.
    """

    by: Literal["group", "key", "features"]
    columns: tuple[str, ...] = Field(min_length=1)
    share: float = Field(gt=0, lt=1)
    seed: int = 0
    sample: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """What the rule goes by, for people."""
        if self.by == "features":
            return "a hash of their features"
        return f"a hash of their {self.by} ({listed(self.columns, MAX_NAMED)})"

    def missing(self, names: Iterable[Any]) -> list[str]:
        """Return which of its columns a table with these column names does not have."""
        there = {str(name) for name in names}
        return [name for name in self.columns if name not in there]

    def hashes(self, rows: pd.DataFrame) -> Hashes:
        """Hash what identifies each row.

        Args:
            rows: (rows, columns), with the columns of the rule.

        Returns:
            (rows,), equal for rows of one identity.

        Raises:
            ConfigError: a column is missing, or holds values that cannot be hashed.
        """
        import numpy as np

        places = {str(name): place for place, name in enumerate(rows.columns)}
        for name in self.missing(rows.columns):
            raise unknown_name("column that says on which side a row is", name, places)
        chosen = [rows.iloc[:, places[name]] for name in self.columns]
        hashes = np.empty(len(rows), np.uint64)
        for start in range(0, len(rows), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            hashes[part] = _combined([cells.iloc[part] for cells in chosen], self.seed)
        return hashes

    def identities(self, rows: pd.DataFrame) -> pd.Series | None:
        """Return the hash of each row, (rows,), where rows share one; None where all differ, or a column is missing.

        Raises:
            ConfigError: a column holds values that cannot be hashed.
        """
        import pandas as pd

        if self.missing(rows.columns):
            return None
        found = pd.Series(self.hashes(rows), index=rows.index)
        return None if found.is_unique else found

    def on_test_side(self, rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Tell which rows are on the test side, (rows,); raises as `hashes` does."""
        return self.below(self.hashes(rows))

    def below(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Tell which hashes are on the test side, (rows,)."""
        return _fractions(hashes) < int(self.share * 2**_BITS)

    def with_sample(self, hashes: Hashes) -> SideRule:
        """Keep a sample of the test rows, where the identity is the features.

        Args:
            hashes: of all rows, from `hashes`.
        """
        import numpy as np

        if self.by != "features":
            return self
        lowest = np.unique(_fractions(hashes[self.below(hashes)]))[:MAX_SAMPLE]
        return self.model_copy(update={"sample": tuple(lowest.tolist())})

    def found(self, hashes: Hashes) -> tuple[int, bool]:
        """Look for the sample among rows.

        Args:
            hashes: of the rows, from `hashes`.

        Returns:
            How many of the sample are there, and whether that is enough to trust the rule.
        """
        import numpy as np

        there = int(np.isin(np.array(self.sample, np.uint64), _fractions(hashes)).sum())
        return there, there >= MIN_FOUND * len(self.sample)


def _fractions(hashes: Hashes) -> Hashes:
    import numpy as np

    return hashes >> np.uint64(64 - _BITS)


def _combined(columns: list[pd.Series], seed: int) -> Hashes:
    """Hash rows over several columns; the order of the columns matters."""
    import numpy as np

    start = np.array([(seed * _PRIME + _SEED) % 2**64], np.uint64)
    combined = np.repeat(_mixed(start), len(columns[0]))
    for cells in columns:
        try:
            combined = _mixed(combined * np.uint64(_PRIME) + _column(cells))
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"column {cells.name!r} cannot say on which side a row is: {one_line(error)}. Name a key: key="
            ) from error
    return combined


def _mixed(numbers: Hashes) -> Hashes:
    """Spread each 64-bit number over all its bits."""
    from pandas.util import hash_array

    return hash_array(numbers)


def _column(cells: pd.Series) -> Hashes:
    """Hash each cell of a column by its meaning, (rows,)."""
    import numpy as np
    import pandas as pd

    kind = cells.dtype
    if isinstance(kind, pd.CategoricalDtype):
        categories = _column(pd.Series(kind.categories.to_numpy(), dtype=kind.categories.dtype))
        codes = cells.cat.codes.to_numpy()
        return np.append(categories, np.uint64(_MISSING))[codes]  # the code of a missing cell is -1, the last place
    if isinstance(kind, pd.PeriodDtype):
        return _column(cells.dt.to_timestamp())
    missing = cells.isna().to_numpy(dtype=bool)
    if pd.api.types.is_bool_dtype(kind):
        hashes = _mixed(cells.to_numpy(np.bool_, na_value=False).astype(np.uint64))
    elif pd.api.types.is_integer_dtype(kind):
        wide = np.uint64 if pd.api.types.is_unsigned_integer_dtype(kind) else np.int64
        hashes = _mixed(cells.to_numpy(wide, na_value=0).view(np.uint64))
    elif pd.api.types.is_float_dtype(kind):
        hashes = _floats(cells.to_numpy("float64", na_value=np.nan))
    elif pd.api.types.is_datetime64_any_dtype(kind) or pd.api.types.is_timedelta64_dtype(kind):
        hashes = _times(cells)
    else:
        hashes = _objects(cells)
    hashes[missing] = _MISSING
    return hashes


def _floats(numbers: npt.NDArray[np.float64]) -> Hashes:
    """Hash floats; whole ones as the integers they are."""
    import numpy as np

    whole = (np.abs(numbers) < _EXACT) & (numbers == np.floor(numbers))
    bits = numbers.view(np.uint64) ^ np.uint64(_FRACTION)
    return _mixed(np.where(whole, np.where(whole, numbers, 0).astype(np.int64).view(np.uint64), bits))


def _times(cells: pd.Series) -> Hashes:
    """Hash times and durations as seconds and the rest, so that the unit leaves no trace."""
    import numpy as np
    import pandas as pd

    index = pd.DatetimeIndex(cells) if cells.dtype.kind == "M" else pd.TimedeltaIndex(cells)
    ticks, per_second = index.asi8, _PER_SECOND[index.unit]
    seconds, rest = ticks // per_second, ticks % per_second * (10**9 // per_second)
    return _mixed(_mixed(seconds.view(np.uint64)) * np.uint64(_PRIME) + rest.view(np.uint64))


def _objects(cells: pd.Series) -> Hashes:
    """Hash text and other Python objects, each different one once."""
    import numpy as np
    import pandas as pd
    from pandas.util import hash_array

    codes, found = pd.factorize(cells)
    values = np.asarray(found, dtype=object)
    if all(isinstance(value, str) for value in values):
        hashes = hash_array(values, categorize=False)
    else:
        hashes = np.fromiter((_object(value) for value in values), np.uint64, len(values))
    return np.append(hashes, np.uint64(_MISSING))[codes]


def _object(value: Any) -> int:
    import numpy as np
    import pandas as pd
    from pandas.util import hash_array

    if isinstance(value, (bool, np.bool_, int, np.integer)) and -(2**63) <= int(value) < 2**63:
        return int(_column(pd.Series([int(value)], dtype="int64"))[0])
    if isinstance(value, (float, np.floating)):
        return int(_floats(np.array([value], np.float64))[0])
    if isinstance(value, (dt.datetime, dt.timedelta)):
        return int(_times(pd.Series([value]))[0])
    text = value if isinstance(value, str) else f"{type(value).__name__} {value}"
    return int(hash_array(np.array([text], dtype=object), categorize=False)[0])
