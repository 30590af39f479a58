"""Rows restored from quarantine: from stored JSON to the columns and types of a dataset."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.addresses import DIGEST_COLUMN, FILE_COLUMN, MARKS, ROW_COLUMN
from prefect_mlops.core.errors import DataCheckError
from prefect_mlops.core.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa


def restored_rows(rows: pa.Table, schema: pa.Schema, *, path: str, digest: str) -> pa.Table:
    """Restore rows from quarantine to a dataset's columns and types.

    Args:
        rows: with the columns ``number`` and ``row``.
        schema: the dataset's columns, marks included.
        path: the file they came from.
        digest: of its content.

    Returns:
        The rows in their order, with marks; absent values are missing.

    Raises:
        DataCheckError: they do not fit these columns; names the first such column.
    """
    import pyarrow as pa

    cells: list[dict[str, Any]] = [json.loads(row) for row in rows["row"].to_pylist()]
    unknown = {name for row in cells for name in row} - set(schema.names)
    if unknown:
        raise DataCheckError(f"the dataset has no column {', '.join(map(repr, sorted(unknown)))} by now")
    count = len(cells)
    marks = {FILE_COLUMN: [path] * count, DIGEST_COLUMN: [digest] * count, ROW_COLUMN: rows["number"].to_pylist()}
    columns = []
    for field in schema:
        values = marks[field.name] if field.name in MARKS else [row.get(field.name) for row in cells]
        columns.append(_column(field, values))
    return pa.Table.from_arrays(columns, schema=schema)


def _column(field: pa.Field, values: list[Any]) -> pa.Array:
    import pyarrow as pa

    read = _reader(field.type)
    try:
        if read is not None:
            return pa.array([None if value is None else read(value) for value in values], field.type)
        if pa.types.is_nested(field.type):
            return pa.array(values, field.type)
        return pa.array(values).cast(field.type)  # as values of a file are cast to the dataset's types
    except (pa.ArrowException, ValueError, TypeError, ArithmeticError, OverflowError) as error:
        raise DataCheckError(f"values of column {field.name!r} are not {field.type}: {one_line(error)}") from error


def _reader(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """Return a function that parses a type JSON does not have; None for the others."""
    import pyarrow.types as of

    if of.is_timestamp(kind):
        return lambda value: _moment(value, zone=kind.tz is not None)
    if of.is_binary(kind) or of.is_large_binary(kind) or of.is_fixed_size_binary(kind):
        return bytes.fromhex
    readers: list[tuple[Callable[[Any], bool], Callable[[Any], Any]]] = [
        (of.is_floating, float),
        (of.is_date, lambda value: date.fromisoformat(value[:10])),
        (of.is_decimal, lambda value: Decimal(str(value))),
    ]
    return next((read for test, read in readers if test(kind)), None)


def _moment(value: str, *, zone: bool) -> datetime:
    """Read a time; one without a zone is in UTC, as in files."""
    moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    moment = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    return moment if zone else moment.replace(tzinfo=None)
