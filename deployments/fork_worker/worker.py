"""The work pool type ``warm-process``: a process worker whose runs do not import everything again.

    prefect work-pool create my-pool --type warm-process
    prefect worker start --pool my-pool

Runs are forked from a parent that has imported the libraries already, and a run that is due wakes the worker at once.
Everything else is Prefect's process worker: states, pull steps, logs, cancellation, crash detection, limits. It is
built from parts of Prefect 3.8 that are not public, so an upgrade of Prefect goes together with its tests.
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
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.workers.process import ProcessWorker, ProcessWorkerResult

from prefect_mlops.deployments.fork_worker.client import Zygotes
from prefect_mlops.deployments.fork_worker.pool import PRELOAD, WarmProcessJobConfiguration, WarmProcessVariables
from prefect_mlops.deployments.fork_worker.starter import ForkStarter, execute, whole_environment

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from prefect.client.schemas.objects import FlowRun

FORKS = sys.platform == "linux"  # the frameworks of macOS do not survive a fork, Windows has none
WORKER_TYPES = "aggregate-worker-metadata"  # the server's list of types
SCHEDULED = "prefect.flow-run.Scheduled"
FREED_SECONDS = 0.05
RECONNECT_SECONDS = 5.0  # until then, runs are found by polling


class WarmProcessWorker(ProcessWorker):
    """Runs flows in processes forked from one that has imported the libraries already."""

    type = "warm-process"
    job_configuration = WarmProcessJobConfiguration
    job_configuration_variables = WarmProcessVariables  # type: ignore[assignment]
    _display_name = "Warm process"
    _description = (
        "Execute flow runs as processes on this machine, forked from one that has imported the libraries already, so "
        "that a run starts in a fraction of a second. On Linux; elsewhere runs start as those of a process worker."
    )

    _documentation_url = ProcessWorker.get_documentation_url()  # the options are the same, but for two
    _logo_url = ProcessWorker.get_logo_url()

    zygotes: Zygotes
    _due: asyncio.Event
    _looking: asyncio.Lock
    _background: tuple[asyncio.Task[None], ...] = ()

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
            task_status: told of the process id.

        Returns:
            How the process ended.
        """
        own_command = configuration._command_configured  # noqa: SLF001 - Prefect's workers read it
        deployment = getattr(configuration, "_deployment", None)
        if own_command or not FORKS or deployment is None:
            return await super().run(flow_run, configuration, task_status)
        given = configuration.working_dir
        made = contextlib.nullcontext(given) if given else tempfile.TemporaryDirectory(suffix="prefect")
        with made as folder:
            async with FlowRunExecutorContext() as context:
                place = Path(folder).resolve()
                starter = ForkStarter(
                    self.zygotes,
                    configuration,
                    deployment,
                    workspace_root=place,
                    source_cwd=place,
                    control_channel=context.control_channel,
                )
                context.call_after_exit(starter.close)
                result = await execute(context, flow_run, starter, task_status or anyio.TASK_STATUS_IGNORED)
        if self._limiter is not None:  # somebody may wait for its place, which is free in a moment
            asyncio.get_running_loop().call_later(FREED_SECONDS, self._due.set)
        if result is None or result.status_code is None:
            raise RuntimeError("Failed to start flow run process.")
        return ProcessWorkerResult(status_code=result.status_code, identifier=str(result.handle.pid))

    async def setup(self) -> None:
        """Prepare the worker; what it imports ahead and what wakes it start with the first contact to the server."""
        self.zygotes = Zygotes(self._logger)
        self._due, self._looking = asyncio.Event(), asyncio.Lock()
        await super().setup()

    async def teardown(self, *exc_info: Any) -> None:
        """Stop taking runs; the parents end with the last of theirs."""
        for task in self._background:
            task.cancel()
        self._background = ()
        try:
            await super().teardown(*exc_info)
        finally:
            await self.zygotes.close()

    async def _initialize_after_sync(self) -> None:
        await super()._initialize_after_sync()
        if self._work_pool is None or self._background:
            return
        if not FORKS:
            self._logger.warning("Runs start as those of a process worker: a warm parent needs Linux.")
        services = (self._listen(), self._look(), *([self._import_ahead()] if FORKS else []))
        self._background = tuple(map(asyncio.create_task, services))

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Look for runs that are due, and start them; once at a time, whether an event or the clock asks for it."""
        async with self._looking:
            return await super().get_and_submit_flow_runs()

    async def _look(self) -> None:
        """Look for runs when there may be some: once for all the events that came meanwhile."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.get_and_submit_flow_runs()
            except Exception as error:  # noqa: BLE001 - the next poll finds them, or says what is wrong
                self._logger.debug("Looking for flow runs failed: %s", error)

    async def _listen(self) -> None:
        """Hear of runs that are scheduled in this pool; polling goes on underneath, for what is missed."""
        wanted = EventFilter(
            event=EventNameFilter(name=[SCHEDULED]),
            any_resource=EventAnyResourceFilter(id=[f"prefect.work-pool.{self.work_pool.id}"]),
        )
        while True:
            try:
                async with get_events_subscriber(filter=wanted, reconnect_on_clean_close=True) as events:
                    async for _ in events:
                        self._due.set()
            except Exception as error:  # noqa: BLE001 - the server is away; polling says so, and finds it again
                self._logger.debug("Events do not come, runs are found by polling: %s", error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _import_ahead(self) -> None:
        """Start the parent that runs without settings of their own will need."""
        try:
            configuration: WarmProcessJobConfiguration = await WarmProcessJobConfiguration.from_template_and_values(
                base_job_template=self.work_pool.base_job_template, values={}, client=self.client
            )
            environment = whole_environment({**os.environ, **configuration.env})
            await self.zygotes.ready(environment, configuration.preload or PRELOAD, memory_mb=configuration.memory_mb)
        except Exception as error:  # noqa: BLE001 - a run will meet it again and start without
            self._logger.warning("Nothing is imported ahead of the runs: %s", error)

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Label the run without making it wait: on SQLite this request meets others and is repeated after seconds."""
        if self._runs_task_group is not None:
            self._runs_task_group.start_soon(self._logged, super()._give_worker_labels_to_flow_run(flow_run_id))

    async def _logged(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - labels are for people; the run goes on without
            self._logger.debug("A flow run could not be labelled: %s", error)


def offer_in_ui() -> None:
    """Let a Prefect server that this is installed beside offer the type in its form for new work pools.

    A server knows the types of Prefect's own list only, which it fetches or has with it; packages cannot add to that.
    """
    collections: Any = sys.modules.get("prefect.server.api.collections")  # where this process is a server
    if collections is None:
        return
    listed = collections.get_collection_view
    ours = {
        "type": WarmProcessWorker.type,
        "display_name": WarmProcessWorker._display_name,  # noqa: SLF001 - the one that has no getter
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
