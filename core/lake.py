"""The lake is the ledger: Delta tables in which each content version of each file is committed exactly once.

Events get lost and doubled, so what is true is decided here. Every write carries an app transaction named after the
arrival (dataset, path, content digest): a transaction that is already in the log is not written again, and of two
writers in the same moment the Delta protocol refuses the second.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.settings import Settings
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable

ATTEMPTS = 10  # a commit is retried when another one came between; ten in a row means something else is wrong
FILE_COLUMN = "_file"
DIGEST_COLUMN = "_digest"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")

State = Literal["committed", "partly", "refused"]


class Arrival(Value):
    """What became of one content version of one file.

    Attributes:
        dataset: where it belongs.
        path: its path under the landing place.
        digest: of its bytes.
        state: ``committed`` whole, ``partly`` (bad rows are in quarantine), or ``refused`` as a whole.
        rows: rows committed.
        refused: rows in quarantine.
        reason: why rows or file were refused; empty otherwise.
        version: data version it became part of; None for a refused file.
        flow_run: id of the Prefect flow run that did it.
        at: when, in UTC.
        again: True when this content was already in the ledger and nothing was done; never stored.
    """

    dataset: str
    path: str
    digest: str
    state: State
    rows: int = Field(default=0, ge=0)
    refused: int = Field(default=0, ge=0)
    reason: str = ""
    version: int | None = None
    flow_run: str = ""
    at: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))
    again: bool = False

    @property
    def id(self) -> str:
        """The arrival's identity: never an event's id, so one file told of three times is one arrival."""
        return arrival_id(self.dataset, path=self.path, digest=self.digest)


def arrival_id(dataset: str, *, path: str, digest: str) -> str:
    """Name an arrival by what it is."""
    return hashlib.sha256(json.dumps([dataset, path, digest]).encode()).hexdigest()


def table_uri(kind: Literal["datasets", "quarantine", "arrivals"], name: str) -> str:
    """Return the address of one of the lake's tables.

    Raises:
        ConfigError: a name that is not lower case letters, digits, dashes and underscores; no path is built from it.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"dataset {name!r}: use 1 to 100 lower case letters, digits, '-' and '_'")
    return f"{Settings().lake_uri.rstrip('/')}/{kind}/{name}"


def find_arrival(dataset: str, *, path: str, digest: str) -> Arrival | None:
    """Return what the ledger says of a content version, or None when it has not arrived yet."""
    wanted = arrival_id(dataset, path=path, digest=digest)
    return next((arrival for arrival in arrivals(dataset) if arrival.id == wanted), None)


def arrivals(dataset: str) -> list[Arrival]:
    """Return the ledger of a dataset, oldest first; empty where nothing has arrived."""
    rows = _read(table_uri("arrivals", dataset))
    if rows is None:
        return []
    found = [Arrival.model_validate({**row, "at": row["at"]}) for row in rows.to_pylist()]
    return sorted(found, key=lambda arrival: arrival.at)


def commit_arrival(arrival: Arrival, *, accepted: pd.DataFrame | None, refused: pd.DataFrame | None) -> Arrival:
    """Write one arrival: bad rows to quarantine, good rows to the dataset, then the ledger's line.

    Each of the three steps is idempotent by the arrival's id, so after a crash at any line the same call completes
    the rest, and of two callers at once one writes.

    Args:
        arrival: what is known of the file.
        accepted: good rows (rows, columns), or None for a file refused as a whole.
        refused: bad rows with their reasons in the column ``_reasons``, or None.

    Returns:
        The arrival with its data version.

    Raises:
        DataCheckError: the rows do not fit the dataset's columns; nothing was written.
        BackendError: storage failed.
    """
    good = None if accepted is None or not len(accepted) else _dataset_rows(arrival, accepted)
    if refused is not None and len(refused):
        _append_once(table_uri("quarantine", arrival.dataset), _quarantine_rows(arrival, refused), arrival.id)
    version = None if good is None else _append_once(table_uri("datasets", arrival.dataset), good, arrival.id)
    done = arrival.model_copy(update={"version": version})
    _append_once(table_uri("arrivals", arrival.dataset), _ledger_line(done), arrival.id)
    return done


def without_marks(rows: pd.DataFrame) -> pd.DataFrame:
    """Drop the columns that say where a row came from: they are the lake's, neither checked nor learned from."""
    return rows.drop(columns=[FILE_COLUMN, DIGEST_COLUMN], errors="ignore")


def _append_once(uri: str, rows: pa.Table, transaction: str) -> int:
    """Append rows under an app transaction unless it is in the log already; return the version they are in.

    Without commit retries a commit becomes exactly the version after the one looked at, or fails: so the version can
    be written into the transaction and is known from the log ever after.
    """
    from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
    from deltalake.exceptions import DeltaError

    last: Exception | None = None
    for _ in range(ATTEMPTS):
        try:
            # Made empty first: a write that makes the table could land on top of another maker's, unseen.
            if not DeltaTable.is_deltatable(uri):
                DeltaTable.create(uri, schema=rows.schema, mode="ignore")
            table = DeltaTable(uri)
            done = table.transaction_version(transaction)
            if done is not None:
                return int(done)
            version = table.version() + 1
            marks = CommitProperties(app_transactions=[Transaction(transaction, version)], max_commit_retries=0)
            fitting = _fitted(rows, _schema_of(table), uri)
            write_deltalake(table, fitting, mode="append", commit_properties=marks)
        except DeltaError as error:  # somebody else's commit came between, or storage failed: look again
            last = error
        except OSError as error:
            raise BackendError(f"the lake at {uri} cannot be written: {error}") from error
        else:
            return version
    raise BackendError(f"the lake at {uri} took no commit: {' '.join(str(last).split())[:300]}") from last


def _schema_of(table: DeltaTable) -> pa.Schema:
    """Return a Delta table's columns as pyarrow knows them."""
    import pyarrow as pa

    return pa.schema(table.schema().to_arrow())


def require_columns(dataset: str, columns: Iterable[str]) -> None:
    """Refuse rows whose columns are not those the dataset has so far; a new dataset takes any.

    Raises:
        DataCheckError: columns are missing or unknown.
    """
    from deltalake import DeltaTable

    uri = table_uri("datasets", dataset)
    with _storage(uri, "read"):
        have = _schema_of(DeltaTable(uri)).names if DeltaTable.is_deltatable(uri) else None
    if have is not None:
        _require_same(uri, have, [*columns, FILE_COLUMN, DIGEST_COLUMN])


def _require_same(uri: str, have: list[str], given: list[str]) -> None:
    missing = sorted(set(have) - set(given))
    extra = sorted(set(given) - set(have))
    parts = [f"no column {', '.join(map(repr, missing))}"] if missing else []
    parts += [f"an unknown column {', '.join(map(repr, extra))}"] if extra else []
    if parts:
        raise _misfit(uri, " and ".join(parts))


def _fitted(rows: pa.Table, have: pa.Schema, uri: str) -> pa.Table:
    """Bring rows into the columns and types the table has, or say what does not fit."""
    import pyarrow as pa

    _require_same(uri, have.names, rows.column_names)
    try:
        return rows.select(have.names).cast(have)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise _misfit(uri, f"values of another type ({_one_line(error)})") from error


def _misfit(uri: str, seen: str) -> DataCheckError:
    dataset = uri.rpartition("/")[2]
    check = Check(name="fits the dataset's columns", passed=False, observed=seen, expected="the columns it has so far")
    report = Report(kind="data", subject=dataset, checks=(check,))
    return DataCheckError(f"the rows do not fit dataset {dataset!r}: they have {seen}", report)


def _read(uri: str) -> pa.Table | None:
    from deltalake import DeltaTable

    with _storage(uri, "read"):
        return DeltaTable(uri).to_pyarrow_table() if DeltaTable.is_deltatable(uri) else None


@contextlib.contextmanager
def _storage(uri: str, done: str) -> Iterator[None]:
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, OSError) as error:
        raise BackendError(f"the lake at {uri} cannot be {done}: {' '.join(str(error).split())[:300]}") from error


def _dataset_rows(arrival: Arrival, accepted: pd.DataFrame) -> pa.Table:
    """Make the rows as the dataset takes them, or say why it cannot, before anything is written."""
    import pyarrow as pa
    from deltalake import DeltaTable, Schema

    uri = table_uri("datasets", arrival.dataset)
    if taken := {FILE_COLUMN, DIGEST_COLUMN}.intersection(map(str, accepted.columns)):
        raise _misfit(uri, f"a column {', '.join(map(repr, sorted(taken)))}, where the lake says which file it was")
    try:
        rows = _as_arrow(accepted.assign(**{FILE_COLUMN: arrival.path, DIGEST_COLUMN: arrival.digest}))
    except pa.ArrowException as error:
        raise _misfit(uri, f"values of several types in one column ({_one_line(error)})") from error
    with _storage(uri, "read"):
        have = _schema_of(DeltaTable(uri)) if DeltaTable.is_deltatable(uri) else None
    if have is not None:
        return _fitted(rows, have, uri)
    try:
        Schema.from_arrow(rows.schema)
    except Exception as error:  # deltalake raises nothing more special
        seen = str(error).splitlines()[0].rpartition("Schema error: ")[2]
        raise _misfit(uri, f"columns that Delta tables cannot hold ({seen})") from error
    return rows


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _as_arrow(frame: pd.DataFrame) -> pa.Table:
    """Convert to Arrow, times with a zone to UTC.

    A column without a single value has no type yet, and text takes any value later.
    """
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    for place, field in enumerate(table.schema):
        if pa.types.is_null(field.type):
            table = table.set_column(place, pa.field(field.name, pa.string()), table.column(place).cast(pa.string()))
        elif pa.types.is_timestamp(field.type) and field.type.tz is not None:  # Delta knows no other zone
            utc = pa.timestamp(field.type.unit, "UTC")
            table = table.set_column(place, pa.field(field.name, utc), table.column(place).cast(utc))
    return table


def _quarantine_rows(arrival: Arrival, refused: pd.DataFrame) -> pa.Table:
    """Keep bad rows as JSON: whatever is wrong with their columns, they can be written and looked at."""
    import pyarrow as pa

    reasons = refused["_reasons"].astype(str).tolist()
    kept = refused.drop(columns="_reasons").map(lambda cell: cell.hex() if isinstance(cell, bytes) else cell)
    rows = kept.to_json(orient="records", lines=True, date_format="iso", double_precision=15).splitlines()
    count = len(refused)
    return pa.table(
        {
            "path": [arrival.path] * count,
            "digest": [arrival.digest] * count,
            "reasons": reasons,
            "row": rows,
            "flow_run": [arrival.flow_run] * count,
        }
    )


def _ledger_line(arrival: Arrival) -> pa.Table:
    import pyarrow as pa

    fields: Mapping[str, object] = arrival.model_dump(exclude={"again"})
    schema = pa.schema(
        [
            ("dataset", pa.string()),
            ("path", pa.string()),
            ("digest", pa.string()),
            ("state", pa.string()),
            ("rows", pa.int64()),
            ("refused", pa.int64()),
            ("reason", pa.string()),
            ("version", pa.int64()),
            ("flow_run", pa.string()),
            ("at", pa.timestamp("us", tz="UTC")),
        ]
    )
    return pa.Table.from_pylist([dict(fields)], schema=schema)
