"""Read a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.tables.read import read_table, table_name
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    import pandas as pd


def _run_name(parameters: dict[str, Any]) -> str:
    return f"load-{table_name(parameters['uri'])}"


@step(_run_name, backend=True)
def load_table(
    uri: str | os.PathLike[str], *, columns: Sequence[str] | None = None, query: str | None = None
) -> pd.DataFrame:
    """Read a table from a file, a folder, a Delta table or a database.

    Args:
        uri: CSV, TSV, JSON lines (each also .gz .bz2 .xz .zst) or Parquet, local or under an fsspec address such as
            ``s3://``; a folder of Parquet files; a Delta table (its folder or ``delta://path``, ``@3`` at the end for
            version 3); a SQLAlchemy database URL.
        columns: names to read, in this order; None reads all.
        query: SQL to run; for a database URL, and only there.

    Returns:
        The rows; `core.tables.read.source_of` tells where they came from.

    Raises:
        ConfigError: missing source or version, unknown column, suffix or scheme, something not installed.
        DataCheckError: the source was reached and holds no usable table; ``.report`` says what was seen.
        BackendError: network, database or permissions; tried again, the original error is its cause.

    Source: `pandas`, `pyarrow`, `deltalake`, `sqlalchemy`, by kind of source.
    """
    return read_table(uri, columns=columns, query=query)
