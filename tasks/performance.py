"""Has the live model degraded? Its stored predictions, scored with the labels as they arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.live import evaluation
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.specs.policies import Degradation
    from prefect_mlops.core.values import Table


def _run_name(parameters: dict[str, Any]) -> str:
    subject = parameters.get("subject") or evaluation.subject_of(parameters["predictions"], parameters.get("version"))
    return f"evaluate-live-{subject}"


@step(_run_name, backend=True)
def evaluate_live(
    *,
    predictions: Table,
    labels: Table,
    metrics: Sequence[str],
    degradation: Degradation | None = None,
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
    return evaluation.evaluate_live(
        predictions=predictions,
        labels=labels,
        metrics=metrics,
        degradation=degradation,
        columns=columns,
        version=version,
        now=now,
        subject=subject,
    )
