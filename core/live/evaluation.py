"""Live evaluation: labels matched, windows scored, degradation judged, in one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.live.degradation import Baseline, judge_decay, monitoring_runs_a_year
from prefect_mlops.core.live.labels import GroundTruth, LabelColumns, match_labels
from prefect_mlops.core.live.windows import Course, follow
from prefect_mlops.core.reports import Report
from prefect_mlops.core.specs.policies import Degradation
from prefect_mlops.core.tables.read import as_frame, table_name
from prefect_mlops.core.values import Evaluation

if TYPE_CHECKING:
    from prefect_mlops.core.specs.model import ModelSpec
    from prefect_mlops.core.values import Table


def evaluate_live(  # noqa: PLR0913 - keyword-only
    *,
    predictions: Table,
    labels: Table,
    metrics: Sequence[str],
    degradation: Degradation | None = None,
    spec: ModelSpec | None = None,
    columns: Mapping[str, str] | None = None,
    version: str | int | None = None,
    now: datetime | None = None,
    subject: str | None = None,
) -> Report:
    """Score a live model over time from its stored predictions and the labels there are by now.

    The report fails when the newest window that can be judged is worse than the baseline, beyond chance, by more than
    ``may_lose``. A window can be judged when it is over, ``min_labelled`` of its predictions have a label, and it holds
    50 labelled rows or more. With too little to judge nothing is claimed: the deciding check is a failed warning then,
    not a pass. Run as often as new labels come, a model that has not decayed beyond ``may_lose`` gives a false alarm in
    at most one year of twenty (``confidence``), and far less often while it loses nothing; docs/performance.md has the
    figures.

    Args:
        predictions: one row for each answer: ``id``, ``at`` (time scored) and ``prediction``: a number, a class, or a
            probability or score of the positive class. Of an id scored twice, the last answer before its label counts.
        labels: one row for each label: ``id``, ``label`` and, where known, ``at``, the time it became known; in any
            order, late, twice, or empty.
        metrics: scikit-learn scorer names; larger is better for each. Those that need one probability for each class,
            or the model, are refused with the names of those that work.
        degradation: baseline, windows, and which loss matters; None takes the defaults.
        spec: recipe of the model; its positive class counts where ``degradation`` names none.
        columns: names of the columns where they differ: of ``id``, ``at``, ``prediction``, ``version``, ``label_id``,
            ``label``, ``label_at``.
        version: only predictions of this version of the model, by the column ``version``.
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
    policy = degradation or Degradation()
    positive = spec.positive if spec is not None and policy.positive is None else policy.positive
    truths = match_labels(
        as_frame(predictions), as_frame(labels), names=LabelColumns.of(columns), version=version, now=now
    )
    course = follow(
        truths,
        metrics=metrics,
        every=policy.every,
        min_labelled=policy.min_labelled,
        positive=positive,
        now=now,
    )
    checks = judge_decay(course, baseline=policy.baseline, may_lose=policy.may_lose, confidence=policy.confidence)
    decided, shown = checks[: len(course.measured)], checks[len(course.measured) :]
    return Report(
        kind="performance",
        subject=subject or subject_of(predictions, version),
        checks=(*decided, *truths.findings, *shown),
        rows=len(truths.rows),
        notes=_notes(truths, course, policy.baseline, policy.confidence),
    )


def subject_of(predictions: Any, version: str | int | None) -> str:
    """Name what is judged, for a title."""
    name = table_name(predictions)
    return name if version is None else f"{name}, version {version}"


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
