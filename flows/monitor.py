"""Has the data moved away from what the champion was trained on?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from prefect import flow

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake import DIGEST_COLUMN, FILE_COLUMN, Arrival, arrivals, without_marks
from prefect_mlops.core.lineage import Lineage, lineage_of, training_digest
from prefect_mlops.core.reports import Report
from prefect_mlops.core.settings import Settings
from prefect_mlops.core.specs import ModelSpec, is_address, load_spec
from prefect_mlops.core.values import LoadedModel, LoggedRun, Split
from prefect_mlops.flows.forms import label
from prefect_mlops.flows.verdicts import Verdict, verdict
from prefect_mlops.tasks import (
    announce,
    detect_drift,
    find_model,
    load_table,
    note_entry,
    repair_alias,
    split_table,
)

if TYPE_CHECKING:
    import pandas as pd


@flow(name="monitor", flow_run_name="monitor-{model}")
def monitor(
    model: Annotated[str, label("Model")],
    current: Annotated[str, label("Recent data")] = "",
) -> Report | None:
    """Compare recent data with what the champion was trained on.

    Args:
        model: Dotted name of the ModelSpec, e.g. prefect_mlops.examples.flights.model
        current: Empty looks at the files that were committed last; or the address of any table like the dataset.

    Returns:
        A ``drift`` report; None when there is nothing to compare yet, because nothing was promoted or nothing has
        arrived. Drift does not fail the run: it is written into the model's history, and emits
        ``prefect-mlops.drift.failed`` for automations.

    Raises:
        ConfigError: the rows the champion was trained on cannot be found again.
        BackendError: MLflow or storage failed.
    """
    spec = load_spec(model)
    with verdict("monitor", spec.name) as told:
        told.say(*filter(None, [repair_alias(spec.name)]))
        champion, newest = find_model(spec.name), [] if current else _newest(spec)
        if champion is None or not (current or newest):
            _tell_none(told, spec, champion)
            return None
        reference = _training_rows(spec, champion, told)
        recent, name = _recent_rows(spec, current, newest)
        columns = [str(column) for column in reference.columns]
        report: Report = detect_drift(
            current=spec.prepared(without_marks(recent)),
            reference=reference,
            columns=columns,
            subject=f"{spec.name}: {name} against the training data of v{champion.version.version}",
            html=_page_path(spec, name),
            run=_run_of(champion, spec),
            **spec.drift.model_dump(),
        )
        told.show(report)
        if not report.passed:  # before others are told: whoever is woken finds it in the history
            note_entry(spec.name, "drifted", version=champion.version.version, reason=report.summary)
        announce(report, about=spec.name)
        _tell(told, report, champion, name)
        return report


def _tell_none(told: Verdict, spec: ModelSpec, champion: LoadedModel | None) -> None:
    """Say what is missing: the first data of a new model wakes this flow before there can be an answer."""
    told.title = "nothing to compare yet"
    missing = f"Nothing has arrived in dataset {spec.dataset!r}"
    told.say(f"{missing}." if champion else f"{spec.name} has no champion yet: start train to make the first one.")


def _training_rows(spec: ModelSpec, champion: LoadedModel, told: Verdict) -> pd.DataFrame:
    """Read the champion's training rows again: the same data version, prepared and split in the same way."""
    name = f"{spec.name} v{champion.version.version}"
    learned = lineage_of(champion.estimator)
    if learned is None or learned.source is None:
        raise ConfigError(f"{name} does not say what it was trained on: train it with the train flow")
    version = "" if learned.source.version is None else f"@{learned.source.version}"
    table = spec.prepared(without_marks(load_table(f"{_address(learned)}{version}")))
    split: Split = split_table(table, spec.target, **spec.split_options)
    if training_digest(split.X_train, split.y_train) != learned.digest:
        told.say(
            f"The rows of {name} could not be rebuilt exactly: the spec or its preparation has changed since. What is "
            "compared with is what today's spec makes of the same data version."
        )
    return split.X_train


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


def _recent_rows(spec: ModelSpec, current: str, newest: list[Arrival]) -> tuple[pd.DataFrame, str]:
    """Read what is to be looked at, and name it."""
    import pandas as pd

    if current:
        return load_table(spec.source(current)), current.rstrip("/").rpartition("/")[2]
    rows = load_table(spec.source())
    # The same name may have arrived before, with other content.
    wanted = [(arrival.path, arrival.digest) for arrival in newest]
    keys = pd.MultiIndex.from_frame(rows[[FILE_COLUMN, DIGEST_COLUMN]])
    name = newest[-1].path if len(newest) == 1 else f"{len(newest)} files up to {newest[-1].path}"
    return rows[keys.isin(wanted)], name


def _page_path(spec: ModelSpec, name: str) -> Path:
    """Return where Evidently's page goes; the name of a file may hold anything, so only its letters are used."""
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name.partition(".")[0])
    return Settings().home / "reports" / f"drift-{spec.name}-{plain[:60]}.html"


def _run_of(champion: LoadedModel, spec: ModelSpec) -> LoggedRun:
    version = champion.version
    return LoggedRun(run_id=version.run_id, experiment=spec.experiment, model_uri=version.model_uri, url=version.url)


def _tell(told: Verdict, report: Report, champion: LoadedModel, name: str) -> None:
    moved = [check for check in report.failures if check.subject]
    version = f"v{champion.version.version}"
    told.title = "no drift" if report.passed else f"{name} has drifted"
    told.say(
        f"{name} {'looks like' if report.passed else 'no longer looks like'} what {version} was trained on.",
        f"{len(moved)} findings, most important first:" if moved else "No column moved by more than a trifle.",
        *(check.sentence for check in moved[:5]),
        *report.notes[:2],
    )
    if champion.version.url:
        told.links.append((f"Champion {version} in MLflow", champion.version.url))
