"""Read a table."""

from __future__ import annotations

from typing import Any

from prefect_mlops.core.tables.read import read_table, table_name
from prefect_mlops.tasks._step import step


def _run_name(parameters: dict[str, Any]) -> str:
    return f"load-{table_name(parameters['uri'])}"


load_table = step(_run_name, backend=True, name="load-table")(read_table)
