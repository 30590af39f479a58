"""Learn a suite from data that is known to be good."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.tables.digests import column_kind
from prefect_mlops.data_checks.suites import unusable_table

if TYPE_CHECKING:
    import great_expectations as gx
    import pandas as pd

MAX_CATEGORIES = 50  # a longer set is rather free text than categories
MIN_REPEATS = 5  # values seen fewer times on average than this are rather free text than categories
DEVIATIONS = 5  # a share moves by chance: five standard deviations are passed once in some millions
_NUMBERS = (
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *(f"{sign}Int{bits}Dtype" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "Float32Dtype", "Float64Dtype", "int", "float"),
)
_TYPES = {
    "integer": ("numbers", _NUMBERS),
    "float": ("numbers", _NUMBERS),
    "boolean": ("true or false", ("bool", "BooleanDtype")),
    "string": ("text", ("str",)),
    "datetime": ("times", tuple(f"datetime64[{unit}]" for unit in ("s", "ms", "us", "ns"))),
}


def infer_suite(reference: pd.DataFrame, *, name: str, margin: float = 0.1) -> gx.ExpectationSuite:
    """Learn a suite from good data, wide enough that more of the same passes.

    Each column has to exist. Beyond that, by what it holds: values present where the reference has no gap, else a
    bounded share of gaps; numbers within the range seen, widened; times not before the first one seen; text out of
    the set seen, where that is small and its members repeat; types of one family. The table has to have rows.

    Args:
        reference: good data, (rows, columns).
        name: of the suite.
        margin: by how much to widen, as a share: of the range of a number, and of all rows for gaps.

    Returns:
        A plain suite, to be read, changed and kept as any other.

    Raises:
        ConfigError: no name, a negative margin, or column names that are not text.
        DataCheckError: the reference has no rows, or repeated column names.

    Source: own rules; `great_expectations` evaluates them.
    """
    import great_expectations as gx
    from great_expectations import expectations as gxe

    if not name or not isinstance(name, str):
        raise ConfigError("a suite needs a name, e.g. name='flights'")
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0 <= margin < math.inf:
        raise ConfigError(f"margin is a share of at least 0, e.g. 0.1, got {margin!r}")
    if unusable := unusable_table(reference, "reference"):
        unusable.raise_for_failure()
    odd = [column for column in reference.columns if not isinstance(column, str)]
    if odd:
        raise ConfigError(f"column names of the reference have to be text, got {odd[0]!r}: rename it")
    expectations: list[Any] = [gxe.ExpectTableRowCountToBeBetween(min_value=1)]
    for column in reference.columns:
        expectations.append(gxe.ExpectColumnToExist(column=column))
        expectations += _presence(reference[column], margin)
        expectations += _content(reference[column], margin)
    return gx.ExpectationSuite(name=name, expectations=expectations)


def _presence(values: pd.Series, margin: float) -> list[Any]:
    from great_expectations import expectations as gxe

    share = float(values.isna().mean())
    if share == 0:
        return [gxe.ExpectColumnValuesToNotBeNull(column=values.name)]
    by_chance = DEVIATIONS * math.sqrt(share * (1 - share) / len(values))
    present = math.floor((1 - share - max(margin, by_chance)) * 1000) / 1000
    return [gxe.ExpectColumnValuesToNotBeNull(column=values.name, mostly=present)] if present > 0 else []


def _content(values: pd.Series, margin: float) -> list[Any]:
    """Learn what the values that are there look like; nothing from kinds of which only presence can be asked."""
    kind, there = column_kind(values), values.dropna()
    if there.empty:
        return []
    found = _family(values, kind)
    if kind in ("integer", "float"):
        found += _numbers(there, margin, whole=kind == "integer")
    elif kind in ("string", "categorical"):
        found += _categories(there)
    elif kind == "datetime":
        found += _times(there)
    return found


def _family(values: pd.Series, kind: str) -> list[Any]:
    """Learn the family of types; none where Great Expectations has no name for it (Arrow types, time zones)."""
    import pandas as pd
    from great_expectations import expectations as gxe

    dtype: Any = values.dtype
    if kind not in _TYPES or isinstance(dtype, (pd.ArrowDtype, pd.DatetimeTZDtype)):
        return []
    if kind == "datetime" and dtype.kind != "M":
        return []
    words, names = _TYPES[kind]
    return [
        gxe.ExpectColumnValuesToBeInTypeList(
            column=values.name, type_list=list(names), description=f"values are {words}"
        )
    ]


def _numbers(there: pd.Series, margin: float, *, whole: bool) -> list[Any]:
    from great_expectations import expectations as gxe

    low, high = float(there.min()), float(there.max())
    # One value has no range; the margin is then relative to its size.
    spread = margin * ((high - low) or abs(high) or 1.0)
    low, high = low - spread, high + spread
    if whole and math.isfinite(low) and math.isfinite(high):
        low, high = math.floor(low), math.ceil(high)
    bounds = {
        key: _rounded_out(bound, up=key == "max_value")
        for key, bound in (("min_value", low), ("max_value", high))
        if math.isfinite(bound)
    }
    return [gxe.ExpectColumnValuesToBeBetween(column=there.name, **bounds)] if bounds else []


def _rounded_out(bound: float, *, up: bool) -> float:
    """Return the next number that a large integer, compared as a float, still lies within."""
    return math.nextafter(bound, math.inf if up else -math.inf) if abs(bound) >= 2**53 else bound


def _categories(there: pd.Series) -> list[Any]:
    from great_expectations import expectations as gxe

    distinct = there.unique()
    members = [member.item() if hasattr(member, "item") else member for member in distinct]
    if len(members) > MAX_CATEGORIES or len(members) * MIN_REPEATS > len(there):
        return []
    if not all(isinstance(member, (str, int, float)) for member in members):
        return []
    return [gxe.ExpectColumnValuesToBeInSet(column=there.name, value_set=sorted(members, key=str))]


def _times(there: pd.Series) -> list[Any]:
    from great_expectations import expectations as gxe

    first = there.min()
    if not hasattr(first, "to_pydatetime"):
        return []
    # Python's datetime has microseconds: rounding down keeps the reference inside.
    return [gxe.ExpectColumnValuesToBeBetween(column=there.name, min_value=first.floor("us").to_pydatetime())]
