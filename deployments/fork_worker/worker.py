"""The work pool type ``warm-process``: a process worker whose flow runs need not import everything again.

    prefect work-pool create my-pool --type warm-process
    prefect worker start --pool my-pool

Flow runs are forked from a server process that has imported the libraries already, and a run that is due wakes the
worker at once. Everything else is Prefect's process worker: states, pull steps, logs, cancellation, crash detection,
limits. The private names of Prefect that this needs are in `internals`, each with what happens where it is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import anyio.abc
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.logging import get_logger
from prefect.logging.loggers import get_worker_logger
from prefect.workers.process import ProcessWorker, ProcessWorkerResult

from prefect_mlops.deployments.fork_worker.client import ForkClients
from prefect_mlops.deployments.fork_worker.internals import FORKED_RUNS, LABELS, OF_RUNS, UI_FORM, missing
from prefect_mlops.deployments.fork_worker.pool import WarmProcessJobConfiguration, WarmProcessVariables

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from prefect.client.schemas.objects import FlowRun, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

    from prefect_mlops.deployments.fork_worker.client import Log

FORKS = sys.platform == "linux"  # the frameworks of macOS do not survive a fork, Windows has none
DISPLAY_NAME = "Warm process"
WORKER_TYPES = "aggregate-worker-metadata"  # the server's list of types
SCHEDULED = "prefect.flow-run.Scheduled"
FREED_SECONDS = 0.05
RECONNECT_SECONDS = 5.0  # until then, runs are found by polling


class WarmProcessWorker(ProcessWorker):
    """Runs flows in processes forked from one that has imported the libraries already."""

    type = "warm-process"
    job_configuration = WarmProcessJobConfiguration
    job_configuration_variables = WarmProcessVariables  # type: ignore[assignment]
    _display_name = DISPLAY_NAME
    _description = (
        "Execute flow runs as processes on this machine, forked from one that has imported the libraries already, so "
        "that a run starts in a fraction of a second. On Linux; elsewhere runs start as those of a process worker."
    )

    _documentation_url = ProcessWorker.get_documentation_url()  # the options are the same, but for two
    _logo_url = ProcessWorker.get_logo_url()

    clients: ForkClients
    _forks: bool
    _due: asyncio.Event
    _submitting: asyncio.Lock
    _services: tuple[asyncio.Task[None], ...] = ()
    _labelling: set[asyncio.Task[None]]

    async def run(
        self,
        flow_run: FlowRun,
        configuration: WarmProcessJobConfiguration,  # type: ignore[override]
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Run a flow run in a forked process; in a new one where the pool names a command of its own.

        Args:
            flow_run: what to run.
            configuration: how.
            task_status: gets the process id.

        Returns:
            How the process ended.
        """
        deployment = configuration.deployment
        if not self._forks or configuration.own_command or deployment is None:
            return await super().run(flow_run, configuration, task_status)
        given = configuration.working_dir
        made = contextlib.nullcontext(given) if given else tempfile.TemporaryDirectory(suffix="prefect")
        with made as folder:
            ended = await self._forked(
                flow_run, configuration, deployment, Path(folder).resolve(), task_status or anyio.TASK_STATUS_IGNORED
            )
        with contextlib.suppress(RuntimeError):  # the worker has no limit
            if self.limiter:  # another run may wait for its place, which is free in a moment
                asyncio.get_running_loop().call_later(FREED_SECONDS, self._due.set)
        return ended

    async def _forked(
        self,
        flow_run: FlowRun,
        configuration: WarmProcessJobConfiguration,
        deployment: DeploymentResponse,
        folder: Path,
        task_status: anyio.abc.TaskStatus[int],
    ) -> ProcessWorkerResult:
        from prefect.runner._flow_run_executor import FlowRunExecutorContext

        from prefect_mlops.deployments.fork_worker.starter import ForkStarter, execute

        async with FlowRunExecutorContext() as context:
            starter = ForkStarter(
                self.clients, configuration, deployment, folder=folder, control_channel=context.control_channel
            )
            context.call_after_exit(starter.close)
            result = await execute(context, flow_run, starter, task_status)
        if result is None or result.status_code is None:
            raise RuntimeError("Failed to start flow run process.")
        return ProcessWorkerResult(status_code=result.status_code, identifier=str(result.handle.pid))

    async def setup(self) -> None:
        """Prepare the worker; imports ahead and wake-ups begin with the first contact to the server."""
        self._forks = self._can_fork()
        self.clients = ForkClients(self.log)
        self._due, self._submitting, self._labelling = asyncio.Event(), asyncio.Lock(), set()
        await super().setup()

    async def teardown(self, *exc_info: Any) -> None:
        """Stop taking runs; the fork servers end with the last of theirs."""
        for task in self._services:
            task.cancel()
        self._services = ()
        try:
            await super().teardown(*exc_info)
        finally:
            for task in self._labelling:
                task.cancel()
            await self.clients.close()

    @property
    def log(self) -> Log:
        """The worker's log."""
        return get_worker_logger(self)

    def _can_fork(self) -> bool:
        """Say whether runs are forked; what Prefect lacks for it, or for its speed, is logged once."""
        if not FORKS:
            self.log.warning("Runs start as those of a process worker: forks need Linux.")
            return False
        lacking = missing(FORKED_RUNS)
        for lack in filter(None, [lacking] if lacking else map(missing, (*OF_RUNS, LABELS))):
            self.log.warning(lack)
        return lacking is None

    async def sync_with_backend(self) -> None:
        """Report to the server, and with the first answer start to listen for runs and to import ahead of them."""
        await super().sync_with_backend()
        if self._services or (pool := self._pool()) is None:
            return
        services = (self._listen(pool), self._submit_when_due(), *([self._import_ahead(pool)] if self._forks else []))
        self._services = tuple(map(asyncio.create_task, services))

    def _pool(self) -> WorkPool | None:
        """Return the work pool; None before the server has described it."""
        try:
            return self.work_pool
        except RuntimeError:
            return None

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Look for runs that are due, and start them; once at a time, whether an event or the clock asks for it."""
        async with self._submitting:
            return await super().get_and_submit_flow_runs()

    async def _submit_when_due(self) -> None:
        """Look for runs when there may be some: once for all the events that came meanwhile."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.get_and_submit_flow_runs()
            except Exception as error:  # noqa: BLE001 - the next poll finds them, or says what is wrong
                self.log.debug("Looking for flow runs failed: %s", error)

    async def _listen(self, pool: WorkPool) -> None:
        """Wake up for runs that are scheduled in this pool; polling goes on, for events that are missed."""
        wanted = EventFilter(
            event=EventNameFilter(name=[SCHEDULED]),
            any_resource=EventAnyResourceFilter(id=[f"prefect.work-pool.{pool.id}"]),
        )
        while True:
            try:
                async with get_events_subscriber(filter=wanted, reconnect_on_clean_close=True) as events:
                    async for _ in events:
                        self._due.set()
            except Exception as error:  # noqa: BLE001 - the server is away; polling says so, and finds it again
                self.log.debug("Events do not come, runs are found by polling: %s", error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _import_ahead(self, pool: WorkPool) -> None:
        """Start the fork server for runs without settings of their own."""
        from prefect_mlops.deployments.fork_worker.starter import complete_environment

        try:
            configuration: WarmProcessJobConfiguration = await WarmProcessJobConfiguration.from_template_and_values(
                base_job_template=pool.base_job_template, values={}, client=self.client
            )
            environment = complete_environment({**os.environ, **configuration.env})
            await self.clients.ready(environment, configuration.imported_ahead, memory_mb=configuration.memory_mb)
        except Exception as error:  # noqa: BLE001 - a run will meet it again and start without
            self.log.warning("Nothing is imported ahead of the runs: %s", error)

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Label the run without making it wait: on SQLite this request meets others and is repeated after seconds."""
        labelling = asyncio.create_task(self._logged(super()._give_worker_labels_to_flow_run(flow_run_id)))
        self._labelling.add(labelling)
        labelling.add_done_callback(self._labelling.discard)

    async def _logged(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - labels are for people; the run goes on without
            self.log.debug("A flow run could not be labelled: %s", error)


def offer_in_ui() -> None:
    """Let a Prefect server in this process offer the type in its form for new work pools.

    A server lists the types of a file of Prefect's own, which it fetches or has with it; packages cannot add to that.
    """
    collections: Any = sys.modules.get("prefect.server.api.collections")
    if collections is None:
        return  # this process is no server
    if lack := missing(UI_FORM):
        get_logger("prefect_mlops").warning(lack)
        return
    listed = collections.get_collection_view
    ours = {
        "type": WarmProcessWorker.type,
        "display_name": DISPLAY_NAME,
        "description": WarmProcessWorker.get_description(),
        "documentation_url": WarmProcessWorker.get_documentation_url(),
        "logo_url": WarmProcessWorker.get_logo_url(),
        "install_command": "pip install prefect-mlops",
        "default_base_job_configuration": WarmProcessWorker.get_default_base_job_template(),
        "is_beta": False,
    }

    async def with_ours(view: str) -> dict[str, Any]:
        found: dict[str, Any] = await listed(view)
        return {**found, "prefect-mlops": {WarmProcessWorker.type: ours}} if view == WORKER_TYPES else found

    collections.get_collection_view = with_ours


offer_in_ui()
