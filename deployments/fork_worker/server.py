"""The fork server: a process that imports once and does nothing else, and forks itself for each flow run.

    python -m prefect_mlops.deployments.fork_worker.server     # started by the worker, its standard input a socket

It stays clean so that a fork of it is as good as a new process: one thread, no event loop, no connection, no state of a
run. Requests come in and answers go out as lines of JSON. When the socket is closed, or on SIGTERM, it takes no more
requests and ends with its last run.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from prefect_mlops.core.imports import uncollected
from prefect_mlops.deployments.fork_worker.import_inputs import state_of, watched_files

MAX_READ = 1 << 16
SHOWN = 5  # names of a longer list that a message shows


def main() -> NoReturn:
    """Import what the first line names, then fork for each line that follows."""
    channel = socket.socket(fileno=os.dup(0))
    _replace_stdin()
    if sys.path[0] == str(Path.cwd()):
        del sys.path[0]  # the folder this process was started in is no place to import from
    server = ForkServer(channel)
    since = time.time_ns()
    requests = server.receive()  # the worker sends no more before it has the answer that this process is ready
    if not requests:
        os._exit(0)  # it ended in between
    from prefect_mlops.deployments.fork_worker import run  # noqa: F401 - each run would import it anew

    ready = preload(requests[0]["preload"], memory_mb=requests[0]["memory_mb"])
    _look_up_packages()
    server.files = watched_files(since)
    for output in (sys.stdout, sys.stderr):
        output.flush()  # else each run would write again what was printed at import
    gc.collect()
    gc.freeze()  # the collector would touch every object, and with that copy every page, in each run
    server.answer(ready=ready)
    if "refused" not in ready:
        server.serve()
    os._exit(0)  # nothing to clean up here, and exit functions of what was imported are for the runs


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
            threads = ", ".join(sorted(thread.name for thread in threading.enumerate())[:SHOWN])
            return {"refused": f"importing {name} started threads ({threads}), which no fork has"}
    return {
        "seconds": round(time.monotonic() - started, 2),
        "memory_mb": round(memory()),
        "modules": len(sys.modules),
        "left_out": left_out,
    }


def _look_up_packages() -> None:
    """Read which packages are installed: each training records them, and reading them takes half a second."""
    if environment := sys.modules.get("prefect_mlops.core.lineage.environment"):
        environment.installed_packages()
        environment.pinned_requirements(set())


def memory() -> float:
    """Return the resident memory of this process, in MB."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - at each request: no detour
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class ForkServer:
    """Takes requests, forks, and reports how each run ended."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.files: dict[str, tuple[int, int] | None] = {}
        self.rest = b""  # of a line whose end has not come yet
        self.runs: dict[int, str] = {}  # request id by process id
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
                for request in self.receive():
                    self._take(request)

    def receive(self) -> list[dict[str, Any]]:
        """Wait for at least one whole request; none means that the worker has ended."""
        while True:
            chunk = self.channel.recv(MAX_READ)
            *lines, self.rest = (self.rest + chunk).split(b"\n")
            self.open = self.open and bool(chunk)
            if lines or not chunk:
                return [json.loads(line) for line in lines]

    def answer(self, **answer: Any) -> None:
        """Answer the worker; one that has ended needs no answer."""
        try:
            self.channel.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            self.open = False

    def _take(self, request: dict[str, Any]) -> None:
        changed = next((path for path, state in self.files.items() if state_of(path) != state), None)
        if changed:
            self.answer(id=request["id"], stale=changed)
            return
        waiting, begun = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(waiting)
            os.close(begun)
            self.answer(id=request["id"], refused=f"the system forks no more: {error}")
            return
        if pid == 0:
            os.close(waiting)
            self._become(request, begun=begun)
        os.close(begun)
        os.read(waiting, 1)  # a run that is reported can be cancelled, by its group: wait until it has one
        os.close(waiting)
        self.runs[pid] = request["id"]
        self.answer(id=request["id"], pid=pid)

    def _become(self, request: dict[str, Any], *, begun: int) -> NoReturn:
        """Become the run: only what was imported is left of the server."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        self.channel.close()
        for end in (self.woken, self.waker, begun):
            os.close(end)
        from prefect_mlops.deployments.fork_worker.run import run_request

        run_request(request)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if name := self.runs.pop(pid, None):  # else something that was started by an import
                self.answer(id=name, code=os.waitstatus_to_exitcode(status))

    def _stop(self, *_: object) -> None:
        self.open = False


def _replace_stdin() -> None:
    """Give runs an empty standard input instead of the channel."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


if __name__ == "__main__":
    main()
