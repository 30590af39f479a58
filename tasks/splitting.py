"""Split a table into training and test rows."""

from __future__ import annotations

from typing import Any

from prefect_mlops.core.tables.read import table_name
from prefect_mlops.core.training import split
from prefect_mlops.tasks._step import step


def _run_name(parameters: dict[str, Any]) -> str:
    key = parameters["key"] if isinstance(parameters["key"], str) else ", ".join(map(str, parameters["key"]))
    by = parameters["order_by"] or parameters["group_by"] or key or "features"
    return f"split-{table_name(parameters['table'])}-by-{by}"


split_table = step(_run_name)(split.split_table)
