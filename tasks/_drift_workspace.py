"""The history people look at: one run for every look at a model, in a folder that ``evidently ui`` shows.

Evidently's UI reads every file of the workspace when it starts and stops at the first it cannot read; while it runs it
watches the folder. So files appear whole, under their final name, and are never written again. Runs consist of
Evidently's own standard types, which its UI knows; what they say is ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.markdown import escape
from prefect_mlops.tasks._drift_columns import inert, labels, largest, readable
from prefect_mlops.tasks._drift_table import Drawing, draw_table

if TYPE_CHECKING:
    from prefect_mlops.core.comparison import Comparison
    from prefect_mlops.core.profiles import Profile
    from prefect_mlops.core.references import Reference
    from prefect_mlops.core.reports import Report

MAX_RUNS = 200  # of a model: at most 40 MB, all of which the UI reads when it starts
MAX_COLUMNS = 30  # drawn in a run
MAX_SCORES = 100  # columns with a line in the history; a run stays below 200 kB
MAX_FAILURES = 10  # at the top of a run
MAX_TEXT = 200  # characters of a name or a sentence
METHOD = "prefect-mlops, on all rows"
_PROJECTS = uuid.UUID("6b1f0f3c-5a0e-4c5e-9d0b-3f0c5f8f6f1a")  # any fixed number: ids of projects are derived from it
_DISTRIBUTION = "DATA DISTRIBUTION"  # Evidently's title of the picture that a run keeps


def add_to_workspace(
    folder: Path,
    *,
    model: str,
    current: Profile,
    reference: Profile,
    comparison: Comparison,
    report: Report,
    at: datetime,
    known: Reference | None = None,
) -> str:
    """Add a look at a model to its history.

    The model's project is made on its first look, with a dashboard that is the user's to change from then on. The same
    look twice is one run; of a model's runs the newest `MAX_RUNS` stay.

    Args:
        folder: the workspace; made where it is missing.
        model: name of the model; each has one project.
        current: the sample and the number of rows of the new table; nothing else of it is read.
        reference: likewise of the one it is compared with.
        comparison: what was found on all rows: every number in the history is from here.
        report: our verdict.
        at: moment of the look; without a time zone it is local time. The history shows UTC.
        known: which column is the target, and what each is worth to the model: which of many columns are drawn.

    Returns:
        The id of the project; the UI shows it under ``/projects/<id>``.

    Raises:
        NothingToDrawError: no column can be drawn.
        OSError: the folder cannot be written, or its file system has no hard links.

    Source:
        The files are those of `evidently.ui.workspace.Workspace`, which itself writes them in place.
    """
    project = uuid.uuid5(_PROJECTS, model)
    home = folder / str(project)
    drawing = draw_table(current=current, reference=reference, comparison=comparison, known=known, most=MAX_COLUMNS)
    # Without a zone, as Evidently's own runs are: its API cannot compare one kind with the other.
    run = _run(drawing, comparison, report, at.astimezone(timezone.utc).replace(tzinfo=None))
    _create(home / "dashboard.json", _dashboard())
    _create(home / "metadata.json", _project(project, model))
    _create(home / "snapshots" / f"{_run_id(at, report.subject)}.json", run)
    _forget(home / "snapshots")
    return str(project)


def _create(path: Path, content: Any) -> None:
    """Write a file, unless it is there; to others it appears whole, and as created under this name."""
    from evidently.legacy.utils import NumpyEncoder

    if path.exists():
        return
    # Browsers read no NaN: better no run than a UI that cannot show it.
    text = json.dumps(content, cls=NumpyEncoder, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        draft.write_text(text, "utf-8")
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was faster with the same
    finally:
        draft.unlink(missing_ok=True)


def _forget(snapshots: Path) -> None:
    """Delete the oldest runs beyond the limit."""
    runs = sorted(snapshots.glob("????????-*.json"), reverse=True)
    for run in runs[MAX_RUNS:]:
        run.unlink(missing_ok=True)


def _run_id(at: datetime, subject: str) -> uuid.UUID:
    """Make an id that begins with the time, as Evidently's do, and is the same for the same look."""
    seconds = max(0.0, at.timestamp())
    rest = hashlib.sha256(f"{seconds} {subject}".encode("utf-8", "replace")).digest()[:10]
    return uuid.UUID(bytes=int(seconds * 1000).to_bytes(6, "big") + rest)


def _project(project: uuid.UUID, model: str) -> dict[str, Any]:
    from evidently.sdk.models import ProjectModel

    about = "Drift of the data this model sees, judged by prefect-mlops on all rows; pictures are of samples."
    found: dict[str, Any] = ProjectModel(id=project, name=inert(model, MAX_TEXT), description=about).dict()
    return found


def _dashboard() -> dict[str, Any]:
    """Lay out a project's page: what the last look said, and the lines over time."""
    from evidently.sdk.models import DashboardModel, DashboardTabModel, PanelMetric
    from evidently.sdk.panels import counter_panel, line_plot_panel

    drifted = {
        name: PanelMetric(legend=f"{name} of drifted columns", metric="DriftedColumnsCount", metric_labels=label)
        for name, label in (("share", {"value_type": "share"}), ("number", {"value_type": "count"}))
    }
    panels = [
        counter_panel(title="Last look: share of drifted columns", values=[drifted["share"]], size="half"),
        counter_panel(title="Last look: drifted columns", values=[drifted["number"]], size="half"),
        line_plot_panel(title="Share of drifted columns", values=[drifted["share"]]),
        line_plot_panel(
            title="Change of each column",
            values=[PanelMetric(metric="ValueDrift")],
            description="0 is no change, 1 the largest possible: the largest of all that was measured of the column",
        ),
    ]
    tab = DashboardTabModel(title="Drift", panels=[panel.id for panel in panels])
    found: dict[str, Any] = DashboardModel(tabs=[tab], panels=panels).dict()
    return found


def _run(drawing: Drawing, comparison: Comparison, report: Report, at: datetime) -> dict[str, Any]:
    """Put together what the UI shows of one look: our numbers for the history, the verdict and the table."""
    from evidently.core.serialization import ReportModel, SnapshotModel

    results = dict(_results(comparison))
    verdict = "passed" if report.passed else "failed"
    model = SnapshotModel(
        report=ReportModel(items=[]),
        name=inert(report.subject, MAX_TEXT),
        timestamp=at,
        metadata={},
        tags=[verdict],
        metric_results=results,
        top_level_metrics=list(results),
        widgets=[*_verdict(drawing, comparison, report), *map(_slim, drawing.snapshot.to_snapshot_model().widgets)],
        tests_widgets=[],
    )
    found: dict[str, Any] = model.dict()
    return found


def _results(comparison: Comparison) -> Iterator[tuple[str, Any]]:
    """Dress our numbers as Evidently's metrics; what could not be judged has no number."""
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    judged, drifted = comparison.judged_columns, comparison.drifted_columns
    if judged:
        count = DriftedColumnsCount(method=METHOD).to_calculation()
        yield count.id, count.result(len(drifted), len(drifted) / len(judged))
    for name, label in list(labels(comparison.kinds).items())[:MAX_SCORES]:
        change = largest(change for change in comparison.changes if change.column == name)
        if change is not None:
            value = ValueDrift(column=label, method=METHOD).to_calculation()
            yield value.id, value.result(float(change.measure.size))


def _verdict(drawing: Drawing, comparison: Comparison, report: Report) -> list[Any]:
    """Say first whose verdict it is; the text is markdown, in which names and values must not mean anything."""
    from evidently.legacy.renderers.html_widgets import CounterData, counter, text_widget

    sentences = [check.sentence for check in report.failures]
    more = [f"and {len(sentences) - MAX_FAILURES} more in the report"] if len(sentences) > MAX_FAILURES else []
    shown = [*sentences[:MAX_FAILURES], *more] or ["No failed check."]
    lines = [f"- {escape(readable(sentence, MAX_TEXT))}" for sentence in shown]
    numbers = [
        CounterData("Verdict of prefect-mlops", "Passed" if report.passed else "Failed"),
        CounterData("Drifted columns", f"{len(comparison.drifted_columns)} of {len(comparison.judged_columns)}"),
        CounterData("Rows now", f"{comparison.rows:,}"),
        CounterData("Rows of the reference", f"{comparison.reference_rows:,}"),
    ]
    return [
        counter(counters=numbers),
        text_widget(text="\n".join([*lines, "", f"Pictures {drawing.drawn_from}."]), title="What failed"),
    ]


def _slim(widget: Any) -> Any:
    """Keep one picture of each column, the small one."""
    kept = set()
    for row in widget.params["data"]:
        row["details"]["parts"] = [part for part in row["details"]["parts"] if part["title"] == _DISTRIBUTION]
        kept |= {part["id"] for part in row["details"]["parts"]}
    widget.additionalGraphs = [graph for graph in widget.additionalGraphs if graph.id in kept]
    return widget
