"""Opening Parquet files and Delta tables, to be read whole or in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from prefect_mlops.core.addresses import DIGEST_COLUMN, FILE_COLUMN
from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError, storage_problem
from prefect_mlops.core.tables.errors import bad_content, subject_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    from deltalake import DeltaTable

FILE_MARKS = (FILE_COLUMN, DIGEST_COLUMN)

Files: TypeAlias = "tuple[tuple[str, str], ...]"
"""Path and digest of files of the lake."""


def parquet_dataset(uri: str) -> ds.FileSystemDataset:
    """Open a Parquet file, or a folder of them."""
    import pyarrow.dataset

    path, filesystem = uri, None
    folder = Path(uri).is_dir()
    if "://" in uri:
        import fsspec

        filesystem, path = fsspec.url_to_fs(uri)
        folder = filesystem.isdir(path)
    partitioning = "hive" if folder else None
    dataset = pyarrow.dataset.dataset(path, format="parquet", filesystem=filesystem, partitioning=partitioning)
    if not dataset.files:
        seen = "a folder without Parquet files"
        raise bad_content(uri, name="folder has data", observed=seen, expected="at least one .parquet file")
    return dataset


def release_memory() -> None:
    """Return freed memory of Arrow to the system: its pool keeps it, and NumPy would allocate more."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def has_named_range(schema: pa.Schema) -> bool:
    """Check whether pandas stored a column as a range only (first and last number): no part of a file has it."""
    kept = (schema.pandas_metadata or {}).get("index_columns", ())
    return any(isinstance(level, dict) and level.get("name") is not None for level in kept)


def delta_table(uri: str, *, version: int | None) -> DeltaTable:
    """Open a Delta table at a version; the newest by default."""
    from deltalake import DeltaTable

    table = DeltaTable(uri)
    newest = table.version()
    if version is not None and version > newest:
        raise ConfigError(f"{subject_of(uri)} has no version {version}: there are versions up to {newest}")
    if version is not None:
        table.load_as_version(version)
    return table


@contextmanager
def reading_delta(uri: str) -> Iterator[None]:
    """Translate what delta-rs raises."""
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        yield
    except TableNotFoundError as error:
        raise ConfigError(
            f"{subject_of(uri)} is not a Delta table: check the path, the scheme and your access"
        ) from error
    except FileNotFoundError as error:
        raise _gone(uri) from error
    except DeltaError as error:
        raise bad_content(uri, name="Delta log can be read", observed=str(error), expected="an intact log") from error
    except OSError as error:
        # delta-rs reports a lost network as the same bare OSError that Arrow raises for a damaged file.
        if "://" in uri:
            raise BackendError(f"{subject_of(uri)} cannot be read: {storage_problem(error)}") from error
        raise


def _gone(uri: str) -> DataCheckError:
    return bad_content(
        uri,
        name="files of the version are there",
        observed="a data file that the Delta log names and that is gone",
        expected="files not vacuumed or deleted since",
    )


def maybe_of_files(files: Files) -> pc.Expression:
    """Return what holds for all rows of some files of the lake, so that others are left on the disk."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.field(FILE_COLUMN).isin(pa.array(sorted({path for path, _ in files}), pa.string()))


def of_files(rows: pa.Table, files: Files) -> pa.ChunkedArray:
    """Return for each row whether it is from one of some files, by path and digest of the content."""
    import pyarrow as pa
    import pyarrow.compute as pc

    path, digest = (rows[name].cast(pa.string()) for name in FILE_MARKS)
    keys = pc.binary_join_element_wise(path, digest, "\0")
    return pc.is_in(keys, value_set=pa.array(["\0".join(pair) for pair in files], pa.string()))
