"""Check a table against a suite of expectations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.tables.chunks import CHUNK_ROWS, is_streamed, read_chunks
from prefect_mlops.core.tables.read import as_frame
from prefect_mlops.core.values import Table, TableRef
from prefect_mlops.data_checks.chunks import outcomes_in_chunks
from prefect_mlops.data_checks.engine import configurations_of, outcomes
from prefect_mlops.data_checks.wording import check_of

if TYPE_CHECKING:
    import pandas as pd

MAX_NAMED = 8  # columns of one set that a note names

Suite: TypeAlias = "Any | Sequence[Any]"
"""A ``gx.ExpectationSuite``, or a list of expectations."""


def check_table(table: Table, suite: Suite, *, subject: str = "table", rows: int = CHUNK_ROWS) -> Report:
    """Check a table against a suite.

    A reference to Parquet files or a Delta table is read in chunks, so that memory does not grow with its rows.
    Expectations about a whole column, such as uniqueness or a median, hold the columns they name in memory, one set
    after the other; a note lists them.

    Safe to call from several threads at once, each with its own table and suite.

    Args:
        table: (rows, columns), not changed; or where it is.
        suite: a ``gx.ExpectationSuite`` or a list of expectations.
        subject: name of the table in the report.
        rows: of a chunk.

    Returns:
        One check for each expectation, in its order. One that cannot be computed (a missing column, types that cannot
        be compared) is a failed check with the reason.

    Raises:
        ConfigError: no suite, or one without expectations; the table cannot be found.
        DataCheckError: the source is no table, or has changed since the reference was made.
        BackendError: the table could not be read.

    Source: `great_expectations`.
    """
    configurations = configurations_of(suite)
    if not isinstance(table, TableRef):
        return _check_frame(table, configurations, subject)
    if not is_streamed(table):
        return _check_frame(as_frame(table), configurations, subject)
    head, more = _beginning(table, rows)
    if not more:
        return _check_frame(head, configurations, subject)
    found = outcomes_in_chunks(table, configurations, head=head, rows=rows)
    checks = tuple(check_of(found.outcomes[place], head.columns) for place in range(len(configurations)))
    return Report(kind="data", subject=subject, checks=checks, rows=found.rows, notes=_whole_note(found.whole))


def _beginning(table: TableRef, rows: int) -> tuple[pd.DataFrame, bool]:
    """Read a table of one chunk, or one row of a longer one; return whether there is more."""
    chunks = read_chunks(table, rows=rows)
    head = next(chunks)
    more = next(chunks, None) is not None
    return (head.head(1).copy() if more else head), more


def _whole_note(sets: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    if not sets:
        return ()
    shown = "; ".join(", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "") for names in sets)
    return (f"Read in chunks. Some expectations need whole columns, held in memory one set at a time: {shown}.",)


def _check_frame(frame: pd.DataFrame, configurations: Sequence[Any], subject: str) -> Report:
    if unusable := unusable_table(frame, subject):
        if not len(frame):
            count = len(configurations)
            note = f"{count} expectation{'' if count == 1 else 's'} of the suite not evaluated: there were no rows."
            return unusable.model_copy(update={"notes": (note,)})
        return unusable
    checks = tuple(check_of(outcome, frame.columns) for outcome in outcomes(frame, configurations))
    return Report(kind="data", subject=subject, checks=checks, rows=len(frame))


def unusable_table(frame: pd.DataFrame, subject: str) -> Report | None:
    """Return a failed report for a table that cannot be checked; None for others."""
    repeated = sorted({str(name) for name in frame.columns[frame.columns.duplicated()]})
    if repeated:
        seen = ", ".join(repeated[:8])[:200] + " more than once"
        check = Check(name="column names are unique", passed=False, observed=seen, expected="each name once")
    elif not len(frame):
        check = Check(name="table has rows", passed=False, observed="0 rows", expected="at least one row")
    else:
        return None
    return Report(kind="data", subject=subject, checks=(check,), rows=len(frame))
