"""Reading a table in chunks, so that memory does not grow with its rows.

Parquet is read with one reader for each file, on the calling thread: threads of Arrow's dataset reader outlive it by
a moment, and a short program that ends in that moment is aborted by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.tables import arrow, formats, read
from prefect_mlops.core.tables.errors import reading
from prefect_mlops.core.values import Table, TableRef

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

CHUNK_ROWS = 250_000  # ten columns of numbers are 20 MB; smaller chunks cost time, larger ones only memory


TablePart = tuple[int, int]
"""A number from 0, and of how many parts; each file of a table belongs to one of them."""
_WHOLE: TablePart = (0, 1)


def read_chunks(
    table: Table | str,
    *,
    columns: Sequence[str] | None = None,
    absent_ok: bool = False,
    rows: int = CHUNK_ROWS,
    part: TablePart = _WHOLE,
) -> Iterator[pd.DataFrame]:
    """Read a table in chunks, in a fixed order; concatenated they equal the frame of `core.tables.read.as_frame`.

    A column has one type in all chunks: that of the whole table. Of Parquet and Delta tables, one chunk of the given
    columns is in memory. A frame is sliced, not copied. CSV and JSON lines are read whole, then sliced: types inferred
    for each chunk would differ. So is a reference with a digest over every cell, which is verified first.

    Args:
        table: the rows, where they are, or their address as `core.tables.read.read_table` takes it, without databases.
        columns: names to read, in this order; None reads those the reference names, or all.
        absent_ok: leave out columns that are not there instead of refusing the table; where none is, all are read.
        rows: of each chunk; the last one may be shorter.
        part: only the files of this part are read; one without files has no chunks.

    Returns:
        The chunks; rows are counted on from one to the next in their index, and a frame keeps its own.

    Raises:
        ConfigError: as `core.tables.read.as_frame`; unknown column; less than one row; a part of what has no parts.
        DataCheckError: no usable table, or not what the reference was made of.
        BackendError: network or permissions.

    Source: `pyarrow.parquet.ParquetFile.iter_batches`.
    """
    import pandas as pd

    if rows < 1:
        raise ConfigError(f"a chunk has at least one row, got rows={rows}")
    if not 0 <= part[0] < part[1]:
        raise ConfigError(f"parts are counted from 0, got part {part[0]} of {part[1]}")
    wanted = read.wanted_columns(columns)
    if isinstance(table, pd.DataFrame):
        if part != _WHOLE:
            raise ConfigError("a frame in memory has no parts: give its rows, or where they are")
        yield from _slices(table, _there(wanted, table.columns, absent_ok), rows, uri=read.table_name(table))
        return
    ref = table if isinstance(table, TableRef) else TableRef(uri=table)
    with reading(ref.uri):
        source = read.referred(ref)
        if _is_piecewise(source, ref):
            names = wanted or read.wanted_columns(list(ref.columns) or None)
            yield from _streamed(source, ref, names, rows, part, absent_ok=absent_ok)
            return
    if part != _WHOLE:
        raise ConfigError(f"{read.table_name(ref)} has no parts: those of Parquet and Delta tables are their files")
    if wanted and ref.digest is None and not absent_ok:
        ref = ref.model_copy(update={"columns": dict.fromkeys(wanted, "")})
    frame = read.as_frame(ref)
    yield from _slices(frame, _there(wanted, frame.columns, absent_ok), rows, uri=ref.uri)


def _there(wanted: list[str] | None, names: Iterable[str], absent_ok: bool) -> list[str] | None:
    """Leave out missing columns, where that is allowed."""
    if not absent_ok or wanted is None:
        return wanted
    known = set(names)
    return [name for name in wanted if name in known] or None


def is_streamed(table: TableRef) -> bool:
    """Check whether `read_chunks` reads a table in chunks, not whole.

    Raises:
        ConfigError: it cannot be read again, or nothing is there.
        BackendError: network or permissions.
    """
    with reading(table.uri):
        return _is_piecewise(read.referred(table), table)


def _is_piecewise(source: read.Source, ref: TableRef) -> bool:
    return (ref.digest is None or read.of_lake(ref)) and (source.kind == "delta" or read.is_parquet(source))


def _slices(frame: pd.DataFrame, columns: list[str] | None, rows: int, *, uri: str) -> Iterator[pd.DataFrame]:
    read.require_table(uri, list(frame.columns), rows=len(frame))
    formats.require_columns(uri, columns, frame.columns)
    for start in range(0, len(frame), rows):
        piece = frame.iloc[start : start + rows]
        piece.attrs = {}  # they name the source of the whole table
        yield piece if columns is None else piece[columns]


def _streamed(
    source: read.Source, ref: TableRef, columns: list[str] | None, rows: int, part: TablePart, *, absent_ok: bool
) -> Iterator[pd.DataFrame]:
    with ExitStack() as stack:
        if source.kind == "delta":
            stack.enter_context(arrow.reading_delta(source.uri))
            dataset = arrow.delta_table(source.uri, version=source.version).to_pyarrow_dataset()
        else:
            dataset = arrow.parquet_dataset(source.uri)
            if arrow.has_named_range(dataset.schema):
                frame = formats.read_parquet(source.uri, columns=None)
                yield from _slices(frame, _there(columns, frame.columns, absent_ok), rows, uri=source.uri)
                return
        names = dataset.schema.names
        columns = _there(columns, names, absent_ok)
        formats.require_unique(source.uri, names)
        formats.require_columns(source.uri, columns, names)
        formats.require_columns(source.uri, arrow.FILE_MARKS if ref.files else (), names)
        pieces = _Pieces(dataset, names if columns is None else columns, ref.files, part)
        seen = 0
        for chunk in pieces.chunks(rows):
            chunk.index = chunk.index + seen
            seen += len(chunk)
            yield chunk if columns is None else chunk[columns]
        if part == _WHOLE:
            read.require_table(source.uri, columns or names, rows=seen)
            read.require_rows(ref, seen)


@dataclass(frozen=True)
class _Pieces:
    """The files of a data set, read one after the other."""

    dataset: ds.FileSystemDataset
    columns: list[str]
    files: arrow.Files
    part: TablePart = _WHOLE

    def chunks(self, rows: int) -> Iterator[pd.DataFrame]:
        """Yield frames of so many rows, with the types of the whole table."""
        finish = self._whole_types(rows)
        for table in _gathered(self._tables(self.columns, rows), rows):
            frame = formats.without_index(table.to_pandas(use_threads=False))
            del table
            yield finish(frame)
        arrow.release_memory()

    def _fragments(self) -> Iterator[Any]:
        return iter(self.dataset.get_fragments(filter=arrow.maybe_of_files(self.files) if self.files else None))

    def _tables(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        for fragment in islice(self._fragments(), self.part[0], None, self.part[1]):
            with _opened(fragment) as reader:
                yield from self._read(fragment, reader, columns, rows)

    def _read(self, fragment: Any, reader: pq.ParquetFile, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Read one file, in the columns and types of the whole; what it has not is empty, or in its folder's name."""
        import pyarrow as pa
        from pyarrow.dataset import get_partition_keys

        schema = self.dataset.schema
        wanted = list(dict.fromkeys([*columns, *(arrow.FILE_MARKS if self.files else ())]))
        partition = get_partition_keys(fragment.partition_expression)
        there = [name for name in wanted if name in reader.schema_arrow.names and name not in partition]
        groups = self._groups(reader.metadata)
        for batch in reader.iter_batches(batch_size=rows, row_groups=groups, columns=there, use_threads=False):
            arrays = []
            for field in map(schema.field, wanted):
                if field.name in there:
                    arrays.append(batch.column(field.name).cast(field.type))
                else:
                    arrays.append(pa.repeat(pa.scalar(partition.get(field.name), field.type), batch.num_rows))
            fields = pa.schema(map(schema.field, wanted), metadata=schema.metadata)
            table = pa.Table.from_arrays(arrays, schema=fields)
            kept = table.filter(arrow.of_files(table, self.files)) if self.files else table
            yield kept.select(list(columns))

    def _groups(self, metadata: pq.FileMetaData) -> list[int]:
        """Return which row groups of a file have to be read: those that may have rows of the requested files."""
        everything = list(range(metadata.num_row_groups))
        if not self.files:
            return everything
        paths = {path for path, _ in self.files}
        bounds = [_statistics(metadata.row_group(group), arrow.FILE_MARKS[0]) for group in everything]
        return [
            group
            for group, bound in zip(everything, bounds, strict=True)
            if bound is None or not bound.has_min_max or any(bound.min <= path <= bound.max for path in paths)
        ]

    def _whole_types(self, rows: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
        """Return a function that casts a frame to the types of the whole table, which depend on its missing values."""
        import pyarrow.types as of

        kinds = {name: self.dataset.schema.field(name).type for name in self.columns}
        gaps = self._with_gaps(
            [name for name in kinds if of.is_integer(kinds[name]) or of.is_boolean(kinds[name])], rows
        )
        members = {name: self._members(name, rows) for name in kinds if of.is_dictionary(kinds[name])}

        def finish(frame: pd.DataFrame) -> pd.DataFrame:
            for name in gaps.intersection(frame.columns):
                kind = getattr(frame[name].dtype, "kind", "")
                if kind in "biu" and type(frame[name].dtype).__module__.startswith("numpy"):
                    frame[name] = frame[name].astype(object if kind == "b" else "float64")
            for name, categories in members.items():
                frame[name] = frame[name].cat.set_categories(categories)
            return frame

        return finish

    def _members(self, name: str, rows: int) -> pd.Index:
        """Collect the categories of a column: each row group of a file has its own."""
        import pyarrow as pa

        found: Any = None
        for table in self._tables([name], rows):
            pieces = [] if found is None else [found]
            joined = pa.concat_tables([*pieces, table]).unify_dictionaries()
            found = joined.slice(0, 1)
        categories: pd.Index = found.to_pandas()[name].cat.categories
        return categories

    def _with_gaps(self, names: list[str], rows: int) -> set[str]:
        found: set[str] = set()
        for fragment in self._fragments():
            left = [name for name in names if name not in found]
            if not left:
                break
            with _opened(fragment) as reader:
                found |= {name for name in left if self._has_gaps(fragment, reader, name, rows)}
        return found

    def _has_gaps(self, fragment: Any, reader: pq.ParquetFile, name: str, rows: int) -> bool:
        groups = [reader.metadata.row_group(group) for group in self._groups(reader.metadata)]
        statistics = [_statistics(group, name) for group in groups]
        if all(one is not None and one.has_null_count and not one.null_count for one in statistics):
            return False
        return any(table[name].null_count for table in self._read(fragment, reader, [name], rows))


def _statistics(group: pq.RowGroupMetaData, name: str) -> Any:
    """Return the statistics of a column in a row group; None where there are none."""
    for place in range(group.num_columns):
        column = group.column(place)
        if column.path_in_schema == name:
            return column.statistics
    return None


def _opened(fragment: Any) -> pq.ParquetFile:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(fragment.open(), pre_buffer=False)
    except pa.ArrowInvalid as error:  # in the words of the reader of whole tables
        raise pa.ArrowInvalid(f"Could not open Parquet input source '{fragment.path}': {error}") from error


def _gathered(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Cut and join tables so that each has exactly so many rows, but for the last."""
    import pyarrow as pa

    held: list[pa.Table] = []
    count = 0
    for table in tables:
        start = 0
        while start < len(table):
            part = table.slice(start, rows - count)
            held.append(part)
            start, count = start + len(part), count + len(part)
            if count == rows:
                yield pa.concat_tables(held).unify_dictionaries()
                held, count = [], 0
    if held:
        yield pa.concat_tables(held).unify_dictionaries()
