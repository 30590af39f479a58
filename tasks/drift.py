"""Has the data moved away from what the model was trained on?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.drift import detection
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.reports import Report
from prefect_mlops.tasks._step import step
from prefect_mlops.tracking.drift_pages import log_drift_page

if TYPE_CHECKING:
    from prefect_mlops.core.drift.detection import DriftReport
    from prefect_mlops.core.values import LoggedRun

PAGE_NAME = "drift.html"


def _run_name(parameters: dict[str, Any]) -> str:
    subject = parameters.get("subject") or detection.subject_of(parameters["current"], parameters["reference"])
    return f"drift-{subject}"


def _page_name(parameters: dict[str, Any]) -> str:
    return f"draw-drift-page-of-{parameters['report'].subject}"


detect_drift = step(_run_name, backend=True)(detection.detect_drift)


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
