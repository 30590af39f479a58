"""Take arriving files into the lake, each content version exactly once."""

from __future__ import annotations

from typing import Annotated

from prefect import flow

from prefect_mlops.core.lake.ledger import Arrival
from prefect_mlops.core.specs.dataset import load_dataset
from prefect_mlops.flows.run_summary import RunSummary, summarise_run
from prefect_mlops.flows.ui_labels import label
from prefect_mlops.tasks import find_pending, ingest_files
from prefect_mlops.tasks.ingestion import Taken
from prefect_mlops.tasks.loop import emit_data_event


@flow(name="ingest", flow_run_name="ingest-{dataset}")
def ingest(
    dataset: Annotated[str, label("Dataset")],
    paths: Annotated[list[str] | None, label("Files")] = None,
    verify: Annotated[bool, label("Read all files again")] = False,
    dry_run: Annotated[bool, label("Dry run")] = False,
) -> Taken:
    """Check arriving files, put bad rows into quarantine and good ones into the lake.

    Whatever woke it, it takes everything that waits. Started again, or twice at once, it changes nothing that is
    done: what counts is a file's path and content.

    Args:
        dataset: Dotted name of the DatasetSpec, e.g. prefect_mlops.examples.flights.flights
        paths: Files under the landing place; empty takes everything there, except hidden files.
        verify: Read also files that look exactly as they did when they were taken.
        dry_run: Check, and write nothing.

    Returns:
        What became of each file that was looked into, and what was left and why. A refused file does not fail the run;
        it is in the ledger with its reason.

    Raises:
        ConfigError: no such dataset or landing place, or a named file that is not there or leads out of it. A link
            that leads out and was only found there is not read, and the verdict says so.
        BackendError: storage failed.
    """
    spec = load_dataset(dataset)
    with summarise_run("ingest", spec.name) as summary:
        backlog = find_pending(spec, paths, verify=verify, dry_run=dry_run)
        left = list(backlog.left)
        done: list[Arrival] = []
        for batch in backlog.batches():
            taken = ingest_files(batch, dataset=spec, dry_run=dry_run)
            done += taken.arrivals
            left += taken.left
        _describe(summary, done, left, dry_run=dry_run)
        if not dry_run and any(arrival.version is not None and not arrival.again for arrival in done):
            emit_data_event(spec.name, done)
        return Taken(arrivals=tuple(done), left=tuple(left))


def _describe(summary: RunSummary, done: list[Arrival], left: list[str], *, dry_run: bool) -> None:
    new = [arrival for arrival in done if not arrival.again and arrival.state != "duplicate"]
    refused = [arrival for arrival in new if arrival.state == "refused"]
    summary.title = f"{len(new):,} new of {len(done):,} files, {len(refused):,} refused"
    summary.title += " (dry run: nothing was written)" if dry_run else ""
    summary.say(
        f"{sum(arrival.rows for arrival in new):,} rows committed, {sum(a.refused for a in new):,} in quarantine."
    )
    summary.say(*(f"{arrival.path}: {arrival.state}. {arrival.reason}" for arrival in done if arrival.reason))
    summary.say(*(f"Left: {sentence}" for sentence in left))
