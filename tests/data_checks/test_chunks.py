from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deltalake import write_deltalake
from great_expectations import expectations as gxe
from great_expectations.expectations.row_conditions import Column

from prefect_mlops.core.addresses import LAKE_DIGEST
from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.reports import Report
from prefect_mlops.core.tables.digests import table_digest
from prefect_mlops.core.tables.read import as_frame
from prefect_mlops.core.values import TableRef
from prefect_mlops.data_checks import check_table, engine, infer_suite
from prefect_mlops.examples.flights.suite import flights_suite

ROWS = 60
CHUNK = 7


@pytest.fixture
def rides() -> pd.DataFrame:
    """Columns of every kind, with bad values in some chunks only, and chunks without any value."""
    random = np.random.default_rng(3)
    place = np.arange(ROWS)
    frame = pd.DataFrame(
        {
            "id": place,
            "hour": random.integers(0, 24, ROWS),
            "small": (place % 5).astype("int32"),
            "km": random.normal(5, 2, ROWS).round(3),
            "gaps": np.where(place % 3 == 0, np.nan, place * 0.5),
            "kind": np.where(place % 4 == 0, "a", np.where(place % 4 == 1, "bb", "ccc")),
            "text": [f"2024-01-{1 + row % 28:02}" for row in place],
            "json": ['{"a": 1}'] * ROWS,
            "flag": place % 2 == 0,
            "day": pd.date_range("2013-01-01", periods=ROWS, unit="us"),
            "zone": pd.date_range("2013-01-01", periods=ROWS, tz="UTC", unit="us"),
            "date": [dt.date(2024, 1, 1 + row % 28) for row in place],
            "price": [decimal.Decimal(int(row % 10)) + decimal.Decimal("0.25") for row in place],
            "start": place,
            "end": place + 1,
            "rare": pd.array([None] * 20 + [1] * 20 + [None] * 20, "Int64"),
            "maybe": pd.array([True] * 30 + [None] * 10 + [False] * 20, "boolean"),
            "none": pd.Series([None] * ROWS, dtype="str"),
        }
    )
    frame.loc[[8, 40], "hour"] = [-5, 400]
    frame.loc[[20, 21, 22, 50], "kind"] = [None, None, "zzzz", ""]
    frame.loc[14:20, "text"] = None
    frame.loc[33, "text"] = "soon"
    frame.loc[12, "json"] = "{"
    frame.loc[30, "end"] = 3
    frame.loc[47, "km"] = np.inf
    frame.loc[59, "id"] = 3
    return frame


WITH_CONDITION = Column("kind") == "a"

EXPECTATIONS = [
    gxe.ExpectColumnValuesToBeBetween(column="hour", min_value=0, max_value=24),
    gxe.ExpectColumnValuesToBeBetween(column="hour", min_value=0, max_value=24, mostly=0.9),
    gxe.ExpectColumnValuesToBeBetween(column="hour", min_value=0, max_value=24, mostly=58 / 60),
    gxe.ExpectColumnValuesToBeBetween(column="hour", max_value=20, mostly=0.99, severity="warning"),
    gxe.ExpectColumnValuesToBeBetween(column="hour", min_value=0, row_condition=WITH_CONDITION),
    gxe.ExpectColumnValuesToBeBetween(column="hour", min_value=50, row_condition=Column("kind").is_null()),
    gxe.ExpectColumnValuesToBeBetween(column="hour", min_value=1, row_condition=WITH_CONDITION & (Column("km") > 4)),
    gxe.ExpectColumnValuesToBeBetween(column="gaps", min_value=1, max_value=20, strict_max=True),
    gxe.ExpectColumnValuesToBeBetween(column="rare", min_value=2),
    gxe.ExpectColumnValuesToBeBetween(column="small", max_value=3),
    gxe.ExpectColumnValuesToBeBetween(column="day", min_value="2013-01-03", max_value=dt.datetime(2013, 2, 1)),
    gxe.ExpectColumnValuesToBeBetween(column="zone", min_value="2013-01-03"),
    gxe.ExpectColumnValuesToBeBetween(column="date", min_value=dt.date(2024, 1, 5)),
    gxe.ExpectColumnValuesToBeBetween(column="price", min_value=1),
    gxe.ExpectColumnValuesToBeBetween(column="kind", min_value=0),
    gxe.ExpectColumnValuesToBeBetween(column="missing", min_value=0),
    gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=["a", "bb"]),
    gxe.ExpectColumnValuesToBeInSet(column="maybe", value_set=[True]),
    gxe.ExpectColumnValuesToBeInSet(column="flag", value_set=[True]),
    gxe.ExpectColumnValuesToBeInSet(column="rare", value_set=[1]),
    gxe.ExpectColumnValuesToBeInSet(column="day", value_set=["2013-01-03"]),
    gxe.ExpectColumnValuesToNotBeInSet(column="hour", value_set=[400, 3]),
    gxe.ExpectColumnValuesToNotBeNull(column="kind", mostly=0.95),
    *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in ("kind", "rare", "maybe", "none", "date", "day")),
    gxe.ExpectColumnValuesToBeNull(column="rare"),
    gxe.ExpectColumnValuesToBeNull(column="none"),
    gxe.ExpectColumnValuesToMatchRegex(column="kind", regex="^.$"),
    gxe.ExpectColumnValuesToMatchRegex(column="rare", regex="1"),
    gxe.ExpectColumnValuesToNotMatchRegex(column="kind", regex="c"),
    gxe.ExpectColumnValuesToMatchRegexList(column="kind", regex_list=["^a", "^b"], match_on="any"),
    gxe.ExpectColumnValuesToNotMatchRegexList(column="kind", regex_list=["z"]),
    gxe.ExpectColumnValueLengthsToBeBetween(column="kind", min_value=1, max_value=3),
    gxe.ExpectColumnValueLengthsToEqual(column="text", value=10),
    gxe.ExpectColumnValuesToMatchStrftimeFormat(column="text", strftime_format="%Y-%m-%d"),
    gxe.ExpectColumnValuesToBeDateutilParseable(column="text"),
    gxe.ExpectColumnValuesToBeJsonParseable(column="json"),
    gxe.ExpectColumnValuesToMatchJsonSchema(column="json", json_schema={"type": "object"}),
    *(gxe.ExpectColumnValuesToBeOfType(column="km", type_=name) for name in ("float64", "int64")),
    gxe.ExpectColumnValuesToBeOfType(column="kind", type_="str"),
    gxe.ExpectColumnValuesToBeOfType(column="date", type_="date"),
    gxe.ExpectColumnValuesToBeOfType(column="rare", type_="int64"),
    gxe.ExpectColumnValuesToBeOfType(column="rare", type_="float64"),
    gxe.ExpectColumnValuesToBeOfType(column="maybe", type_="bool"),
    gxe.ExpectColumnValuesToBeInTypeList(column="kind", type_list=["str", "int64"]),
    gxe.ExpectColumnValuesToBeInTypeList(column="hour", type_list=["str"]),
    gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="end", column_B="start"),
    gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="gaps", column_B="km", ignore_row_if="either_value_is_missing", mostly=0.7
    ),
    gxe.ExpectColumnPairValuesToBeEqual(column_A="id", column_B="start"),
    gxe.ExpectColumnPairValuesToBeInSet(column_A="kind", column_B="flag", value_pairs_set=[("a", True), ("bb", False)]),
    gxe.ExpectSelectColumnValuesToBeUniqueWithinRecord(column_list=["id", "start"]),
    gxe.ExpectMulticolumnSumToEqual(column_list=["start", "end"], sum_total=11),
    gxe.ExpectMulticolumnValuesToBeEqual(column_list=["id", "start"]),
    gxe.ExpectCompoundColumnsToBeUnique(column_list=["id", "hour"]),
    gxe.ExpectColumnValuesToBeUnique(column="id"),
    gxe.ExpectColumnValuesToBeUnique(column="start"),
    gxe.ExpectColumnValuesToBeUnique(column="id", row_condition=WITH_CONDITION),
    gxe.ExpectColumnValuesToBeIncreasing(column="id"),
    gxe.ExpectColumnValuesToBeDecreasing(column="start"),
    gxe.ExpectColumnValueZScoresToBeLessThan(column="hour", threshold=3, double_sided=True),
    gxe.ExpectColumnToExist(column="km"),
    gxe.ExpectColumnToExist(column="kilometres"),
    gxe.ExpectTableColumnCountToEqual(value=18),
    gxe.ExpectTableColumnCountToBeBetween(max_value=4),
    gxe.ExpectTableColumnsToMatchSet(column_set=["km", "hour", "no"]),
    gxe.ExpectTableColumnsToMatchOrderedList(column_list=["id", "km"]),
    gxe.ExpectTableRowCountToEqual(value=ROWS),
    gxe.ExpectTableRowCountToEqual(value=1),
    gxe.ExpectTableRowCountToBeBetween(min_value=ROWS, max_value=ROWS),
    gxe.ExpectTableRowCountToBeBetween(max_value=7),
    gxe.ExpectTableRowCountToBeBetween(max_value=7, row_condition=WITH_CONDITION),
    *(
        kind(column=column, min_value=3)
        for kind in (
            gxe.ExpectColumnMinToBeBetween,
            gxe.ExpectColumnMaxToBeBetween,
            gxe.ExpectColumnMeanToBeBetween,
            gxe.ExpectColumnSumToBeBetween,
            gxe.ExpectColumnStdevToBeBetween,
            gxe.ExpectColumnMedianToBeBetween,
            gxe.ExpectColumnUniqueValueCountToBeBetween,
        )
        for column in ("hour", "km", "gaps", "rare", "small", "none", "flag", "kind", "day", "price", "missing")
    ),
    gxe.ExpectColumnMeanToBeBetween(column="hour", min_value=3, row_condition=WITH_CONDITION),
    gxe.ExpectColumnMaxToBeBetween(column="day", max_value="2013-02-01"),
    gxe.ExpectColumnSumToBeBetween(column="start", min_value=1770, max_value=1770),
    gxe.ExpectColumnDistinctValuesToBeInSet(column="kind", value_set=["a", "bb"]),
    gxe.ExpectColumnDistinctValuesToBeInSet(column="small", value_set=[0, 1, 2, 3, 4, 5]),
    gxe.ExpectColumnDistinctValuesToEqualSet(column="small", value_set=[0, 1, 2, 3, 4]),
    gxe.ExpectColumnDistinctValuesToEqualSet(column="flag", value_set=[True]),
    gxe.ExpectColumnDistinctValuesToContainSet(column="kind", value_set=["a", "q"]),
    gxe.ExpectColumnMostCommonValueToBeInSet(column="kind", value_set=["a"]),
    gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(column="hour", min_value=0.9),
    gxe.ExpectColumnProportionOfNonNullValuesToBeBetween(column="gaps", min_value=0.9),
    gxe.ExpectColumnQuantileValuesToBeBetween(
        column="hour", quantile_ranges={"quantiles": [0.5], "value_ranges": [[0, 3]]}
    ),
]


def stored(folder: Path, frame: pd.DataFrame) -> Iterator[TableRef]:
    write_deltalake(folder / "delta", frame.iloc[:25])
    write_deltalake(folder / "delta", frame.iloc[25:], mode="append")
    frame.to_parquet(folder / "file.parquet", row_group_size=11)
    yield TableRef(uri=str(folder / "delta"))
    yield TableRef(uri=str(folder / "file.parquet"))


def without_notes(report: Report) -> Report:
    return report.model_copy(update={"notes": ()})


# Great Expectations takes the square of a suite's length.
GROUPS = [EXPECTATIONS[start::8] for start in range(8)]


def require_same(table: TableRef, suite: object, *, rows: int = CHUNK) -> Report:
    whole = check_table(as_frame(table), suite)
    chunked = check_table(table, suite, rows=rows)
    for one, other in zip(chunked.checks, whole.checks, strict=True):
        assert one == other
    assert without_notes(chunked) == without_notes(whole)
    return chunked


@pytest.mark.parametrize("suite", GROUPS)
def test_a_report_of_a_few_chunks_is_that_of_the_whole_table(
    tmp_path: Path, rides: pd.DataFrame, suite: list[object]
) -> None:
    report = require_same(next(stored(tmp_path, rides)), suite, rows=25)
    assert report.rows == ROWS


@pytest.mark.slow
def test_a_report_of_many_chunks_is_that_of_the_whole_table(tmp_path: Path, rides: pd.DataFrame) -> None:
    for table in stored(tmp_path, rides):
        for suite in GROUPS:
            require_same(table, suite)


def test_a_learned_suite_says_the_same_of_chunks(tmp_path: Path, rides: pd.DataFrame) -> None:
    suite = infer_suite(rides.drop(columns=["rare", "maybe", "none"]), name="rides")
    broken = rides.assign(hour=-rides["hour"])
    assert not require_same(next(stored(tmp_path, broken)), suite, rows=25).passed


def test_the_flights_suite_says_that_every_column_is_missing(tmp_path: Path, rides: pd.DataFrame) -> None:
    assert not require_same(next(stored(tmp_path, rides)), flights_suite()).passed


@pytest.mark.slow
def test_damaged_columns_are_reported_alike(tmp_path: Path, rides: pd.DataFrame) -> None:
    damaged = rides.astype({"hour": str, "km": "float32", "start": "float64", "small": "int8"})
    damaged["kind"] = pd.Categorical(rides["kind"])
    damaged["gaps"] = np.nan
    damaged = damaged.drop(columns="text")
    for table in stored(tmp_path, damaged):
        for suite in GROUPS:
            require_same(table, suite, rows=25)


@pytest.mark.slow
def test_values_of_several_types_in_one_column_are_reported_alike(tmp_path: Path, rides: pd.DataFrame) -> None:
    extremes = rides[["id", "start"]].assign(
        hour=np.where(rides["id"] == 9, -np.inf, np.where(rides["id"] == 40, np.inf, 1.0)),
        km=np.nan,
        day=[dt.datetime(1, 1, 1)] * 30 + [dt.datetime(2024, 1, 1)] * 30,
        small=[[1, 2]] * ROWS,
    )
    for table in stored(tmp_path, extremes):
        for suite in GROUPS:
            require_same(table, suite)


def test_a_list_of_columns_is_compared_with_all_of_them(tmp_path: Path, rides: pd.DataFrame) -> None:
    table = next(stored(tmp_path, rides))
    right, few, other = (
        gxe.ExpectTableColumnsToMatchOrderedList(column_list=columns)
        for columns in (list(rides), ["id", "hour"], ["x"])
    )
    for one, rows in ((rides, CHUNK), (table, CHUNK), (table, ROWS)):
        reports = [check_table(one, [expectation], rows=rows) for expectation in (right, few, other)]
        assert [report.passed for report in reports] == [True, False, False]
        assert reports[1].checks[0].observed.startswith("id, hour, small, km")


def test_a_column_whose_chunks_would_be_of_different_types_is_looked_at_whole(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": pd.array([1, 2, 3, 4, None, 6], "Int64")})
    frame.to_parquet(tmp_path / "t.parquet")
    table = TableRef(uri=str(tmp_path / "t.parquet"))
    report = check_table(table, [gxe.ExpectColumnValuesToMatchRegex(column="n", regex="[0-9]$", mostly=0.9)], rows=2)
    assert "whole columns" in report.notes[0]
    require_same(table, [gxe.ExpectColumnValuesToMatchRegex(column="n", regex="^[0-9]$")], rows=2)


def test_a_note_says_which_columns_were_held_whole(tmp_path: Path, rides: pd.DataFrame) -> None:
    suite = [
        gxe.ExpectColumnValuesToNotBeNull(column="km"),
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["start", "hour"]),
    ]
    for table in stored(tmp_path, rides):
        (note,) = check_table(table, suite, rows=CHUNK).notes
        assert note.endswith("held in memory one set at a time: id; hour, start.")
        assert check_table(table, suite[:1], rows=CHUNK).notes == ()
        assert check_table(table, suite, rows=ROWS).notes == ()  # it was all in memory anyway


def test_great_expectations_sees_a_chunk_at_a_time(
    tmp_path: Path, rides: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    evaluated = engine._evaluated

    def remembering(frame, items, result_format):
        shapes.append(frame.shape)
        return evaluated(frame, items, result_format)

    monkeypatch.setattr(engine, "_evaluated", remembering)
    suite = [gxe.ExpectColumnValuesToNotBeNull(column="km"), gxe.ExpectColumnMeanToBeBetween(column="hour")]
    suite += [gxe.ExpectTableRowCountToEqual(value=ROWS), gxe.ExpectColumnValuesToBeUnique(column="id")]
    check_table(next(stored(tmp_path, rides)), suite, rows=CHUNK)
    pieces = [(7, 1)] * 8 + [(4, 1)]
    assert shapes == [*pieces, (1, 1), (ROWS, 0), (ROWS, 1)]


def test_a_reference_that_cannot_be_read_is_refused(tmp_path: Path, rides: pd.DataFrame) -> None:
    suite = [gxe.ExpectColumnValuesToNotBeNull(column="km")]
    table = next(stored(tmp_path, rides))
    with pytest.raises(ConfigError, match="there is no file or folder"):
        check_table(TableRef(uri=str(tmp_path / "nowhere")), suite)
    with pytest.raises(ConfigError, match="the suite has no expectations"):
        check_table(table, [])
    write_deltalake(tmp_path / "empty", rides.iloc[:0].drop(columns="date"))
    with pytest.raises(DataCheckError, match="table has rows"):
        check_table(TableRef(uri=str(tmp_path / "empty")), suite)
    for rows in (CHUNK, ROWS + 1):
        with pytest.raises(DataCheckError, match="has changed since"):
            check_table(table.model_copy(update={"digest": f"{LAKE_DIGEST}0", "rows": 61}), suite, rows=rows)


def test_a_reference_with_a_digest_over_every_cell_is_checked_whole(tmp_path: Path, rides: pd.DataFrame) -> None:
    table = next(stored(tmp_path, rides))
    digest = table_digest(as_frame(table))
    suite = [gxe.ExpectColumnValuesToBeUnique(column="id")]
    report = check_table(table.model_copy(update={"digest": digest}), suite, rows=CHUNK)
    assert report == check_table(as_frame(table), suite)
    with pytest.raises(DataCheckError, match="has changed since"):
        check_table(table.model_copy(update={"digest": "sha256:0"}), suite, rows=CHUNK)
