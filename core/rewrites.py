"""Was the table of a model's history changed otherwise than by adding an entry? Delta's log of it tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from prefect_mlops.core.delta import NOTE, open_table, storage
from prefect_mlops.core.history import history_uri

# What `core.history` and `core.compaction` leave in the log beside entries; none of it changes a row.
HARMLESS = ("CREATE TABLE", "OPTIMIZE", "SET TBLPROPERTIES", "VACUUM START", "VACUUM END")


def find_rewrites(model: str) -> list[str]:
    """Return the commits to a model's history that are no entry of this library, a sentence each, oldest first.

    Args:
        model: registered model.

    Raises:
        BackendError: storage failed.

    Source: the operations that the Delta log names; whoever rewrites the log itself is found by `core.audits`.
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
