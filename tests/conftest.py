"""Real services for the tests: a Prefect API for the session, an MLflow store for each test."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_mlops.deployments.home import remember
from prefect_mlops.deployments.processes import reserved_port
from prefect_mlops.deployments.stack import local_stack

# A shell starts its background jobs deaf to Ctrl-C, and so would be every program that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server of a local stack on a free port, shared by the session.

    Without heartbeats: their thread sleeps a second at a time, and each flow run waits for it at its end.
    """
    from prefect import context
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    home = tmp_path_factory.mktemp("prefect")
    home.chmod(0o700)
    with reserved_port() as port:
        remember(home, ports={"prefect": port})
    with local_stack(home) as stack:
        settings = {PREFECT_API_URL: stack.prefect_api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
        # Threads that were started without the test's context look at the global one.
        with temporary_settings(settings), context._temporary_global_settings_context(context.get_settings_context()):
            yield
            APILogWorker.drain_all(timeout=10)


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow SQLite file with its schema in place; making one takes seconds, copying it none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_store(migrated_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh MLflow store, set as the ambient one, with the test's folder as current folder. Returns its URI."""
    shutil.copy(migrated_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    return uri
