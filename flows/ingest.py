"""Take arriving files into the lake, each content version exactly once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake import Arrival
from prefect_mlops.core.specs import is_address, load_spec
from prefect_mlops.flows.forms import label
from prefect_mlops.flows.verdicts import Verdict, verdict
from prefect_mlops.tasks import ingest_file


@flow(name="ingest", flow_run_name="ingest-{model}")
def ingest(
    model: Annotated[str, label("Model")],
    landing: Annotated[str, label("Landing folder")],
    files: Annotated[list[str] | None, label("Files")] = None,
) -> list[Arrival]:
    """Check arriving files, put bad rows into quarantine and good ones into the lake.

    Started again, or twice at once, it changes nothing that is done: what counts is a file's path and content.

    Args:
        model: Dotted name of the ModelSpec whose dataset and suite the files belong to.
        landing: Folder the files arrive in; nothing outside of it is read.
        files: Paths under the landing folder; empty takes every file there, except hidden ones.

    Returns:
        What became of each file. A refused file does not fail the run; it is in the ledger with its reason.

    Raises:
        ConfigError: no such spec or folder, or a named file that is not there or leads out of the folder. A link that
            leads out and was only found there is not read, and the verdict says so.
        BackendError: storage failed.
    """
    spec = load_spec(model)
    with verdict("ingest", spec.name) as told:
        if is_address(spec.dataset):
            raise ConfigError(f"{spec.name}: dataset {spec.dataset!r} is an address, not a dataset of the lake")
        done = []
        for path in files or _files(Path(landing)):
            try:
                done.append(ingest_file(path, landing=landing, dataset=spec.dataset, suite=spec.suite))
            except ConfigError as error:
                if files:  # asked for by name: the request is wrong
                    raise
                told.say(f"Not read: {error}")  # found by looking: one link or odd name must not hold up the others
        _tell(told, done)
        return done


def _files(landing: Path) -> list[str]:
    if not landing.is_dir():
        raise ConfigError(f"there is no landing folder {landing}")
    found = [path.relative_to(landing) for path in landing.rglob("*") if path.is_file()]
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def _tell(told: Verdict, done: list[Arrival]) -> None:
    new = [arrival for arrival in done if not arrival.again]
    refused = [arrival for arrival in new if arrival.state == "refused"]
    told.title = f"{len(new)} new of {len(done)} files, {len(refused)} refused"
    told.say(f"{sum(arrival.rows for arrival in new):,} rows committed, {sum(a.refused for a in new):,} in quarantine.")
    told.say(*(f"{arrival.path}: {arrival.state}. {arrival.reason}" for arrival in new if arrival.reason))
