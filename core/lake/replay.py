"""Replay: rows that leave quarantine for the dataset after the suite was corrected, each exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from prefect_mlops.core.addresses import DIGEST_COLUMN, FILE_COLUMN, ROW_COLUMN, table_uri
from prefect_mlops.core.errors import DataCheckError
from prefect_mlops.core.lake.commits import append_next, first_columns, open_table, retry_commits, rows_where, schema_of
from prefect_mlops.core.lake.ledger import MAX_REASON_LENGTH, Arrival, Ledger, lines_note, read_ledger, write_lines
from prefect_mlops.core.lake.quarantine import Held, find_held, grouped
from prefect_mlops.core.lake.restore import restored_rows
from prefect_mlops.core.lake.rows import content_digest, fit
from prefect_mlops.core.text import one_line
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

MAX_ACCEPTED_ROWS = 500_000  # of the dataset in memory at once; one larger file is read by itself


@dataclass(frozen=True)
class JudgedRows:
    """The result of the current suite on a file's rows in quarantine.

    Attributes:
        passing: numbers of the rows that pass.
        why: why the others do not; empty where all pass.
    """

    passing: frozenset[int]
    why: str = ""


class Replay(Value):
    """The result of replaying a file's rows in quarantine.

    Attributes:
        path: the file.
        digest: of its content.
        rows: number of committed rows, or of those a dry run would commit.
        left: number of rows that stay in quarantine.
        why: why they stay.
        arrival: the new line of the ledger; None where no row was committed.
    """

    path: str
    digest: str
    rows: int
    left: int
    why: str = ""
    arrival: Arrival | None = None


JudgeRows = Callable[[str, "pa.Table", "pa.Table"], JudgedRows]
"""Judges a file by its path, its rows in the dataset, and its rows in quarantine fitted to the same columns."""


def replay_rows(
    dataset: str, judge: JudgeRows, *, paths: Sequence[str] | None = None, dry_run: bool = False, flow_run: str = ""
) -> list[Replay]:
    """Commit the rows in quarantine that pass now, all in one commit.

    Idempotent: called again after a crash at any line, or by two workers at once, it commits each row once.

    Args:
        dataset: dataset of the lake.
        judge: returns which rows pass; on a retry called only for files whose outstanding rows changed.
        paths: these files only; None or empty for all.
        dry_run: judge, and write nothing.
        flow_run: id of the flow run, for the ledger.

    Returns:
        One result for each file with rows in quarantine.

    Raises:
        BackendError: storage failed.
    """
    uri = table_uri("datasets", dataset)
    judgements = _Judgements(judge)
    for attempt in retry_commits(uri):
        with attempt:
            table = open_table(uri)  # opened before the ledger: a later commit makes ours conflict
            if table is None:
                return []
            ledger = read_ledger(dataset)
            files = judgements.of(table, ledger, find_held(dataset, ledger, table=table, paths=paths))
            replays = [_replay(file, table, dataset, flow_run=flow_run, dry_run=dry_run) for file in files]
            lines = [replay.arrival for replay, _ in replays if replay.arrival is not None]
            if lines:
                append_next(table, _joined([rows for _, rows in replays if len(rows)]), note=lines_note(lines))
            if not dry_run:
                write_lines(dataset, [*ledger.unwritten, *lines])
            return [replay for replay, _ in replays]
    raise AssertionError("retry_commits ends with an error")


@dataclass(frozen=True)
class _Ready:
    """A judged file, and its rows that pass."""

    held: Held
    judged: JudgedRows
    rows: pa.Table


class _Judgements:
    """Results cached over retries: they hold while no concurrent commit changed the same rows."""

    def __init__(self, judge: JudgeRows) -> None:
        self.judge = judge
        self.known: dict[tuple[str, str], tuple[frozenset[int], JudgedRows, pa.Table]] = {}

    def of(self, table: DeltaTable, ledger: Ledger, files: Sequence[Held]) -> list[_Ready]:
        """Judge files; results of unchanged ones come from the cache."""
        new = [file for file in files if self.known.get(file.key, (None,))[0] != file.numbers]
        for part in _parts(ledger, new):
            accepted = _accepted(table, part)
            for file in part:
                self.known[file.key] = (file.numbers, *self._judged(table, file, accepted[file.key]))
        return [_Ready(file, *self.known[file.key][1:]) for file in files]

    def _judged(self, table: DeltaTable, file: Held, accepted: pa.Table) -> tuple[JudgedRows, pa.Table]:
        try:
            rows = restored_rows(file.rows, schema_of(table), path=file.key[0], digest=file.key[1])
        except DataCheckError as error:
            return JudgedRows(frozenset(), str(error)), file.rows.slice(0, 0)
        judged = self.judge(file.arrival.path, accepted, rows)
        return judged, rows.filter(_among(rows[ROW_COLUMN], judged.passing))


def _parts(ledger: Ledger, files: Sequence[Held]) -> Iterator[list[Held]]:
    """Group files so that the rows of a group in the dataset fit into memory."""
    taken: Counter[tuple[str, str]] = Counter()
    for line in ledger.lines:
        taken[line.path, line.digest] += line.rows
    part: list[Held] = []
    size = 0
    for file in files:
        if part and size + taken[file.key] > MAX_ACCEPTED_ROWS:
            yield part
            part, size = [], 0
        part.append(file)
        size += taken[file.key]
    if part:
        yield part


def _accepted(table: DeltaTable, files: Sequence[Held]) -> dict[tuple[str, str], pa.Table]:
    """Read the rows of some files that are in the dataset already."""
    schema = schema_of(table)
    rows = rows_where(table, DIGEST_COLUMN, {file.arrival.digest for file in files}, schema.names).cast(schema)
    found = dict(grouped(rows, FILE_COLUMN, DIGEST_COLUMN))
    return {file.key: found.get(file.key, rows.slice(0, 0)) for file in files}


def _replay(file: _Ready, table: DeltaTable, dataset: str, *, flow_run: str, dry_run: bool) -> tuple[Replay, pa.Table]:
    """Return the result of a file, and its rows in the columns of the dataset; no rows in a dry run."""
    held, count = file.held, len(file.rows)
    left = len(held.rows) + held.missing - count
    why = "; ".join(filter(None, [file.judged.why, _lacking(held.missing)]))
    replay = Replay(path=held.key[0], digest=held.key[1], rows=count, left=left, why=why)
    if not count or dry_run:
        return replay, file.rows.slice(0, 0)
    rows = fit(dataset, file.rows, schema_of(table), first=first_columns(table), new_columns=True)
    line = _line(held.arrival, rows, left, why).model_copy(
        update={"version": table.version() + 1, "flow_run": flow_run}
    )
    return replay.model_copy(update={"arrival": line}), rows


def _line(before: Arrival, rows: pa.Table, left: int, why: str) -> Arrival:
    """Make the ledger's line of what this replay adds, without earlier commits."""
    reason = f"{_rows(len(rows))} came in from quarantine"
    reason += f"; {_rows(left)} still there: {why}" if left else ""
    # Clocks of machines differ, but the new line has to be the newest.
    now = max(datetime.now(timezone.utc), before.at + timedelta(microseconds=1))
    return before.model_copy(
        update={
            "state": "partly" if left else "committed",
            "rows": len(rows),
            "refused": left,
            "reason": one_line(reason, MAX_REASON_LENGTH),
            "content": content_digest(rows),
            "at": now,
            "again": False,
        }
    )


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _lacking(missing: int) -> str:
    return f"the ledger counts {_rows(missing)} more as refused than quarantine has" if missing else ""


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(tables)


def _among(values: pa.ChunkedArray, wanted: Iterable[int]) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(values, value_set=pa.array(sorted(wanted), pa.int64()))
