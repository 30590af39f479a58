"""The local stack: a Prefect server, MLflow's pages and a worker on this machine, gone when you are.

    with local_stack(home) as stack:
        os.environ.update(stack.environment)
        ...  # Prefect imported from here on uses this stack

Everything listens on loopback only, sends nothing out and keeps its databases in one folder.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from prefect_mlops.core.processes import (
    LOOPBACK,
    Child,
    Progress,
    no_progress,
    reserved_port,
    sigterm_as_exit,
    stop_children,
)
from prefect_mlops.deployments.local import servers, services
from prefect_mlops.deployments.local.home import Hold, hold, recall, remember
from prefect_mlops.deployments.project import PROJECT_FILE, read_project


@dataclass(frozen=True)
class LocalStack:
    """A running stack.

    Attributes:
        home: folder of its databases, artifacts and logs (absolute).
        prefect_api_url: address for ``PREFECT_API_URL``.
        prefect_ui_url: Prefect's pages.
        mlflow_url: MLflow's pages; without ``mlflow=True`` nothing answers there until the home is started with it.
        environment: variables that make this process, or a child, use the stack.
        deployments: ``flow/deployment`` names it serves.
        children: its servers, workers and watcher.
    """

    home: Path
    prefect_api_url: str
    prefect_ui_url: str
    mlflow_url: str
    environment: Mapping[str, str] = field(repr=False)
    deployments: tuple[str, ...] = ()
    children: tuple[Child, ...] = field(default=(), repr=False)

    def wait(self) -> None:
        """Wait until a signal ends the program.

        Raises:
            BackendError: when a server, a worker or the watcher ended by itself.
        """
        while True:
            for child in self.children:
                if not child.alive:
                    raise child.failure(f"ended by itself with exit code {child.process.returncode}")
            time.sleep(0.5)


def embedded_environment(home: Path | str) -> dict[str, str]:
    """Say what belongs to a home whatever ports its servers have: MLflow straight to its database.

    Args:
        home: the stack's folder.

    Returns:
        Environment variables, to be set before Prefect or MLflow is imported.
    """
    home = Path(home).expanduser().absolute()
    database = f"sqlite:///{home / 'mlflow.db'}"
    no_proxy = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), LOOPBACK)))
    return {
        "PREFECT_MLOPS_HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",  # client and server are one installation
        "MLFLOW_TRACKING_URI": database,
        "MLFLOW_REGISTRY_URI": database,
        # Not public, but the only thing a store without a server reads for its artifact folder; without it
        # artifacts land in ./mlruns of the process that logs.
        "_MLFLOW_SERVER_ARTIFACT_ROOT": (home / "artifacts").as_uri(),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


@contextmanager
def local_stack(
    home: Path | str,
    *,
    mlflow: bool = False,
    worker: bool = False,
    project: Path | str | None = None,
    progress: Progress | None = None,
) -> Iterator[LocalStack]:
    """Run a Prefect server, and on request MLflow's server and a worker, for as long as the block lasts.

    On Linux the servers end with the thread that enters the block, even where it is killed; enter it from one that
    lives as long as they should. SIGTERM unwinds the block as Ctrl-C does.

    Args:
        home: folder for databases, artifacts and logs; made where missing. One stack at a time can use it.
        mlflow: also start MLflow's server.
        worker: also deploy the ``prefect.yaml`` of ``project``, run its flows and watch for its files.
        project: folder of that file; the current one by default.
        progress: called with a sentence at each step.

    Yields:
        The running stack.

    Raises:
        ConflictError: when another stack runs on this home.
        ConfigError: when the project's file is missing or wrong.
        BackendError: when a server or worker does not come up; the message ends with its log.
    """
    home = Path(home).expanduser().absolute()
    folder = Path(project or ".").expanduser().absolute()
    tell = progress or no_progress
    if worker:
        read_project(folder)  # a wrong file is refused before anything is started
    for part in (home, home / "prefect", home / "logs", home / "artifacts"):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as cleanup, sigterm_as_exit():
        held = hold(home, tell=tell)
        cleanup.callback(os.close, held.lock)
        cleanup.callback(_stop, held, tell)
        stack = _start(home, mlflow=mlflow, held=held, cleanup=cleanup, tell=tell)
        yield _serve(stack, folder, held=held, tell=tell) if worker else stack


def _start(home: Path, *, mlflow: bool, held: Hold, cleanup: ExitStack, tell: Progress) -> LocalStack:
    ports = recall(home).get("ports", {})
    wanted = (servers.PREFECT, servers.MLFLOW) if mlflow else (servers.PREFECT,)
    tell(f"starting {' and '.join(server.name for server in wanted)}; logs are in {home / 'logs'}")
    environment = {**servers.caller_environment(), **embedded_environment(home)}
    database = (
        None if mlflow else servers.start_database(home, environment=environment, keep=(held.lock,), started=held.add)
    )
    running = servers.start_servers(
        {server: ports.get(server.key) for server in wanted},
        home=home,
        environment=environment,
        keep=(held.lock,),
        cleanup=cleanup,
        started=held.add,
        tell=tell,
    )
    servers.await_database(database)
    # A run that is logged today links to MLflow's pages, which may be started tomorrow: their address is fixed now.
    ports = {"mlflow": ports.get("mlflow"), **{key: server.port for key, server in running.items()}}
    ports["mlflow"] = ports["mlflow"] or cleanup.enter_context(reserved_port(servers.MLFLOW.port))
    remember(home, ports=ports)
    prefect, pages = servers.address(ports["prefect"]), servers.address(ports["mlflow"])
    environment = {
        **embedded_environment(home),
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_UI_URL": prefect,
        "PREFECT_MLOPS_MLFLOW_UI": pages,
        **({"MLFLOW_TRACKING_URI": pages, "MLFLOW_REGISTRY_URI": pages} if mlflow else {}),
    }
    held.announce(prefect)
    children = tuple(server.child for server in running.values())
    return LocalStack(home, f"{prefect}/api", prefect, pages, environment, children=children)


def _serve(stack: LocalStack, project: Path, *, held: Hold, tell: Progress) -> LocalStack:
    import httpx

    tell(f"deploying {project / PROJECT_FILE}")
    with httpx.Client(base_url=stack.prefect_api_url, trust_env=False, timeout=30.0) as client:
        served = services.serve_project(
            project,
            client=client,
            environment={**servers.caller_environment(), **stack.environment},
            logs=stack.home / "logs",
            keep=(held.lock,),
            started=held.add,
        )
    held.announce(stack.prefect_ui_url)
    return replace(stack, deployments=served.deployments, children=(*stack.children, *served.children))


def _stop(held: Hold, tell: Progress) -> None:
    """Workers before servers, so that what they were doing can still be reported."""
    names = (servers.PREFECT.name, servers.MLFLOW.name)
    with _signals_ignored():
        tell("stopping")
        stop_children(child for child in held.children if child.name not in names)
        stop_children(child for child in held.children if child.name in names)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Keep a second, impatient Ctrl-C from leaving half of the processes behind; stopping takes seconds at most."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
