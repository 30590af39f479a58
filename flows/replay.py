"""Bring in what was refused, after the suite was mended."""

from __future__ import annotations

from typing import Annotated

from prefect import flow

from prefect_mlops.core.lake.ledger import Arrival
from prefect_mlops.core.lake.replay import Replay
from prefect_mlops.core.specs.dataset import load_dataset
from prefect_mlops.core.values import Value
from prefect_mlops.flows.run_summary import RunSummary, summarise_run
from prefect_mlops.flows.ui_labels import label
from prefect_mlops.tasks import ingest_files
from prefect_mlops.tasks.ingestion import Backlog
from prefect_mlops.tasks.loop import emit_data_event, find_refused, replay_quarantine


class Replayed(Value):
    """What a replay came to.

    Attributes:
        rows: each file that had rows in quarantine.
        files: each file that had been refused as a whole and was checked again.
        left: a sentence for each such file that could not be checked again.
        dry_run: True when nothing was written.
    """

    rows: tuple[Replay, ...] = ()
    files: tuple[Arrival, ...] = ()
    left: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def taken(self) -> list[Arrival]:
        """Files that had been refused as a whole and came in now."""
        return [arrival for arrival in self.files if arrival.state in ("committed", "partly")]

    @property
    def count(self) -> int:
        """Rows that came in."""
        return sum(replay.rows for replay in self.rows) + sum(arrival.rows for arrival in self.taken)

    @property
    def changed(self) -> bool:
        """Whether anything came in, or would have in a dry run."""
        return bool(self.taken) or any(replay.rows for replay in self.rows)

    @property
    def complete(self) -> bool:
        """Whether nothing that was asked about is refused any more."""
        rows = sum(replay.left for replay in self.rows) + sum(arrival.refused for arrival in self.files)
        return not (rows or self.left or any(arrival.state == "refused" for arrival in self.files))


@flow(name="replay", flow_run_name="replay-{dataset}")
def replay(
    dataset: Annotated[str, label("Dataset")],
    paths: Annotated[list[str] | None, label("Files")] = None,
    dry_run: Annotated[bool, label("Dry run")] = False,
) -> Replayed:
    """Check what was refused with today's suite, and bring in what passes, each row once.

    Rows in quarantine come in with one commit. A file that was refused as a whole is ingested again, where its
    content still lies in the landing place. What still fails stays as it was. Started again, or twice at once, it
    changes nothing that is done.

    Args:
        dataset: Dotted name of the DatasetSpec, e.g. prefect_mlops.examples.flights.flights
        paths: Files under the landing place; empty takes everything that was refused.
        dry_run: Check, and write nothing.

    Returns:
        What became of each file. What is still refused does not fail the run.

    Raises:
        ConfigError: no such dataset, or a named file that never arrived.
        BackendError: storage failed.
    """
    spec = load_dataset(dataset)
    with summarise_run("replay", spec.name) as summary:
        rows = replay_quarantine(spec, paths, dry_run=dry_run).files
        refused = find_refused(spec, paths)
        files: list[Arrival] = []
        left = list(refused.left)
        for batch in Backlog(files=refused.files).batches():
            taken = ingest_files(batch, dataset=spec, dry_run=dry_run, again=True)
            files += taken.arrivals
            left += taken.left
        done = Replayed(rows=rows, files=tuple(files), left=tuple(left), dry_run=dry_run)
        _describe(summary, done)
        if done.changed and not dry_run:
            lines = [replay.arrival for replay in rows if replay.arrival is not None]
            emit_data_event(spec.name, [*lines, *done.taken])
        return done


def _describe(summary: RunSummary, done: Replayed) -> None:
    stay = sum(replay.left for replay in done.rows)
    summary.title = f"{done.count:,} rows came in" if done.changed else "nothing changed"
    summary.title += " (dry run: nothing was written)" if done.dry_run else ""
    if not (done.rows or done.files or done.left):
        summary.say("Nothing was refused that has not come in since.")
        return
    summary.say(
        f"{stay:,} rows stay in quarantine; {len(done.taken):,} of {len(done.files):,} refused files were taken."
    )
    summary.say(*(_sentence(replay) for replay in done.rows))
    summary.say(*(f"{arrival.path}: {arrival.state}. {arrival.reason}" for arrival in done.files))
    summary.say(*(f"Left: {sentence}" for sentence in done.left))


def _sentence(replay: Replay) -> str:
    stay = f", {replay.left:,} stay: {replay.why}" if replay.left else ""
    return f"{replay.path}: {replay.rows:,} rows came in{stay}"
