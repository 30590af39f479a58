"""A digest over every cell of a table, the same however the table was stored.

MLflow's own dataset digest reads the first 10,000 rows and only strings and numbers; a model's answer to "which data
was it?" has to cover all of them. Values are hashed by meaning, not by storage: 32 or 64 bits, dictionary-encoded or
plain strings, seconds or nanoseconds, one chunk or many give one digest. Row order and column order count; the index
does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CHUNK_ROWS = 1 << 18  # bounds the copies made while hashing to a few megabytes a column
_NANOS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


def table_digest(frame: pd.DataFrame) -> str:
    """Digest every cell of a table.

    Args:
        frame: (rows, columns); names may repeat, the index is left out.

    Returns:
        ``"sha256:"`` and 64 hexadecimal digits.
    """
    return columns_digest(((str(name), frame.iloc[:, place]) for place, name in enumerate(frame.columns)))


def columns_digest(columns: Iterable[tuple[str, pd.Series]]) -> str:
    """Digest named columns that need not share a frame, such as features and a target.

    Args:
        columns: (name, values of shape (rows,)) in order.

    Returns:
        ``"sha256:"`` and 64 hexadecimal digits.
    """
    parts = [[name, *_column_digest(values)] for name, values in columns]
    return "sha256:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def column_kinds(frame: pd.DataFrame) -> dict[str, str]:
    """Name the kind of each column by its meaning.

    Args:
        frame: (rows, columns).

    Returns:
        One of ``boolean integer float decimal string categorical datetime date timedelta mixed empty`` for each column.
    """
    return {str(name): column_kind(frame.iloc[:, place]) for place, name in enumerate(frame.columns)}


def column_kind(values: pd.Series) -> str:
    """Name the kind of one column; see `column_kinds`."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(values.dtype, pd.CategoricalDtype):
        return "categorical"
    try:
        return _meaning(_as_arrow(values).type)[0]
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return "mixed"


def _column_digest(values: pd.Series) -> tuple[str, int, str]:
    """Return what one column contributes: meaning, rows and hash."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(values.dtype, pd.CategoricalDtype):
        # Whole numbers and booleans have no dtype with gaps of their own; objects do, and mean the same.
        gaps = values.isna().any() or len(values.cat.categories) == 0
        values = values.astype(object if gaps else values.cat.categories.dtype)
    try:
        column = _as_arrow(values)
        meaning = ":".join(filter(None, _meaning(column.type)))
        streams = _streams(_chunks(column))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        meaning = "mixed"
        streams = _streams(_chunks(_described(values)))
    return meaning, len(values), "".join(stream.hexdigest() for stream in streams)


def _as_arrow(values: pd.Series) -> pa.ChunkedArray:
    import pyarrow as pa

    column = pa.array(values, from_pandas=True)
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _described(values: pd.Series) -> pa.ChunkedArray:
    """Spell out a column of mixed Python objects: type and representation, missing stays missing."""
    import pyarrow as pa

    missing = values.isna().to_numpy()
    words = [None if gone else f"{type(cell).__name__}:{cell!r}" for cell, gone in zip(values, missing, strict=True)]
    return pa.chunked_array([pa.array(words, pa.large_string())])


def _meaning(kind: pa.DataType) -> tuple[str, str]:
    """Return the logical kind of an Arrow type and what more of it changes a value's meaning."""
    import pyarrow.types as of

    tests = (
        (of.is_null, "empty"),
        (of.is_boolean, "boolean"),
        (of.is_integer, "integer"),
        (of.is_floating, "float"),
        (of.is_decimal, "decimal"),
        (of.is_date, "date"),
        (of.is_duration, "timedelta"),
    )
    for test, name in tests:
        if test(kind):
            return name, ""
    if of.is_timestamp(kind):
        return "datetime", str(kind.tz or "")
    if of.is_dictionary(kind):
        return _meaning(kind.value_type)
    if of.is_string(kind) or of.is_large_string(kind) or of.is_string_view(kind):
        return "string", ""
    return "mixed", str(kind)


def _chunks(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    for chunk in column.chunks:
        for start in range(0, len(chunk), CHUNK_ROWS):
            yield chunk.slice(start, CHUNK_ROWS)


def _streams(chunks: Iterable[pa.Array]) -> list[Any]:
    """Feed the parts of each chunk to one hash each, so that where chunks end leaves no trace."""
    streams = [hashlib.sha256() for _ in range(3)]
    for chunk in chunks:
        for stream, part in zip(streams, _parts(chunk), strict=False):
            stream.update(part)
    return streams


def _parts(chunk: pa.Array) -> list[Any]:  # noqa: PLR0911 - one return for each kind of value
    """Return the buffers that define a chunk: its validity bitmap, and its values with missing cells zeroed."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as of

    there = np.ascontiguousarray(chunk.is_valid().to_numpy(zero_copy_only=False))
    if of.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    kind = chunk.type
    if of.is_null(kind):
        return [there]
    if of.is_boolean(kind):
        return [there, chunk.fill_null(fill_value=False).to_numpy(zero_copy_only=False)]
    if of.is_integer(kind):
        wide = pa.uint64() if of.is_uint64(kind) else pa.int64()
        return [there, chunk.cast(wide).fill_null(0).to_numpy(zero_copy_only=False)]
    if of.is_floating(kind):
        numbers = chunk.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
        # One missing value has many bit patterns; NaN that Arrow kept as a value is missing all the same.
        gaps = np.isnan(numbers)
        return [there & ~gaps, np.where(gaps, 0.0, numbers)]
    if of.is_timestamp(kind) or of.is_duration(kind):
        ticks = chunk.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        per_second = 1_000_000_000 // _NANOS[kind.unit]
        return [there, ticks // per_second, (ticks % per_second) * _NANOS[kind.unit]]
    if of.is_date(kind):
        return [there, chunk.cast(pa.date32()).cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False)]
    text = chunk.cast(pa.large_string()).fill_null("")
    return [there, pc.binary_length(text).to_numpy(zero_copy_only=False), _text_bytes(text)]


def _text_bytes(text: pa.Array) -> Any:
    """Return the bytes of all strings of a chunk, one after the other, without copying them."""
    import numpy as np

    _, offsets, data = text.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[text.offset : text.offset + len(text) + 1]
    return data[int(ends[0]) : int(ends[-1])] if data is not None and len(ends) else b""
