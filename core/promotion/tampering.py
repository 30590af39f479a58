"""Was a model's history changed by hand? The hash chain of its entries is checked, and the log of its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from prefect_mlops.core.addresses import history_uri
from prefect_mlops.core.lake.commits import NOTE, open_table, storage
from prefect_mlops.core.promotion.history import row_hash
from prefect_mlops.core.values import Value

# What `core.promotion.history` and `core.lake.compaction` leave in the log beside entries; none of it changes a row.
HARMLESS = ("CREATE TABLE", "OPTIMIZE", "SET TBLPROPERTIES", "VACUUM START", "VACUUM END")


class Audit(Value):
    """What came of looking for changes made by hand.

    Attributes:
        model: registered model.
        entries: how many there are.
        unchained: how many of them are older than hashes, and cannot be checked.
        witnessed: how many were compared with what the registry noted when they were written.
        problems: what was found, a sentence each.
    """

    model: str
    entries: int
    unchained: int = 0
    witnessed: int = 0
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Nothing was found."""
        return not self.problems


def audit_history(model: str, rows: Sequence[Mapping[str, Any]], witnesses: Mapping[int, str] | None = None) -> Audit:
    """Check every hash of a history.

    Somebody who can write to the lake can also compute all hashes again, from the changed entry to the end. Such a
    chain is whole in itself, and so is one whose end was cut off; both are found by what the registry noted.

    Args:
        model: registered model.
        rows: from `core.promotion.history.read_rows`.
        witnesses: hash by number of the entry, as noted elsewhere when the entry was written.

    Returns:
        How many entries there are, and what does not fit.
    """
    chained = next((place for place, row in enumerate(rows) if row.get("hash")), len(rows))
    noted = witnesses or {}
    return Audit(
        model=model,
        entries=len(rows),
        unchained=chained,
        witnessed=len(noted),
        problems=(*_numbering(rows), *_changed(rows, chained), *_contradicted(rows, noted)),
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


def _contradicted(rows: Sequence[Mapping[str, Any]], noted: Mapping[int, str]) -> Iterator[str]:
    found = {int(row.get("sequence", 0)): row.get("hash") for row in rows}
    for number, value in sorted(noted.items()):
        if number not in found:
            yield f"entry {number} is gone: the registry noted it when it was written"
        elif found[number] != value:
            yield f"entry {number} is not the one the registry noted when it was written"


def _version(row: Mapping[str, Any]) -> str:
    return f" v{row['version']}" if row.get("version") else ""


def find_rewrites(model: str) -> list[str]:
    """Return the commits to a model's history that are no entry of this library, a sentence each, oldest first.

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
    return list(rewrites(commits))


def rewrites(commits: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Tell which commits changed rows.

    Args:
        commits: from the log, newest first, as deltalake gives them.
    """
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
