"""Delta tables with optimistic concurrency: a commit is exactly the version after the one read, or it conflicts."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prefect_mlops.core.errors import BackendError, storage_problem

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

# One id for all our commits to a table: of two concurrent writers with the same id the protocol refuses the second, and
# our newest commit is found in one lookup, however many commits there are.
APP = "prefect-mlops"
SPARE_COMMITS = 50  # other writers may make as many between two reads
COLUMNS_PROPERTY = "prefect_mlops.columns"
ATTEMPTS = 40  # of a commit that conflicts; more conflicts in a row have another cause
PAUSE_SECONDS = 0.02
# Delta expires versions after thirty days. What a model was trained on has to stay, so no version expires by itself;
# `prefect-mlops lake optimize` deletes the files that no version in use needs.
_NEVER_EXPIRES = "interval 36500 days"
_PROPERTIES = {"delta.logRetentionDuration": _NEVER_EXPIRES, "delta.deletedFileRetentionDuration": _NEVER_EXPIRES}
NOTE = "prefect_mlops.note"


class CommitConflict(Exception):  # noqa: N818 - not an error: the caller retries
    """Another writer has committed the version that this commit expected to be next."""


def open_table(uri: str, *, version: int | None = None) -> DeltaTable | None:
    """Open a table at a version, the newest by default; None where there is none.

    Raises:
        BackendError: storage failed.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    with storage(uri, "read"):
        try:  # `is_deltatable` would block every thread of the process while storage answers
            return DeltaTable(uri, version=version)
        except TableNotFoundError:
            return None


def open_or_make(uri: str, schema: pa.Schema, *, first: list[str] | None = None) -> DeltaTable:
    """Open a table; create an empty one where there is none.

    It is created empty first: a write that also creates the table could silently follow a concurrent creation.

    Args:
        uri: where it is.
        schema: its columns.
        first: those that every row has to have; all by default.

    Raises:
        BackendError: storage failed.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import CommitFailedError

    if there := open_table(uri):
        return there
    properties = {**_PROPERTIES, COLUMNS_PROPERTY: json.dumps(first or schema.names)}
    with storage(uri, "made"):
        try:
            DeltaTable.create(
                uri, schema=schema, mode="ignore", configuration=properties, raise_if_key_not_exists=False
            )
        except CommitFailedError:  # created concurrently, or by us and the response was lost
            if open_table(uri) is None:
                raise
        return DeltaTable(uri)


def append_next(table: DeltaTable, rows: pa.Table, *, note: str = "", new_columns: bool = False) -> int:
    """Append rows as exactly the version after the one the table was opened at, and return it.

    Args:
        table: at the version that was read, and that the rows depend on.
        rows: in the table's columns and types.
        note: kept in the commit, for `notes_since`.
        new_columns: whether rows may have columns that the table does not have.

    Raises:
        CommitConflict: another writer committed that version: read again, then decide again.
        BackendError: storage failed.
    """
    from deltalake import CommitProperties, Transaction, write_deltalake
    from deltalake.exceptions import DeltaError

    version = table.version() + 1
    kept = json.dumps({"version": version, "before": last_commit(table), "note": note})
    marks = CommitProperties(
        app_transactions=[Transaction(APP, version)], max_commit_retries=0, custom_metadata={NOTE: kept}
    )
    uri = table.table_uri
    try:
        write_deltalake(
            table,
            rows.combine_chunks(),  # several chunks are written in parallel, which changes the order of rows
            mode="append",
            schema_mode="merge" if new_columns else None,
            commit_properties=marks,
        )
    except DeltaError as error:  # delta-rs raises the same error for conflicts and for failed storage
        raise CommitConflict(f"the lake at {uri} took no commit: {storage_problem(error)}") from error
    except OSError as error:
        raise BackendError(f"the lake at {uri} cannot be written: {storage_problem(error)}") from error
    return version


def retry_commits(uri: str) -> Iterator[Attempt]:
    """Retry a commit on conflict, with growing pauses.

        for attempt in retry_commits(uri):
            with attempt:
                return append_next(...)

    Raises:
        BackendError: all `ATTEMPTS` conflicted.
    """
    last: CommitConflict | None = None
    for number in range(1, ATTEMPTS + 1):
        attempt = Attempt()
        yield attempt
        last = attempt.conflict
        time.sleep(random.uniform(0, PAUSE_SECONDS * min(number, 10)))  # noqa: S311 - keeps concurrent writers apart
    raise BackendError(str(last or f"the lake at {uri} took no commit"))


class Attempt(contextlib.AbstractContextManager["Attempt"]):
    """One attempt to commit; suppresses a conflict, so that the next one follows."""

    conflict: CommitConflict | None = None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        """Suppress a `CommitConflict` and keep it."""
        if isinstance(error, CommitConflict):
            self.conflict = error
            return True
        return False


def last_commit(table: DeltaTable) -> int:
    """Return the version of our newest commit to a table; 0 where there was none."""
    return int(table.transaction_version(APP) or 0)


def notes_since(table: DeltaTable, version: int) -> list[str]:
    """Return the note of each of our commits after a version, oldest first.

    Raises:
        BackendError: storage failed, or the log does not reach back so far.
    """
    last = last_commit(table)
    if last <= version:
        return []
    with storage(table.table_uri, "read"):
        # delta-rs counts back from the newest commit of the log, which may be newer than the one that was read: more
        # are read, and filtered by the version in their notes.
        found = table.history(table.version() - version + SPARE_COMMITS)
    notes = {kept["version"]: kept for kept in (json.loads(commit[NOTE]) for commit in found if NOTE in commit)}
    chain = []
    while last > version:
        if last not in notes:
            raise BackendError(f"the log of {table.table_uri} has no commit {last}: read it again")
        chain.append(notes[last]["note"])
        last = notes[last]["before"]
    return chain[::-1]


@contextlib.contextmanager
def storage(uri: str, done: str) -> Iterator[None]:
    """Translate failures of storage.

    Raises:
        BackendError: the lake could not be ``done``.
    """
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, OSError) as error:
        raise BackendError(f"the lake at {uri} cannot be {done}: {storage_problem(error)}") from error


def read_small(table: DeltaTable) -> pa.Table:
    """Read a table of records, such as a history or a ledger, with delta-rs itself.

    Threads of Arrow's reader outlive it by a moment; a short command that ends in that moment is aborted by them.

    Args:
        table: open table.
    """
    import pyarrow as pa
    from deltalake import QueryBuilder

    return pa.table(QueryBuilder().register("records", table).execute("select * from records").read_all())


def schema_of(table: DeltaTable) -> pa.Schema:
    """Return a table's columns as pyarrow knows them."""
    import pyarrow as pa

    return pa.schema(table.schema().to_arrow())


def first_columns(table: DeltaTable) -> list[str]:
    """Return the columns a table was created with: those that every row has."""
    kept = table.metadata().configuration.get(COLUMNS_PROPERTY)
    return list(json.loads(kept)) if kept else schema_of(table).names


def rows_where(table: DeltaTable, column: str, values: Iterable[str], columns: list[str]) -> pa.Table:
    """Read some columns of the rows whose text column has one of some values."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    wanted = pa.array(list(values), pa.string())
    with storage(table.table_uri, "read"):
        try:
            return table.to_pyarrow_dataset().to_table(columns=columns, filter=ds.field(column).isin(wanted))
        except pa.ArrowNotImplementedError:  # files that another engine wrote, with kinds of text Arrow cannot search
            rows = table.to_pyarrow_table(columns=list(dict.fromkeys([*columns, column])))
            return rows.filter(pc.is_in(rows[column].cast(pa.string()), value_set=wanted)).select(columns)
