"""Check a table against a suite of expectations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from prefect_mlops.core.reports import Check, Report
from prefect_mlops.data_checks.engine import configurations_of, outcomes
from prefect_mlops.data_checks.wording import check_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

Suite: TypeAlias = "Any | Sequence[Any]"
"""A ``gx.ExpectationSuite``, or a list of expectations."""


def check_table(frame: pd.DataFrame, suite: Suite, *, subject: str = "table") -> Report:
    """Check a table against a suite.

    Safe to call from several threads at once, each with its own table and suite.

    Args:
        frame: (rows, columns); left as it is.
        suite: a ``gx.ExpectationSuite`` or a list of expectations.
        subject: what the report calls the table.

    Returns:
        One check for each expectation, in its order. One that cannot be computed (a missing column, types that cannot
        be compared) is a failed check that says so.

    Raises:
        ConfigError: no suite, or one without expectations.

    Source: `great_expectations`.
    """
    configurations = configurations_of(suite)
    if unusable := unusable_table(frame, subject):
        if not len(frame):
            count = len(configurations)
            note = f"{count} expectation{'' if count == 1 else 's'} of the suite not looked at: there were no rows."
            return unusable.model_copy(update={"notes": (note,)})
        return unusable
    checks = tuple(check_of(outcome, frame) for outcome in outcomes(frame, configurations))
    return Report(kind="data", subject=subject, checks=checks, rows=len(frame))


def unusable_table(frame: pd.DataFrame, subject: str) -> Report | None:
    """Return the verdict on a table of which nothing can be asked, or None."""
    repeated = sorted({str(name) for name in frame.columns[frame.columns.duplicated()]})
    if repeated:
        seen = ", ".join(repeated[:8])[:200] + " more than once"
        check = Check(name="column names are unique", passed=False, observed=seen, expected="each name once")
    elif not len(frame):
        check = Check(name="table has rows", passed=False, observed="0 rows", expected="at least one row")
    else:
        return None
    return Report(kind="data", subject=subject, checks=(check,), rows=len(frame))
