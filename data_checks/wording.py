"""Describe expectations and their outcomes in words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from prefect_mlops.core.reports import MAX_EXAMPLES, Check, Severity
from prefect_mlops.core.text import listed, show
from prefect_mlops.data_checks.engine import NO_COLUMN, Outcome, columns_of, no_column

MAX_LISTED = 8  # members of a set shown in a name; beyond it the count says enough

# Expectations about each row: their name, with ``{range}`` for the bounds and other options by their name.
_OF_ROWS = {
    "column_values_to_be_between": "values {range}",
    "column_values_to_be_in_set": "values in {value_set}",
    "column_values_to_not_be_in_set": "values not in {value_set}",
    "column_values_to_be_null": "values are missing",
    "column_values_to_not_be_null": "values are present",
    "column_values_to_be_unique": "values are unique",
    "column_values_to_be_of_type": "values of type {type_}",
    "column_values_to_be_in_type_list": "values of type {type_list}",
    "column_values_to_be_increasing": "values increase",
    "column_values_to_be_decreasing": "values decrease",
    "column_values_to_be_dateutil_parseable": "values are dates",
    "column_values_to_be_json_parseable": "values are JSON",
    "column_values_to_match_json_schema": "values follow the JSON schema",
    "column_values_to_match_strftime_format": "values written as {strftime_format}",
    "column_values_to_match_regex": "values match {regex}",
    "column_values_to_not_match_regex": "values do not match {regex}",
    "column_values_to_match_regex_list": "values match {regex_list}",
    "column_values_to_not_match_regex_list": "values do not match {regex_list}",
    "column_values_to_match_like_pattern": "values like {like_pattern}",
    "column_values_to_not_match_like_pattern": "values not like {like_pattern}",
    "column_value_lengths_to_be_between": "lengths {range}",
    "column_value_lengths_to_equal": "lengths of {value}",
    "column_value_z_scores_to_be_less_than": "z-scores below {threshold}",
    "column_pair_values_to_be_equal": "both values are equal",
    "column_pair_values_a_to_be_greater_than_b": "{column_A} above {column_B}",
    "column_pair_values_to_be_in_set": "pairs in {value_pairs_set}",
    "compound_columns_to_be_unique": "combinations are unique",
    "multicolumn_sum_to_equal": "sum of {sum_total}",
    "multicolumn_values_to_be_equal": "all values are equal",
    "select_column_values_to_be_unique_within_record": "values differ within each row",
}
# Expectations about a column or table: the name of the aggregate, and what is expected of it.
_OF_TABLES = {
    "column_to_exist": ("column exists", "a column of this name"),
    "column_distinct_values_to_be_in_set": ("distinct values", "only {value_set}"),
    "column_distinct_values_to_equal_set": ("distinct values", "exactly {value_set}"),
    "column_distinct_values_to_contain_set": ("distinct values", "at least {value_set}"),
    "column_most_common_value_to_be_in_set": ("most common value", "one of {value_set}"),
    "column_max_to_be_between": ("maximum", "{range}"),
    "column_min_to_be_between": ("minimum", "{range}"),
    "column_mean_to_be_between": ("mean", "{range}"),
    "column_median_to_be_between": ("median", "{range}"),
    "column_stdev_to_be_between": ("standard deviation", "{range}"),
    "column_sum_to_be_between": ("sum", "{range}"),
    "column_unique_value_count_to_be_between": ("number of distinct values", "{range}"),
    "column_proportion_of_unique_values_to_be_between": ("share of distinct values", "{range}"),
    "column_proportion_of_non_null_values_to_be_between": ("share of present values", "{range}"),
    "table_row_count_to_be_between": ("row count", "{range}"),
    "table_row_count_to_equal": ("row count", "{value}"),
    "table_column_count_to_be_between": ("column count", "{range}"),
    "table_column_count_to_equal": ("column count", "{value}"),
    "table_columns_to_match_set": ("columns", "{column_set}"),
    "table_columns_to_match_ordered_list": ("columns in order", "{column_list}"),
}


def check_of(outcome: Outcome, columns: Iterable[Any]) -> Check:
    """Turn the outcome of an expectation into a check.

    Args:
        outcome: from `engine.outcomes`.
        columns: names of the table's columns.

    Returns:
        The check. An expectation that could not be computed is an error whatever its severity.
    """
    configuration = outcome.configuration
    severity: Severity = "error" if outcome.problem or weight_of(configuration) == "error" else "warning"
    return Check(
        id=str(configuration.type).removeprefix("expect_").replace("_", "-"),
        name=question(configuration),
        passed=outcome.success and not outcome.problem,
        severity=severity,
        subject=subject_of(configuration),
        observed=_observed(outcome, columns),
        expected=_expected(configuration),
        examples=() if outcome.success or outcome.problem else _examples(outcome),
    )


def weight_of(configuration: Any) -> Severity:
    """Return ``error`` for a critical expectation, ``warning`` for the others."""
    severity = str(getattr(configuration.severity, "value", configuration.severity) or "critical")
    return "error" if severity == "critical" else "warning"


def subject_of(configuration: Any) -> str:
    """Return the column or columns an expectation names; empty for the whole table."""
    is_about_table = configuration.type.startswith("expect_table")
    return "" if is_about_table else ", ".join(columns_of(configuration))


def question(configuration: Any) -> str:
    """Return the name of a check: the expectation's own description, or words for its type."""
    kind = str(configuration.type).removeprefix("expect_")
    condition = configuration.kwargs.get("row_condition")
    where = f" where {_text(_condition(condition))}" if condition else ""
    if configuration.description:
        return str(configuration.description)
    if kind in _OF_ROWS:
        return _filled(_OF_ROWS[kind], configuration) + where
    if kind in _OF_TABLES:
        return _OF_TABLES[kind][0] + where
    return kind.removeprefix("column_").replace("_", " ") + where


def _expected(configuration: Any) -> str:
    kind = configuration.type.removeprefix("expect_")
    if kind in _OF_TABLES:
        return _filled(_OF_TABLES[kind][1], configuration)
    if kind in _OF_ROWS:
        mostly = configuration.kwargs.get("mostly", 1)
        return (
            "all rows" if not isinstance(mostly, (int, float)) or mostly >= 1 else f"{_share(mostly)} of rows or more"
        )
    hidden = {"row_condition", "condition_parser", "batch_id", "column"}
    return ", ".join(f"{key} {_text(value)}" for key, value in configuration.kwargs.items() if key not in hidden)


def _filled(words: str, configuration: Any) -> str:
    options = {key: _members(value) for key, value in configuration.kwargs.items()}
    return words.format_map(_Blank(options | {"range": _range(configuration.kwargs)}))


class _Blank(dict[str, str]):
    """Options left at their default are not among the arguments."""

    def __missing__(self, key: str) -> str:
        return "anything"


def _range(options: dict[str, Any]) -> str:
    low, high = options.get("min_value"), options.get("max_value")
    strict = options.get("strict_min") or options.get("strict_max")
    if low is not None and high is not None:
        return f"between {_text(low)} and {_text(high)}" + (", bounds excluded" if strict else "")
    if low is not None:
        return f"{'above' if strict else 'at least'} {_text(low)}"
    return f"{'below' if strict else 'at most'} {_text(high)}" if high is not None else "of any size"


def _observed(outcome: Outcome, columns: Iterable[Any]) -> str:
    configuration, result = outcome.configuration, outcome.result
    if outcome.problem:
        known = outcome.problem.startswith(NO_COLUMN)
        return outcome.problem if known else f"cannot be computed: {outcome.problem}"
    if configuration.type == "expect_column_to_exist":
        return "present" if outcome.success else no_column(str(configuration.kwargs.get("column")), columns)
    mismatched = (result.get("details") or {}).get("mismatched")
    if isinstance(mismatched, dict):
        parts = [f"{kind} {_members(names)}" for kind, names in sorted(mismatched.items()) if names]
        return "; ".join(parts)
    if "element_count" in result:
        low_high = outcome.extent
        return _rows(outcome) + (f", from {_text(low_high[0])} to {_text(low_high[1])}" if low_high else "")
    value = result.get("observed_value")
    return _members(value) if value is not None else ""


def _rows(outcome: Outcome) -> str:
    result = outcome.result
    bad, missing = int(result.get("unexpected_count") or 0), int(result.get("missing_count") or 0)
    present = int(result["element_count"]) - missing
    rows = f"{bad:,} of {present:,} rows" + (" with a value" if missing else "")
    return rows + (f" ({_share(bad / present)})" if bad and present else "")


def _examples(outcome: Outcome) -> tuple[str, ...]:
    if outcome.configuration.type == "expect_column_values_to_not_be_null":
        return ()
    values = outcome.result.get("partial_unexpected_list") or []
    distinct = dict.fromkeys(_text(value) for value in values)
    return tuple(distinct)[:MAX_EXAMPLES]


def _share(share: float) -> str:
    percent = share * 100
    return "under 0.1 %" if 0 < percent < 0.1 else f"{percent:.1f} %".replace(".0 %", " %")  # noqa: PLR2004


def _members(value: object) -> str:
    if isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable):
        return _text(value)
    return listed([_text(member) for member in value], MAX_LISTED)


def _text(value: object) -> str:
    """Write one value on one line, at most `MAX_SHOWN` characters; whole numbers without a point."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < 1e15:  # noqa: PLR2004
        value = int(value)
    if isinstance(value, float) and math.isfinite(value):
        value = f"{value:.6g}"
    if isinstance(value, (tuple, list)):
        value = f"({', '.join(_text(part) for part in value)})"
    if isinstance(value, dict):
        value = ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    return show(str(value).strip() or repr(value))


def _condition(condition: Any) -> str:
    """Write a row condition as ``column operator value``, or as the text it was given as."""
    if not isinstance(condition, dict):
        return str(condition)
    if "conditions" in condition:
        word = f" {condition.get('type', 'and')} "
        return word.join(_condition(part) for part in condition["conditions"])
    column = condition.get("column", {}).get("name", "")
    if "is_null" in condition:
        return f"{column} is missing" if condition["is_null"] else f"{column} is present"
    if "operator" in condition:
        return f"{column} {condition['operator']} {_members(condition.get('parameter'))}"
    return str(condition.get("pass_through_filter", condition))
