"""One reader for each format; what they raise is translated by `core.tables.errors`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.tables.arrow import (
    FILE_MARKS,
    Files,
    delta_table,
    maybe_of_files,
    of_files,
    parquet_dataset,
    reading_delta,
    release_memory,
)
from prefect_mlops.core.tables.errors import bad_content, subject_of, uneven_rows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds

GROUP_CELLS = 1 << 20  # read at once: ten columns of 100,000 rows, or one of a million and more
HEAD_BYTES = 1 << 20  # a header line longer than this is not a header
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}

Opener = Callable[[], AbstractContextManager[IO[bytes]]]


def opener(uri: str, *, compression: str) -> Opener:
    """Return what opens the source for reading bytes, decompressed, as often as it is called.

    Args:
        uri: local path or fsspec address.
        compression: suffix out of `COMPRESSIONS`, or empty.

    Source: `fsspec`; `pyarrow.CompressedInputStream` for Zstandard, which Python has from 3.14 on.
    """

    @contextmanager
    def open_() -> Iterator[IO[bytes]]:
        with _raw(uri) as raw:
            if not compression:
                yield raw
                return
            with _decompressed(raw, compression) as stream:
                yield stream

    return open_


def _raw(uri: str) -> Any:
    if "://" not in uri:
        return Path(uri).open("rb")
    import fsspec

    filesystem, path = fsspec.url_to_fs(uri)
    return filesystem.open(path, "rb")


def _decompressed(raw: IO[bytes], compression: str) -> Any:
    if compression == ".zst":
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    import bz2
    import gzip
    import lzma

    openers: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return openers[compression](raw)


def read_csv(open_: Opener, uri: str, *, separator: str, columns: Sequence[str] | None) -> pd.DataFrame:
    """Read delimited text with a header line.

    Source: `pandas.read_csv`.
    """
    import pandas as pd

    with open_() as stream:
        head = stream.read(HEAD_BYTES)
    header = _header(head, uri, separator)
    require_columns(uri, columns, header)
    encoding = "utf-8-sig" if head.startswith(b"\xef\xbb\xbf") else "utf-8"
    with open_() as stream:
        # low_memory would give one column several types, piece by piece.
        frame = pd.read_csv(
            stream,
            sep=separator,
            usecols=None if columns is None else list(columns),
            encoding=encoding,
            low_memory=False,
            float_precision="round_trip",  # pandas' faster parser changes the last digit of a third of them
        )
    # pandas fills short rows up in silence, and with `usecols` it also lets long ones pass: neither can have
    # happened where every column was read and the last one has no gap.
    if columns is not None or frame.iloc[:, -1].isna().any():
        _require_even_rows(open_, uri, separator, fields=len(header))
    return frame


def _header(head: bytes, uri: str, separator: str) -> list[str]:
    """Read the column names as they stand in the file: pandas would rename repeated ones in silence."""
    if not head.strip():
        raise bad_content(uri, name="file has content", observed="an empty file", expected="a header line and rows")
    if b"\x00" in head:
        seen = "zero bytes, as in UTF-16 or binary files"
        raise bad_content(uri, name="text can be decoded", observed=seen, expected="text saved as UTF-8")
    text = head.decode("utf-8-sig", errors="replace")
    rows = (row for row in csv.reader(io.StringIO(text), delimiter=separator) if row)
    header = next(rows)
    first: list[str] = []
    with suppress(csv.Error):  # a field larger than Python's reader takes; pandas takes it
        first = next(rows, [])
    if len(header) == 1:
        for other, word in _DELIMITERS.items():
            if other != separator and other in header[0]:
                seen = f"one column {header[0][:80]!r}, whose delimiter looks like {word}"
                expected = f"{_DELIMITERS[separator]} between columns"
                raise bad_content(uri, name="columns are delimited", observed=seen, expected=expected)
    if len(first) > len(header):
        # pandas would take the surplus first field of every row for an index, and say nothing.
        raise uneven_rows(uri, fields=len(header), line=2, seen=len(first))
    require_unique(uri, [name for name in header if name])
    return header


def _require_even_rows(open_: Opener, uri: str, separator: str, *, fields: int) -> None:
    """Raise for the first row with more or fewer fields than the header.

    Source: `pyarrow.csv`, which counts fields about five times as fast as it could be done in Python.
    """
    import pyarrow as pa
    import pyarrow.csv

    uneven: list[Any] = []

    def remember(row: Any) -> str:
        uneven.append(row)
        return "skip"

    with open_() as stream:
        batches = pyarrow.csv.open_csv(
            pa.PythonFile(stream, mode="r"),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, column_names=[str(n) for n in range(fields)]),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=remember
            ),
            convert_options=pyarrow.csv.ConvertOptions(include_columns=["0"], column_types={"0": pa.binary()}),
        )
        for _ in batches:
            if uneven:
                break
    if uneven:
        raise uneven_rows(uri, fields=fields, line=uneven[0].number, seen=uneven[0].actual_columns)


def read_json_lines(open_: Opener, uri: str, *, columns: Sequence[str] | None) -> pd.DataFrame:
    """Read one JSON object a line.

    Source: `pandas.read_json`.
    """
    import pandas as pd

    with open_() as stream:
        # The defaults would turn "007" into 7, guess dates by the name of the column, and change last digits of floats.
        frame = pd.read_json(stream, lines=True, dtype=False, convert_dates=False, precise_float=True, encoding="utf-8")
    if not all(isinstance(name, str) for name in frame.columns):
        seen = "lines that are not JSON objects"
        raise bad_content(uri, name="content is JSON lines", observed=seen, expected="one JSON object on each line")
    require_columns(uri, columns, frame.columns)
    return frame if columns is None else frame[list(columns)]


def read_parquet(uri: str, *, columns: Sequence[str] | None) -> pd.DataFrame:
    """Read a Parquet file, or a folder of them with ``key=value`` folders as columns.

    Source: `pyarrow.dataset`.
    """
    dataset = parquet_dataset(uri)
    require_unique(uri, dataset.schema.names)
    require_columns(uri, columns, dataset.schema.names)
    return _frame_of(dataset, dataset.schema.names if columns is None else list(columns))


def _frame_of(dataset: ds.Dataset, columns: list[str]) -> pd.DataFrame:
    """Read columns, of a large table a few at a time: only those stand in memory twice, as Arrow's and as pandas'."""
    import pandas as pd

    rows = dataset.count_rows()
    width = max(1, GROUP_CELLS // max(1, rows))
    if width >= len(columns):
        return without_index(dataset.to_table(columns=columns).to_pandas())
    index = (dataset.schema.pandas_metadata or {}).get("index_columns", ())
    columns.sort(key=lambda name: name not in index)  # where they stand when all are read at once
    read: dict[str, pd.Series] = {}
    for start in range(0, len(columns), width):
        table = dataset.to_table(columns=columns[start : start + width])
        piece = without_index(table.to_pandas(self_destruct=True))
        del table
        read |= {str(name): cells for name, cells in piece.items()}
        release_memory()
    return pd.DataFrame(read, copy=False)


def without_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Make a column of what pandas had kept as the index, as it is for every other reader of the file."""
    named = [level for level in frame.index.names if level is not None]
    return (frame.reset_index(level=named) if named else frame).reset_index(drop=True)


def read_delta(
    uri: str, *, version: int | None, columns: Sequence[str] | None, files: Files = ()
) -> tuple[pd.DataFrame, int]:
    """Read a Delta table at a version; the newest one where none is asked for. Returns the version too.

    Source: `deltalake.DeltaTable`, with its own object stores.
    """
    with reading_delta(uri):
        table = delta_table(uri, version=version)
        dataset = table.to_pyarrow_dataset()
        require_columns(uri, columns, dataset.schema.names)
        wanted = dataset.schema.names if columns is None else list(columns)
        if not files:
            return _frame_of(dataset, wanted), table.version()
        require_columns(uri, FILE_MARKS, dataset.schema.names)
        rows = dataset.to_table(columns=list(dict.fromkeys([*wanted, *FILE_MARKS])), filter=maybe_of_files(files))
        return rows.filter(of_files(rows, files)).select(wanted).to_pandas(), table.version()


def read_sql(url: str, *, query: str | None, columns: Sequence[str] | None) -> pd.DataFrame:
    """Read what a query selects.

    Source: `sqlalchemy.create_engine`, `pandas.read_sql_query`.
    """
    import pandas as pd
    import sqlalchemy as sa

    address = sa.make_url(url)
    address.get_dialect()  # an unknown scheme is reported before a missing query
    if not query or not query.strip():
        raise ConfigError(f"{subject_of(url)} is a database: say what to read with query=")
    if address.get_backend_name() == "sqlite" and not _sqlite_is_there(address.database):
        raise ConfigError(
            f"{subject_of(url)}: there is no such file, and SQLite would make an empty one: check the path"
        )
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            frame = pd.read_sql_query(query, connection)
    except pd.errors.DatabaseError as error:
        raise error.__cause__ or error from None  # the driver's own error, which pandas only quotes
    finally:
        engine.dispose()
    require_columns(url, columns, frame.columns)
    return frame if columns is None else frame[list(columns)]


def _sqlite_is_there(database: str | None) -> bool:
    return not database or database == ":memory:" or database.startswith("file:") or Path(database).exists()


def require_columns(uri: str, columns: Sequence[str] | None, known: Iterable[str]) -> None:
    """Raise `ConfigError` for a column that was asked for and is not there."""
    names = list(known)
    for column in columns or ():
        if column not in names:
            raise unknown_name(f"column of {subject_of(uri)}", column, names)


def require_unique(uri: str, names: Iterable[object]) -> None:
    """Raise `DataCheckError` for a column name that stands twice."""
    known: set[object] = set()
    for name in names:
        if name in known:
            seen = f"{name!r} more than once"
            raise bad_content(uri, name="column names are unique", observed=seen, expected="each name once")
        known.add(name)
