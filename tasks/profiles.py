"""Summarise tables of any size: one pass, bounded memory, parts merge into the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.drift import table_profile
from prefect_mlops.core.errors import ConfigError, MLOpsError
from prefect_mlops.core.lake.ingest import without_marks
from prefect_mlops.core.tables.chunks import CHUNK_ROWS, read_chunks
from prefect_mlops.core.tables.read import as_frame, table_name
from prefect_mlops.core.text import one_line
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.drift.table_profile import TableProfile
    from prefect_mlops.core.specs.model import ModelSpec
    from prefect_mlops.core.values import Table


def _run_name(parameters: dict[str, Any]) -> str:
    part = parameters.get("part")
    return f"profile-{table_name(parameters['table'])}{f'-part-{part}' if part else ''}"


@step(_run_name, backend=True)
def profile_table(
    table: Table,
    *,
    spec: ModelSpec | None = None,
    columns: Sequence[str] | None = None,
    part: int = 0,
    parts: int = 1,
) -> TableProfile:
    """Summarise a table, for `detect_drift` to compare.

    Memory does not grow with the rows, unless the spec's ``prepare`` needs the whole table: then that is what is held
    in memory (``row_wise`` of the spec says that it does not).

    Args:
        table: the rows, (rows, columns), or where they are.
        spec: prepares the rows, as a dataset's rows are prepared for training; None takes them as they are.
        columns: names to summarise, after preparing; None takes all. What is not there is left out, and is a finding of
            `detect_drift`.
        part: number of the part, from 0.
        parts: into how many parts the files of the table are dealt out, for `merge_profiles` to join their profiles:
            on a cluster each can be summarised by another worker. The spec's ``prepare`` has to be ``row_wise`` then.
            A frame is a part by itself.

    Returns:
        The profile: counts and quantiles of each column, and 10,000 rows of a seeded sample. It stays in the process
        or cluster; it is nothing for a result storage.

    Raises:
        ConfigError: the table cannot be found or cannot be had in parts, or the spec's ``prepare`` failed on it.
        DataCheckError: the reference cannot be read as a table.
        BackendError: the table could not be read; tried again.

    Source: `core.drift.quantiles` and `core.drift.column_profile` say what is kept and how exactly.
    """
    return table_profile.profile_chunks(_chunks(table, spec, columns, (part, parts)), columns, part=part)


def _chunks(
    table: Table, spec: ModelSpec | None, columns: Sequence[str] | None, part: tuple[int, int]
) -> Iterator[pd.DataFrame]:
    """Give the prepared rows, reading no more columns than are needed where that is known."""
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        part = (0, 1)
    if spec is None or spec.prepare is None:
        yield from read_chunks(table, columns=columns, absent_ok=True, part=part)
    elif spec.row_wise:
        for chunk in read_chunks(table, part=part):
            yield _prepared(spec, table, chunk)
    elif part != (0, 1):
        raise ConfigError(
            f"{spec.name}: its prepare needs the whole table: set row_wise=True where it looks at each row alone, "
            "or leave parts out"
        )
    else:
        rows = _prepared(spec, table, as_frame(table))
        for start in range(0, max(len(rows), 1), CHUNK_ROWS):
            yield rows.iloc[start : start + CHUNK_ROWS]


def _prepared(spec: ModelSpec, table: Table, rows: pd.DataFrame) -> pd.DataFrame:
    try:
        return spec.prepared(without_marks(rows))
    except MLOpsError:
        raise
    except Exception as error:  # the user's own function, on a table that may lack what it reads
        reason = one_line(f"{type(error).__name__}: {error}")
        raise ConfigError(f"{spec.name}: its prepare failed on {table_name(table)}: {reason}") from error
