from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import great_expectations as gx
import pandas as pd
import pytest
from deltalake import write_deltalake
from great_expectations import expectations as gxe
from prefect import flow

from prefect_mlops.core.tables.read import read_table, source_of
from prefect_mlops.data_checks import CheckedRows
from prefect_mlops.tasks.data_validation import split_bad_rows, validate_table

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.values import TableRef


@pytest.fixture
def suite() -> gx.ExpectationSuite:
    return gx.ExpectationSuite(
        name="rides", expectations=[gxe.ExpectColumnValuesToBeBetween(column="km", min_value=0, max_value=10)]
    )


@pytest.fixture
def rides(tmp_path: Path) -> TableRef:
    (tmp_path / "january.csv").write_text("km\n1\n-2\n3\n")
    ref = source_of(read_table(tmp_path / "january.csv"))
    assert ref is not None
    return ref


@pytest.mark.usefixtures("prefect_api")
def test_tables_are_validated_and_split_in_a_flow(rides: TableRef, suite: gx.ExpectationSuite) -> None:
    @flow
    def check() -> tuple[Report, CheckedRows]:
        return validate_table(rides, suite), split_bad_rows(rides, suite)

    report, rows = check()
    assert report.subject == "january.csv"
    assert not report.passed
    assert report.rows == 3
    assert rows.accepted["km"].tolist() == [1, 3]
    assert rows.refused["km"].tolist() == [-2]
    assert rows.refused["_reasons"].tolist() == ["km: values between 0 and 10"]


def test_a_frame_is_reported_by_its_source_or_as_table(rides: TableRef, suite: gx.ExpectationSuite) -> None:
    assert validate_table.fn(read_table(rides.uri), suite).subject == "january.csv"
    assert validate_table.fn(pd.DataFrame({"km": [1]}), suite).subject == "table"


def test_a_reference_to_a_delta_table_says_what_its_rows_say(tmp_path: Path, suite: gx.ExpectationSuite) -> None:
    write_deltalake(tmp_path / "rides", pd.DataFrame({"km": [1, -2, 3], "other": ["a", "b", "c"]}))
    frame = read_table(tmp_path / "rides")
    report = validate_table.fn(source_of(frame), suite)
    assert report == validate_table.fn(frame, suite)
    assert (report.subject, report.rows, report.passed) == ("rides", 3, False)


def test_run_names_say_the_table(rides: TableRef) -> None:
    parameters = {"table": rides, "suite": None}
    assert validate_table.task_run_name(parameters) == "validate-january.csv"
    assert split_bad_rows.task_run_name(parameters) == "split-bad-rows-january.csv"
