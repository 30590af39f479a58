"""Check a table against a suite, and split off the rows that break it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from prefect_mlops import data_checks
from prefect_mlops.core.tables.read import as_frame, table_name
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.values import Table
    from prefect_mlops.data_checks import CheckedRows
    from prefect_mlops.data_checks.suites import Suite


def _validate_name(parameters: dict[str, Any]) -> str:
    return f"validate-{table_name(parameters['table'])}"


def _split_name(parameters: dict[str, Any]) -> str:
    return f"split-bad-rows-{table_name(parameters['table'])}"


@step(_validate_name, backend=True)
def validate_table(table: Table, suite: Suite) -> Report:
    """Check a table against a suite; never stops a run by itself.

    What is not in memory yet is read in chunks, where its format allows: `data_checks.check_table`.

    Args:
        table: (rows, columns), or where to read them.
        suite: a ``gx.ExpectationSuite`` or a list of expectations.

    Returns:
        One check for each expectation; about the table's source, where it is known.

    Raises:
        ConfigError: no suite, or one without expectations; the table cannot be found.
        DataCheckError: the reference cannot be read as a table.
        BackendError: the table could not be read; tried again.

    Source: `great_expectations`.
    """
    report = data_checks.check_table(table, suite, subject=table_name(table))
    gc.collect(1)  # Great Expectations holds the table in circles; the young generations take no time
    return report


@step(_split_name, backend=True)
def split_bad_rows(table: Table, suite: Suite) -> CheckedRows:
    """Split a table into the rows that keep a suite and those that break it.

    Args:
        table: (rows, columns), or where to read them.
        suite: a ``gx.ExpectationSuite`` or a list of expectations.

    Returns:
        ``accepted`` rows, and ``refused`` rows with one more column, ``_reasons``. Every row is in exactly one of them,
        in its order, with its index and types. Expectations about the whole table, and warnings, refuse no row.

    Raises:
        ConfigError: no suite, or one without expectations; the table cannot be found.
        DataCheckError: an expectation cannot be computed, so no row can be judged.
        BackendError: the table could not be read; tried again.

    Source: `great_expectations`.
    """
    return data_checks.split_bad_rows(as_frame(table), suite, subject=table_name(table))
