"""The scope of an expectation: single rows, column names, one aggregate, or whole columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from prefect_mlops.data_checks.engine import TYPE_EXPECTATIONS, columns_of

Scope: TypeAlias = Literal["rows", "columns", "count", "figure", "whole"]

# Their outcome on a row depends on that row alone. An explicit list, as any other expectation, also a custom one, may
# use other rows. Sums over rows are left out: their last digit depends on the memory layout.
ABOUT_ROWS = frozenset(
    {
        "expect_column_pair_values_a_to_be_greater_than_b",
        "expect_column_pair_values_to_be_equal",
        "expect_column_pair_values_to_be_in_set",
        "expect_column_value_lengths_to_be_between",
        "expect_column_value_lengths_to_equal",
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_dateutil_parseable",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_json_parseable",
        "expect_column_values_to_be_null",
        "expect_column_values_to_match_regex",
        "expect_column_values_to_match_regex_list",
        "expect_column_values_to_match_strftime_format",
        "expect_column_values_to_not_be_in_set",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_not_match_regex",
        "expect_column_values_to_not_match_regex_list",
        "expect_select_column_values_to_be_unique_within_record",
        *TYPE_EXPECTATIONS,
    }
)
ABOUT_COLUMNS = frozenset(
    {
        "expect_column_to_exist",
        "expect_table_column_count_to_be_between",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
    }
)
# Aggregates of a column that can be merged over chunks.
EXTREMES = frozenset({"expect_column_max_to_be_between", "expect_column_min_to_be_between"})
MOMENTS = frozenset(
    {"expect_column_mean_to_be_between", "expect_column_stdev_to_be_between", "expect_column_sum_to_be_between"}
)
DISTINCT = frozenset(
    {
        "expect_column_distinct_values_to_be_in_set",
        "expect_column_distinct_values_to_contain_set",
        "expect_column_distinct_values_to_equal_set",
        "expect_column_unique_value_count_to_be_between",
    }
)
_ABOUT_GAPS = frozenset({"expect_column_values_to_be_null", "expect_column_values_to_not_be_null"})
# In a column of these types the treatment of a value does not depend on other values. Columns of other types may be
# converted, depending on all of their values: `engine._plain_view`.
_PLAIN_KINDS = "bif"
_NUMBERS = ("i", "f")


def scope_of(configuration: Any, dtypes: Mapping[Any, Any]) -> Scope:
    """Return the scope of an expectation.

    Args:
        configuration: from `engine.configurations_of`.
        dtypes: type of each column of the table.

    Returns:
        ``rows`` where every row is checked without the others, ``columns`` where column names suffice, ``count`` for
        the number of rows, ``figure`` for an aggregate that can be merged over chunks, and ``whole`` for all others.
    """
    kind, condition = configuration.type, configuration.kwargs.get("row_condition")
    kinds = [dtypes[column] for column in columns_of(configuration) if column in dtypes]
    if kind.startswith("expect_table_row_count") and not condition:
        return "count"
    if kind in ABOUT_COLUMNS and is_own(kind):
        return "columns"
    if kind in ABOUT_ROWS and is_own(kind) and _condition_is_row_wise(condition):
        return "rows" if _is_row_wise(kind, kinds) else "whole"
    together = not condition and is_own(kind) and all(map(is_plain, kinds))
    return "figure" if together and _has_figure(kind, kinds) else "whole"


def _is_row_wise(kind: str, dtypes: Sequence[Any]) -> bool:
    """Check whether the outcome of a value in such columns is independent of the other values."""
    if kind in _ABOUT_GAPS or kind in TYPE_EXPECTATIONS:
        return True
    times = kind == "expect_column_values_to_be_between" and all(_kind(dtype) == "M" for dtype in dtypes)
    return times or all(map(is_plain, dtypes))


def _has_figure(kind: str, dtypes: Sequence[Any]) -> bool:
    if kind in MOMENTS:
        return all(_kind(dtype) in _NUMBERS for dtype in dtypes)
    return kind in EXTREMES | DISTINCT


def is_plain(dtype: Any) -> bool:
    """Check whether the treatment of a value of this type is independent of the other values in its column."""
    of_numpy = type(dtype).__module__ == "numpy.dtypes"
    return getattr(dtype, "name", "") == "str" or (of_numpy and dtype.kind in _PLAIN_KINDS)


def is_own(kind: str) -> bool:
    """Check whether an expectation is Great Expectations' own: a custom one can be registered under its name."""
    from great_expectations.expectations.registry import get_expectation_impl

    return str(get_expectation_impl(kind).__module__).startswith("great_expectations.expectations.core.")


def _kind(dtype: Any) -> str:
    return str(getattr(dtype, "kind", ""))


def _condition_is_row_wise(condition: Any) -> bool:
    """Check whether a row condition uses one row at a time; one given as text can hold any aggregate of pandas."""
    if not condition:
        return True
    if not isinstance(condition, dict):
        return False
    parts = condition.get("conditions")
    return all(map(_condition_is_row_wise, parts)) if parts else "pass_through_filter" not in condition
