"""Compaction: many small files are merged to few, and files that no version in use needs are deleted (vacuum).

The rows of a version, and their order, stay what they were for as long as its files are there. Files are deleted when
they were replaced before the retention time and no version in use consists of them. The caller names the versions in
use: this module does not know what models were trained on.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import Field

from prefect_mlops.core.addresses import table_of
from prefect_mlops.core.errors import BackendError, ConfigError, unknown_name
from prefect_mlops.core.lake.commits import open_table, read_small, storage
from prefect_mlops.core.settings import Settings
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    import pyarrow.fs
    from deltalake import DeltaTable

KINDS = ("datasets", "quarantine", "arrivals", "history", "looks", "predictions", "labels")
DATASET_KINDS = ("datasets", "quarantine", "arrivals")
TARGET_BYTES = 100 << 20  # delta-rs's own; files from here on are left as they are
# A file that no commit names may belong to a writer that has not committed yet; no write takes a day.
STRAY_AGE = timedelta(days=1)
CLAIM_PROPERTY = "prefect_mlops.compaction"


class Need(Value):
    """A version in use.

    Attributes:
        uri: the table, as it was read.
        version: of the table.
        who: what uses it, in a few words: a model version, a run.
    """

    uri: str
    version: int = Field(ge=0)
    who: str


class Compacted(Value):
    """The result of compacting a table, or of a dry run.

    Attributes:
        table: kind and name.
        files_before: data files of the newest version.
        files_after: the same, afterwards; an estimate in a dry run.
        files_deleted: files deleted.
        bytes_deleted: their size.
        kept: what uses it, by version, for the versions whose files were kept.
        problem: why it was not compacted or nothing was deleted; empty otherwise.
    """

    table: str
    files_before: int = 0
    files_after: int = 0
    files_deleted: int = 0
    bytes_deleted: int = 0
    kept: dict[int, tuple[str, ...]] = Field(default_factory=dict)
    problem: str = ""


def find_tables(datasets: Iterable[str] = ()) -> list[str]:
    """List the lake's tables as ``kind/name``: those of some datasets, or all there are.

    Raises:
        ConfigError: no such dataset.
        BackendError: storage failed.
    """
    wanted = list(dict.fromkeys(datasets))
    kinds = DATASET_KINDS if wanted else KINDS
    found = {kind: _names_in(kind) for kind in kinds}
    known = {name for names in found.values() for name in names}
    for name in wanted:
        if name not in known:
            raise unknown_name(f"dataset of the lake at {_lake()}", name, known)
    return [f"{kind}/{name}" for kind in kinds for name in found[kind] if not wanted or name in wanted]


def models_with_history() -> set[str]:
    """Return the registered models whose history is in the lake.

    Raises:
        BackendError: storage failed.
    """
    models: set[str] = set()
    for name in _names_in("history"):
        table = open_table(f"{_lake()}/history/{name}")
        if table is not None:
            with storage(table.table_uri, "read"):
                models |= set(read_small(table)["model"].to_pylist())
    return models


def needs_of(table: str, needs: Iterable[Need]) -> dict[int, tuple[str, ...]]:
    """Return what uses which version of a table.

    One folder or bucket has many addresses: links, mounts, schemes. So addresses are compared by kind and name only,
    which may keep a version too many, and never deletes one that a model was trained on.

    Args:
        table: ``kind/name``.
        needs: of any tables.
    """
    kept: dict[int, set[str]] = {}
    for need in needs:
        if "/".join(table_of(need.uri)) == table:
            kept.setdefault(need.version, set()).add(need.who)
    return {version: tuple(sorted(kept[version])) for version in sorted(kept)}


def compact_table(table: str, *, dry_run: bool = False) -> Compacted:
    """Merge a table's small files; rows, their order and all versions stay.

    No concurrent commit is lost: it is ordered before or after the compaction.

    Args:
        table: ``kind/name``, from `find_tables`.
        dry_run: write nothing; estimate.

    Raises:
        ConfigError: no such table.
        BackendError: storage failed.
    """
    opened = _open(table)
    with storage(opened.table_uri, "read"):
        sizes = [int(size) for size in opened.get_add_actions().column("size_bytes").to_pylist()]
    done = Compacted(table=table, files_before=len(sizes), files_after=len(sizes))
    if sum(size < TARGET_BYTES for size in sizes) < 2:  # noqa: PLR2004 - one file cannot become fewer
        return done
    if dry_run:
        return done.model_copy(update={"files_after": _estimate(sizes)})
    if not compact(opened):
        return done.model_copy(
            update={"problem": "another process compacts or changes it: the next run will compact it"}
        )
    return done.model_copy(update={"files_after": len(opened.file_uris())})


def compact(table: DeltaTable) -> bool:
    """Compact a table, unless a concurrent compaction or change of its columns wins; return whether it was done.

    With deltalake 1.6.6, two compactions planned on the same version both add their files, which doubles every row. But
    a compaction conflicts with a change of the table's properties. So each one first writes a claim there, and plans on
    a version with its own claim: the later claim makes the earlier compaction fail.

    Args:
        table: stands at the newest version afterwards.

    Raises:
        BackendError: storage failed.
    """
    from deltalake.exceptions import DeltaError

    mine = uuid.uuid4().hex
    try:
        with storage(table.table_uri, "compacted"):
            table.update_incremental()
            table.alter.set_table_properties({CLAIM_PROPERTY: mine}, raise_if_not_exists=False)
            table.update_incremental()
            if table.metadata().configuration.get(CLAIM_PROPERTY) != mine:
                return False
            table.optimize.compact(target_size=TARGET_BYTES)
    except BackendError as error:
        if isinstance(error.__cause__, DeltaError):
            return False
        raise
    return True


def give_back(done: Compacted, needs: Iterable[Need], *, keep_for: timedelta, dry_run: bool = False) -> Compacted:
    """Delete the files (vacuum) that neither a version within the retention time nor one in use needs.

    Args:
        done: from `compact_table`.
        needs: versions to keep, of any tables.
        keep_for: every version that was the newest within this time stays. Below `STRAY_AGE`, files that no commit
            names stay too: a writer may be about to commit them.
        dry_run: write nothing; estimate.

    Returns:
        `done`, with what was deleted.

    Raises:
        ConfigError: no such table.
        BackendError: storage failed.
    """
    opened = _open(done.table)
    kept = {version: who for version, who in needs_of(done.table, needs).items() if version <= opened.version()}
    options: dict[str, Any] = {
        "retention_hours": round(keep_for / timedelta(hours=1)),
        "enforce_retention_duration": False,  # versions never expire: `core.lake.commits`
        "full": keep_for >= STRAY_AGE,
        "keep_versions": list(kept),
    }
    with storage(opened.table_uri, "cleaned"):
        deleted = opened.vacuum(dry_run=True, **options)
        sizes = {info.base_name: info.size or 0 for info in _entries(_files(opened.table_uri), "")} if deleted else {}
        if deleted and not dry_run:
            deleted = opened.vacuum(dry_run=False, **options)
    freed_bytes = sum(sizes.get(path.rpartition("/")[2], 0) for path in deleted)
    return done.model_copy(update={"files_deleted": len(deleted), "bytes_deleted": freed_bytes, "kept": kept})


def _estimate(sizes: list[int]) -> int:
    small = [size for size in sizes if size < TARGET_BYTES]
    return len(sizes) - len(small) + -(-sum(small) // TARGET_BYTES)


def _lake() -> str:
    return Settings().lake_uri.rstrip("/")


def _open(table: str) -> DeltaTable:
    opened = open_table(f"{_lake()}/{table}")
    if opened is None:
        raise ConfigError(f"there is no table {table} in the lake at {_lake()}")
    return opened


def _names_in(kind: str) -> list[str]:
    """List the tables of a kind, with the credentials delta-rs writes with."""
    place = f"{_lake()}/{kind}"
    with storage(place, "listed"):
        files = _files(_lake())
        folders = [info.base_name for info in _entries(files, kind) if info.size is None] if files else []
        return sorted(name for name in folders if files and _entries(files, f"{kind}/{name}/_delta_log"))


def _files(uri: str) -> pyarrow.fs.FileSystem | None:
    import pyarrow.fs
    from deltalake.exceptions import TableNotFoundError
    from deltalake.fs import DeltaStorageHandler

    try:
        return pyarrow.fs.PyFileSystem(DeltaStorageHandler(uri))
    except TableNotFoundError:  # the folder is not there yet
        return None


def _entries(files: pyarrow.fs.FileSystem, folder: str) -> list[pyarrow.fs.FileInfo]:
    import pyarrow.fs

    found: list[pyarrow.fs.FileInfo] = files.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True))
    return found
