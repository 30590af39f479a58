"""Take arriving files into the lake, or refuse them visibly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.lake.completeness import await_complete
from prefect_mlops.core.lake.landing import Landed, list_landing, look
from prefect_mlops.core.lake.ledger import Arrival, read_ledger, write_lines
from prefect_mlops.core.values import Value
from prefect_mlops.tasks._intake import Batch
from prefect_mlops.tasks._step import run_logger, step

if TYPE_CHECKING:
    from prefect_mlops.core.specs.dataset import DatasetSpec

MAX_BATCH_FILES = 1000
MAX_BATCH_BYTES = 256 << 20  # in memory, and of files that are read by one task; one larger file is taken alone
PATIENCE_SECONDS = 30.0  # how long a run waits for half-written files; the next one looks again


class Backlog(Value):
    """What waits in a landing place.

    Attributes:
        files: complete files whose content may be new, by name.
        left: a sentence for each thing that is not read, or not yet.
    """

    files: tuple[Landed, ...]
    left: tuple[str, ...] = ()

    def batches(self) -> list[list[Landed]]:
        """Cut the files into parts that are checked and committed together."""
        parts: list[list[Landed]] = []
        size = 0
        for file in self.files:
            if not parts or len(parts[-1]) >= MAX_BATCH_FILES or size + file.size > MAX_BATCH_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(file)
            size += file.size
        return parts


class Taken(Value):
    """What became of a batch.

    Attributes:
        arrivals: what is in the ledger now; ``again`` where it had been decided before.
        left: a sentence for each file that could not be read now, and waits for the next run.
    """

    arrivals: tuple[Arrival, ...]
    left: tuple[str, ...] = ()


def _pending_name(parameters: dict[str, Any]) -> str:
    return f"find-pending-{parameters['dataset'].name}"


def _ingest_name(parameters: dict[str, Any]) -> str:
    files = parameters["files"]
    one = files[0] if len(files) == 1 else None
    what = f"{len(files)}-files" if one is None else one.path if isinstance(one, Landed) else str(one)
    return f"ingest-{parameters['dataset'].name}-{what}"


@step(_pending_name, backend=True)
def find_pending(
    dataset: DatasetSpec,
    paths: Sequence[str] | None = None,
    *,
    verify: bool = False,
    dry_run: bool = False,
    patience: float = PATIENCE_SECONDS,
) -> Backlog:
    """Compare the landing place with the ledger, and wait for half-written files.

    Args:
        dataset: whose landing place.
        paths: look at these only; None or empty looks at all.
        verify: read every file again, also those that look exactly as they did when they were taken.
        dry_run: write nothing; otherwise what a crash kept out of the ledger is written.
        patience: seconds to wait for files that are still being written.

    Returns:
        Complete files whose content may be new.

    Raises:
        ConfigError: no such landing place; a named file that is not there or leads out.
        BackendError: storage failed; tried again.
    """
    listing = list_landing(dataset) if not paths else None
    files = list(listing.files) if listing else [look(dataset, path) for path in dict.fromkeys(paths or ())]
    left = list(listing.left) if listing else []
    if not verify and not paths:
        ledger = read_ledger(dataset.name)
        write_lines(dataset.name, [] if dry_run else ledger.unwritten)
        files = [file for file in files if ledger.seen(file.path, file.stamp) is None]
    complete, unsettled = await_complete(dataset, files, patience=patience)
    return Backlog(files=tuple(complete), left=(*left, *unsettled))


@step(_ingest_name, backend=True)
def ingest_files(
    files: Sequence[Landed | str], *, dataset: DatasetSpec, dry_run: bool = False, again: bool = False
) -> Taken:
    """Check files and commit their good rows once, all of them in one commit.

    A file that cannot be read as a table, whose columns are not those of the dataset, or with too many bad rows is
    refused as a whole, recorded, and left where it is. Otherwise bad rows go to quarantine with their reasons and the
    rest into the dataset. Content that was committed before changes nothing and is recorded as a duplicate.

    Args:
        files: from `find_pending`, or paths under the landing place.
        dataset: what they belong to.
        dry_run: check, and write nothing.
        again: check refused files again, as after the suite was mended.

    Returns:
        What became of each.

    Raises:
        ConfigError: a path that is not there or leads out.
        BackendError: storage failed; tried again.
    """
    landed = [file if isinstance(file, Landed) else look(dataset, file) for file in files]
    done: list[Arrival] = []
    left: list[str] = []
    batch: Batch | None = None
    for place, file in enumerate(landed, 1):
        batch = batch or Batch(dataset, again=again)
        batch.take(file)
        if place == len(landed) or batch.size > MAX_BATCH_BYTES:
            done += batch.commit(dry_run=dry_run)
            left += batch.left
            batch = None
            run_logger().info("%d of %d files done", place, len(landed))
    return Taken(arrivals=tuple(done), left=tuple(left))
