"""The worker's side of the fork servers: started when they are needed, renewed when they are stale, a few at most."""

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
from prefect_mlops.deployments.fork_worker.import_inputs import read_at_import
from prefect_mlops.deployments.fork_worker.internals import PER_RUN

if TYPE_CHECKING:
    import logging

    Log = logging.Logger | logging.LoggerAdapter[logging.Logger]

MAX_SERVERS = 3  # each holds what it imported: half a gigabyte with the libraries of this project
MAX_RENEWALS = 3  # for one run; an installation that takes longer is not waited for
MAX_LINE = 1 << 20
START_SECONDS = 300.0  # cold disks take a minute; an import that takes longer does not end
REFUSED_SECONDS = 60.0  # until then, runs of this kind start without: a failing import takes seconds of each
ENDED = "the fork server ended"
UNKNOWN_END = -9  # SIGKILL: the exit code reported where the real one cannot be known


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
    """The fork server imported a file that has changed on disk since."""


class ForkClient:
    """One fork server, and the flow runs that were forked from it."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.process = process
        self.reader, self.writer = reader, writer
        self.answers: dict[str, asyncio.Future[ForkedProcess]] = {}
        self.runs: dict[str, ForkedProcess] = {}
        self.requests = 0

    @classmethod
    async def start(
        cls, environment: Mapping[str, str], preload: Sequence[str], *, memory_mb: float, log: Log
    ) -> ForkClient:
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
        client = cls(process, reader, writer)
        ready: dict[str, Any] = {"refused": "it ended while it imported"}
        try:
            await client._send(preload=list(preload), memory_mb=memory_mb)
            line = await asyncio.wait_for(reader.readline(), START_SECONDS)
            ready = json.loads(line or "{}").get("ready", ready)
        except ConnectionError:
            pass  # it ended
        except asyncio.TimeoutError:
            process.kill()
            ready = {"refused": f"it did not finish importing within {START_SECONDS:.0f} seconds"}
        if "refused" in ready:
            writer.close()
            raise BackendError(f"the fork server cannot be used: {ready['refused']}")
        for name, reason in ready["left_out"].items():
            log.warning("Not imported ahead of the runs: %s (%s)", name, reason)
        log.info(
            "Imported ahead of the runs: %s modules in %s s, %s MB (process %s)",
            *(ready[name] for name in ("modules", "seconds", "memory_mb")),
            process.pid,
        )
        return client

    @property
    def usable(self) -> bool:
        """Whether it still takes requests."""
        return self.process.returncode is None and not self.writer.is_closing()

    async def fork(self, **request: Any) -> ForkedProcess:
        """Fork a run.

        Raises:
            Stale: it has to be renewed first.
            BackendError: it could not fork.
        """
        self.requests += 1
        name = str(self.requests)
        answer: asyncio.Future[ForkedProcess] = asyncio.get_running_loop().create_future()
        self.answers[name] = answer
        try:
            await self._send(id=name, **request)
        except ConnectionError:
            answer.cancel()
            raise BackendError(ENDED) from None
        return await answer

    async def retire(self) -> None:
        """Take no more requests; the process ends with its last run, whose end is still reported."""
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
            self._take(json.loads(line))
        self.writer.close()
        for name in list(self.answers):
            self._take({"id": name, "refused": ENDED})
        # Where it was killed, its runs go on, and only the system sees them end.
        await asyncio.gather(self.process.wait(), *map(_watch, self.runs.values()))

    def _take(self, message: dict[str, Any]) -> None:
        """Take one message: how a run ended, or the answer to a request.

        A run that ends at once is answered and reported in one go, before the one who asked for it sees the answer: so
        the answer is the process itself.
        """
        name = message["id"]
        if "code" in message:
            self.runs.pop(name).end(message["code"])
            return
        answer = self.answers.pop(name)
        if "pid" in message:
            process = self.runs[name] = ForkedProcess(message["pid"])
            if not answer.done():
                answer.set_result(process)
        elif not answer.done():
            answer.set_exception(Stale(message["stale"]) if "stale" in message else BackendError(message["refused"]))


async def _watch(run: ForkedProcess) -> None:
    """Wait for a process that is no child of ours; how it ended cannot be known."""
    loop = asyncio.get_running_loop()
    try:
        watched = os.pidfd_open(run.pid)  # readable once it ended, collected or not
    except OSError:
        run.end(UNKNOWN_END)
        return
    ended = asyncio.Event()
    loop.add_reader(watched, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)
    run.end(UNKNOWN_END)


class ForkClients:
    """The fork servers of a worker, by the modules they imported and the variables they read when they did."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.held: dict[str, ForkClient] = {}  # the one used last comes last
        self.refused: dict[str, tuple[float, str]] = {}  # until when one is not tried again, and why it cannot be used
        self.listening: set[asyncio.Task[None]] = set()  # of retired ones too: an event loop keeps no task alive
        self.lock = asyncio.Lock()

    async def fork(
        self, environment: Mapping[str, str], preload: Sequence[str], *, memory_mb: float, **request: Any
    ) -> ForkedProcess:
        """Fork a run from a fork server that fits it; start or renew that first where there is none.

        Args:
            environment: the run's whole environment.
            preload: modules to import ahead, in order.
            memory_mb: resident memory (MB) at which a fork server imports no more.
            request: see `run.run_request`.

        Raises:
            BackendError: no fork server can be used; says why.
        """
        for _ in range(MAX_RENEWALS):
            client = await self.ready(environment, preload, memory_mb=memory_mb)
            try:
                return await client.fork(environment=dict(environment), **request)
            except Stale as changed:
                what = changed
                self.log.info("%s has changed: importing again", changed)
                await self._drop(client)
        raise BackendError(f"{what} changes again and again")

    async def ready(self, environment: Mapping[str, str], preload: Sequence[str], *, memory_mb: float) -> ForkClient:
        """Return the fork server for runs of this environment, started where there is none."""
        key = json.dumps([read_at_import(environment), list(preload), memory_mb], sort_keys=True)
        async with self.lock:  # runs that come together share one
            until, refusal = self.refused.get(key, (0.0, ""))
            if time.monotonic() < until:
                raise BackendError(refusal)
            client = self.held.pop(key, None)
            if client is None or not client.usable:
                for oldest in list(self.held)[: len(self.held) + 1 - MAX_SERVERS]:
                    await self.held.pop(oldest).retire()
                lasting = {name: value for name, value in environment.items() if not name.startswith(PER_RUN)}
                try:
                    client = await ForkClient.start(lasting, preload, memory_mb=memory_mb, log=self.log)
                    self._listen_to(client)
                except BackendError as error:
                    self.refused[key] = (time.monotonic() + REFUSED_SECONDS, str(error))
                    raise
            self.held[key] = client
            return client

    def _listen_to(self, client: ForkClient) -> None:
        listening = asyncio.create_task(client.listen())
        self.listening.add(listening)
        listening.add_done_callback(self.listening.discard)

    async def close(self) -> None:
        """Retire all of them."""
        for client in self.held.values():
            await client.retire()
        self.held.clear()

    async def _drop(self, client: ForkClient) -> None:
        for key, held in list(self.held.items()):
            if held is client:
                await self.held.pop(key).retire()
