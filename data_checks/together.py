"""Check many small tables at once: Great Expectations takes the same time for twenty rows as for thousands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.data_checks.engine import TYPE_EXPECTATIONS, Outcome, configurations_of, outcomes
from prefect_mlops.data_checks.suites import Suite, unusable_table
from prefect_mlops.data_checks.wording import weight_of

if TYPE_CHECKING:
    import pandas as pd

# What these say of a row depends on that row alone. Named one by one, as whatever is not known here, a user's own
# expectation too, may look at other rows. Sums over rows are left out: their last digit depends on how rows lie in
# memory.
_ABOUT_ROWS = frozenset(
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
_ABOUT_COLUMNS = frozenset(
    {
        "expect_column_to_exist",
        "expect_table_column_count_to_be_between",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
    }
)
_ROW_COUNT = "expect_table_row_count_to_be_between"  # answered here: in every inferred suite
# The same value is treated in the same way whatever else is in a column of these types. Others are turned into
# another type or not by what all of their values are: `engine._plain_view`.
_PLAIN_KINDS = "bf"
_PLAIN_TYPES = frozenset({"int64", "str"})


def can_pass_together(suite: Suite) -> bool:
    """Tell whether `pass_together` can ever be certain about a suite: whether gathering tables for it is of use.

    Raises:
        ConfigError: no suite, or one without expectations.
    """
    known = _ABOUT_ROWS | _ABOUT_COLUMNS | {_ROW_COUNT}
    return all(
        configuration.type in known and not configuration.kwargs.get("row_condition") and _is_own(configuration.type)
        for configuration in configurations_of(suite)
    )


def pass_together(frames: Sequence[pd.DataFrame], suite: Suite) -> bool:
    """Tell whether it is certain that each of some tables passes a suite by itself, asking once about all of them.

    Args:
        frames: each (rows, columns), with the same columns and types; left as they are.
        suite: a ``gx.ExpectationSuite`` or a list of expectations.

    Returns:
        True when `check_table` would pass each of them. False when one may fail, or when it cannot be said without
        looking at each: tables that differ in their columns, or a suite that is not about single rows and columns.

    Raises:
        ConfigError: no suite, or one without expectations.

    Source: `great_expectations`, through `data_checks.engine`.
    """
    import pandas as pd

    if not can_pass_together(suite) or not _alike(frames):
        return False
    configurations = configurations_of(suite)
    counts = [configuration for configuration in configurations if configuration.type == _ROW_COUNT]
    if not all(_counted(configuration, len(frame)) for configuration in counts for frame in frames):
        return False
    others = [configuration for configuration in configurations if configuration.type != _ROW_COUNT]
    if not frames or not others:
        return True
    return all(map(_certain, outcomes(pd.concat(frames, ignore_index=True), others)))


def _alike(frames: Sequence[pd.DataFrame]) -> bool:
    if any(unusable_table(frame, "") is not None for frame in frames):
        return False
    shapes = [list(frame.dtypes.items()) for frame in frames]
    return all(shape == shapes[0] for shape in shapes) and all(
        _is_plain(dtype) for shape in shapes[:1] for _, dtype in shape
    )


def _is_plain(dtype: Any) -> bool:
    return getattr(dtype, "name", "") in _PLAIN_TYPES or (
        type(dtype).__module__ == "numpy.dtypes" and dtype.kind in _PLAIN_KINDS
    )


def _is_own(kind: str) -> bool:
    """Tell whether an expectation is Great Expectations' own: anybody can register another one under its name."""
    from great_expectations.expectations.registry import get_expectation_impl

    return str(get_expectation_impl(kind).__module__).startswith("great_expectations.expectations.core.")


def _counted(configuration: Any, rows: int) -> bool:
    given = {name: value for name, value in configuration.kwargs.items() if value is not None}
    least, most = given.get("min_value", 0), given.get("max_value", rows)
    plain = all(type(bound) is int for bound in (least, most)) and not (
        given.get("strict_min") or given.get("strict_max")
    )
    return weight_of(configuration) != "error" or (plain and least <= rows <= most)


def _certain(outcome: Outcome) -> bool:
    """Tell whether an expectation holds for every row, whatever share of them `mostly` would let fail.

    One that only informs may fail, but not fail to be computed: that is an error whatever its severity.
    """
    if outcome.problem:
        return False
    if weight_of(outcome.configuration) != "error":
        return True
    return outcome.success and not outcome.result.get("unexpected_count", 0)
