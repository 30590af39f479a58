"""Take arriving files into the lake, or refuse them visibly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prefect.runtime

from prefect_mlops.core import lake
from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError
from prefect_mlops.core.landing import Landed, digest_of, list_landing, local_file, look
from prefect_mlops.core.ledger import Arrival, read_ledger, write_lines
from prefect_mlops.core.settling import promised, settle
from prefect_mlops.core.values import Value
from prefect_mlops.tasks._step import run_logger, step

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.datasets import DatasetSpec
    from prefect_mlops.core.reports import Report

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
    patience: float = PATIENCE_SECONDS,
) -> Backlog:
    """Compare the landing place with the ledger, and wait for half-written files.

    Args:
        dataset: whose landing place.
        paths: look at these only; None or empty looks at all.
        verify: read every file again, also those that look exactly as they did when they were taken.
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
        write_lines(dataset.name, ledger.unwritten)  # what a crash left undone
        files = [file for file in files if ledger.seen(file.path, file.stamp) is None]
    complete, unsettled = settle(dataset, files, patience=patience)
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
    batch = _Batch(dataset, again=again)
    for place, file in enumerate(landed, 1):
        batch.take(file)
        if place == len(landed) or batch.size > MAX_BATCH_BYTES:
            done += batch.commit(dry_run=dry_run)
            left += batch.left
            batch = _Batch(dataset, again=again)
            run_logger().info("%d of %d files done", place, len(landed))
    return Taken(arrivals=tuple(done), left=tuple(left))


class _Batch:
    """Files on their way into one commit."""

    def __init__(self, dataset: DatasetSpec, *, again: bool) -> None:
        self.dataset, self.again = dataset, again
        self.ledger = read_ledger(dataset.name)
        self.columns = lake.dataset_columns(dataset.name, new_columns=dataset.new_columns)
        self.flow_run = str(prefect.runtime.flow_run.id or "")
        self.checked: list[lake.Checked] = []
        self.left: list[str] = []
        self.size = 0

    def commit(self, *, dry_run: bool) -> list[Arrival]:
        """Commit what was checked, unless this is a dry run; returns what became of it."""
        if dry_run:
            return [file.arrival for file in self.checked]
        spec = self.dataset
        return lake.commit_arrivals(
            spec.name, self.checked, new_columns=spec.new_columns, copies=spec.copies, again=self.again
        )

    def take(self, file: Landed) -> None:
        """Read and check one file; one that cannot be read now holds nobody up."""
        try:
            with local_file(self.dataset, file) as path:
                checked = self._checked(file, path)
        except ConfigError as error:
            self.left.append(f"{file.path}: {error}")
        except (BackendError, OSError) as error:
            self.left.append(f"{file.path} cannot be read now: {error}")
        except Exception as error:  # noqa: BLE001 - whatever a file makes a library do, the others are taken
            self.left.append(
                f"{file.path} cannot be taken: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            )
        else:
            if checked is not None:
                self.checked.append(checked)
                self.size += checked.accepted.nbytes if checked.accepted is not None else 0

    def _checked(self, file: Landed, path: Path) -> lake.Checked | None:
        digest = digest_of(path)
        listed = promised(self.dataset, file)
        if listed is not None and listed != digest:
            why = f"its manifest lists another content: {listed}" if listed else "it is not in its manifest yet"
            self.left.append(f"{file.path}: {why}")
            return None
        arrival = Arrival(
            dataset=self.dataset.name,
            path=file.path,
            digest=digest,
            state="refused",
            stamp=file.stamp,
            flow_run=self.flow_run,
        )
        known = self._known(arrival)
        checked = known or _judged(arrival, path, self.dataset, self.columns)
        if file.stamp and look(self.dataset, file.path).stamp != file.stamp:
            self.left.append(f"{file.path}: changed while it was read")
            return None
        return checked

    def _known(self, arrival: Arrival) -> lake.Checked | None:
        """Return what to write of content that was there before: a duplicate, or what was decided."""
        before = self.ledger.find(arrival.path, arrival.digest)
        if before is not None:
            if self.again and before.state == "refused":
                return None
            if before.stamp == arrival.stamp:
                return lake.Checked(before.model_copy(update={"again": True}))
            return lake.Checked(lake.duplicate_of(before.path, arrival))
        owner = self.ledger.owner(arrival.digest) if self.dataset.copies == "skip" else None
        return lake.Checked(lake.duplicate_of(owner.path, arrival)) if owner else None


def _judged(arrival: Arrival, path: Path, dataset: DatasetSpec, columns: lake.Columns) -> lake.Checked:
    """Check a file's rows; a file that is refused as a whole comes back without any."""
    try:
        return _split(arrival, path, dataset, columns)
    except DataCheckError as error:
        reason = str(error).removeprefix(f"{path}: ").replace(str(path), arrival.path)
        return lake.Checked(arrival.model_copy(update={"reason": reason[: lake.MAX_REASON_LENGTH]}))


def _split(arrival: Arrival, path: Path, dataset: DatasetSpec, columns: lake.Columns) -> lake.Checked:
    from prefect_mlops.data_checks import check_table, split_bad_rows

    suite = dataset.suite
    rows = _rows(path)
    columns.require([str(name) for name in rows.columns])
    report = check_table(rows, suite, subject=arrival.path)
    if report.passed:
        done = arrival.model_copy(update={"state": "committed", "rows": len(rows)})
        return lake.checked(done, accepted=rows)
    accepted, refused = split_bad_rows(rows, suite, subject=arrival.path)
    if len(refused) == 0:
        report.raise_for_failure()  # what failed is not about single rows: columns, types or the table as a whole
    share = len(refused) / len(rows)
    why = f"{len(refused):,} of {len(rows):,} rows ({share:.1%}) are bad: {_reasons(report)}"
    if share > dataset.max_refused_share or len(accepted) == 0:
        raise DataCheckError(f"{why}; more than {dataset.max_refused_share:.0%}, so none is taken", report)
    check_table(accepted, suite, subject=arrival.path).raise_for_failure()
    counts = {"rows": len(accepted), "refused": len(refused), "reason": why[: lake.MAX_REASON_LENGTH]}
    done = arrival.model_copy(update={"state": "partly", **counts})
    return lake.checked(done, accepted=accepted, refused=refused)


def _reasons(report: Report) -> str:
    return "; ".join(check.sentence for check in report.failures if check.severity == "error")


def _rows(file: Path) -> pd.DataFrame:
    """Read the file; a name that promises no table is refused like content that is none, not as a wrong request."""
    from prefect_mlops.core.tables import read_table

    try:
        return read_table(file)
    except ConfigError as error:
        if error.__cause__ is not None or not file.is_file():  # nothing installed reads it, or it is gone meanwhile
            raise
        raise DataCheckError(str(error)) from error
