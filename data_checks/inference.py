"""Infer a suite from data that is known to be good."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.tables.digests import column_kind
from prefect_mlops.data_checks.suites import unusable_table

if TYPE_CHECKING:
    import great_expectations as gx
    import pandas as pd

MAX_CATEGORIES = 50  # more distinct values are taken for free text
MIN_REPEATS = 5  # rows a value on average; with fewer, the values are taken for free text
DEVIATIONS = 5  # standard deviations; by chance a share exceeds them once in millions
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
    """Infer a suite from good data, wide enough that similar data passes.

    Each column has to exist. By its content: no missing values where the reference has none, else a bounded share of
    them; numbers within the widened range; times not before the first one; text from the set of values, where that is
    small and its members repeat; types of one family. The table has to have rows.

    Args:
        reference: good data, (rows, columns).
        name: of the suite.
        margin: how far to widen: a share of the range of numbers, and of all rows for missing values.

    Returns:
        A suite like any other, to be reviewed and changed.

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
    """Infer expectations about the values; none for kinds of columns where only missing values are checked."""
    kind, present = column_kind(values), values.dropna()
    if present.empty:
        return []
    found = _family(values, kind)
    if kind in ("integer", "float"):
        found += _numbers(present, margin, whole=kind == "integer")
    elif kind in ("string", "categorical"):
        found += _categories(present)
    elif kind == "datetime":
        found += _times(present)
    return found


def _family(values: pd.Series, kind: str) -> list[Any]:
    """Infer the family of types; none where Great Expectations has no name for it (Arrow types, time zones)."""
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


def _numbers(present: pd.Series, margin: float, *, whole: bool) -> list[Any]:
    from great_expectations import expectations as gxe

    low, high = float(present.min()), float(present.max())
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
    return [gxe.ExpectColumnValuesToBeBetween(column=present.name, **bounds)] if bounds else []


def _rounded_out(bound: float, *, up: bool) -> float:
    """Widen a bound to the next float, as large integers are rounded when compared as floats."""
    return math.nextafter(bound, math.inf if up else -math.inf) if abs(bound) >= 2**53 else bound


def _categories(present: pd.Series) -> list[Any]:
    from great_expectations import expectations as gxe

    distinct = present.unique()
    members = [member.item() if hasattr(member, "item") else member for member in distinct]
    if len(members) > MAX_CATEGORIES or len(members) * MIN_REPEATS > len(present):
        return []
    if not all(isinstance(member, (str, int, float)) for member in members):
        return []
    return [gxe.ExpectColumnValuesToBeInSet(column=present.name, value_set=sorted(members, key=str))]


def _times(present: pd.Series) -> list[Any]:
    from great_expectations import expectations as gxe

    first = present.min()
    if not hasattr(first, "to_pydatetime"):
        return []
    # Python's datetime has microseconds: rounding down keeps the reference inside.
    return [gxe.ExpectColumnValuesToBeBetween(column=present.name, min_value=first.floor("us").to_pydatetime())]
