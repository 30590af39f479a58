"""A user's project on scikit-learn's bundled sets."""

from __future__ import annotations

import dataclasses
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stored.stored_home import replace_in_database


@pytest.fixture
def project(prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The current folder as a user's project, with the tables in it. Returns the module of its specs."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    import bundled

    for name, table in bundled.TABLES.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
    return bundled


@pytest.fixture(scope="session")
def trained_folder(prefect_api: None, migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder after the first training of `cancer`, to be copied: a training takes seconds."""
    from prefect_mlops.flows.train import train

    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(migrated_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.chdir(folder)
        import bundled

        bundled.TABLES["cancer"].to_parquet(folder / "cancer.parquet")
        assert train("bundled.cancer").decision == "promoted"
    return folder


@pytest.fixture
def copy_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Copy a project's folder with its MLflow store into the test's folder, as if all had happened there."""
    from mlflow.tracking._tracking_service import utils

    def copy(folder: Path) -> None:
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        replace_in_database(tmp_path / "mlflow.db", str(folder), str(tmp_path))
        # MLflow remembers where the artifacts of a run are, and the copies have the same runs.
        monkeypatch.setattr(utils, "_artifact_repos_cache", OrderedDict())

    return copy


@pytest.fixture
def trained(trained_folder: Path, project: Any, copy_project: Callable[[Path], None]) -> Any:
    """The project with v1 of `cancer` as champion, as `train` made it. Returns the module of its specs."""
    copy_project(trained_folder)
    return project


@pytest.fixture
def declare(project: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Declare a spec of the project with something changed; returns its dotted name."""

    def change(name: str, **changed: object) -> str:
        monkeypatch.setattr(project, "changed", dataclasses.replace(getattr(project, name), **changed), raising=False)
        return "bundled.changed"

    return change
