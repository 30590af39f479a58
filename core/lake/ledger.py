"""The ledger: the state of each content version of each file.

A dataset's commits carry the ledger's lines of their files, so both are one atomic commit; the table
``arrivals/<name>`` is for lookups. A line that a crash kept out of it is found in the log, and written with the next
commit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

from pydantic import Field, TypeAdapter

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import BackendError
from prefect_mlops.core.lake.commits import (
    append_next,
    notes_since,
    open_or_make,
    open_table,
    read_small,
    retry_commits,
    rows_where,
    storage,
)
from prefect_mlops.core.lake.compaction import compact
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

ArrivalState = Literal["committed", "partly", "refused", "duplicate"]


class Arrival(Value):
    """One content version of one file.

    Attributes:
        dataset: dataset of the lake.
        path: its path under the landing zone.
        digest: of its bytes.
        state: ``committed`` whole, ``partly`` (bad rows are in quarantine), ``refused`` as a whole, or ``duplicate``:
            the content was committed before, nothing was done.
        rows: rows committed.
        refused: rows in quarantine.
        reason: why rows or file were refused, or what it is a duplicate of; empty otherwise.
        version: data version it became part of; None where no row was committed.
        content: digest over every cell of the rows committed; empty where there are none.
        stamp: size, times and tags that identify an unchanged file without reading it; another stamp does not prove a
            new content.
        flow_run: id of the Prefect flow run that did it.
        at: when, in UTC.
        again: True when this content was already in the ledger and nothing was done; never stored.
    """

    dataset: str
    path: str
    digest: str
    state: ArrivalState
    rows: int = Field(default=0, ge=0)
    refused: int = Field(default=0, ge=0)
    reason: str = ""
    version: int | None = None
    content: str = ""
    stamp: str = ""
    flow_run: str = ""
    at: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))
    again: bool = False


_KEY = ("path", "digest", "state", "version", "stamp", "reason")  # identifies a line
MAX_REASON_LENGTH = 500  # characters of a reason, which may name several columns
COMPACT_EVERY = 100  # each commit is a file of its own; a hundred are read quickly, thousands are not
_LINES = TypeAdapter(list[Arrival])


class Ledger:
    """A dataset's ledger as it was at one moment.

    Attributes:
        lines: all lines, oldest first.
        unwritten: lines that a crash kept out of the table.
    """

    def __init__(self, lines: Sequence[Arrival], unwritten: Sequence[Arrival] = ()) -> None:
        self.lines = sorted([*lines, *unwritten], key=lambda line: line.at)
        self.unwritten = list(unwritten)
        self._stamps = {(line.path, line.stamp): line for line in self.lines if line.stamp}
        self._newest: dict[tuple[str, str], Arrival] = {}
        for line in self.lines:
            if line.state != "duplicate":
                known = self._newest.get((line.path, line.digest))
                # A commit outweighs a refusal that another run wrote meanwhile; versions, not clocks, order commits.
                if known is None or (line.version or 0) >= (known.version or 0):
                    self._newest[line.path, line.digest] = line
        self._owners: dict[str, Arrival] = {}
        for line in self.lines:
            if line.version is not None:
                self._owners.setdefault(line.digest, line)

    def find(self, path: str, digest: str) -> Arrival | None:
        """Return the line of a content version; None when it has not arrived yet."""
        return self._newest.get((path, digest))

    def seen(self, path: str, stamp: str) -> Arrival | None:
        """Return the line of a file by its stamp, without reading the file."""
        return self._stamps.get((path, stamp)) if stamp else None

    def owner(self, digest: str) -> Arrival | None:
        """Return the first arrival that committed rows of a content, under any name."""
        return self._owners.get(digest)

    @property
    def current(self) -> list[Arrival]:
        """The newest line of each content version of each file, oldest first; duplicates are left out."""
        return sorted(self._newest.values(), key=lambda line: line.at)

    def at_version(self, version: int) -> list[Arrival]:
        """Return the lines whose rows are part of a data version."""
        return [line for line in self.lines if line.version is not None and line.version <= version]


def read_ledger(dataset: str) -> Ledger:
    """Read a dataset's ledger, with lines that are only in the log of its rows so far.

    Raises:
        ConfigError: not a dataset's name.
        BackendError: storage failed.
    """
    lines = _written(dataset)
    rows = open_table(table_uri("datasets", dataset))
    if rows is None:
        return Ledger(lines)
    newest = max((line.version for line in lines if line.version is not None), default=0)
    notes = notes_since(rows, newest)
    known = {(line.path, line.digest, line.version) for line in lines}
    found = [line for note in notes for line in _LINES.validate_json(note)]
    return Ledger(lines, [line for line in found if (line.path, line.digest, line.version) not in known])


def arrivals(dataset: str) -> list[Arrival]:
    """Return the newest line of each content version of each file, oldest first."""
    return read_ledger(dataset).current


def write_lines(dataset: str, lines: Iterable[Arrival]) -> None:
    """Write lines into the ledger, each once (idempotent): a line that is there already is left out.

    A refusal of what another run has committed meanwhile is left out too.

    Raises:
        BackendError: storage failed.
    """
    wanted = list({_key(line): line for line in lines}.values())
    uri = table_uri("arrivals", dataset)
    if not wanted:
        return
    for attempt in retry_commits(uri):
        with attempt:
            table = open_or_make(uri, _schema())
            there = rows_where(table, "digest", {line.digest for line in wanted}, list(_KEY)).to_pylist()
            known = {tuple(row.values()) for row in there}
            committed = {(row["path"], row["digest"]) for row in there if row["version"] is not None}
            fresh = [
                line
                for line in wanted
                if _key(line) not in known and not (line.state == "refused" and (line.path, line.digest) in committed)
            ]
            if fresh and append_next(table, _as_table(fresh)) % COMPACT_EVERY == 0:
                with contextlib.suppress(BackendError):  # the next hundred commits try again
                    compact(open_or_make(uri, _schema()))
            return


def lines_note(lines: Iterable[Arrival]) -> str:
    """Write lines as they are kept in a commit of the rows."""
    return _LINES.dump_json(list(lines), exclude={"__all__": {"again"}}).decode()


def _key(line: Arrival) -> tuple[object, ...]:
    return tuple(getattr(line, name) for name in _KEY)


def _written(dataset: str) -> list[Arrival]:
    table = open_table(table_uri("arrivals", dataset))
    return [] if table is None else _lines_of(table)


def _lines_of(table: DeltaTable) -> list[Arrival]:
    with storage(table.table_uri, "read"):
        rows = read_small(table).to_pylist()
    return _LINES.validate_python(rows)


def _as_table(lines: Iterable[Arrival]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist([line.model_dump(exclude={"again"}) for line in lines], schema=_schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {"rows": pa.int64(), "refused": pa.int64(), "version": pa.int64(), "at": pa.timestamp("us", tz="UTC")}
    names = [name for name in Arrival.model_fields if name != "again"]
    return pa.schema([(name, kinds.get(name, pa.string())) for name in names])
