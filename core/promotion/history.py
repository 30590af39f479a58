"""The history of a model: every decision about its champion, in a Delta table with optimistic concurrency.

MLflow's alias names the champion, and the last writer wins. Here every entry is a numbered row, and a writer can add a
row only if it has read the row before: of two concurrent writers one gets a conflict and decides again.
Each row carries the hash of the one before, which shows tampering: `core.promotion.tampering`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, Field, field_validator

from prefect_mlops.core.addresses import history_uri
from prefect_mlops.core.errors import BackendError, ConflictError
from prefect_mlops.core.lake.commits import (
    CommitConflict,
    append_next,
    open_or_make,
    open_table,
    read_small,
    retry_commits,
    storage,
)
from prefect_mlops.core.lake.compaction import compact
from prefect_mlops.core.text import moment
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

PERSON = "person"
AUTOMATIC = "automatic"
COMPACT_EVERY = 100  # each row is a file of its own; a hundred are read in 30 ms, thousands in seconds

EntryKind = Literal[
    "leased", "released", "promoted", "rolled_back", "requested", "refused", "denied", "failed", "opened", "closed",
    "repaired", "drifted", "backfilled",
]  # fmt: skip
# What can be noted beside the decisions: a note makes no champion, frees no lock and answers no request.
NoteKind = Literal["closed", "drifted", "backfilled"]
# These make the version they name the champion.
PROMOTING = ("promoted", "rolled_back")
DECISIONS = (*PROMOTING, "requested", "refused")
# A promotion does not release the lock: `released` is written after the alias was set.
LOCK_ENDS = ("released", "requested", "refused", "failed", "repaired")
# These are written after the alias was set to the version they name.
CARRIED_OUT = ("released", "repaired")


class Entry(Value):
    """One entry of a model's history.

    Attributes:
        model: registered model.
        kind: ``leased`` and ``released`` (the training lock), ``promoted``, ``rolled_back``, ``requested`` (an
            approval), ``refused``, ``denied`` (an answer without permission), ``failed``, ``opened`` and ``closed``
            (the breaker), ``repaired`` (the alias), ``drifted``, ``backfilled``; or one of a newer version of this
            library, which older workers ignore.
        sequence: its number, counted from 1 without gaps; 0 until it is written.
        version: version it is about.
        replaced: version that was champion before.
        reason: why, in a sentence.
        by: who or what started it: ``automatic`` for triggers and schedules, ``person`` or a name otherwise.
        flow_run: id of the Prefect flow run that did it.
        recipe: run fingerprint of a decision.
        at: when, in UTC.
        until: when a lock or a request expires.
        details: further content, as JSON.
        previous: hash of the entry before; empty for the first.
        hash: over all other fields; empty until it is written, and in entries older than the hash chain.
    """

    model: str
    kind: str
    sequence: int = Field(default=0, ge=0)
    version: int | None = None
    replaced: int | None = None
    reason: str = ""
    by: str = PERSON
    flow_run: str = ""
    recipe: str = ""
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(timezone.utc))
    until: AwareDatetime | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    previous: str = ""
    hash: str = ""

    @field_validator("details", mode="before")
    @classmethod
    def _from_json(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) else value

    @property
    def what(self) -> str:
        """The entry in a few words, as messages name it."""
        about = f" v{self.version}" if self.version else ""
        run = f" by flow run {self.flow_run}" if self.flow_run else ""
        return f"{self.kind}{about}{run} at {moment(self.at)}"


def read_history(model: str) -> list[Entry]:
    """Return all entries of a model's history, oldest first.

    Raises:
        BackendError: storage failed.
    """
    table = open_table(history_uri(model))
    return [] if table is None else _entries(table)


def decide(model: str, make: Callable[[list[Entry]], Entry | None]) -> Entry | None:
    """Add an entry that depends on the history, with optimistic concurrency: on a conflict, read and decide again.

    Args:
        model: registered model.
        make: is given all entries and returns the next one, or None when nothing is to be written. It may raise.

    Returns:
        The entry as it was written, with its number.

    Raises:
        BackendError: storage failed.
    """
    uri = history_uri(model)
    tried: Entry | None = None
    for attempt in retry_commits(uri):
        with attempt:
            table = open_table(uri)
            entries = [] if table is None else _entries(table)
            if tried is not None and tried in entries:  # the commit succeeded, only its response was lost
                return tried
            made = make(entries)
            if made is None:
                return None
            table = table or _first_table(uri)
            tried = _chained(made.model_copy(update={"model": model}), entries)
            append_next(table, _as_table(tried), new_columns=True)
            if tried.sequence % COMPACT_EVERY == 0:
                _compact(uri)
            return tried
    return None


def _first_table(uri: str) -> DeltaTable:
    """Create the table when the first entry is written, so that reading the history of a wrong name creates nothing."""
    table = open_or_make(uri, _schema())
    if table.version() > 0:
        raise CommitConflict(f"the history at {uri} was created by another writer")
    return table


def record(entry: Entry, *, expected: int | None = None) -> Entry:
    """Add an entry.

    Args:
        entry: what happened.
        expected: the number it has to get, from `next_sequence` of the history the writer decided on; None takes
            the next one, for entries that depend on no other.

    Returns:
        The entry as it was written, with its number.

    Raises:
        ConflictError: another writer has added an entry of that number.
        BackendError: storage failed.
    """

    def make(entries: list[Entry]) -> Entry:
        if expected is not None and expected != next_sequence(entries):
            raise ConflictError(_conflict(entry, expected, entries))
        return entry

    written = decide(entry.model, make)
    assert written is not None  # noqa: S101 - make always returns one
    return written


def next_sequence(entries: Sequence[Entry]) -> int:
    """Return the number the next entry gets."""
    return entries[-1].sequence + 1 if entries else 1


def champion_entry(entries: Sequence[Entry]) -> Entry | None:
    """Return the entry that made the present champion, a promotion or a rollback; None where there was neither."""
    return next((entry for entry in reversed(entries) if entry.kind in PROMOTING), None)


def carried_out(entries: Sequence[Entry], promotion: Entry) -> bool:
    """Check whether the history records that the alias was set after a promotion."""
    return any(
        entry.kind in CARRIED_OUT and entry.version == promotion.version and entry.sequence > promotion.sequence
        for entry in entries
    )


def last_decision(entries: Sequence[Entry]) -> Entry | None:
    """Return the newest promotion, rollback, request or refusal."""
    return next((entry for entry in reversed(entries) if entry.kind in DECISIONS), None)


def decided(entries: Sequence[Entry], recipe: str) -> Entry | None:
    """Return the newest decision with a run fingerprint; None where there was none."""
    return next((one for one in reversed(entries) if one.kind in DECISIONS and one.recipe == recipe), None)


def _conflict(entry: Entry, expected: int, entries: Sequence[Entry]) -> str:
    winner = next((one for one in entries if one.sequence == expected), None)
    seen = f"it is: {winner.what}" if winner else f"the history ends at {next_sequence(entries) - 1}"
    wanted = f"{entry.kind} was to be entry {expected} of its history"
    return f"{entry.model}: {wanted}, but {seen}. Read the history, then decide"


def read_rows(model: str) -> list[dict[str, Any]]:
    """Return the stored rows of a model's history, by number, without empty columns.

    Raises:
        BackendError: storage failed.
    """
    table = open_table(history_uri(model))
    return [] if table is None else _rows(table)


def row_hash(row: Mapping[str, Any]) -> str:
    """Hash all columns of a stored row except its hash.

    Empty columns are left out, so a new column does not change the hash of older rows.

    Args:
        row: value by column name; times with a zone.

    Returns:
        ``"sha256:"`` and 64 hexadecimal digits.
    """
    content = {
        name: value.astimezone(timezone.utc).isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
        if value is not None and name != "hash"
    }
    return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _chained(entry: Entry, entries: Sequence[Entry]) -> Entry:
    """Number an entry, and chain it to the hash of the one before."""
    before = entries[-1].hash if entries else ""
    chained = entry.model_copy(update={"sequence": next_sequence(entries), "previous": before, "hash": ""})
    return chained.model_copy(update={"hash": row_hash(_row(chained))})


def _rows(table: DeltaTable) -> list[dict[str, Any]]:
    with storage(table.table_uri, "read"):
        rows = read_small(table).to_pylist()
    filled = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return sorted(filled, key=lambda row: int(row.get("sequence", 0)))


def _entries(table: DeltaTable) -> list[Entry]:
    # Columns of a newer version of this library are ignored.
    known = [{name: row[name] for name in Entry.model_fields if name in row} for row in _rows(table)]
    return [Entry.model_validate(row) for row in known]


def _compact(uri: str) -> None:
    """Merge the many small files; after a failure or a conflict, the next hundred entries try again."""
    with contextlib.suppress(BackendError):
        table = open_table(uri)
        if table is not None:
            compact(table)  # delta-rs's own would double rows if `lake optimize` ran at the same time


def _row(entry: Entry) -> dict[str, Any]:
    return {**entry.model_dump(), "details": json.dumps(entry.details)}


def _as_table(entry: Entry) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist([_row(entry)], schema=_schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {
        **dict.fromkeys(("sequence", "version", "replaced"), pa.int64()),
        **dict.fromkeys(("at", "until"), pa.timestamp("us", tz="UTC")),
    }
    return pa.schema([(name, kinds.get(name, pa.string())) for name in Entry.model_fields])
