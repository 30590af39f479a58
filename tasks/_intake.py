"""Files on their way into one commit: read, checked many at a time where that is certain, each alone where not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prefect.runtime

from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError
from prefect_mlops.core.lake import ingest
from prefect_mlops.core.lake.completeness import promised
from prefect_mlops.core.lake.landing import Landed, digest_of, local_file, look
from prefect_mlops.core.lake.ledger import Arrival, read_ledger
from prefect_mlops.core.text import one_line

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.specs.dataset import DatasetSpec

GATHERED_FILES = 100  # small files are checked with one question, which costs as much as one about a single file
GATHERED_CELLS = 500_000  # bounds what waits in memory; a larger file is worth a question of its own
ASK_EACH = 4  # of so few files, where one is bad, each is asked about alone


@dataclass
class Read:
    """A file that was read: what to write of it, or its rows where that is still to be found out."""

    file: Landed
    arrival: Arrival
    rows: pd.DataFrame | None = None
    checked: ingest.Checked | None = None
    passed: bool = False


class Batch:
    """Files on their way into one commit."""

    def __init__(self, dataset: DatasetSpec, *, again: bool) -> None:
        self.dataset, self.again = dataset, again
        self.ledger = read_ledger(dataset.name)
        self.columns = ingest.dataset_columns(dataset.name, new_columns=dataset.new_columns)
        self.flow_run = str(prefect.runtime.flow_run.id or "")
        self.read: list[Read] = []
        self.waiting: list[Read] = []
        self.left: list[str] = []
        self.size = 0

    @property
    def checked(self) -> list[ingest.Checked]:
        """What was judged, in the order it was taken."""
        return [read.checked for read in self.read if read.checked is not None]

    def commit(self, *, dry_run: bool) -> list[Arrival]:
        """Commit what was checked, unless this is a dry run; returns what became, or would become, of it."""
        self.judge()
        spec, act = self.dataset, ingest.foresee_arrivals if dry_run else ingest.commit_arrivals
        return act(spec.name, self.checked, new_columns=spec.new_columns, copies=spec.copies, again=self.again)

    def take(self, file: Landed) -> None:
        """Read one file, and check what was gathered where it is enough."""
        with self._leaving(file), local_file(self.dataset, file) as path:
            read = self._read(file, path)
            if read is None:
                return
            self.read.append(read)
            self.waiting += [read] if read.checked is None else []
        cells = sum(read.rows.size for read in self.waiting if read.rows is not None)
        if len(self.waiting) >= GATHERED_FILES or cells > GATHERED_CELLS:
            self.judge()

    def judge(self) -> None:
        """Check what waits: files of the same shape together, and each alone where that does not settle it."""
        for group in _shapes(self.waiting):
            _pass_together(group, self.dataset.suite)
        for read in self.waiting:
            with self._leaving(read.file):
                read.checked = _judged(read, self.dataset)
                self.size += read.checked.accepted.nbytes if read.checked.accepted is not None else 0
            read.rows = None
        self.waiting = []

    @contextmanager
    def _leaving(self, file: Landed) -> Iterator[None]:
        """Leave a file that cannot be taken now for the next run; the other files are taken."""
        try:
            yield
        except ConfigError as error:
            self.left.append(f"{file.path}: {error}")
        except (BackendError, OSError) as error:
            self.left.append(f"{file.path} cannot be read now: {error}")
        except Exception as error:  # noqa: BLE001 - whatever a file makes a library do, the others are taken
            self.left.append(f"{file.path} cannot be taken: {type(error).__name__}: {one_line(error)}")

    def _read(self, file: Landed, path: Path) -> Read | None:
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
        read = Read(file, arrival, checked=known) if known else _rows_of(file, arrival, path, self.columns)
        if file.stamp and look(self.dataset, file.path).stamp != file.stamp:
            self.left.append(f"{file.path}: changed while it was read")
            return None
        return read

    def _known(self, arrival: Arrival) -> ingest.Checked | None:
        """Return what to write of content that was there before: a duplicate, or what was decided."""
        before = self.ledger.find(arrival.path, arrival.digest)
        if before is not None:
            if self.again and before.state == "refused":
                return None
            if before.stamp == arrival.stamp:
                return ingest.Checked(before.model_copy(update={"again": True}))
            return ingest.Checked(ingest.duplicate_of(before.path, arrival))
        owner = self.ledger.owner(arrival.digest) if self.dataset.copies == "skip" else None
        return ingest.Checked(ingest.duplicate_of(owner.path, arrival)) if owner else None


def _rows_of(file: Landed, arrival: Arrival, path: Path, columns: ingest.Columns) -> Read:
    """Read a file's rows; one that is no table of the dataset comes back refused."""
    try:
        rows = _rows(path)
        columns.require([str(name) for name in rows.columns])
    except DataCheckError as error:
        reason = str(error).removeprefix(f"{path}: ").replace(str(path), arrival.path)
        return Read(file, arrival, checked=_refused(arrival, reason))
    return Read(file, arrival, rows)


def _refused(arrival: Arrival, reason: str) -> ingest.Checked:
    return ingest.Checked(arrival.model_copy(update={"reason": reason[: ingest.MAX_REASON_LENGTH]}))


def _shapes(files: list[Read]) -> list[list[Read]]:
    """Group files by columns and types."""
    groups: dict[str, list[Read]] = {}
    for read in files:
        assert read.rows is not None  # noqa: S101 - it waits
        groups.setdefault(repr(list(read.rows.dtypes.items())), []).append(read)
    return list(groups.values())


def _pass_together(files: list[Read], suite: Any) -> None:
    """Note which files certainly pass; where a bad one is among them, halves are asked about."""
    from prefect_mlops.data_checks.together import can_pass_together, pass_together

    try:
        if len(files) < ASK_EACH or not can_pass_together(suite):
            return
        passed = pass_together([read.rows for read in files if read.rows is not None], suite)
    except Exception:  # noqa: BLE001 - each is asked about alone, and says then what is wrong
        return
    if passed:
        for read in files:
            read.passed = True
        return
    half = len(files) // 2
    _pass_together(files[:half], suite)
    _pass_together(files[half:], suite)


def _judged(read: Read, dataset: DatasetSpec) -> ingest.Checked:
    """Check a file's rows; a file that is refused as a whole comes back without any."""
    assert read.rows is not None  # noqa: S101 - it waits
    try:
        return _whole(read.arrival, read.rows) if read.passed else _split(read.arrival, read.rows, dataset)
    except DataCheckError as error:
        return _refused(read.arrival, str(error))


def _whole(arrival: Arrival, rows: pd.DataFrame) -> ingest.Checked:
    return ingest.checked(arrival.model_copy(update={"state": "committed", "rows": len(rows)}), accepted=rows)


def _split(arrival: Arrival, rows: pd.DataFrame, dataset: DatasetSpec) -> ingest.Checked:
    from prefect_mlops.data_checks import check_table, split_bad_rows

    suite = dataset.suite
    report = check_table(rows, suite, subject=arrival.path)
    if report.passed:
        return _whole(arrival, rows)
    checked = split_bad_rows(rows, suite, subject=arrival.path)
    accepted, refused = checked.accepted, checked.refused
    if len(refused) == 0:
        report.raise_for_failure()  # what failed is not about single rows: columns, types or the table as a whole
    share = len(refused) / len(rows)
    why = f"{len(refused):,} of {len(rows):,} rows ({share:.1%}) are bad: {_reasons(report)}"
    if share > dataset.max_refused_share or len(accepted) == 0:
        raise DataCheckError(f"{why}; more than {dataset.max_refused_share:.0%}, so none is taken", report)
    check_table(accepted, suite, subject=arrival.path).raise_for_failure()
    counts = {"rows": len(accepted), "refused": len(refused), "reason": why[: ingest.MAX_REASON_LENGTH]}
    done = arrival.model_copy(update={"state": "partly", **counts})
    return ingest.checked(done, accepted=accepted, refused=refused)


def _reasons(report: Report) -> str:
    return "; ".join(check.sentence for check in report.failures if check.severity == "error")


def _rows(file: Path) -> pd.DataFrame:
    """Read the file; a name that promises no table is refused like content that is none, not as a wrong request."""
    from prefect_mlops.core.tables.read import read_table

    try:
        return read_table(file)
    except ConfigError as error:
        if error.__cause__ is not None or not file.is_file():  # nothing installed reads it, or it is gone meanwhile
            raise
        raise DataCheckError(str(error)) from error
