"""Tampering with a model's history: the hash chain of its entries, the anchors in MLflow, and the Delta log checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from prefect_mlops.core.addresses import history_uri
from prefect_mlops.core.lake.commits import NOTE, open_table, storage
from prefect_mlops.core.promotion.history import row_hash
from prefect_mlops.core.values import Value

# Operations of `core.promotion.history` and `core.lake.compaction` in the log, other than appends; none changes a row.
HARMLESS = ("CREATE TABLE", "OPTIMIZE", "SET TBLPROPERTIES", "VACUUM START", "VACUUM END")


class Audit(Value):
    """The result of checking a history for tampering.

    Attributes:
        model: registered model.
        entries: how many there are.
        unchained: how many of them were written before entries had hashes, and cannot be checked.
        witnessed: how many were compared with their anchors, the hashes stored in the registry.
        problems: findings, one sentence each.
    """

    model: str
    entries: int
    unchained: int = 0
    witnessed: int = 0
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there are no findings."""
        return not self.problems


def audit_history(model: str, rows: Sequence[Mapping[str, Any]], anchors: Mapping[int, str] | None = None) -> Audit:
    """Check every hash of a history.

    With write access to the lake all hashes can be recomputed, from the changed entry to the end. Such a chain is
    consistent, and so is a truncated one; the anchors in the registry show both.

    Args:
        model: registered model.
        rows: from `core.promotion.history.read_rows`.
        anchors: hash by number of the entry, stored in the registry when the entry was written.

    Returns:
        The number of entries, and the findings.
    """
    chained = next((place for place, row in enumerate(rows) if row.get("hash")), len(rows))
    anchors = anchors or {}
    return Audit(
        model=model,
        entries=len(rows),
        unchained=chained,
        witnessed=len(anchors),
        problems=(*_numbering(rows), *_changed(rows, chained), *_contradicted(rows, anchors)),
    )


def _numbering(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    counts = Counter(int(row.get("sequence", 0)) for row in rows)
    yield from (f"entry {number} is there {count} times" for number, count in counts.items() if count > 1)
    yield from (f"entry {number} is missing" for number in range(1, max(counts, default=0)) if number not in counts)


def _changed(rows: Sequence[Mapping[str, Any]], chained: int) -> Iterator[str]:
    for place, row in enumerate(rows[chained:], chained):
        about = f"entry {row.get('sequence')} ({row.get('kind')}{_version(row)})"
        before = str(rows[place - 1].get("hash", "")) if place else ""
        if not row.get("hash"):
            yield f"{about} has no hash, although entries before it have one: it was not written by this library"
        elif row["hash"] != row_hash(row):
            yield f"{about} was changed after it was written"
        elif row.get("previous", "") != before:
            yield f"{about} does not follow the entry before it: that one was changed, or one between them is gone"


def _contradicted(rows: Sequence[Mapping[str, Any]], anchors: Mapping[int, str]) -> Iterator[str]:
    found = {int(row.get("sequence", 0)): row.get("hash") for row in rows}
    for number, value in sorted(anchors.items()):
        if number not in found:
            yield f"entry {number} is gone: the registry noted it when it was written"
        elif found[number] != value:
            yield f"entry {number} is not the one the registry noted when it was written"


def _version(row: Mapping[str, Any]) -> str:
    return f" v{row['version']}" if row.get("version") else ""


def find_rewrites(model: str) -> list[str]:
    """Return the commits to a model's history that are no entry of this library, one sentence each, oldest first.

    Args:
        model: registered model.

    Raises:
        BackendError: storage failed.

    Source: the operations that the Delta log names; a rewritten log itself is found by `audit_history`.
    """
    table = open_table(history_uri(model))
    if table is None:
        return []
    with storage(table.table_uri, "read"):
        commits = table.history()
    return list(_rewrites(commits))


def _rewrites(commits: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Describe the commits of the log, newest first, that changed rows; oldest first."""
    for commit in reversed(commits):
        name = str(commit.get("operation") or "commit without a name")
        mode = str((commit.get("operationParameters") or {}).get("mode", ""))
        if name in HARMLESS or (name == "WRITE" and mode == "Append" and NOTE in commit):
            continue
        did = f"{name} ({mode})" if mode else name
        yield (
            f"version {commit.get('version')} of the table was made by hand: {did} by "
            f"{commit.get('engineInfo') or 'an unknown program'}{_at(commit.get('timestamp'))}; this library only adds "
            "entries"
        )


def _at(milliseconds: object) -> str:
    if not isinstance(milliseconds, int):
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime(" at %Y-%m-%d %H:%M UTC")
