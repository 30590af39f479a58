"""Has the data moved away from what the model was trained on?"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core import comparison as compare
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.reports import MAX_EXAMPLES, Check, Report
from prefect_mlops.core.statistics import smallest_visible
from prefect_mlops.core.tables import as_frame, table_name
from prefect_mlops.tasks import _mlflow
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.values import LoggedRun, Table

MAX_DRIFTED_SHARE = 0.2  # of ten columns the third alarms, of four or fewer the first
MAX_REASON_LENGTH = 200
PAGE_NAME = "drift.html"
ARTIFACT_FOLDER = "drift"
_MOVES = ("distribution", "length of text")  # sizes that are distances; the other aspects are shares of rows

_logger = logging.getLogger(__name__)


def _run_name(parameters: dict[str, Any]) -> str:
    return f"drift-{_subject(parameters)}"


@step(_run_name, backend=True)
def detect_drift(
    *,
    current: Table,
    reference: Table,
    columns: Sequence[str] | None = None,
    min_change: float = compare.MIN_CHANGE,
    max_drifted_share: float = MAX_DRIFTED_SHARE,
    html: str | os.PathLike[str] | None = None,
    run: LoggedRun | None = None,
    subject: str | None = None,
) -> Report:
    """Judge whether new data still looks like the data it is compared with.

    A column drifted when its distribution, or the share of its missing, unseen or out-of-range values, moved by more
    than a trifle and chance does not explain it, corrected for all tests of the report: when nothing moved, about one
    report in a hundred names a column. A single drifted column warns. The report fails when more than
    `max_drifted_share` of the columns drifted, or when the schema broke: a column missing, of another type, or without
    any value. With too few rows nothing is claimed: the check that decides is a failed warning then, not a pass.
    Timestamps move on by nature: they warn, and do not count in the share.

    Args:
        current: the new rows, or where they are.
        reference: the rows to compare with, usually those the model was trained on, or where they are.
        columns: names to compare, best those the model uses; None compares all columns of both tables.
        min_change: smallest distance of two distributions that matters, from 0 to 1: a tenth of the rows elsewhere.
            Half of it for shares of missing, unseen or out-of-range values.
        max_drifted_share: largest share of drifted columns that passes. A fifth lets one odd column in five pass;
            Evidently's own default, a half, is silent while four of ten columns are broken.
        html: file, or folder for a ``drift.html``, where Evidently's page is written.
        run: MLflow run that gets the page as an artifact under ``drift/``.
        subject: what is judged, in the report's title; the names of the tables where left out.

    Returns:
        The verdict; ``require`` it to stop a flow. When the page could not be made a note says so: the verdict stands.

    Raises:
        ConfigError: `columns` names one that is in neither table, a number is out of range, or the run is not there.
        BackendError: a table or MLflow could not be reached; tried again.

    Source: `scipy.stats` through `core.statistics` for the verdict, Evidently for the page, MLflow for keeping it.
    """
    if not 0 <= max_drifted_share <= 1:
        raise ConfigError(f"max_drifted_share is from 0 to 1, saw {max_drifted_share}")
    frames = (as_frame(current), as_frame(reference))
    outcome = compare.compare_tables(current=frames[0], reference=frames[1], columns=columns, min_change=min_change)
    title = subject or _subject({"current": current, "reference": reference})
    report = Report(
        kind="drift",
        subject=title,
        checks=tuple(_checks(outcome, max_drifted_share)),
        rows=outcome.rows,
        notes=tuple(_notes(outcome, min_change)),
    )
    if html is None and run is None:
        return report
    notes = _page_notes(_page_path(html), frames, outcome, report, run)
    return report.model_copy(update={"notes": (*report.notes, *notes)})


def _subject(parameters: dict[str, Any]) -> str:
    given = parameters.get("subject")
    return given or f"{table_name(parameters['current'])} against {table_name(parameters['reference'])}"


def _checks(outcome: compare.Comparison, max_drifted_share: float) -> Iterator[Check]:
    yield _decision(outcome, max_drifted_share)
    for finding in outcome.findings:
        yield Check(
            name=finding.what,
            passed=False,
            severity="error" if finding.broken else "warning",
            subject=finding.column,
            observed=finding.observed,
            expected=finding.expected,
            examples=finding.examples,
        )
    for change in outcome.changes:
        if change.measure.size > 0 or change.aspect in (*_MOVES, "missing values"):
            yield _column_check(change)


def _decision(outcome: compare.Comparison, max_drifted_share: float) -> Check:
    """Make the one check that decides about drift; without a judged column it is no error, and no pass either."""
    judged, drifted = outcome.judged_columns, outcome.drifted_columns
    name, expected = "share of drifted columns", f"at most {max_drifted_share:.0%}"
    if not judged:
        seen = f"nothing could be judged: {outcome.rows:,} rows now, {outcome.reference_rows:,} in the reference"
        return Check(name=name, passed=False, severity="warning", observed=seen, expected=expected)
    share = len(drifted) / len(judged)
    return Check(
        name=name,
        passed=share <= max_drifted_share,
        observed=f"{share:.0%} ({len(drifted)} of {len(judged)})",
        expected=expected,
        examples=drifted[:MAX_EXAMPLES],
    )


def _column_check(change: compare.Change) -> Check:
    measure = change.measure
    if change.corrected_p is None:
        observed, expected = measure.words, "enough rows"
    else:
        chance = "p < 0.001" if change.corrected_p < 0.001 else f"p = {change.corrected_p:.3f}"  # noqa: PLR2004
        moved = change.aspect in _MOVES
        observed = (
            f"{measure.statistic} {measure.size:.3f} ({chance}); {measure.words}"
            if moved
            else f"{measure.words} ({chance})"
        )
        expected = f"{'distance' if moved else 'change'} below {change.minimum:g}, or p at least {compare.ALPHA:g}"
    return Check(
        name=change.aspect,
        passed=change.judged and not change.drifted,
        severity="warning",
        subject=change.column,
        observed=observed,
        expected=expected,
        examples=change.examples,
    )


def _notes(outcome: compare.Comparison, min_change: float) -> Iterator[str]:
    if outcome.tests:
        seen = f"{outcome.rows:,} now, {outcome.reference_rows:,} in the reference"
        yield f"Decided by prefect-mlops on all rows: {seen}. p is corrected for {outcome.tests} tests."
        yield (
            "Tests: Kolmogorov-Smirnov for numbers, times and length of text; chi-squared or Fisher for categories "
            "and missing values; corrected after Benjamini and Hochberg."
        )
        visible = smallest_visible(
            rows=outcome.rows, reference_rows=outcome.reference_rows, tests=outcome.tests, alpha=compare.ALPHA
        )
        if visible > min_change:
            yield f"With so few rows a distance below about {visible:.2f} cannot be told from chance."
    if any(change.drifted and change.kind == "datetime" for change in outcome.changes):
        yield "Timestamps move on by nature: they do not count in the share of drifted columns."


def _page_path(html: str | os.PathLike[str] | None) -> Path | None:
    if html is None:
        return None
    path = Path(html)
    return path if path.suffix.lower() in (".html", ".htm") and not path.is_dir() else path / PAGE_NAME


def _page_notes(
    path: Path | None,
    frames: tuple[pd.DataFrame, pd.DataFrame],
    outcome: compare.Comparison,
    report: Report,
    run: LoggedRun | None,
) -> list[str]:
    """Draw the page where it is wanted, and say what it shows or why there is none."""
    from prefect_mlops.tasks._drift_page import NothingToDrawError, write_page

    with tempfile.TemporaryDirectory() as scratch:
        file = path or Path(scratch) / PAGE_NAME
        try:
            notes = write_page(file, current=frames[0], reference=frames[1], comparison=outcome, report=report)
        except NothingToDrawError as error:
            return [f"There is no page: {error}."]
        except Exception as error:  # the page is for looking at: whatever Evidently trips over, we judged
            _logger.warning("the drift page of %s could not be made", report.subject, exc_info=True)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_REASON_LENGTH]
            return [f"The page could not be made; the verdict stands without it. {reason}"]
        if run is not None:
            client = _mlflow.mlflow_client()
            with _mlflow.backend(f"logging the drift page to run {run.run_id}"):
                client.log_artifact(run.run_id, str(file), ARTIFACT_FOLDER)
    return notes
