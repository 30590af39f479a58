"""A user's project on scikit-learn's bundled sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def project(prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The current folder as a user's project, with the tables in it. Returns the module of its specs."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    import bundled

    for name, table in bundled.TABLES.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
    return bundled


@pytest.fixture
def declare(project: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Declare a spec of the project with something changed; returns its dotted name."""

    def change(name: str, **changed: object) -> str:
        monkeypatch.setattr(project, "changed", dataclasses.replace(getattr(project, name), **changed), raising=False)
        return "bundled.changed"

    return change
