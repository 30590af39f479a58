"""Has the live model degraded? Its stored predictions, scored with the labels as they arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.live.degradation import BASELINE_WINDOWS, Baseline, Margins, judge_decay, monitoring_runs_a_year
from prefect_mlops.core.live.labels import GroundTruth, LabelColumns, match_labels
from prefect_mlops.core.live.windows import MIN_LABELLED, Course, follow
from prefect_mlops.core.reports import Report
from prefect_mlops.core.tables.read import as_frame, table_name
from prefect_mlops.core.values import Evaluation
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    from prefect_mlops.core.values import Table


def _run_name(parameters: dict[str, Any]) -> str:
    return f"evaluate-live-{_subject(parameters)}"


@step(_run_name, backend=True)
def evaluate_live(  # noqa: PLR0913 - two tables that others wrote need their columns named, beside what is asked of them
    *,
    predictions: Table,
    labels: Table,
    metrics: Sequence[str],
    baseline: Baseline = BASELINE_WINDOWS,
    may_lose: Margins = None,
    every: str | None = None,
    min_labelled: float = MIN_LABELLED,
    confidence: float = 0.95,
    columns: Mapping[str, str] | None = None,
    version: str | int | None = None,
    positive: object = None,
    now: datetime | None = None,
    subject: str | None = None,
) -> Report:
    """Score a live model over time from its stored predictions and the labels there are by now.

    The report fails when the newest window that can be judged is surely worse than the baseline by more than
    `may_lose`. A window can be judged when it is over, `min_labelled` of its predictions have a label, and it holds 50
    labelled rows or more. With too little to judge nothing is claimed: the deciding check is a failed warning then,
    not a pass. Run as often as new labels come, a model that has not decayed beyond `may_lose` gives a false alarm in
    at most one year of twenty (`confidence`), and far less often while it loses nothing; docs/performance.md has the
    figures.

    Args:
        predictions: one row for each answer: ``id``, ``at`` (time scored) and ``prediction``: a number, a class, or a
            probability or score of the positive class. Of an id scored twice, the last answer before its truth counts.
        labels: one row for each truth: ``id``, ``label`` and, where known, ``at``, the time it became known; in any
            order, late, twice, or empty.
        metrics: scikit-learn scorer names; larger is better for each. Those that need one probability for each class,
            or the model, are refused with the names of those that work.
        baseline: scores of training or promotion, or how many of the first judged windows to compare with.
        may_lose: smallest loss that matters, for all metrics or by metric; 0.02 where left out. Metrics in units of
            the target need it.
        every: length of a window: ``"day"``, ``"week"``, ``"month"`` or a pandas offset alias; None takes the shortest
            of the three with enough labelled rows. Name it in what runs every day, so that windows stay what they are.
        min_labelled: smallest share of labels with which a window is judged; early labels are seldom a random sample.
        confidence: that a year without decay is a year without an alarm.
        columns: names of the columns where they differ: of ``id``, ``at``, ``prediction``, ``version``, ``label_id``,
            ``label``, ``label_at``.
        version: only predictions of this version of the model, by the column ``version``.
        positive: the positive class of a binary target; None takes the last in order, as scikit-learn does.
        now: evaluate as of this moment; later rows are left out.
        subject: what is judged, in the report's title.

    Returns:
        A ``performance`` report: what decides, each window, what was odd about the tables. ``require`` it to stop a
        flow.

    Raises:
        ConfigError: a column or metric is not there or does not fit, or a number is out of range.
        DataCheckError: a table was reached and holds nothing usable.
        BackendError: a table could not be reached; tried again.

    Source: scikit-learn's scorers and our intervals (`core.evaluation`); decided by `core.live.degradation`.
    """
    truths = match_labels(
        as_frame(predictions), as_frame(labels), names=LabelColumns.of(columns), version=version, now=now
    )
    course = follow(truths, metrics=metrics, every=every, min_labelled=min_labelled, positive=positive, now=now)
    checks = judge_decay(course, baseline=baseline, may_lose=may_lose, confidence=confidence)
    decided, shown = checks[: len(course.measured)], checks[len(course.measured) :]
    return Report(
        kind="performance",
        subject=subject or _subject({"predictions": predictions, "version": version}),
        checks=(*decided, *truths.findings, *shown),
        rows=len(truths.rows),
        notes=_notes(truths, course, baseline, confidence),
    )


def _subject(parameters: dict[str, Any]) -> str:
    version = parameters.get("version")
    name = parameters.get("subject") or table_name(parameters["predictions"])
    return name if version is None or parameters.get("subject") else f"{name}, version {version}"


def _notes(truths: GroundTruth, course: Course, baseline: Baseline, confidence: float) -> tuple[str, ...]:
    notes = [*truths.notes, *course.notes]
    if course.windows:
        notes.append(
            f"Intervals are of 95 %. Alarms are corrected for {monitoring_runs_a_year(course):,} looks, "
            f"which are a year's: {confidence:.0%} of years without decay are to be without one."
        )
    if isinstance(baseline, Evaluation):
        exact = [metric for metric in course.measured if metric not in baseline.intervals]
        if exact:
            notes.append(f"The baseline has no interval for {', '.join(exact)}: it is taken as exact.")
    return tuple(notes)
