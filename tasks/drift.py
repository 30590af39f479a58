"""Has the data moved away from what the model was trained on?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.drift import detection, table_drift
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.reports import Report
from prefect_mlops.tasks._step import step
from prefect_mlops.tracking.drift_pages import log_drift_page

if TYPE_CHECKING:
    from prefect_mlops.core.drift.detection import DriftReport
    from prefect_mlops.core.drift.table_profile import TableProfile
    from prefect_mlops.core.drift.training_profile import TrainingProfile
    from prefect_mlops.core.specs.model import ModelSpec
    from prefect_mlops.core.specs.policies import Drift
    from prefect_mlops.core.values import LoggedRun, Table

PAGE_NAME = "drift.html"


def _run_name(parameters: dict[str, Any]) -> str:
    subject = parameters.get("subject") or detection.subject_of(parameters["current"], parameters["reference"])
    return f"drift-{subject}"


def _page_name(parameters: dict[str, Any]) -> str:
    return f"draw-drift-page-of-{parameters['report'].subject}"


@step(_run_name, backend=True)
def detect_drift(
    *,
    current: Table | TableProfile,
    reference: Table | TableProfile | TrainingProfile,
    spec: ModelSpec | None = None,
    estimator: Any = None,
    columns: Sequence[str] | None = None,
    drift: Drift | None = None,
    level: float = table_drift.ALPHA,
    subject: str | None = None,
) -> DriftReport:
    """Judge whether new data still looks like the data it is compared with.

    A column drifted when its distribution, or the share of its missing, unseen or out-of-range values, moved by more
    than a trifle and chance does not explain it, corrected for all tests of the report: of independent rows that did
    not move, at most one report in a hundred names a column. A single drifted column warns. The report fails when

    - more than `max_drifted_share` of the columns drifted: of their weight, where the reference knows what each is
      worth to the model, so that a column it does not use informs and does not alarm;
    - as large a share of the rows lies outside what the model has seen of a column it uses, or went missing in it;
    - what the model says, or its target, drifted;
    - the schema broke: a column missing, of another type, or without any value.

    Rows are taken as independent; a `TrainingProfile` knows how much neighbouring rows differ by themselves, and a
    change has to be larger than that. With too few rows nothing is claimed: the check that decides is a failed warning
    then, not a pass. Timestamps are compared by hour and weekday: that time goes on is no drift.

    Args:
        current: the new rows, where they are, or their profile. Tables are read in chunks, so memory does not grow.
        reference: likewise the rows to compare with, usually those the model was trained on; best the
            `TrainingProfile` that was kept with it.
        spec: gives features, target and limits; tables are taken as prepared.
        estimator: fitted estimator or `LoadedModel`, to compare what it says of both sides. Without a
            `TrainingProfile` give reference rows it was not trained on: of those it was, it is surer.
        columns: names to compare; by default the features and target of reference or spec, else all columns.
        drift: thresholds; None takes those of the spec, else the defaults of `core.specs.policies.Drift`.
        level: of the corrected p-values; `core.drift.monitoring.level_of` makes it smaller with each monitoring run.
        subject: what is judged, in the report's title; the names of the tables where left out.

    Returns:
        The verdict; ``require`` it to stop a flow, give it to `draw_drift_page` for Evidently's page.

    Raises:
        ConfigError: `columns` names one that is in neither table, or a threshold is out of range.
        BackendError: a table could not be reached; retried.

    Source: `scipy.stats` through `core.drift.statistical_tests`.
    """
    return detection.detect_drift(
        current=current,
        reference=reference,
        spec=spec,
        estimator=estimator,
        columns=columns,
        drift=drift,
        level=level,
        subject=subject,
    )


@step(_page_name, backend=True)
def draw_drift_page(
    report: DriftReport, *, html: str | os.PathLike[str] | None = None, run: LoggedRun | None = None
) -> Report:
    """Draw the page of a drift report: our verdict on top, Evidently's pictures of the columns below.

    Args:
        report: from `detect_drift`, in the same process.
        html: file, or folder for a ``drift.html``, where the page is written.
        run: MLflow run that gets the page as an artifact under ``drift/``.

    Returns:
        The report, with notes on what the page shows, or why there is none, and a link where MLflow has a server.

    Raises:
        ConfigError: neither ``html`` nor ``run``, a report that was stored, or a run that MLflow does not have.
        BackendError: MLflow failed; retried.

    Source: Evidently.
    """
    if html is None and run is None:
        raise ConfigError("draw_drift_page: give html, a file or folder, or run, an MLflow run, or both")
    with tempfile.TemporaryDirectory() as scratch:
        file = _page_file(html) if html is not None else Path(scratch) / PAGE_NAME
        notes, drawn = detection.write_drift_page(report, file)
        url = log_drift_page(file, run) if drawn and run is not None else None
    links = (("The page in MLflow", url),) if url else ()
    fields = {**dict(report), "notes": (*report.notes, *notes), "links": (*report.links, *links)}
    return Report(**fields)


def _page_file(html: str | os.PathLike[str]) -> Path:
    path = Path(html)
    return path if path.suffix.lower() in (".html", ".htm") and not path.is_dir() else path / PAGE_NAME
