"""What a forked process does to become a flow run: what a new process would have, on top of what was imported."""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from prefect_mlops.deployments.fork_worker.import_inputs import read_at_import, state_of
from prefect_mlops.deployments.fork_worker.internals import (
    FORKED_RUNS,
    HEARTBEATS,
    KNOWN_RUN,
    LATER_LOGS,
    ONE_CLIENT,
    PER_RUN,
    missing,
)

if TYPE_CHECKING:
    from prefect.runner._workspace_resolver import PreparedWorkspace

ENGINE = "prefect.engine"
SUPERVISOR = "prefect.runner._workspace_supervisor"  # Prefect's program that prepares a run's folder
SETTINGS = "PREFECT_"  # variables that Prefect's settings are read from
SETTINGS_FILES = (".env", "prefect.toml", "pyproject.toml")
MAKE_LOOPS = ("evidently.legacy.utils.sync",)  # make an event loop when imported: forks of it would share one loop
MAX_CODE = 0xFF


def run_request(request: dict[str, Any]) -> NoReturn:
    """Run one flow run as Prefect's own starter would, and end this process as an interpreter ends.

    Args:
        request: ``environment`` (whole), ``folder`` (to start in), ``config`` (of Prefect's workspace supervisor),
            ``flow_run`` and ``deployment`` (as JSON), and ``output`` (whether the run's prints are shown).
    """
    try:
        of_server = settings_state()
        _reset_process(request)
        if lack := missing(FORKED_RUNS):  # Prefect was exchanged after the worker had started
            print(lack, file=sys.stderr, flush=True)
            os.execv(sys.executable, [sys.executable, "-m", SUPERVISOR, request["config"]])  # noqa: S606 - Prefect's own
        _refresh_prefect(of_server)
        before = settings_state()  # pull steps change the folder, and with it the files that settings are read from
        command, folder, environment = _prepared(request)
        _run_engine(command, folder, environment, started_with=request["environment"], before=before)
    except BaseException as end:  # noqa: BLE001 - whatever it is, this process ends with it
        leave(end)
    leave(None)


def _reset_process(request: dict[str, Any]) -> None:
    """Take on what the system gives a new process, and what libraries read when they are imported."""
    if not request["output"]:
        _mute()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    time.tzset()
    tempfile.tempdir = None  # TMPDIR may be another
    sys.argv[:] = [ENGINE]
    if numpy := sys.modules.get("numpy"):  # Python's own generator does this itself after a fork
        numpy.random.seed()
    if environment := sys.modules.get("prefect_mlops.core.lineage.environment"):
        environment.begin_anew()  # the fork server has just checked that no file of its changed
    for module in filter(None, map(sys.modules.get, MAKE_LOOPS)):
        importlib.reload(module)


def settings_state() -> tuple[dict[str, str], list[tuple[int, int] | None]]:
    """Note everything Prefect's settings are read from: variables, files of the current folder, profiles."""
    from prefect.settings import get_current_settings

    variables = {
        name: value for name, value in os.environ.items() if name.startswith(SETTINGS) and not name.startswith(PER_RUN)
    }
    return variables, [state_of(path) for path in (*SETTINGS_FILES, str(get_current_settings().profiles_path))]


def _refresh_prefect(before: object) -> None:
    """Read Prefect's settings again where what they are read from has changed; logging follows them."""
    if settings_state() == before:
        return
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    refresh_global_settings_context()
    setup_logging(incremental=False)


def _mute() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.close(nothing)


def _prepared(request: dict[str, Any]) -> tuple[list[str], Path, dict[str, str]]:
    """Let Prefect's supervisor run the pull steps, and stop it where it would start the engine.

    What is replaced in it is replaced in this process only, which does nothing else before it is the run.

    Returns:
        The engine's command, its folder and its environment.
    """
    from prefect.runner import _workspace_supervisor as supervisor

    found: list[tuple[list[str], Path, dict[str, str]]] = []

    async def launch(command: list[str], *, cwd: Path, environment: dict[str, str]) -> int:
        found.append((command, cwd, environment))
        return 0

    vars(supervisor).update(_launch_engine=launch)
    if not missing(KNOWN_RUN):
        vars(supervisor).update(prepare_workspace_for_flow_run=_preparation(request))
    if not missing(LATER_LOGS):  # the process goes on, and sends its logs later
        vars(supervisor).update(APILogHandler=_LaterLogs)
    code = supervisor.main([request["config"]])
    if not found:
        raise SystemExit(code)
    return found[0]


def _preparation(request: dict[str, Any]) -> Callable[[object, Path], Awaitable[PreparedWorkspace]]:
    """Make the function that runs the pull steps for a run and a deployment that the worker has already looked up."""
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.context import AsyncClientContext
    from prefect.runner._workspace_resolver import prepare_workspace

    async def prepare(_flow_run_id: object, folder: Path) -> PreparedWorkspace:
        flow_run = FlowRun.model_validate_json(request["flow_run"])
        deployment = DeploymentResponse.model_validate_json(request["deployment"])
        async with AsyncClientContext() as context:  # one client for all steps: each loads its certificates
            return await prepare_workspace(context.client, flow_run, deployment, folder)

    return prepare


class _LaterLogs:
    """Replaces the log handler that the supervisor waits for until its log is sent."""

    @classmethod
    async def aflush(cls) -> None:
        """Do not wait."""


def _run_engine(
    command: list[str], folder: Path, environment: dict[str, str], *, started_with: Mapping[str, str], before: object
) -> None:
    """Run the engine here, or in a new program where what was imported would not be what the run asks for."""
    from prefect.logging.handlers import APILogWorker

    changed = _fixed(environment) != _fixed(started_with)  # a pull step may have set them
    places = list(dict.fromkeys([str(folder), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]))
    os.chdir(folder)
    if changed or command[1:] != ["-m", ENGINE] or any(map(_shadows, places)):
        APILogWorker.drain_all(timeout=5)
        os.execvpe(command[0], command, environment)  # noqa: S606 - the command is Prefect's
    os.environ.clear()
    os.environ.update(environment)
    _refresh_prefect(before)
    sys.path[:] = [*places, *(place for place in sys.path if place not in places)]
    _leave_without_heartbeats()
    sys.modules.pop(ENGINE, None)  # it is run as a program, as in a new process
    with _one_client():
        runpy.run_module(ENGINE, run_name="__main__", alter_sys=True)


def _one_client() -> AbstractContextManager[object]:
    """Give the run one client; else Prefect makes one to look the run up and another to run it."""
    if missing(ONE_CLIENT):
        return nullcontext()
    from prefect.context import SyncClientContext

    return SyncClientContext()


def _leave_without_heartbeats() -> None:
    """Let a flow end without waiting for its heartbeats, as Prefect does where a flow is asynchronous.

    Their thread sleeps a second at a time. To wait for it would keep a place of the worker's limit for that long.
    """
    from prefect import flow_engine

    if not missing(HEARTBEATS):
        at_once = functools.partial(flow_engine._send_heartbeats, join_on_exit=False)  # noqa: SLF001 - see `internals`
        vars(flow_engine).update(_send_heartbeats=at_once)


def _fixed(environment: Mapping[str, str]) -> dict[str, str]:
    """Pick the variables that can no longer be changed here; a longer search path can be followed."""
    return {name: value for name, value in read_at_import(environment).items() if name != "PYTHONPATH"}


def _shadows(place: str) -> bool:
    """Say whether a new process would find another module in a folder under a name that is already imported here."""
    try:
        names = {entry.name.partition(".")[0] for entry in os.scandir(place)}
    except OSError:
        return False  # an archive, or nothing
    for name in names & sys.modules.keys():
        there = PathFinder.find_spec(name, [place])
        here = getattr(sys.modules[name], "__file__", None)
        if there and there.has_location and here and there.origin != here:
            return True
    return False


def leave(end: BaseException | None) -> NoReturn:
    """End this process as an interpreter would: threads, exit functions, output, exit code.

    Not by returning: an interpreter that is torn down visits all that was imported, for half a second.
    """
    code = _exit_code(end)
    ending: Any = (threading._shutdown, atexit._run_exitfuncs)  # type: ignore[attr-defined]  # noqa: SLF001
    for last in (*ending, sys.stdout.flush, sys.stderr.flush):
        try:
            last()
        except BaseException:  # noqa: BLE001 - the next one still has to run
            traceback.print_exc()
    if isinstance(end, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def _exit_code(end: BaseException | None) -> int:
    if end is None:
        return 0
    if isinstance(end, SystemExit):
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & MAX_CODE
        print(end.code, file=sys.stderr)
        return 1
    traceback.print_exception(end)
    return 1
