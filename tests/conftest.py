"""Real services for the tests: a Prefect API for the session, an MLflow store for each test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from prefect_mlops.core.processes import reserved_port
from prefect_mlops.deployments.local.home import remember
from prefect_mlops.deployments.local.stack import local_stack

if TYPE_CHECKING:
    from prefect.client.schemas.objects import TaskRun

RECORDED_SECONDS = 30.0
LONG_ROOMS = {"flows", "typing", "cli", "deployments", "reproduction", "stored"}

# Two workers with as many OpenMP threads as processors each: the waiting ones spin where the others could work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Prefect's servers write events and task runs every five seconds, and many tests ask for one that they caused.
os.environ.setdefault("PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL", "0.1")
os.environ.setdefault("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL", "1")  # less counts as none: it spins

# A shell starts its background jobs deaf to Ctrl-C, and so would be every program that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the rooms whose files take longest first, so that no worker begins with one when the others are done."""
    items.sort(key=lambda item: LONG_ROOMS.isdisjoint(item.path.parts))


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


@pytest.fixture
def recorded(prefect_api: None) -> Callable[[UUID], TaskRun]:
    """Look up a task run; a server takes them down a moment after they ended."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    def look_up(task_run: UUID) -> TaskRun:
        deadline = time.monotonic() + RECORDED_SECONDS
        with get_client(sync_client=True) as client:
            while True:
                with contextlib.suppress(ObjectNotFound):
                    found = client.read_task_run(task_run)
                    if found.state and found.state.is_final():
                        return found
                assert time.monotonic() < deadline, f"task run {task_run} is not in the server's books"
                time.sleep(0.1)

    return look_up


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
