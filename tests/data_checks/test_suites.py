from __future__ import annotations

import decimal
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import great_expectations as gx
import numpy as np
import pandas as pd
import pytest
from great_expectations import expectations as gxe
from great_expectations.execution_engine import pandas_execution_engine
from great_expectations.expectations.row_conditions import Column
from pandas.testing import assert_frame_equal

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.reports import Check
from prefect_mlops.data_checks import check_table


@pytest.fixture
def rides() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "hour": [0, 12, 23, -5, 400, 24],
            "km": [1.5, None, 3.0, 4.0, 5.0, 6.0],
            "kind": ["a", "b", "a", "c", "", "a"],
            "day": pd.date_range("2013-01-01", periods=6),
            "start": [1, 2, 3, 4, 5, 6],
            "end": [2, 3, 4, 4, 4, 7],
        },
        index=[0, 0, 1, 1, 2, 2],
    )


def only(frame: pd.DataFrame, expectation: object) -> Check:
    (check,) = check_table(frame, [expectation]).checks
    return check


def test_a_failed_range_says_column_count_share_extent_and_examples(rides: pd.DataFrame) -> None:
    check = only(rides, gxe.ExpectColumnValuesToBeBetween(column="hour", min_value=0, max_value=24))
    assert check == Check(
        id="column-values-to-be-between",
        name="values between 0 and 24",
        passed=False,
        severity="error",
        subject="hour",
        observed="2 of 6 rows (33.3 %), from -5 to 400",
        expected="all rows",
        examples=("-5", "400"),
    )


def test_mostly_passes_and_still_counts(rides: pd.DataFrame) -> None:
    check = only(rides, gxe.ExpectColumnValuesToBeBetween(column="hour", min_value=0, max_value=24, mostly=0.5))
    assert check.passed
    assert check.observed.startswith("2 of 6 rows (33.3 %)")
    assert check.expected == "50 % of rows or more"
    assert check.examples == ()


@pytest.mark.parametrize(
    ("expectation", "sentence"),
    [
        (gxe.ExpectColumnValuesToNotBeNull(column="km"), "km: values are present, saw 1 of 6 rows (16.7 %)"),
        (
            gxe.ExpectColumnValuesToBeBetween(column="km", max_value=5, strict_max=True),
            "km: values below 5, saw 2 of 5 rows with a value (40 %), from 1.5 to 6, expected all rows (e.g. 5, 6)",
        ),
        (gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=["a", "b"]), "kind: values in a, b, saw 2 of 6 rows"),
        (gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=["a", "b"]), "(e.g. c, '')"),
        (gxe.ExpectColumnValuesToMatchRegex(column="kind", regex="^.$"), "kind: values match ^.$, saw 1 of 6 rows"),
        (gxe.ExpectColumnMeanToBeBetween(column="km", min_value=9), "km: mean, saw 3.9, expected at least 9"),
        (gxe.ExpectTableRowCountToEqual(value=7), "row count, saw 6, expected 7"),
        (
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="end", column_B="start"),
            "end, start: end above start, saw 2 of 6 rows (33.3 %), expected all rows (e.g. (4, 4), (4, 5))",
        ),
        (
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["kind", "end"]),
            "kind, end: combinations are unique, saw 0 of 6 rows, expected all rows",
        ),
        (
            gxe.ExpectTableColumnsToMatchSet(column_set=["hour", "x"]),
            "columns, saw missing x; unexpected day, end, kind, km, start, expected hour, x",
        ),
        (gxe.ExpectColumnToExist(column="hours"), "saw the table has no column 'hours'; did you mean 'hour'?"),
        (gxe.ExpectColumnDistinctValuesToBeInSet(column="kind", value_set=["a"]), "expected only a (e.g. '', b, c)"),
        (
            gxe.ExpectColumnValuesToBeBetween(column="hour", min_value=100, description="hours are late"),
            "hour: hours are late",
        ),
        (
            gxe.ExpectColumnQuantileValuesToBeBetween(
                column="km", quantile_ranges={"quantiles": [0.5], "value_ranges": [[0, 1]]}
            ),
            "km: quantile values to be between, saw quantiles (0.5), values (4)",
        ),
        (
            gxe.ExpectColumnValuesToBeBetween(column="km", max_value=1, row_condition=Column("kind") == "b"),
            "km: values at most 1 where kind == b, saw 0 of 0 rows",
        ),
        (
            gxe.ExpectColumnValuesToBeBetween(
                column="km", max_value=1, row_condition=(Column("kind") == "a") & (Column("hour") > 0)
            ),
            "km: values at most 1 where kind == a and hour > 0, saw 2 of 2 rows",
        ),
    ],
)
def test_checks_read_as_sentences(rides: pd.DataFrame, expectation: object, sentence: str) -> None:
    assert sentence in only(rides, expectation).sentence


@pytest.mark.parametrize(("severity", "expected"), [("critical", "error"), ("warning", "warning"), ("info", "warning")])
def test_severity_is_kept(rides: pd.DataFrame, severity: str, expected: str) -> None:
    report = check_table(rides, [gxe.ExpectColumnValuesToNotBeNull(column="km", severity=severity)])
    assert report.checks[0].severity == expected
    assert report.passed == (expected == "warning")


@pytest.mark.parametrize(
    ("expectation", "observed"),
    [
        (
            gxe.ExpectColumnValuesToBeBetween(column="hours", min_value=0, severity="info"),
            r"the table has no column 'hours'; did you mean 'hour'\?",
        ),
        (
            gxe.ExpectColumnPairValuesToBeEqual(column_A="start", column_B="hours", severity="warning"),
            r"the table has no column 'hours'; did you mean 'hour'\?",
        ),
        (gxe.ExpectColumnValuesToBeBetween(column="kind", min_value=0), "cannot be computed: .*same type"),
        (gxe.ExpectColumnMeanToBeBetween(column="kind", min_value=0), "cannot be computed: "),
        (
            gxe.ExpectColumnValuesToBeBetween(column="km", max_value=1, row_condition=Column("x") > 1),
            "cannot be computed: .*x",
        ),
    ],
)
def test_what_cannot_be_computed_is_an_error_in_words(rides: pd.DataFrame, expectation: object, observed: str) -> None:
    check = only(rides, expectation)
    assert not check.passed
    assert check.severity == "error"
    assert re.match(observed, check.observed)
    assert "Traceback" not in check.sentence
    assert len(check.observed) < 300


def test_checks_keep_the_order_of_the_suite_though_results_do_not(rides: pd.DataFrame) -> None:
    expectations = [
        gxe.ExpectColumnValuesToNotBeNull(column="hour"),
        gxe.ExpectColumnMeanToBeBetween(column="kind", min_value=0),
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectColumnValuesToBeOfType(column="hour", type_="int64"),
        gxe.ExpectColumnToExist(column="none"),
        gxe.ExpectColumnValuesToNotBeNull(column="km"),
        gxe.ExpectColumnValuesToNotBeNull(column="hour"),
    ]
    report = check_table(rides, gx.ExpectationSuite(name="s", expectations=expectations), subject="rides.csv")
    assert [check.passed for check in report.checks] == [True, False, True, True, False, False, True]
    assert [check.subject for check in report.checks] == ["hour", "kind", "", "hour", "none", "km", "hour"]
    assert (report.subject, report.rows, report.kind) == ("rides.csv", 6, "data")


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        ([], "the suite has no expectations"),
        (gx.ExpectationSuite(name="empty"), "the suite has no expectations"),
        ("suite", "a suite is a gx.ExpectationSuite or a list of expectations, got str"),
        (None, "got NoneType"),
        ([3], "a suite holds expectations of great_expectations, got int"),
    ],
)
def test_no_suite_is_a_wrong_request(rides: pd.DataFrame, suite: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_table(rides, suite)


def test_no_rows_and_repeated_names_fail(rides: pd.DataFrame) -> None:
    suite = [gxe.ExpectColumnValuesToNotBeNull(column="km")]
    report = check_table(rides.head(0), suite)
    assert not report.passed
    assert report.checks[0].sentence == "table has rows, saw 0 rows, expected at least one row"
    assert report.notes == ("1 expectation of the suite not evaluated: there were no rows.",)
    twice = check_table(pd.concat([rides, rides["km"]], axis=1), suite)
    assert not twice.passed
    assert twice.checks[0].sentence == "column names are unique, saw km more than once, expected each name once"


NUMBERS = [1, 2, 3, 99, None]


@pytest.mark.parametrize(
    "values",
    [
        pd.array(NUMBERS, dtype="Int64"),
        pd.array(NUMBERS, dtype="UInt8"),
        pd.array(NUMBERS, dtype="Float32"),
        pd.array(NUMBERS, dtype="int32[pyarrow]"),
        np.array([1, 2, 3, 99, np.nan], dtype="float32"),
        pd.array(NUMBERS, dtype=object),
        pd.Categorical(NUMBERS),
    ],
    ids=lambda values: str(values.dtype),
)
def test_ranges_and_sets_hold_for_every_type_of_numbers(values: object) -> None:
    frame = pd.DataFrame({"n": values})
    before = frame.copy()
    between, members, present = check_table(
        frame,
        [
            gxe.ExpectColumnValuesToBeBetween(column="n", min_value=1, max_value=3),
            gxe.ExpectColumnValuesToBeInSet(column="n", value_set=[1, 2, 3]),
            gxe.ExpectColumnValuesToNotBeNull(column="n"),
        ],
    ).checks
    assert between.observed.startswith("1 of 4 rows with a value (25 %)")
    assert between.examples == members.examples == ("99",)
    assert members.observed == "1 of 4 rows with a value (25 %)"
    assert present.observed == "1 of 5 rows (20 %)"
    assert_frame_equal(frame, before)


@pytest.mark.parametrize("dtype", ["str", "string", "category", object])
def test_sets_and_patterns_hold_for_every_type_of_text(dtype: object) -> None:
    frame = pd.DataFrame({"s": pd.Series(["a", "b", "cc", None], dtype=dtype)})
    for expectation in (
        gxe.ExpectColumnValuesToBeInSet(column="s", value_set=["a", "b"]),
        gxe.ExpectColumnValuesToMatchRegex(column="s", regex="^.$"),
        gxe.ExpectColumnValueLengthsToEqual(column="s", value=1),
    ):
        check = only(frame, expectation)
        assert check.observed == "1 of 3 rows with a value (33.3 %)"
        assert check.examples == ("cc",)
    if dtype != "category":
        assert only(frame, gxe.ExpectColumnValuesToBeOfType(column="s", type_="str")).passed


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_bounds_of_times_may_be_dates_or_text(unit: str, zone: str | None) -> None:
    days = pd.Series(pd.date_range("2013-01-01", periods=4, tz=zone)).dt.as_unit(unit)
    frame = pd.DataFrame({"day": days})
    for bound in ("2013-01-03", "2013-01-03T00:00:00", pd.Timestamp("2013-01-03", tz=zone)):
        check = only(frame, gxe.ExpectColumnValuesToBeBetween(column="day", min_value=bound))
        assert check.observed.startswith("2 of 4 rows (50 %)"), check.sentence


def test_large_integers_are_compared_exactly() -> None:
    big = 2**62
    values = pd.array([big, big + 1, None], dtype="Int64")
    check = only(pd.DataFrame({"n": values}), gxe.ExpectColumnValuesToBeInSet(column="n", value_set=[big]))
    assert check.examples == (str(big + 1),)


def test_eight_threads_get_their_own_answers() -> None:
    def verdict(seed: int) -> tuple[str, str]:
        frame = pd.DataFrame({"a": range(seed * 100), "b": ["x"] * (seed * 100)})
        suite = [
            gxe.ExpectColumnValuesToBeBetween(column="a", max_value=49),
            gxe.ExpectColumnValuesToBeOfType(column="b", type_="str"),
            gxe.ExpectTableRowCountToEqual(value=seed * 100),
        ]
        report = check_table(frame, suite, subject=f"t{seed}")
        assert [check.passed for check in report.checks] == [False, True, True]
        return report.subject, report.checks[0].observed

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(verdict, [*range(1, 9)] * 3))
    assert answers[:8] == answers[8:16] == answers[16:]
    for seed, (subject, observed) in enumerate(answers[:8], start=1):
        assert subject == f"t{seed}"
        assert observed.startswith(f"{seed * 100 - 50} of {seed * 100} rows")


def test_nothing_is_hashed_printed_or_made_global(
    rides: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> str:
        raise AssertionError("the frame was hashed")

    monkeypatch.setattr(pandas_execution_engine, "hash_pandas_dataframe", refuse)
    assert not only(rides, gxe.ExpectColumnValuesToNotBeNull(column="km")).passed
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


def test_importing_the_room_imports_no_heavy_library() -> None:
    code = (
        "import sys, prefect_mlops.data_checks\n"
        "heavy = {'pandas', 'great_expectations', 'numpy', 'pyarrow', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_figures_of_decimals_are_those_of_floats_with_gaps_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # Great Expectations would walk over the call stack for each value, and fail on the missing one.
    monkeypatch.setattr("great_expectations.util.stack", lambda: pytest.fail("walks over the call stack"))
    prices = [decimal.Decimal("1.25"), None, decimal.Decimal("2.25"), decimal.Decimal("31")]
    suite = [
        gxe.ExpectColumnMeanToBeBetween(column="price", min_value=11.5, max_value=11.5),
        gxe.ExpectColumnSumToBeBetween(column="price", min_value=34.5, max_value=34.5),
        gxe.ExpectColumnStdevToBeBetween(column="price", min_value=16, max_value=17),
        gxe.ExpectColumnValueZScoresToBeLessThan(column="price", threshold=1, double_sided=True),
    ]
    report = check_table(pd.DataFrame({"price": prices}), suite)
    assert [(check.passed, check.observed) for check in report.checks] == [
        (True, "11.5"),
        (True, "34.5"),
        (True, "16.8949"),
        (False, "1 of 3 rows with a value (33.3 %)"),
    ]


def test_a_decimal_that_is_no_float_is_an_error_in_words() -> None:
    frame = pd.DataFrame({"price": [decimal.Decimal("1.25"), decimal.Decimal("sNaN")]})
    (check,) = check_table(frame, [gxe.ExpectColumnMeanToBeBetween(column="price", min_value=0)]).checks
    assert (check.passed, check.observed.startswith("cannot be computed")) == (False, True)
