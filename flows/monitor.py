"""Has the data moved away from what the champion was trained on?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import prefect.runtime
from prefect import flow, unmapped

from prefect_mlops.core.drift.monitoring import MonitoringRun, level_of
from prefect_mlops.core.drift.training_profile import profile_digest
from prefect_mlops.core.drift.verdict import drifted_columns, sizes_of
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake.ingest import Arrival, arrivals, without_marks
from prefect_mlops.core.lineage.training_data import Lineage, lineage_of, training_digest
from prefect_mlops.core.reports import Report
from prefect_mlops.core.settings import Settings
from prefect_mlops.core.specs.model import ModelSpec, is_address, load_spec
from prefect_mlops.core.values import LoadedModel, LoggedRun, Split, TableRef
from prefect_mlops.flows.run_summary import RunSummary, summarise_run
from prefect_mlops.flows.ui_labels import label
from prefect_mlops.tasks import (
    detect_drift,
    draw_drift_page,
    emit_event,
    find_model,
    find_training_profile,
    load_table,
    profile_table,
    save_training_profile,
    split_table,
)
from prefect_mlops.tasks.loop import (
    merge_profiles,
    note_entry,
    number_monitoring_run,
    record_monitoring_run,
    repair_alias,
    show_monitoring,
)

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.drift.table_profile import TableProfile
    from prefect_mlops.core.drift.training_profile import TrainingProfile


@flow(name="monitor", flow_run_name="monitor-{model}")
def monitor(
    model: Annotated[str, label("Model")],
    current: Annotated[str, label("Recent data")] = "",
    parts: Annotated[int, label("Parts")] = 1,
) -> Report | None:
    """Compare recent data with what the champion was trained on.

    Args:
        model: Dotted name of the ModelSpec, e.g. prefect_mlops.examples.flights.model
        current: Empty looks at the files that were committed last; or the address of any table like the dataset.
        parts: Into how many tasks reading is split, for a cluster; more than one needs a spec that is row_wise

    Returns:
        A ``drift`` report; None when there is nothing to compare yet, because nothing was promoted or nothing has
        arrived. Drift does not fail the run: it is written into the model's history, and emits
        ``prefect-mlops.drift.failed`` for automations.

    Raises:
        ConfigError: the rows the champion was trained on cannot be found again.
        BackendError: MLflow or storage failed.
    """
    spec = load_spec(model)
    with summarise_run("monitor", spec.name) as summary:
        if repair := repair_alias(spec.name):
            summary.say(repair.sentence)
        champion, newest = find_model(spec.name), [] if current else _newest(spec)
        if champion is None or not (current or newest):
            _describe_nothing_to_compare(summary, spec, champion)
            return None
        report = _compare(spec, champion, _recent(spec, current, newest), summary, parts)
    show_monitoring(spec.name)  # after the verdict, which is what a run's page shows first
    return report


@dataclass(frozen=True)
class _Recent:
    """What is looked at: where it is, its name, and its data version where it has one."""

    table: TableRef
    name: str
    version: int | None = None


def _compare(spec: ModelSpec, champion: LoadedModel, recent: _Recent, summary: RunSummary, parts: int) -> Report:
    """Compare, record the monitoring run, emit events."""
    version = champion.version.version
    reference = _reference(spec, champion, summary)
    rows = _profiled(recent.table, spec, [*reference.features, reference.target], parts)
    key = profile_digest(rows)
    number = number_monitoring_run(spec.name, kind="drift", champion=version, key=key)
    level = level_of(number)
    judged = detect_drift(
        current=rows,
        reference=reference,
        spec=spec,
        estimator=champion,
        level=level,
        subject=f"{spec.name}: {recent.name} against the training data of v{version}",
    )
    report = draw_drift_page(judged, html=_page_path(spec, recent.name), run=_run_of(champion, spec))
    summary.show(report)
    record_monitoring_run(
        MonitoringRun(
            model=spec.name,
            kind="drift",
            champion=version,
            number=number,
            key=key,
            at=datetime.now(timezone.utc),
            subject=recent.name,
            data=recent.version,
            rows=report.rows,
            passed=report.passed,
            level=level,
            sizes=sizes_of(report),
            drifted=drifted_columns(report),
            scores={"drifted": report.checks[0].value} if report.checks[0].value is not None else {},
            flow_run=str(prefect.runtime.flow_run.id or ""),
        )
    )
    if not report.passed:  # before the event: a person it alerts finds the entry in the history
        note_entry(spec.name, "drifted", version=version, reason=report.summary)
    emit_event(report, about=spec.name)
    _describe(summary, report, champion, recent.name)
    return report


def _profiled(table: TableRef, spec: ModelSpec, columns: list[str], parts: int) -> TableProfile:
    """Summarise what is looked at; in parts, each is a task that the flow's task runner may send elsewhere."""
    if parts <= 1:
        return profile_table(table, spec=spec, columns=columns)
    profiles = profile_table.map(
        unmapped(table), spec=unmapped(spec), columns=unmapped(columns), part=range(parts), parts=unmapped(parts)
    )
    return merge_profiles(profiles.result())


def _describe_nothing_to_compare(summary: RunSummary, spec: ModelSpec, champion: LoadedModel | None) -> None:
    """Say what is missing: the first data of a new model wakes this flow before there can be an answer."""
    summary.title = "nothing to compare yet"
    missing = f"Nothing has arrived in dataset {spec.dataset!r}"
    summary.say(f"{missing}." if champion else f"{spec.name} has no champion yet: start train to make the first one.")


def _reference(spec: ModelSpec, champion: LoadedModel, summary: RunSummary) -> TrainingProfile:
    """Find what the champion was trained on, summarised; summarise it now where that was not done or does not fit."""
    kept = find_training_profile(champion.version)
    if kept is not None and kept.preparation == spec.preparation:
        return kept
    table, split, exact = _training_rows(spec, champion)
    if not exact:
        summary.say(
            f"The rows of {spec.name} v{champion.version.version} could not be rebuilt exactly: the spec or its "
            "preparation has changed since. What is compared with is what today's spec makes of the same data version."
        )
    run = _run_of(champion, spec) if exact else None
    return save_training_profile(champion.estimator, spec=spec, split=split, table=table, run=run)


def _training_rows(spec: ModelSpec, champion: LoadedModel) -> tuple[pd.DataFrame, Split, bool]:
    """Read the champion's rows again: the same data version, prepared and split in the same way; and say whether."""
    learned = lineage_of(champion.estimator)
    if learned is None or learned.source is None:
        name = f"{spec.name} v{champion.version.version}"
        raise ConfigError(f"{name} does not say what it was trained on: train it with the train flow")
    import pandas as pd

    version = "" if learned.source.version is None else f"@{learned.source.version}"
    table = spec.prepared(without_marks(load_table(f"{_address(learned)}{version}")))
    split = split_table(table, spec.target, **spec.split_options, sides=None if spec.order_by else learned.rule)
    X, y = split.X_train, split.y_train
    if learned.refit_of is not None:
        X, y = pd.concat([X, split.X_test]), pd.concat([y, split.y_test])
    return table, split, training_digest(X, y) == learned.digest


def _address(learned: Lineage) -> str:
    assert learned.source is not None  # noqa: S101 - checked by the caller
    uri = learned.source.uri
    return f"delta://{uri}" if learned.source.version is not None and "://" not in uri else uri


def _newest(spec: ModelSpec) -> list[Arrival]:
    """Find the files that were committed last, often one."""
    if is_address(spec.dataset):
        raise ConfigError(f"{spec.name}: dataset {spec.dataset!r} is an address without arrivals: give current")
    taken = [arrival for arrival in arrivals(spec.dataset) if arrival.version is not None]
    return [arrival for arrival in taken if arrival.version == max(one.version or 0 for one in taken)]


def _recent(spec: ModelSpec, current: str, newest: list[Arrival]) -> _Recent:
    """Find what is to be looked at, and name it."""
    if current:
        return _Recent(TableRef(uri=spec.source(current)), current.rstrip("/").rpartition("/")[2])
    # The same name may have arrived before, with other content. The rows are read from the newest version, into which
    # compaction has brought them; that of their commit may be gone.
    files = tuple((arrival.path, arrival.digest) for arrival in newest)
    name = newest[-1].path if len(newest) == 1 else f"{len(newest)} files up to {newest[-1].path}"
    return _Recent(TableRef(uri=spec.source(), files=files), name, newest[-1].version)


def _page_path(spec: ModelSpec, name: str) -> Path:
    """Return where Evidently's page goes; the name of a file may hold anything, so only its letters are used."""
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name.partition(".")[0])
    return Settings().home / "reports" / f"drift-{spec.name}-{plain[:60]}.html"


def _run_of(champion: LoadedModel, spec: ModelSpec) -> LoggedRun:
    version = champion.version
    return LoggedRun(run_id=version.run_id, experiment=spec.experiment, model_uri=version.model_uri, url=version.url)


def _describe(summary: RunSummary, report: Report, champion: LoadedModel, name: str) -> None:
    moved = [check for check in report.failures if check.subject]
    version = f"v{champion.version.version}"
    summary.title = "no drift" if report.passed else f"{name} has drifted"
    summary.say(
        f"{name} {'looks like' if report.passed else 'no longer looks like'} what {version} was trained on.",
        f"{len(moved)} findings, most important first:" if moved else "No column moved by more than a trifle.",
        *(check.sentence for check in moved[:5]),
        *report.notes[:2],
    )
    summary.links += report.links
    if champion.version.url:
        summary.links.append((f"Champion {version} in MLflow", champion.version.url))
