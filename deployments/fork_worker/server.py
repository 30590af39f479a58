"""The parent of a warm worker's runs: a process that imports once and does nothing else, and forks one for each run.

    python -m prefect_mlops.deployments.fork_worker.server     # started by the warm worker, its standard input a socket

It stays clean so that a fork of it is as good as a new process: one thread, no event loop, no connection, nothing of a
run. Orders come in and answers go out as lines of JSON. When the socket is closed, or on SIGTERM, it takes no more
orders and ends with its last run.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import site
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from prefect_mlops.core._imports import uncollected

MAX_READ = 1 << 16
SMALL = 5  # names shown of a longer list
CHANGED = (0, -1)  # the state of no file

# What an interpreter or a library reads once, when it starts or is imported; a run that has another value of one of
# these needs another parent. Everything else is read when it is used, and set in the run.
READ_AT_IMPORT = (
    *("PYTHON", "LD_", "DYLD_", "MALLOC_", "GLIBC_TUNABLES", "LANG", "LC_"),
    *("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "BLIS_", "VECLIB_", "NUMEXPR_", "NPY_", "SCIPY_", "SKLEARN_"),
    *("ARROW_", "MPL", "GX_", "DO_NOT_TRACK", "MLFLOW_CONFIGURE", "MLFLOW_LOGGING", "MLFLOW_DISABLE", "RUST_LOG"),
)


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """Pick the variables that are read when something is imported."""
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_IMPORT)}


def main() -> NoReturn:
    """Import what the first line asks for, then fork for each line that follows."""
    channel = socket.socket(fileno=os.dup(0))
    _replace_stdin()
    if sys.path[0] == str(Path.cwd()):
        del sys.path[0]  # where we happened to be started is no place to import from
    zygote = Zygote(channel)
    since = time.time_ns()
    orders = zygote.receive()  # the worker sends no more before it was told that we are ready
    if not orders:
        os._exit(0)  # it ended in between

    ready = preload(orders[0]["preload"], memory_mb=orders[0]["memory_mb"])
    _look_up_packages()
    zygote.files = watched_files(since)
    for output in (sys.stdout, sys.stderr):
        output.flush()  # else what was printed at import would come again from each run
    gc.collect()
    gc.freeze()  # the collector would touch every object, and with that copy every page, in each run
    zygote.tell(ready=ready)
    if "refused" not in ready:
        zygote.serve()
    os._exit(0)  # it has nothing to tidy up, and what was imported must not do anything on its behalf


def preload(names: Sequence[str], *, memory_mb: float) -> dict[str, Any]:
    """Import modules until one starts a thread or memory runs out; a module that is not there is left out.

    Args:
        names: dotted names, in order.
        memory_mb: resident memory at which no more is imported, in MB.

    Returns:
        Seconds it took, memory now, number of modules, and for each name that was left out the reason.
    """
    started, left_out = time.monotonic(), {}
    for name in names:
        if memory() > memory_mb:
            left_out[name] = f"{memory():,.0f} MB are in use, more than the {memory_mb:,.0f} MB that are allowed"
            continue
        try:
            with uncollected():
                importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a module does, its runs will see it
            left_out[name] = f"{type(error).__name__}: {error}"
        if threading.active_count() > 1:
            threads = ", ".join(sorted(thread.name for thread in threading.enumerate())[:SMALL])
            return {"refused": f"importing {name} started threads ({threads}), which no fork has"}
    return {
        "seconds": round(time.monotonic() - started, 2),
        "memory_mb": round(memory()),
        "modules": len(sys.modules),
        "left_out": left_out,
    }


def _look_up_packages() -> None:
    """Read what is installed: each training writes that down, and reading it takes half a second."""
    if provenance := sys.modules.get("prefect_mlops.core.lineage.environment"):
        provenance.installed_packages()
        provenance.pinned_requirements(set())


def memory() -> float:
    """Return the resident memory of this process, in MB."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - at each order: no detour
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def watched_files(since: int) -> dict[str, tuple[int, int] | None]:
    """Note the state of every file that was imported, of Prefect's profiles, and of the folders of packages.

    Args:
        since: when importing began (ns). What was written after that may have been read before: it counts as changed.
    """
    files = {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    folders = {*site.getsitepackages(), site.getusersitepackages()}
    # Installing or removing a package changes the folder; thousands of files need not be asked at each order.
    settled = tuple(
        str(Path(folder)) + os.sep for folder in (*folders, *map(sysconfig.get_path, ("stdlib", "platstdlib")))
    )
    files = {file for file in files if not file.startswith(settled)}
    if settings := sys.modules.get("prefect.settings"):
        files.add(str(settings.get_current_settings().profiles_path))
    found = {path: state_of(path) for path in sorted({*files, *folders})}
    now = time.time_ns()
    return {path: CHANGED if state and since <= state[0] <= now else state for path, state in found.items()}


def state_of(path: str) -> tuple[int, int] | None:
    """Return what changes about a file when it is written: time (ns) and size; None where it is not there."""
    try:
        found = os.stat(path)  # noqa: PTH116 - hundreds of them at each order
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


class Zygote:
    """Takes orders, forks, and says how each run ended."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.files: dict[str, tuple[int, int] | None] = {}
        self.rest = b""  # of a line whose end has not come yet
        self.runs: dict[int, str] = {}  # order id by process id
        self.open = True
        self.woken, self.waker = os.pipe()

    def serve(self) -> None:
        """Work until the channel is closed and the last run has ended."""
        for end in (self.woken, self.waker):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)
        while self.open or self.runs:
            self._reap()
            if not (self.open or self.runs):
                return
            waiting: list[Any] = [self.woken, self.channel] if self.open else [self.woken]
            ready, _, _ = select.select(waiting, [], [])
            if self.woken in ready:
                os.read(self.woken, MAX_READ)
            if self.channel in ready:
                for order in self.receive():
                    self._take(order)

    def receive(self) -> list[dict[str, Any]]:
        """Wait for at least one whole order; none means that the worker is gone."""
        while True:
            chunk = self.channel.recv(MAX_READ)
            *lines, self.rest = (self.rest + chunk).split(b"\n")
            self.open = self.open and bool(chunk)
            if lines or not chunk:
                return [json.loads(line) for line in lines]

    def tell(self, **answer: Any) -> None:
        """Answer the worker; one that is gone needs no answer."""
        try:
            self.channel.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            self.open = False

    def _take(self, order: dict[str, Any]) -> None:
        changed = next((path for path, state in self.files.items() if state_of(path) != state), None)
        if changed:
            self.tell(id=order["id"], stale=changed)
            return
        waiting, begun = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(waiting)
            os.close(begun)
            self.tell(id=order["id"], refused=f"the system forks no more: {error}")
            return
        if pid == 0:
            os.close(waiting)
            self._become(order, begun=begun)
        os.close(begun)
        os.read(waiting, 1)  # a run that is known can be cancelled, by its group: wait until it has one
        os.close(waiting)
        self.runs[pid] = order["id"]
        self.tell(id=order["id"], pid=pid)

    def _become(self, order: dict[str, Any], *, begun: int) -> NoReturn:
        """Be the run: nothing of the parent is left but what was imported."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        self.channel.close()
        for end in (self.woken, self.waker, begun):
            os.close(end)
        from prefect_mlops.deployments.fork_worker.run import run_order

        run_order(order)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if name := self.runs.pop(pid, None):  # else something that was started by an import
                self.tell(id=name, code=os.waitstatus_to_exitcode(status))

    def _stop(self, *_: object) -> None:
        self.open = False


def _replace_stdin() -> None:
    """Give runs an empty standard input instead of the channel."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


if __name__ == "__main__":
    main()
