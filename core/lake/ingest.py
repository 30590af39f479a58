"""Ingest: each content version of each file is committed exactly once, or quarantined with its reason.

Events get lost and doubled, so ingest is idempotent and decides by the ledger. One commit of a dataset takes the rows
of one or many files and carries their lines of the ledger. It is exactly the version after the one the ledger was
compared with, or it conflicts and is retried (optimistic concurrency): two writers never commit the same file, and
a crash at any line leaves nothing half done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prefect_mlops.core.addresses import DIGEST_COLUMN, FILE_COLUMN, LAKE_DIGEST, MARKS, table_uri
from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.lake.commits import (
    CommitConflict,
    append_next,
    first_columns,
    open_or_make,
    open_table,
    retry_commits,
    rows_where,
    schema_of,
)
from prefect_mlops.core.lake.ledger import (
    MAX_REASON_LENGTH,
    Arrival,
    Ledger,
    arrivals,
    lines_note,
    read_ledger,
    write_lines,
)
from prefect_mlops.core.lake.rows import (
    content_digest,
    dataset_rows,
    fit,
    quarantine_rows,
    quarantine_schema,
    require_columns,
    without_marks,
)
from prefect_mlops.core.text import one_line
from prefect_mlops.core.values import TableRef

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable

__all__ = [
    "DIGEST_COLUMN",
    "FILE_COLUMN",
    "MAX_REASON_LENGTH",
    "Arrival",
    "Checked",
    "Ledger",
    "arrivals",
    "checked",
    "commit_arrivals",
    "dataset_columns",
    "foresee_arrivals",
    "read_ledger",
    "table_ref",
    "table_uri",
    "version_digest",
    "without_marks",
]


@dataclass(frozen=True)
class Checked:
    """One file, checked and ready to be committed; stays inside the process.

    Attributes:
        arrival: its line of the ledger, to be written.
        accepted: accepted rows in the lake's shape, or None.
        refused: refused rows in the lake's shape, or None.
    """

    arrival: Arrival
    accepted: pa.Table | None = None
    refused: pa.Table | None = None


def checked(arrival: Arrival, *, accepted: pd.DataFrame, refused: pd.DataFrame | None = None) -> Checked:
    """Bring a file's rows into the lake's shape.

    Args:
        arrival: its line of the ledger.
        accepted: good rows; the index counts the rows of the file from 0.
        refused: bad rows with the column ``_reasons``.

    Raises:
        DataCheckError: columns or values no table can hold.
    """
    good = dataset_rows(arrival.dataset, accepted, path=arrival.path, digest=arrival.digest)
    if refused is None or not len(refused):
        return Checked(arrival, good)
    bad = quarantine_rows(refused, path=arrival.path, digest=arrival.digest, flow_run=arrival.flow_run)
    return Checked(arrival, good, bad)


def commit_arrivals(
    dataset: str, files: Iterable[Checked], *, new_columns: bool = False, copies: str = "skip", again: bool = False
) -> list[Arrival]:
    """Commit files: refused rows to quarantine, accepted rows of all in one commit, then the ledger's lines.

    Idempotent: called again after a crash at any line, or by two workers at once, it writes each file once.

    Args:
        dataset: dataset of the lake.
        files: from `checked`; a refused or duplicate one without rows.
        new_columns: whether files may add columns.
        copies: ``skip`` makes a file with content that was committed under another name a duplicate.
        again: check files again that were refused before.

    Returns:
        The arrival of each, in their order; with ``again`` set where it was decided before.

    Raises:
        BackendError: storage failed.
    """
    wanted = list(files)
    uri = table_uri("datasets", dataset)
    for attempt in retry_commits(uri):
        with attempt:
            rows = open_table(uri)  # opened before the ledger: a later commit makes ours conflict
            ledger = read_ledger(dataset)
            decided = _Decided(ledger, copies=copies, again=again)
            todo = [decided.of(file) for file in wanted]
            done = _commit(dataset, rows, todo, new_columns=new_columns)
            write_lines(dataset, [*ledger.unwritten, *(file.arrival for file in done if not file.arrival.again)])
            return [file.arrival for file in done]
    raise AssertionError("retry_commits ends with an error")


def foresee_arrivals(
    dataset: str, files: Iterable[Checked], *, new_columns: bool = False, copies: str = "skip", again: bool = False
) -> list[Arrival]:
    """Return what `commit_arrivals` would make of files, without writing anything (dry run).

    Raises:
        BackendError: storage failed.
    """
    rows = open_table(table_uri("datasets", dataset))
    decided = _Decided(read_ledger(dataset), copies=copies, again=again)
    _, fitting = _fitting(dataset, rows, [decided.of(file) for file in files], new_columns=new_columns)
    return [file.arrival for file in fitting]


def table_ref(dataset: str, version: int | None = None) -> TableRef:
    """Refer to a data version; its digest is known from the ledger, without reading a row.

    Args:
        dataset: dataset of the lake.
        version: data version; None takes the newest.

    Returns:
        Where it is, and a digest over every cell that depends neither on how the rows are stored nor on the order
        in which files arrived.

    Raises:
        ConfigError: no such dataset or version.
        BackendError: storage failed.
    """
    uri = table_uri("datasets", dataset)
    table = open_table(uri)
    if table is None:
        raise ConfigError(f"there is no dataset {dataset!r} in the lake: nothing was committed yet")
    newest = table.version()
    if version is not None and not 0 <= version <= newest:
        raise ConfigError(f"dataset {dataset!r} has no version {version}: there are versions up to {newest}")
    at = newest if version is None else version
    lines = read_ledger(dataset).at_version(at)
    return TableRef(uri=uri, version=at, digest=version_digest(lines), rows=sum(line.rows for line in lines))


def version_digest(lines: Iterable[Arrival]) -> str:
    """Digest a data version: the sum of the digests of its files, which does not depend on their order.

    Source: additive multiset hashing, Clarke et al. 2003, "Incremental Multiset Hash Functions".
    """
    total = sum(int(line.content.removeprefix("sha256:"), 16) for line in lines if line.content)
    return f"{LAKE_DIGEST}{total % 2**256:064x}"


def dataset_columns(dataset: str, *, new_columns: bool = False) -> Columns:
    """Read a dataset's columns once, to compare many files with them.

    Raises:
        BackendError: storage failed.
    """
    return _columns_of(dataset, open_table(table_uri("datasets", dataset)), new_columns=new_columns)


def _columns_of(dataset: str, table: DeltaTable | None, *, new_columns: bool) -> Columns:
    if table is None:
        return Columns(dataset, None, [], new_columns)
    return Columns(dataset, schema_of(table), first_columns(table), new_columns)


@dataclass(frozen=True)
class Columns:
    """The columns of a dataset; while it has none, it takes any.

    Attributes:
        dataset: for messages.
        have: the columns and their types; None while there are none.
        first: those it was created with; every file has to have them.
        new_columns: whether files may add others.
    """

    dataset: str
    have: pa.Schema | None
    first: list[str]
    new_columns: bool

    def require(self, names: Sequence[str]) -> None:
        """Refuse a file by the names of its columns.

        Raises:
            DataCheckError: columns are missing or unknown.
        """
        if self.have is not None:
            have, given = self.have.names, [*names, *MARKS]
            require_columns(self.dataset, given, have=have, first=self.first, new_columns=self.new_columns)

    def fit(self, rows: pa.Table) -> tuple[Columns, pa.Table]:
        """Fit rows to these columns; return the columns with any new ones, and the rows.

        Raises:
            DataCheckError: they do not fit.
        """
        if self.have is None:
            return replace(self, have=rows.schema, first=rows.schema.names), rows
        fitted = fit(self.dataset, rows, self.have, first=self.first, new_columns=self.new_columns)
        return replace(self, have=fitted.schema), fitted


class _Decided:
    """Compares files that are about to be committed with the ledger."""

    def __init__(self, ledger: Ledger, *, copies: str, again: bool) -> None:
        self.ledger, self.copies, self.again = ledger, copies, again
        self.taken: dict[str, str] = {}  # content to path, within this commit

    def of(self, file: Checked) -> Checked:
        """Return a file unchanged, with its earlier decision, or as a duplicate."""
        arrival = file.arrival
        if arrival.state == "duplicate" or arrival.again:
            return file
        before = self.ledger.find(arrival.path, arrival.digest)
        if before is not None and not (self.again and before.state == "refused"):
            # Our own commit, whose response was lost, does not count as decided before.
            own = (before.at, before.flow_run) == (arrival.at, arrival.flow_run)
            return Checked(before.model_copy(update={"again": not own}))
        if self.copies == "take" or file.accepted is None:
            return file
        owner = self.ledger.owner(arrival.digest)
        path = owner.path if owner else self.taken.setdefault(arrival.digest, arrival.path)
        return file if path == arrival.path else Checked(duplicate_of(path, arrival))


def duplicate_of(path: str, arrival: Arrival) -> Arrival:
    """Make the ledger's line of a file whose content was committed before."""
    same = path == arrival.path
    reason = "delivered again; nothing was done" if same else f"the same content as {path}; nothing was done"
    return arrival.model_copy(update={"state": "duplicate", "reason": reason, "rows": 0, "refused": 0})


def _commit(dataset: str, table: DeltaTable | None, files: list[Checked], *, new_columns: bool) -> list[Checked]:
    """Fit, quarantine refused rows, commit accepted ones; return the files with their arrivals."""
    columns, fitting = _fitting(dataset, table, files, new_columns=new_columns)
    _keep_refused(dataset, [file.refused for file in fitting if file.refused is not None])
    good = [(file, file.accepted) for file in fitting if file.accepted is not None]
    if not good or columns.have is None:
        return fitting
    if table is None:
        open_or_make(table_uri("datasets", dataset), columns.have, first=columns.first)
        raise CommitConflict("the dataset was created just now, perhaps by another writer with other columns")
    version = table.version() + 1
    lines = {id(file): _committed(file, rows, version) for file, rows in good}
    joined = _joined([rows for _, rows in good], columns.have)
    append_next(table, joined, note=lines_note(lines.values()), new_columns=new_columns)
    return [replace(file, arrival=lines.get(id(file), file.arrival)) for file in fitting]


def _fitting(
    dataset: str, table: DeltaTable | None, files: list[Checked], *, new_columns: bool
) -> tuple[Columns, list[Checked]]:
    """Fit files to the dataset's columns, one after the other; return the columns with any new ones, and the files."""
    columns = _columns_of(dataset, table, new_columns=new_columns)
    fitting = []
    for file in files:
        columns, fitted = _fitted(columns, file)
        fitting.append(fitted)
    return columns, fitting


def _fitted(columns: Columns, file: Checked) -> tuple[Columns, Checked]:
    """Fit a file's rows to the dataset's columns; a file that does not fit is refused as a whole."""
    if file.accepted is None:
        return columns, file
    try:
        columns, rows = columns.fit(file.accepted)
    except DataCheckError as error:
        refused = {"state": "refused", "reason": one_line(error, MAX_REASON_LENGTH), "rows": 0, "refused": 0}
        return columns, Checked(file.arrival.model_copy(update=refused))
    return columns, replace(file, accepted=rows)


def _committed(file: Checked, rows: pa.Table, version: int) -> Arrival:
    return file.arrival.model_copy(update={"version": version, "content": content_digest(rows)})


def _joined(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    def whole(rows: pa.Table) -> pa.Table:
        for field in schema:
            if field.name not in rows.column_names:  # a later file of the same commit adds the column
                rows = rows.append_column(field, pa.nulls(len(rows), field.type))
        return rows.select(schema.names)

    return pa.concat_tables([whole(rows) for rows in tables])


def _keep_refused(dataset: str, tables: list[pa.Table]) -> None:
    """Append refused rows to quarantine, each once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not tables:
        return
    uri = table_uri("quarantine", dataset)
    wanted = pa.concat_tables(tables)
    for attempt in retry_commits(uri):
        with attempt:
            table = open_or_make(uri, quarantine_schema())
            key = ("path", "digest", "number")
            there = rows_where(table, "digest", pc.unique(wanted["digest"]).to_pylist(), list(key))
            known = {tuple(row.values()) for row in there.to_pylist()}
            mine = [tuple(row.values()) for row in wanted.select(key).to_pylist()]
            fresh = wanted.filter(pa.array([row not in known for row in mine], pa.bool_()))
            if len(fresh):
                append_next(table, fresh)
            return
