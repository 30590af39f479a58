"""Split the rows that fail a suite off from those that pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect_mlops.core.errors import DataCheckError
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.data_checks.engine import Outcome, configurations_of, outcomes
from prefect_mlops.data_checks.suites import Suite, unusable_table
from prefect_mlops.data_checks.wording import check_of, question, subject_of, weight_of

if TYPE_CHECKING:
    import pandas as pd

REASONS = "_reasons"


@dataclass(frozen=True, eq=False)
class CheckedRows:
    """The rows of a table after a suite; every row is in exactly one part, in its order, with its index and types.

    Attributes:
        accepted: rows that pass the suite.
        refused: rows that fail it, with one more column, ``_reasons``: which checks each failed, joined by ``"; "``.
    """

    accepted: pd.DataFrame
    refused: pd.DataFrame


def split_bad_rows(frame: pd.DataFrame, suite: Suite, *, subject: str = "table") -> CheckedRows:
    """Split a table into the rows that pass a suite and those that fail it.

    A row is refused when it fails a critical expectation about rows: of one column, of a pair or of several. ``mostly``
    does not change that: it sets how many rows may fail before the table does. Expectations about the whole table, and
    those of severity warning or info, refuse no row; `check_table` reports both.

    Args:
        frame: (rows, columns); not changed.
        suite: a ``gx.ExpectationSuite`` or a list of expectations.
        subject: name of the table in errors.

    Returns:
        Accepted and refused rows.

    Raises:
        ConfigError: no suite, or one without expectations.
        DataCheckError: an expectation cannot be computed, so no row can be judged; or the table has a column
            ``_reasons`` already.

    Source: `great_expectations`.
    """
    import numpy as np

    configurations = configurations_of(suite)
    _require_room(frame, subject)
    found = outcomes(frame, configurations, rows=True) if len(frame) else []
    _require_computed(found, frame, subject)
    reasons: dict[int, list[str]] = {}
    for outcome in found:
        words = _reason(outcome)
        for place in _failing(outcome):
            reasons.setdefault(place, []).append(words)
    bad = np.zeros(len(frame), dtype=bool)
    bad[list(reasons)] = True
    refused = frame.loc[bad].copy()
    refused[REASONS] = _text_column(["; ".join(reasons[place]) for place in sorted(reasons)], refused)
    return CheckedRows(accepted=frame.loc[~bad].copy(), refused=refused)


def _failing(outcome: Outcome) -> list[int]:
    """Return the positions of the rows that fail an expectation; none for one about the whole table."""
    if weight_of(outcome.configuration) != "error":
        return []
    return [int(place) for place in outcome.result.get("unexpected_index_list") or ()]


def _reason(outcome: Outcome) -> str:
    subject = subject_of(outcome.configuration)
    return f"{subject}: {question(outcome.configuration)}" if subject else question(outcome.configuration)


def _text_column(texts: list[str], like: pd.DataFrame) -> pd.Series:
    import pandas as pd

    return pd.Series(texts, index=like.index, dtype="str")


def _require_room(frame: pd.DataFrame, subject: str) -> None:
    if len(frame) and (unusable := unusable_table(frame, subject)):
        unusable.raise_for_failure()
    if REASONS in frame.columns:
        check = Check(
            name="room for reasons",
            passed=False,
            observed=f"a column {REASONS!r}",
            expected="no column of that name: drop it, or rename it, before rows are split again",
        )
        report = Report(kind="data", subject=subject, checks=(check,), rows=len(frame))
        raise DataCheckError(report.summary, report)


def _require_computed(found: list[Outcome], frame: pd.DataFrame, subject: str) -> None:
    checks = tuple(check_of(outcome, frame.columns) for outcome in found if outcome.problem)
    if checks:
        report = Report(kind="data", subject=subject, checks=checks, rows=len(frame))
        raise DataCheckError(f"no row can be judged: {report.summary}", report)
