"""Reading a table from any address, with errors that name the source and the cause."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from prefect_mlops.core.addresses import LAKE_DIGEST
from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError, storage_problem
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.tables import formats
from prefect_mlops.core.tables.errors import bad_content, masked, reading, subject_of
from prefect_mlops.core.values import Table, TableRef

if TYPE_CHECKING:
    import pandas as pd

SOURCE_ATTRIBUTE = "prefect_mlops.source"
MAX_NAME = 60  # names of task runs stand in one column of a page

_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")  # how pandas keeps it in Parquet
_VERSION = re.compile(r"^(?P<path>.+)@(?P<version>\d+)$")
_DELTA_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"}  # that both fsspec and delta-rs read


@dataclass(frozen=True)
class Source:
    """Where to read: ``uri`` may hold a password and never goes into a message as it is."""

    uri: str
    kind: Literal["file", "delta", "sql"]
    version: int | None = None


def read_table(
    uri: str | os.PathLike[str], *, columns: Sequence[str] | None = None, query: str | None = None
) -> pd.DataFrame:
    """Read a table from a file, a folder, a Delta table or a database.

    Args:
        uri: a CSV, TSV, JSON lines or Parquet file (text also compressed: .gz .bz2 .xz .zst), a folder of Parquet
            files, a Delta table (``delta://path`` or its folder, ``@3`` at the end for version 3), any of them under
            an fsspec address such as ``s3://``, or a SQLAlchemy database URL.
        columns: names to read, in this order; None reads all.
        query: SQL to run; for a database URL, and only there.

    Returns:
        The rows, with where they came from in ``attrs`` (`source_of` reads it back).

    Raises:
        ConfigError: missing source or version, unknown column, suffix or scheme, something not installed.
        DataCheckError: the source was reached and holds no usable table; ``.report`` says what was seen.
        BackendError: network, database or permissions; the original error is its cause.

    Source: `pandas`, `pyarrow`, `deltalake`, `sqlalchemy`, by kind of source.
    """
    wanted = wanted_columns(columns)
    with reading(str(uri)):
        source = located(uri)
        if query is not None and source.kind != "sql":
            raise ConfigError(f"{subject_of(source.uri)} is not a database, so it takes no query: leave query= out")
        return _read(source, columns=wanted, query=query)


def as_frame(table: Table) -> pd.DataFrame:
    """Return the rows of a table: a frame as it is, a reference read.

    Args:
        table: the rows, or where they are.

    Returns:
        The rows; a frame is neither copied nor checked.

    Raises:
        ConfigError: the reference cannot be read again (database, masked password), or see `read_table`.
        DataCheckError: what was read is not what the reference was made of.
        BackendError: network or permissions.
    """
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        return table
    if not isinstance(table, TableRef):
        raise ConfigError(f"a table is a DataFrame or a TableRef, got {type(table).__name__}")
    with reading(table.uri):
        source = referred(table)
        frame = _read(source, columns=wanted_columns(list(table.columns) or None), query=None, files=table.files)
    if table.digest is not None:
        _require_digest(frame, table)
    return frame


def referred(table: TableRef) -> Source:
    """Return the source of a reference.

    Raises:
        ConfigError: it cannot be read again (database, masked password), or nothing is there.
    """
    if "***" in table.uri:
        raise ConfigError(f"{subject_of(table.uri)}: its secret is masked in the reference: read it with load_table")
    source = located(table.uri)
    if source.kind == "sql":
        raise ConfigError(f"{subject_of(table.uri)}: a reference keeps no query: read it with load_table(..., query=)")
    if table.files and source.kind != "delta":
        raise ConfigError(f"{subject_of(table.uri)} is no dataset of the lake: a reference to it names no files")
    return Source(source.uri, source.kind, table.version if table.version is not None else source.version)


def described(uri: str | os.PathLike[str]) -> TableRef | None:
    """Describe a table, with its version and columns, without reading its rows.

    Args:
        uri: as `read_table` takes it.

    Returns:
        The reference, kinds of columns left empty; None where columns are known only after reading: text, databases,
        and where a password in the address would be lost.

    Raises:
        ConfigError: missing source or version.
        DataCheckError: the source was reached and holds no usable table.
        BackendError: network or permissions.
    """
    from prefect_mlops.core.tables import arrow

    with reading(str(uri)):
        source, version = located(uri), None
        if masked(source.uri) != source.uri:
            return None
        if source.kind == "delta":
            with arrow.reading_delta(source.uri):
                table = arrow.delta_table(source.uri, version=source.version)
                schema, version = table.to_pyarrow_dataset().schema, table.version()
        elif is_parquet(source):
            schema = arrow.parquet_dataset(source.uri).schema
        else:
            return None
        formats.require_unique(source.uri, schema.names)
    if arrow.has_named_range(schema):
        return None
    index = (schema.pandas_metadata or {}).get("index_columns", ())
    names = [name for name in schema.names if not _UNNAMED_INDEX.fullmatch(name)]
    names.sort(key=lambda name: name not in index)  # where they stand when all are read
    return TableRef(uri=source.uri, version=version, columns=dict.fromkeys(names, ""))


def source_of(frame: pd.DataFrame) -> TableRef | None:
    """Return where a frame was read from, or None where it was not read by `read_table`."""
    try:
        return TableRef.model_validate(frame.attrs[SOURCE_ATTRIBUTE])
    except (KeyError, ValidationError):
        return None


def table_name(table: object) -> str:
    """Return a short name for a table or its address: for task runs, reports and pages.

    Args:
        table: frame, reference or address.

    Returns:
        The last part of the address without secrets, at most `MAX_NAME` characters; ``"table"`` where none is known.
    """
    uri = table
    if hasattr(table, "attrs"):
        attributes = table.attrs.get(SOURCE_ATTRIBUTE)
        uri = attributes.get("uri") if isinstance(attributes, dict) else None
    elif isinstance(table, TableRef):
        uri = table.uri
    if not isinstance(uri, (str, os.PathLike)):
        return "table"
    path = masked(os.fspath(uri)).partition("?")[0].rstrip("/")
    return path.rpartition("/")[2][-MAX_NAME:] or "table"


def wanted_columns(columns: Sequence[str] | None) -> list[str] | None:
    """Check which columns are asked for; None is all.

    Raises:
        ConfigError: a text instead of a list, none, or one twice.
    """
    if columns is None:
        return None
    if isinstance(columns, str):
        raise ConfigError(f"columns is a list of names, got the text {columns!r}: write columns=[{columns!r}]")
    names = list(columns)
    if not names or len(set(names)) < len(names):
        raise ConfigError("columns names each column to read once, and at least one; leave it out to read all")
    return names


def located(uri: str | os.PathLike[str]) -> Source:
    """Find what kind of source an address names."""
    text = os.fspath(uri) if isinstance(uri, (str, os.PathLike)) else uri
    if not isinstance(text, str) or not text.strip():
        raise ConfigError("a table's address is a path or a URI, and not empty")
    scheme, found, rest = text.partition("://")
    if scheme == "delta" and found:
        path, version = _versioned(rest)
        return Source(path if "://" in path else _local(path), "delta", version)
    if not found or scheme == "file":
        return _local_source(_local(rest if found else text))
    if not _is_file_system(scheme):
        return Source(text, "sql")
    path, version = _versioned(text)
    if scheme in _DELTA_STORES and not _suffixes(path)[0] and _is_delta(path):
        return Source(path, "delta", version)
    return Source(text, "file")


def _local_source(path: str) -> Source:
    base, version = (path, None) if Path(path).exists() else _versioned(path)
    if (Path(base) / "_delta_log").is_dir():
        return Source(base, "delta", version)
    if not Path(path).exists():
        hint = "" if version is None else f", nor a Delta table {base}"
        raise ConfigError(f"there is no file or folder {subject_of(path)}{hint}: check the path")
    return Source(path, "file")


def _local(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())  # noqa: PTH100 - resolve() would follow the user's links


def _versioned(path: str) -> tuple[str, int | None]:
    match = _VERSION.match(path)
    return (match["path"], int(match["version"])) if match else (path, None)


def _is_file_system(scheme: str) -> bool:
    import fsspec

    return scheme == "abfss" or scheme.partition("::")[0] in fsspec.available_protocols()


def _is_delta(uri: str) -> bool:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:  # `is_deltatable` would stop every thread of the process for as long as storage takes
        DeltaTable(uri)
    except TableNotFoundError:
        return False
    except OSError as error:  # bare, as Arrow raises it for a damaged file
        raise BackendError(f"{subject_of(uri)} cannot be read: {storage_problem(error)}") from error
    return True


def _suffixes(uri: str) -> tuple[str, str]:
    """Return the format an address ends in, or an empty text, and the compression after it, if any."""
    path = PurePosixPath(uri.partition("?")[0] if uri.startswith(("http://", "https://")) else uri)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in formats.COMPRESSIONS else ""
    return _FORMATS.get(suffixes[-1] if suffixes else "", ""), compression


def _read(
    source: Source, *, columns: list[str] | None, query: str | None, files: tuple[tuple[str, str], ...] = ()
) -> pd.DataFrame:
    """Read, check what holds for every kind of source, and note where it came from."""
    from prefect_mlops.core.tables.digests import column_kinds

    uri, version = source.uri, source.version
    if source.kind == "sql":
        frame = formats.read_sql(uri, query=query, columns=columns)
    elif source.kind == "delta":
        frame, version = formats.read_delta(uri, version=version, columns=columns, files=files)
    else:
        frame = _read_file(uri, columns)
    require_table(uri, list(frame.columns), rows=len(frame))
    ref = TableRef(uri=masked(uri), version=version, rows=len(frame), columns=column_kinds(frame), files=files)
    frame.attrs[SOURCE_ATTRIBUTE] = ref.model_dump(mode="json")
    return frame


def require_table(uri: str, columns: Sequence[object], *, rows: int) -> None:
    """Raise `DataCheckError` for what is no table: without columns or rows, or with a name that stands twice."""
    if not len(columns):
        raise bad_content(uri, name="table has columns", observed="no columns", expected="at least one column")
    formats.require_unique(uri, columns)
    if not rows:
        raise bad_content(uri, name="table has rows", observed="0 rows", expected="at least one row")


def is_parquet(source: Source) -> bool:
    """Check whether a source is a Parquet file or a folder of them."""
    kind, compression = _suffixes(source.uri)
    if source.kind != "file" or compression:
        return False
    folder = "://" not in source.uri and Path(source.uri).is_dir()  # of Parquet files, whatever it is called
    return folder or kind == "parquet" or (not kind and "://" in source.uri and not PurePosixPath(source.uri).suffix)


def _read_file(uri: str, columns: list[str] | None) -> pd.DataFrame:
    if is_parquet(Source(uri, "file")):
        frame = formats.read_parquet(uri, columns=columns)
        return frame if columns is None else frame[columns]
    kind, compression = _suffixes(uri)
    open_ = formats.opener(uri, compression=compression)
    if kind in ("csv", "tsv"):
        frame = formats.read_csv(open_, uri, separator="," if kind == "csv" else "\t", columns=columns)
        return frame if columns is None else frame[columns]
    if kind == "jsonl":
        return formats.read_json_lines(open_, uri, columns=columns)
    known = " ".join(_FORMATS)
    raise ConfigError(
        f"{subject_of(uri)}: its suffix names no kind of table: use {known} (text also with "
        f"{' '.join(formats.COMPRESSIONS)}), a folder of Parquet files or delta://"
    )


def of_lake(ref: TableRef) -> bool:
    """Check whether a reference's digest is that of a data version of the lake.

    A data version is immutable, and its digest is the sum of its files' digests, from the ledger, not from its rows.
    """
    return (ref.digest or "").startswith(LAKE_DIGEST)


def _require_digest(frame: pd.DataFrame, ref: TableRef) -> None:
    from prefect_mlops.core.tables.digests import table_digest

    if of_lake(ref):
        require_rows(ref, len(frame))
    elif (seen := table_digest(frame)) != ref.digest:
        raise _changed(ref, f"{len(frame):,} rows, {seen}")


def require_rows(ref: TableRef, rows: int) -> None:
    """Raise `DataCheckError` where a data version of the lake has other rows than its reference says.

    Args:
        ref: with a digest of the lake; one of some files has no number of rows.
        rows: as many were read.
    """
    if of_lake(ref) and not ref.files and rows != ref.rows:
        raise _changed(ref, f"{rows:,} rows, other rows")


def _changed(ref: TableRef, seen: str) -> DataCheckError:
    subject = subject_of(ref.uri)
    check = Check(
        name="data are what the reference was made of",
        passed=False,
        observed=seen,
        expected=f"{'?' if ref.rows is None else format(ref.rows, ',')} rows, {ref.digest}",
    )
    message = f"{subject} has changed since it was referred to: saw {check.observed}, expected {check.expected}"
    return DataCheckError(message, Report(kind="data", subject=subject, checks=(check,)))
