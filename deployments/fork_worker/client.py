"""A worker's forking parents: started when they are needed, renewed when they are stale, a few at most."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import BackendError
from prefect_mlops.deployments.fork_worker.server import read_at_import

if TYPE_CHECKING:
    import logging

    Log = logging.Logger | logging.LoggerAdapter[logging.Logger]

MAX_ZYGOTES = 3  # each holds what it imported: half a gigabyte with the libraries of this project
MAX_RENEWALS = 3  # for one run; what is still being installed then is not waited for
MAX_LINE = 1 << 20
START_SECONDS = 300.0  # cold disks take a minute; what hangs hangs for ever
REFUSED_SECONDS = 60.0  # until then, runs of this kind start without: importing in vain takes seconds of each
PER_RUN = "PREFECT__"  # what Prefect tells a single run by its environment
ENDED = "the parent of the runs ended"
GONE = -9  # SIGKILL: what a run is said to have ended with when nobody saw how


@dataclass
class ForkedProcess:
    """A forked run, as Prefect's process manager wants to see a process.

    Attributes:
        pid: its process id, which is also that of its session and process group.
        returncode: exit code, negative for a signal; None while it runs.
    """

    pid: int
    returncode: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        """Wait until it has ended."""
        await self.ended.wait()

    def end(self, code: int) -> None:
        """Note how it ended."""
        if self.returncode is None:
            self.returncode = code
            self.ended.set()


class Stale(Exception):  # noqa: N818 - an answer, not an error
    """The parent imported something that is no longer what is on disk."""


class Zygote:
    """One forking parent."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.process = process
        self.reader, self.writer = reader, writer
        self.answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.runs: dict[str, ForkedProcess] = {}
        self.orders = 0

    @classmethod
    async def start(
        cls, environment: Mapping[str, str], preload: Sequence[str], *, memory_mb: float, log: Log
    ) -> Zygote:
        """Start one and wait until it has imported everything.

        Raises:
            BackendError: when it cannot be used; says why.
        """
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "prefect_mlops.deployments.fork_worker.server"]
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=theirs.fileno(),
                env=dict(environment),
                cwd=os.sep,  # nothing to import there, and no settings to read
                start_new_session=True,  # Ctrl-C is for the worker, which stops runs in order
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE)
        zygote = cls(process, reader, writer)
        ready: dict[str, Any] = {"refused": "it ended while it imported"}
        try:
            await zygote._send(preload=list(preload), memory_mb=memory_mb)
            said = await asyncio.wait_for(reader.readline(), START_SECONDS)
            ready = json.loads(said or "{}").get("ready", ready)
        except ConnectionError:
            pass  # it ended
        except asyncio.TimeoutError:
            process.kill()
            ready = {"refused": f"it did not finish importing within {START_SECONDS:.0f} seconds"}
        if "refused" in ready:
            writer.close()
            raise BackendError(f"the parent of the runs cannot be used: {ready['refused']}")
        for name, reason in ready["left_out"].items():
            log.warning("Not imported ahead of the runs: %s (%s)", name, reason)
        log.info(
            "Imported ahead of the runs: %s modules in %s s, %s MB (process %s)",
            *(ready[name] for name in ("modules", "seconds", "memory_mb")),
            process.pid,
        )
        return zygote

    @property
    def usable(self) -> bool:
        """Whether it still takes orders."""
        return self.process.returncode is None and not self.writer.is_closing()

    async def fork(self, **order: Any) -> ForkedProcess:
        """Fork a run.

        Raises:
            Stale: it has to be renewed first.
            BackendError: it could not fork.
        """
        self.orders += 1
        name = str(self.orders)
        answer = self.answers[name] = asyncio.get_running_loop().create_future()
        try:
            await self._send(id=name, **order)
        except ConnectionError:
            answer.cancel()
            raise BackendError(ENDED) from None
        said = await answer
        if "stale" in said:
            raise Stale(said["stale"])
        if "refused" in said:
            raise BackendError(said["refused"])
        return self.runs[name]

    async def retire(self) -> None:
        """Take no more orders; the process ends with its last run, whose end is still reported."""
        if self.usable:
            self.writer.write_eof()

    async def _send(self, **line: Any) -> None:
        self.writer.write(json.dumps(line).encode() + b"\n")
        await self.writer.drain()

    async def _line(self) -> bytes:
        try:
            return await self.reader.readline()
        except ConnectionError:  # killed before it read everything
            return b""

    async def listen(self) -> None:
        """Take answers and ends of runs until it has ended, and its runs with it."""
        while line := await self._line():
            said = json.loads(line)
            name = said["id"]
            if "pid" in said:
                self.runs[name] = ForkedProcess(said["pid"])
            if "code" in said:
                self.runs.pop(name).end(said["code"])
            elif (answer := self.answers.pop(name, None)) and not answer.done():
                answer.set_result(said)
        self.writer.close()
        for answer in self.answers.values():
            if not answer.done():
                answer.set_result({"refused": ENDED})
        self.answers.clear()
        # Where it was killed, its runs go on, and nobody but the system sees them end.
        await asyncio.gather(self.process.wait(), *map(_watch, self.runs.values()))


async def _watch(run: ForkedProcess) -> None:
    """Wait for a process that is no child of ours; how it ended is not to be known."""
    loop = asyncio.get_running_loop()
    try:
        watched = os.pidfd_open(run.pid)  # readable once it ended, though nobody may ever collect it
    except OSError:
        run.end(GONE)
        return
    ended = asyncio.Event()
    loop.add_reader(watched, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)
    run.end(GONE)


class Zygotes:
    """The parents of a worker, by what they imported and what they read when they did."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.held: dict[str, Zygote] = {}  # the one used last comes last
        self.refused: dict[str, tuple[float, str]] = {}  # why one cannot be used, and until when that is believed
        self.listening: set[asyncio.Task[None]] = set()  # a loop keeps no task alive, nor a parent that was retired
        self.lock = asyncio.Lock()

    async def fork(
        self, environment: Mapping[str, str], preload: Sequence[str], *, memory_mb: float, **order: Any
    ) -> ForkedProcess:
        """Fork a run from a parent that fits it; start or renew that first where there is none.

        Args:
            environment: the run's whole environment.
            preload: modules to import ahead, in order.
            memory_mb: what a parent may hold before it imports no more.
            order: see `forked_run.run_order`.

        Raises:
            BackendError: no parent can be used; says why.
        """
        for _ in range(MAX_RENEWALS):
            zygote = await self.ready(environment, preload, memory_mb=memory_mb)
            try:
                return await zygote.fork(environment=dict(environment), **order)
            except Stale as changed:
                what = changed
                self.log.info("%s has changed: importing again", changed)
                await self._drop(zygote)
        raise BackendError(f"{what} changes again and again")

    async def ready(self, environment: Mapping[str, str], preload: Sequence[str], *, memory_mb: float) -> Zygote:
        """Return a parent for runs of this environment, started where there is none."""
        key = json.dumps([read_at_import(environment), list(preload), memory_mb], sort_keys=True)
        async with self.lock:  # runs that come together share one
            until, refusal = self.refused.get(key, (0.0, ""))
            if time.monotonic() < until:
                raise BackendError(refusal)
            zygote = self.held.pop(key, None)
            if zygote is None or not zygote.usable:
                for oldest in list(self.held)[: len(self.held) + 1 - MAX_ZYGOTES]:
                    await self.held.pop(oldest).retire()
                lasting = {name: value for name, value in environment.items() if not name.startswith(PER_RUN)}
                try:
                    zygote = await Zygote.start(lasting, preload, memory_mb=memory_mb, log=self.log)
                    self._listen_to(zygote)
                except BackendError as error:
                    self.refused[key] = (time.monotonic() + REFUSED_SECONDS, str(error))
                    raise
            self.held[key] = zygote
            return zygote

    def _listen_to(self, zygote: Zygote) -> None:
        listening = asyncio.create_task(zygote.listen())
        self.listening.add(listening)
        listening.add_done_callback(self.listening.discard)

    async def close(self) -> None:
        """Retire all of them."""
        for zygote in self.held.values():
            await zygote.retire()
        self.held.clear()

    async def _drop(self, zygote: Zygote) -> None:
        for key, held in list(self.held.items()):
            if held is zygote:
                await self.held.pop(key).retire()
