"""How a flow's parameters look in the forms of the Prefect UI."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def label(title: str) -> Any:
    """Label a parameter; Prefect would show its Python name. What it means comes from the flow's docstring."""
    return Field(json_schema_extra={"title": title})
