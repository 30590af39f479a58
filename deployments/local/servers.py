"""The two servers of a local stack, Prefect's and MLflow's: started side by side, ready when they answer."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_mlops.core.processes import LOOPBACK, Child, reserved_port, start_child, tail

if TYPE_CHECKING:
    import httpx

START_SECONDS = 180.0  # a cold disk and a first migration; a program that failed says so at once
ANSWER_SECONDS = 60.0  # MLflow's first answer opens the database, from a cold disk
PRIVATE = 0o077  # databases hold parameters and may hold secrets: for their owner only
PORT_LOST = ("already in use", "[Errno 98]", "[Errno 48]")  # Prefect's words; uvicorn's on Linux and on macOS
MAX_PORTS_LOST = 3  # losing one between looking and binding is rare; more often it is another fault

# What would point the home's own servers at another database, account or pages.
FOREIGN = ("PREFECT_API_", "PREFECT_SERVER_API_", "PREFECT_SERVER_DATABASE_", "PREFECT_SERVER_UI_", "PREFECT_PROFILE")


# MLflow makes the tables of a new database without a lock: of three processes that start on one, two fail ("table
# already exists"), and one killed on the way leaves a file nothing can open. So they are made once, under another name,
# before anything else looks; whatever follows on the command line then takes this process over. An empty database of
# this version of MLflow is kept for the next home: importing MLflow and migrating takes five seconds, a copy none.
_MAKE_DATABASE = """
import contextlib, os, shutil, sqlite3, sys
database, artifacts, kept, *then = sys.argv[1:]
if not os.path.exists(database):
    fresh = database + ".new"
    if os.path.exists(fresh):
        os.remove(fresh)
    if os.path.exists(kept):
        shutil.copyfile(kept, fresh)
        with contextlib.closing(sqlite3.connect(fresh)) as tables, tables:
            tables.execute(
                "update experiments set artifact_location = ?, creation_time = strftime('%s', 'now') * 1000, "
                "last_update_time = strftime('%s', 'now') * 1000 where experiment_id = 0",
                [artifacts + "/0"],
            )
    else:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
        SqlAlchemyStore("sqlite:///" + fresh, artifacts).engine.dispose()
        with contextlib.suppress(OSError):  # a cache that cannot be written is no cache
            os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
            shutil.copyfile(fresh, kept + str(os.getpid()))
            os.replace(kept + str(os.getpid()), kept)
    os.replace(fresh, database)
if then:
    os.execv(then[0], then)
"""


@dataclass(frozen=True)
class Server:
    """What is different between the servers.

    Attributes:
        name: in words for messages.
        key: short name, for its log and its remembered port.
        port: the port to try first, where the home has no other.
        ready: path that answers 200 once it can be used.
        program: command and environment of its own, by home and port.
    """

    name: str
    key: str
    port: int
    ready: str
    program: Callable[[Path, int], tuple[list[str], dict[str, str]]]


@dataclass
class Running:
    """A server on its way up or there."""

    server: Server
    port: int
    child: Child
    since: float

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return address(self.port)


def address(port: int) -> str:
    """Make the address of a port on this machine."""
    return f"http://{LOOPBACK}:{port}"


def caller_environment() -> dict[str, str]:
    """Take this process's environment without what would lead away from the home."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


def start_database(
    home: Path, *, environment: Mapping[str, str], keep: Sequence[int], started: Callable[[Child], None]
) -> Child | None:
    """Begin to make MLflow's database, for a stack that does not run MLflow's server.

    Args:
        home: the stack's folder.
        environment: its whole environment.
        keep: file descriptors it inherits.
        started: called with the child at once, so that it is stopped whatever happens next.

    Returns:
        The child, to be awaited; None where there is a database.
    """
    if (home / "mlflow.db").exists():
        return None
    child = start_child(
        "making MLflow's database",
        _database_command(home),
        environment=environment,
        log=home / "logs" / "mlflow.log",
        folder=home,
        umask=PRIVATE,
        keep=keep,
    )
    started(child)
    return child


def await_database(child: Child | None) -> None:
    """Wait until MLflow's database is there.

    Args:
        child: what `start_database` returned.

    Raises:
        BackendError: when it could not be made; the message ends with the log.
    """
    if child and child.process.wait():
        raise child.failure(f"failed with exit code {child.process.returncode}")


def start_servers(
    wanted: Mapping[Server, int | None],
    *,
    home: Path,
    environment: Mapping[str, str],
    keep: Sequence[int],
    cleanup: ExitStack,
    started: Callable[[Child], None],
    tell: Callable[[str], None],
) -> dict[str, Running]:
    """Start servers side by side and wait until each answers.

    Args:
        wanted: for each server the port this home used last, if any.
        home: the stack's folder.
        environment: what both get beside their own.
        keep: file descriptors they inherit.
        cleanup: given the reservations of the ports.
        started: called with each child at once, so that it is stopped whatever happens next.
        tell: called with progress messages.

    Returns:
        The running servers by key.

    Raises:
        BackendError: when one ends early or does not answer in time; the message ends with its log.
    """

    def start(server: Server, *preferred: int) -> Running:
        port = cleanup.enter_context(reserved_port(*preferred))
        command, own = server.program(home, port)
        child = start_child(
            server.name,
            command,
            environment={**environment, **own},
            log=home / "logs" / f"{server.key}.log",
            folder=home,  # not the caller's: a .env or prefect.toml there is read by Prefect
            umask=PRIVATE,
            keep=keep,
        )
        started(child)
        return Running(server, port, child, time.monotonic())

    first = [start(server, *((last,) if last else ()), server.port) for server, last in wanted.items()]
    ready = _await_servers(first, again=start, tell=tell)
    return {server.key: ready[server.key] for server in wanted}


def _await_servers(
    waiting: list[Running], *, again: Callable[[Server], Running], tell: Callable[[str], None]
) -> dict[str, Running]:
    import httpx

    ready: dict[str, Running] = {}
    lost = 0
    with httpx.Client(trust_env=False, timeout=ANSWER_SECONDS) as client:  # no proxy between us and loopback
        while waiting:
            running = waiting.pop(0)
            if _answers(client, running):
                ready[running.server.key] = running
                tell(f"{running.server.name} answers on {running.url} ({time.monotonic() - running.since:.1f} s)")
                continue
            if not running.child.alive:
                lost += 1
                if lost > MAX_PORTS_LOST or not _lost_port(running.child):
                    raise running.child.failure(f"ended with exit code {running.child.process.returncode} at its start")
                tell(f"port {running.port} was taken meanwhile, {running.server.name} gets another")
                running = again(running.server)
            waiting.append(running)
            time.sleep(0.05)
    return ready


def _answers(client: httpx.Client, running: Running) -> bool:
    import httpx

    if time.monotonic() - running.since > START_SECONDS:
        raise running.child.failure(f"did not answer within {START_SECONDS:.0f} seconds")
    try:
        answer = client.get(running.url + running.server.ready)
    except httpx.TransportError:
        return False
    if answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:  # MLflow keeps running on a database it cannot open
        raise running.child.failure(f"answered {answer.text[:200]!r}")
    return answer.is_success and running.child.alive


def _lost_port(child: Child) -> bool:
    return any(words in tail(child.log) for words in PORT_LOST)


def _prefect(home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    api = f"{address(port)}/api"
    server = [sys.executable, "-m", "prefect_mlops.deployments.local.prefect_server"]
    command = [*server, "start", "--host", LOOPBACK, "--port", str(port)]
    return command, {
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_UI_API_URL": api,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect' / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # The API asks for no password, so no other web page that is open in the browser may call it (default: all).
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"{address(port)},http://localhost:{port}",
        "PREFECT_CLI_PROMPT": "false",
    }


def _mlflow(home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Run MLflow's application as ``mlflow server`` would in its child, without that command.

    The command imports MLflow once to check its arguments and a second time in the child (11 s of processor time
    instead of 5.5), starts seven job consumers that outlive it by seconds, and hides its child's exit code.
    """
    database = f"sqlite:///{home / 'mlflow.db'}"
    program = [sys.executable, "-m", "uvicorn", "--host", LOOPBACK, "--port", str(port), "--no-access-log"]
    return [*_database_command(home), *program, "mlflow.server.fastapi_app:app"], {
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_REGISTRY_STORE": database,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": (home / "artifacts").as_uri(),
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _database_command(home: Path) -> list[str]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prefect-mlops"
    kept = cache / f"mlflow-{version('mlflow')}-empty.db"
    return [sys.executable, "-c", _MAKE_DATABASE, str(home / "mlflow.db"), (home / "artifacts").as_uri(), str(kept)]


PREFECT = Server("the Prefect server", "prefect", 4200, "/api/health", _prefect)
# Not /health, which also answers where the database cannot be opened.
MLFLOW = Server("the MLflow server", "mlflow", 5000, "/api/2.0/mlflow/experiments/search?max_results=1", _mlflow)
