"""What the contestants share: servers, data, workers, and ways to start something and wait for its end."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.processes import Child, descendants, start_child, stop_children, tail

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, TaskRun

HERE = Path(__file__).parent
WARM_TYPE = "warm-process"
RUN_SECONDS = 300.0
WORKER_SECONDS = 120.0
LOOK_SECONDS = 0.2  # how often a run is looked at; its end is taken from its state
SAMPLE_SECONDS = 0.1
BUSY_SHARE = 0.25  # of a core; a worker that asks five times a second takes a tenth


class ContestantError(Exception):
    """A contestant did not do its work."""


@dataclass(frozen=True)
class Worker:
    """A worker, its pool and how its runs are started."""

    name: str
    type: str = "process"
    environment: Mapping[str, str] = field(default_factory=dict)
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    looks_every: float = 0.0  # seconds; a run is created at any moment between two looks


STOCK = Worker("stock", looks_every=10.0)
TUNED = Worker(
    "tuned",
    environment={"PREFECT_WORKER_QUERY_SECONDS": "0.2"},
    # Any command of one's own skips the process that prepares a workspace, and its import of Prefect.
    job_variables={"command": f"{sys.executable} -m prefect.engine"},
)
WARM = Worker("warm", type=WARM_TYPE)


@dataclass(frozen=True)
class Seen:
    """What was seen of one execution.

    Attributes:
        seconds: from its start, or from the creation of its flow run, to its end.
        processor: seconds of processor time, of all its processes; the worker's too, not the servers'.
        first_line: seconds to the first line of its flow; None for a script.
        flow_run: id of the flow run; None for a script.
    """

    seconds: float
    processor: float
    first_line: float | None = None
    flow_run: UUID | None = None


class Peak:
    """Follow the memory of a process and its descendants: pages they share count once."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.megabytes = 0.0
        self._done = threading.Event()

    @contextmanager
    def of(self, root: int) -> Iterator[None]:
        """Sample while the block lasts."""
        thread = threading.Thread(target=self._follow, args=(root,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _follow(self, root: int) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            total = sum(map(proportional_kilobytes, (root, *descendants([root]))))
            self.megabytes = max(self.megabytes, total / 1000)


def proportional_kilobytes(process: int) -> int:
    """Return the memory of a process, with its share of what it shares; 0 where it is gone or not on Linux."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class Stage:
    """Servers that run, a folder, and what is deployed."""

    def __init__(self, folder: Path, environment: Mapping[str, str], client: SyncPrefectClient) -> None:
        """Take what runs already."""
        self.folder, self.client = folder, client
        self.environment = {**os.environ, **environment, "PYTHONPATH": str(HERE), "PREFECT_LOGGING_LEVEL": "WARNING"}
        self.worker: Child | None = None
        self._deployed: dict[tuple[str, str], UUID] = {}
        self._events: set[str] = set()
        self._turns = 0

    def script(self, *arguments: str, peak: Peak | None = None) -> tuple[Seen, str]:
        """Run one of our programs in a process of its own; returns what was seen and what it printed."""
        command = [sys.executable, *arguments]
        logs = [self.folder / "logs" / f"{Path(arguments[0]).stem}.{kind}" for kind in ("out", "err")]
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        with logs[0].open("w") as out, logs[1].open("w") as err:
            start = time.perf_counter()
            process = subprocess.Popen(  # noqa: S603 - programs of this folder
                command, cwd=self.folder, env=self.environment, stdout=out, stderr=err
            )
            if peak:
                with peak.of(process.pid):
                    process.wait()
            seconds = time.perf_counter() - start if process.wait() == 0 else 0.0
        if process.returncode:
            raise ContestantError(f"{arguments[0]} ended with {process.returncode}:\n{tail(logs[1])}")
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        return Seen(seconds, processor), logs[0].read_text()

    @contextmanager
    def turn(self, worker: Worker) -> Iterator[None]:
        """Run a worker while the block lasts, from when it has done a first, empty run."""
        self._turns += 1
        self.worker = start_child(
            f"worker {worker.name}",
            [
                *(sys.executable, "-m", "prefect", "worker", "start", "--type", worker.type),
                *("--pool", worker.name, "--name", f"{worker.name}-{self._turns}"),
            ],
            environment={**self.environment, **worker.environment},
            log=self.folder / "logs" / f"worker-{worker.name}.log",
            folder=self.folder,
        )
        try:
            self._await_worker(worker, f"{worker.name}-{self._turns}")
            self.run(worker, "empty_flows.empty")
            self._await_rest()
            yield
        finally:
            stop_children([self.worker])

    def _await_worker(self, worker: Worker, name: str) -> None:
        from prefect.exceptions import PrefectHTTPStatusError

        assert self.worker is not None  # noqa: S101 - started by the caller
        deadline = time.monotonic() + WORKER_SECONDS
        while True:
            try:
                if any(one.name == name for one in self.client.read_workers_for_work_pool(worker.name, limit=200)):
                    return
            except PrefectHTTPStatusError:
                pass  # a worker makes its pool
            if not self.worker.alive or time.monotonic() > deadline:
                raise ContestantError(f"worker {worker.name} did not start:\n{tail(self.worker.log)}")
            time.sleep(0.1)

    def _await_rest(self) -> None:
        """Wait until the worker and what it started have nothing to do: what is imported ahead is imported then."""
        assert self.worker is not None  # noqa: S101 - started by the caller
        root, used, deadline = self.worker.process.pid, -1.0, time.monotonic() + WORKER_SECONDS
        while (now := processor_seconds(root)) - used > BUSY_SHARE and time.monotonic() < deadline:
            used = now
            time.sleep(1.0)

    def deploy(self, worker: Worker, entrypoint: str) -> UUID:
        """Deploy a flow of ours, by a module's name or as the documentation does by a path; once for a worker."""
        known = self._deployed.get((worker.name, entrypoint))
        if known:
            return known
        pull = [{"prefect.deployments.steps.set_working_directory": {"directory": str(HERE)}}]
        made = self.client.create_deployment(
            self.client.create_flow_from_name(entrypoint.rpartition(".")[2]),
            name=f"{entrypoint} {worker.name}",
            entrypoint=entrypoint,
            work_pool_name=worker.name,
            job_variables=dict(worker.job_variables),
            pull_steps=pull if ":" in entrypoint else [],
            parameter_openapi_schema={"type": "object", "properties": {}},
            enforce_parameter_schema=False,
        )
        self._deployed[worker.name, entrypoint] = made
        return made

    def wake_on_event(self, worker: Worker, entrypoint: str, event: str, names: Sequence[str]) -> UUID:
        """Let an event start a flow, as a trigger in ``prefect.yaml`` does; the event carries the parameters."""
        from prefect.events import DeploymentEventTrigger

        deployment = self.deploy(worker, entrypoint)
        if event in self._events:
            return deployment
        self._events.add(event)
        trigger = DeploymentEventTrigger(
            name=event, expect={event}, parameters={name: f"{{{{ event.payload.{name} }}}}" for name in names}
        )
        trigger.set_deployment_id(deployment)
        self.client.create_automation(trigger.as_automation())
        return deployment

    def run(self, worker: Worker, entrypoint: str, **parameters: Any) -> Seen:
        """Create a flow run and wait for its end; only flows with a stamp tell when their first line ran."""
        deployment = self.deploy(worker, entrypoint)
        stamp = self.folder / f"stamp-{time.time_ns()}"
        stamped = {} if entrypoint.startswith("prefect_mlops.") else {"stamp": str(stamp)}
        time.sleep(random.uniform(0, worker.looks_every))  # noqa: S311 - no secret
        assert self.worker is not None  # noqa: S101 - it is this worker's turn
        root = self.worker.process.pid
        used, start = processor_seconds(root), time.time()
        made = self.client.create_flow_run_from_deployment(deployment, parameters={**parameters, **stamped})
        ended = self.wait(made.id)
        first_line = float(stamp.read_text()) - start if stamped else None
        return Seen(ended - start, processor_seconds(root) - used, first_line, made.id)

    def last_run(self, deployment: UUID | None = None) -> FlowRun | None:
        """Return the flow run that was started last, of a deployment or at all."""
        from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
        from prefect.client.schemas.sorting import FlowRunSort

        of = DeploymentFilter(id=DeploymentFilterId(any_=[deployment])) if deployment else None
        found = self.client.read_flow_runs(deployment_filter=of, sort=FlowRunSort.START_TIME_DESC, limit=1)
        return found[0] if found else None

    def tasks(self, flow_run: UUID) -> list[TaskRun]:
        """Return the task runs of a flow run, in their order."""
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
        found = self.client.read_task_runs(flow_run_filter=chosen, limit=200)
        return sorted((task for task in found if task.start_time), key=lambda task: task.start_time)

    def wait(self, flow_run: UUID) -> float:
        """Wait for a flow run; returns when it completed."""
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            state = self.client.read_flow_run(flow_run).state
            if state is not None and state.is_final():
                break
            if time.monotonic() > deadline:
                raise ContestantError(f"flow run {flow_run} did not end within {RUN_SECONDS:.0f} seconds: {state}")
            time.sleep(LOOK_SECONDS)
        if not state.is_completed():
            log = tail(self.worker.log) if self.worker else ""
            raise ContestantError(f"flow run {flow_run} ended as {state.name}: {state.message}\n{log}")
        return float(state.timestamp.timestamp())


def processor_seconds(root: int) -> float:
    """Return the processor time that a process and its descendants have used; 0 where /proc does not tell."""
    total = 0
    for process in (root, *descendants([root])):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))  # its own, and that of children that have ended
    return total / os.sysconf("SC_CLK_TCK")
