from __future__ import annotations

import great_expectations as gx
import numpy as np
import pandas as pd
import pytest
from great_expectations import expectations as gxe
from great_expectations.expectations.row_conditions import Column
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.data_checks import check_table, infer_suite
from prefect_mlops.data_checks.together import can_pass_together, pass_together

ROWS = [
    gxe.ExpectColumnValuesToNotBeNull(column="n"),
    gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0, max_value=10),
    gxe.ExpectColumnValuesToBeInSet(column="s", value_set=["a", "b"]),
]


def table(n: list[float | None], s: list[str | None] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"n": pd.array(n, dtype="float64"), "s": pd.Series(s or ["a"] * len(n), dtype="str")})


def test_good_tables_pass_together() -> None:
    frames = [table([place]) for place in range(10)]
    before = [frame.copy() for frame in frames]
    assert pass_together(frames, ROWS)
    assert pass_together(frames, gx.ExpectationSuite(name="x", expectations=ROWS))
    for frame, copy in zip(frames, before, strict=True):
        pd.testing.assert_frame_equal(frame, copy)


@pytest.mark.parametrize("bad", [table([11]), table([None]), table([1], ["z"]), table([])])
def test_one_bad_table_is_seen(bad: pd.DataFrame) -> None:
    assert not pass_together([table([1]), bad, table([2])], ROWS)


def test_a_bad_table_is_not_hidden_by_the_others() -> None:
    """With `mostly`, one bad row in a hundred passes; the table that holds it does not."""
    suite = [gxe.ExpectColumnValuesToBeBetween(column="n", max_value=10, mostly=0.9)]
    assert not pass_together([table([1] * 99), table([11])], suite)


@pytest.mark.parametrize(
    "expectation",
    [
        gxe.ExpectColumnValuesToBeUnique(column="n"),
        gxe.ExpectColumnValuesToBeIncreasing(column="n"),
        gxe.ExpectColumnValuesToBeDecreasing(column="n"),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["n", "s"]),
        gxe.ExpectColumnValueZScoresToBeLessThan(column="n", threshold=3, double_sided=True),
        gxe.ExpectColumnMeanToBeBetween(column="n", min_value=0, max_value=10),
        gxe.ExpectColumnDistinctValuesToBeInSet(column="s", value_set=["a"]),
        gxe.ExpectTableRowCountToEqual(value=20),
        gxe.ExpectMulticolumnSumToEqual(column_list=["n", "n2"], sum_total=1),
        gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0, row_condition=Column("s") == "a"),
        gxe.ExpectColumnMeanToBeBetween(column="n", min_value=0, severity="warning"),
    ],
)
def test_what_looks_at_other_rows_is_never_certain(expectation: object) -> None:
    assert not can_pass_together([expectation])
    assert not pass_together([table([1])], [*ROWS, expectation])


def test_an_expectation_of_a_users_own_is_never_certain() -> None:
    class ExpectColumnValuesToBeNice(gxe.ExpectColumnValuesToBeInSet):
        pass

    assert not can_pass_together([ExpectColumnValuesToBeNice(column="s", value_set=["a"])])


@pytest.mark.parametrize(
    "other",
    [
        table([1])[["s", "n"]],
        table([1]).assign(more=1),
        table([1]).astype({"n": "int64"}),
        table([1]).astype({"s": object}),
        table([1]).astype({"s": "category"}),
    ],
)
def test_tables_that_differ_are_not_asked_together(other: pd.DataFrame) -> None:
    assert not pass_together([table([1]), other], ROWS)


def test_types_that_are_converted_by_what_they_hold_are_not_asked_together() -> None:
    suite = [gxe.ExpectColumnValueLengthsToEqual(column="n", value=2)]  # 12 is "12" alone, and "12.0" beside a gap
    whole, gap = (pd.DataFrame({"n": pd.array(values, dtype="Int64")}) for values in ([12], [34, None]))
    assert not pass_together([whole, gap], suite)


def test_what_only_informs_may_fail_but_has_to_be_computed() -> None:
    assert pass_together([table([99])], [gxe.ExpectColumnValuesToBeBetween(column="n", max_value=1, severity="info")])
    missing = [gxe.ExpectColumnValuesToNotBeNull(column="no", severity="warning")]
    assert not check_table(table([1]), missing).passed
    assert not pass_together([table([1])], missing)


def test_the_number_of_rows_is_that_of_each() -> None:
    suite = [gxe.ExpectTableRowCountToBeBetween(min_value=2, max_value=3)]
    assert pass_together([table([1, 2]), table([1, 2, 3])], suite)
    assert not pass_together([table([1]), table([1])], suite)
    assert not pass_together([table([1, 2]), table([1, 2, 3, 4])], suite)


def test_an_inferred_suite_can_pass() -> None:
    frame = pd.DataFrame({"n": range(200), "x": np.linspace(0, 1, 200), "s": ["a", "b"] * 100})
    suite = infer_suite(frame, name="inferred")
    good = [frame.iloc[:100].reset_index(drop=True), frame.iloc[100:].reset_index(drop=True)]
    assert pass_together(good, suite) == all(check_table(part, suite).passed for part in good)


def test_no_tables_all_pass_and_no_suite_is_an_error() -> None:
    assert pass_together([], ROWS)
    with pytest.raises(ConfigError):
        pass_together([table([1])], [])


numbers = st.one_of(st.none(), st.floats(-3, 14, allow_nan=False).map(lambda value: round(value, 1)))
words = st.one_of(st.none(), st.sampled_from(["a", "b", "aa", "z", "1", "2024-01-01", "{}", ""]))
moments = st.one_of(st.none(), st.sampled_from(["2023-12-31", "2024-01-01", "2024-06-01"]))
rows = st.tuples(numbers, numbers, st.integers(-2, 12), words, st.booleans())
mostly = st.sampled_from([0.0, 0.5, 0.9, 1.0])
severity = st.sampled_from(["critical", "critical", "warning", "info"])


def _made(kind: type, **options) -> st.SearchStrategy:
    return st.builds(
        kind,
        **{name: value if isinstance(value, st.SearchStrategy) else st.just(value) for name, value in options.items()},
    )


expectations = st.one_of(
    _made(gxe.ExpectColumnValuesToBeBetween, column=st.sampled_from(["x", "i"]), min_value=st.integers(-3, 2), max_value=st.integers(8, 14), strict_max=st.booleans(), mostly=mostly, severity=severity),
    _made(gxe.ExpectColumnValuesToNotBeNull, column=st.sampled_from(["x", "i", "s", "flag"]), mostly=mostly, severity=severity),
    _made(gxe.ExpectColumnValuesToBeNull, column=st.sampled_from(["x", "s"]), mostly=mostly, severity=severity),
    _made(gxe.ExpectColumnValuesToBeInSet, column=st.sampled_from(["s", "i", "x", "flag"]), value_set=st.sampled_from([["a", "b", "aa", "z"], [0, 1, 2], [True], []]), mostly=mostly),
    _made(gxe.ExpectColumnValuesToNotBeInSet, column=st.sampled_from(["s", "i"]), value_set=st.sampled_from([["z"], [3]]), mostly=mostly),
    _made(gxe.ExpectColumnValuesToMatchRegex, column=st.sampled_from(["s", "i", "x"]), regex=st.sampled_from(["^[ab]", "."]), mostly=mostly),
    _made(gxe.ExpectColumnValuesToNotMatchRegex, column="s", regex="z", mostly=mostly),
    _made(gxe.ExpectColumnValuesToMatchRegexList, column="s", regex_list=["a", "b"], match_on=st.sampled_from(["any", "all"])),
    _made(gxe.ExpectColumnValueLengthsToBeBetween, column=st.sampled_from(["s", "i"]), min_value=1, max_value=st.integers(1, 10), mostly=mostly),
    _made(gxe.ExpectColumnValueLengthsToEqual, column=st.sampled_from(["s", "i"]), value=1, mostly=mostly),
    _made(gxe.ExpectColumnValuesToMatchStrftimeFormat, column="s", strftime_format="%Y-%m-%d", mostly=mostly),
    _made(gxe.ExpectColumnValuesToBeDateutilParseable, column="s", mostly=mostly),
    _made(gxe.ExpectColumnValuesToBeJsonParseable, column="s", mostly=mostly),
    _made(gxe.ExpectColumnValuesToBeOfType, column=st.sampled_from(["s", "i", "x"]), type_=st.sampled_from(["str", "int64", "float64"]), mostly=mostly),
    _made(gxe.ExpectColumnValuesToBeInTypeList, column=st.sampled_from(["s", "i", "x"]), type_list=["str", "int64"], mostly=mostly, severity=severity),
    _made(gxe.ExpectColumnPairValuesAToBeGreaterThanB, column_A="x", column_B="y", or_equal=st.booleans(), ignore_row_if=st.sampled_from(["both_values_are_missing", "either_value_is_missing", "neither"]), mostly=mostly),
    _made(gxe.ExpectColumnPairValuesToBeEqual, column_A="x", column_B="y", mostly=mostly),
    _made(gxe.ExpectColumnPairValuesToBeInSet, column_A="i", column_B="flag", value_pairs_set=[(1, True), (2, False)], mostly=mostly),
    _made(gxe.ExpectSelectColumnValuesToBeUniqueWithinRecord, column_list=["x", "y"], mostly=mostly),
    _made(gxe.ExpectColumnValuesToBeUnique, column="i"),
    _made(gxe.ExpectColumnMeanToBeBetween, column="x", min_value=0, severity=severity),
    _made(gxe.ExpectTableRowCountToBeBetween, min_value=st.integers(0, 3), max_value=st.one_of(st.none(), st.integers(3, 6)), severity=severity),
    _made(gxe.ExpectTableColumnsToMatchSet, column_set=st.sampled_from([["x", "y", "i", "s", "flag"], ["x"]]), exact_match=st.booleans()),
    _made(gxe.ExpectColumnToExist, column=st.sampled_from(["x", "no"])),
    _made(gxe.ExpectTableColumnCountToEqual, value=5),
)  # fmt: skip


def _frame(drawn: list[tuple]) -> pd.DataFrame:
    x, y, i, s, flag = ([row[place] for row in drawn] for place in range(5))
    return pd.DataFrame(
        {
            "x": pd.Series(x, dtype="float64"),
            "y": pd.Series(y, dtype="float64"),
            "i": pd.Series(i, dtype="int64"),
            "s": pd.Series(s, dtype="str"),
            "flag": pd.Series(flag, dtype=bool),
        }
    )


@pytest.mark.slow
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    drawn=st.lists(st.lists(rows, min_size=1, max_size=4), min_size=1, max_size=4),
    suite=st.lists(expectations, min_size=1, max_size=3),
)
def test_certain_means_that_each_passes_alone(drawn: list[list[tuple]], suite: list) -> None:
    frames = [_frame(part) for part in drawn]
    if pass_together(frames, suite):
        for frame in frames:
            assert check_table(frame, suite).passed


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    drawn=st.lists(st.lists(rows, min_size=1, max_size=4), min_size=2, max_size=4),
    suite=st.lists(expectations, min_size=1, max_size=3),
)
def test_good_tables_of_a_suite_about_rows_are_certain(drawn: list[list[tuple]], suite: list) -> None:
    """Without `mostly`, nothing that passes is asked twice."""
    strict = [one for one in suite if getattr(one, "mostly", 1.0) == 1.0]
    frames = [_frame(part) for part in drawn]
    if strict and can_pass_together(strict) and all(check_table(frame, strict).passed for frame in frames):
        assert pass_together(frames, strict)
