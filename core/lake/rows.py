"""Rows as the lake stores them: Arrow tables with marks that name the origin of each row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.addresses import DIGEST_COLUMN, FILE_COLUMN, MARKS, REASONS_COLUMN, ROW_COLUMN
from prefect_mlops.core.errors import DataCheckError
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.text import one_line

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def without_marks(rows: pd.DataFrame) -> pd.DataFrame:
    """Drop the marks, the columns with a row's origin: they are neither checked nor learned from."""
    return rows.drop(columns=list(MARKS), errors="ignore")


def dataset_rows(dataset: str, rows: pd.DataFrame, *, path: str, digest: str) -> pa.Table:
    """Convert accepted rows to the form a dataset stores.

    Args:
        dataset: for messages.
        rows: (rows, columns); the index counts the rows of the file from 0, so every row keeps its number in it.
        path: the file's path under the landing zone.
        digest: of the file's bytes.

    Returns:
        The rows and their marks; the row number is counted from 1.

    Raises:
        DataCheckError: columns or values no table can hold.
    """
    import pyarrow as pa

    if taken := set(MARKS).intersection(map(str, rows.columns)):
        seen = f"a column {', '.join(map(repr, sorted(taken)))}, which the lake adds itself"
        raise misfit(dataset, seen)
    try:
        table = _as_arrow(rows)
    except pa.ArrowException as error:
        raise misfit(dataset, f"values of several types in one column ({one_line(error)})") from error
    numbers = pa.array(rows.index.to_numpy() + 1, type=pa.int64())
    marks = {FILE_COLUMN: pa.array([path] * len(rows), pa.string())}
    marks |= {DIGEST_COLUMN: pa.array([digest] * len(rows), pa.string()), ROW_COLUMN: numbers}
    for name, values in marks.items():
        table = table.append_column(name, values)
    _require_storable(dataset, table.schema)
    return table


def quarantine_rows(rows: pd.DataFrame, *, path: str, digest: str, flow_run: str) -> pa.Table:
    """Convert refused rows to the form quarantine stores: JSON, which holds any value.

    Args:
        rows: refused rows with the column ``_reasons``; the index counts the rows of the file from 0.
        path: the file's path under the landing zone.
        digest: of the file's bytes.
        flow_run: id of the flow run that refused them.
    """
    import pyarrow as pa

    kept = rows.drop(columns=REASONS_COLUMN).astype(object)
    lines = [json.dumps({str(name): _plain(cell) for name, cell in row.items()}) for row in kept.to_dict("records")]
    columns = {
        "path": [path] * len(rows),
        "digest": [digest] * len(rows),
        "number": [int(place) + 1 for place in rows.index],
        "reasons": rows[REASONS_COLUMN].astype(str).tolist(),
        "row": lines,
        "flow_run": [flow_run] * len(rows),
    }
    return pa.Table.from_pydict(columns, schema=quarantine_schema())


def _plain(cell: Any) -> Any:
    """Convert a value to JSON without loss: floats keep every digit, also infinite ones; bytes are hexadecimal."""
    import pandas as pd

    if isinstance(cell, dict):
        return {str(name): _plain(value) for name, value in cell.items()}
    if isinstance(cell, (list, tuple)) or hasattr(cell, "tolist"):  # also NumPy's arrays and single values
        plain = cell.tolist() if hasattr(cell, "tolist") else list(cell)
        return [_plain(value) for value in plain] if isinstance(plain, list) else _plain(plain)
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell):  # noqa: PLR0124
        return None
    if isinstance(cell, (bytes, bytearray)):
        return bytes(cell).hex()
    if isinstance(cell, (str, bool, int, float)):
        return cell
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)


def quarantine_schema() -> pa.Schema:
    """Return the columns of a quarantine: a refused row's key, why, the row as JSON, and the run that refused it."""
    import pyarrow as pa

    names = ("path", "digest", "number", "reasons", "row", "flow_run")
    return pa.schema([(name, pa.int64() if name == "number" else pa.string()) for name in names])


def fit(dataset: str, rows: pa.Table, have: pa.Schema, *, first: list[str], new_columns: bool) -> pa.Table:
    """Fit rows to the columns and types of a dataset.

    Args:
        dataset: for messages.
        rows: from `dataset_rows`.
        have: the dataset's columns.
        first: those it was created with; the others were added later, and older files may lack them.
        new_columns: whether rows may add columns.

    Returns:
        The rows, in the dataset's order, further columns last.

    Raises:
        DataCheckError: they do not fit.
    """
    import pyarrow as pa

    require_columns(dataset, rows.column_names, have=have.names, first=first, new_columns=new_columns)
    columns, fields = [], []
    try:
        for field in have:
            there = field.name in rows.column_names
            values = _cast(rows.column(field.name), field.type) if there else pa.nulls(len(rows), field.type)
            columns.append(values)
            fields.append(field)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        seen = f"values of another type in column {field.name!r} ({one_line(error)})"
        raise misfit(dataset, seen) from error
    for name in rows.column_names:
        if name not in have.names:
            columns.append(rows.column(name))
            fields.append(rows.schema.field(name))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _cast(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Cast without changing a value.

    Raises:
        ArrowInvalid: a value would change.
    """
    import pyarrow as pa
    from pyarrow import types

    has = values.type
    if types.is_boolean(has) != types.is_boolean(kind) and values.null_count < len(values):
        raise pa.ArrowInvalid(f"{has} where the dataset has {kind}")
    cast = values.cast(kind)
    if types.is_floating(has) and types.is_floating(kind) and not _same(cast.cast(has), values):
        raise pa.ArrowInvalid(f"{has} with more digits than the dataset's {kind} has")
    return cast


def _same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    import pyarrow.compute as pc

    return bool(pc.all(pc.or_kleene(pc.equal(one, other), pc.is_nan(other)), skip_nulls=True).as_py() in (True, None))


def require_columns(dataset: str, given: list[str], *, have: list[str], first: list[str], new_columns: bool) -> None:
    """Refuse rows by the names of their columns.

    Raises:
        DataCheckError: columns are missing or unknown.
    """
    required = set(first) if new_columns else set(have)
    missing = sorted(required - set(given))
    extra = sorted(set(given) - set(have)) if not new_columns else []
    parts = [f"no column {', '.join(map(repr, missing))}"] if missing else []
    parts += [f"an unknown column {', '.join(map(repr, extra))}"] if extra else []
    if parts:
        raise misfit(dataset, " and ".join(parts))


def misfit(dataset: str, seen: str) -> DataCheckError:
    """Build the error for rows that do not fit a dataset."""
    check = Check(name="fits the dataset's columns", passed=False, observed=seen, expected="the columns it has so far")
    report = Report(kind="data", subject=dataset, checks=(check,))
    return DataCheckError(f"the rows do not fit dataset {dataset!r}: they have {seen}", report)


def content_digest(rows: pa.Table) -> str:
    """Digest every cell of committed rows, in the file's order; storage and empty columns do not count.

    A column added later is empty for older rows, and must not change their digest.
    """
    from prefect_mlops.core.tables.digests import table_digest

    numbers = rows[ROW_COLUMN].to_numpy()
    ordered = rows if (numbers[1:] >= numbers[:-1]).all() else rows.sort_by(ROW_COLUMN)
    frame = ordered.drop_columns([name for name in MARKS if name in ordered.column_names]).to_pandas()
    return table_digest(frame.dropna(axis="columns", how="all"))


def _as_arrow(rows: pd.DataFrame) -> pa.Table:
    """Convert to Arrow: times to microseconds, those with a zone to UTC, as Delta keeps them.

    A column without a single value has no type yet, and text takes any value later.
    """
    import pyarrow as pa

    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    for place, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_null(kind):
            kind = pa.string()
        elif pa.types.is_timestamp(kind):
            kind = pa.timestamp("us", None if kind.tz is None else "UTC")
        if kind != field.type:
            table = table.set_column(place, pa.field(field.name, kind), table.column(place).cast(kind))
    return table


def _require_storable(dataset: str, schema: pa.Schema) -> None:
    from deltalake import Schema

    try:
        Schema.from_arrow(schema)
    except Exception as error:  # deltalake raises no narrower class
        seen = str(error).splitlines()[0].rpartition("Schema error: ")[2]
        raise misfit(dataset, f"columns that Delta tables cannot hold ({seen})") from error
