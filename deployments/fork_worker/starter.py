"""Starts a flow run in a forked process, for Prefect's own executor of flow runs.

Import it only where `internals.FORKED_RUNS` has everything: its base class is a private one of Prefect.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc
from prefect.runner._process_manager import ProcessHandle, create_isolated_termination_scope
from prefect.runner._workspace_runtime import WorkspaceSupervisorConfig, write_private_model
from prefect.runner._workspace_starter import WorkspaceResolvingEngineCommandStarter
from prefect.settings import get_current_settings
from prefect.utilities.processutils import sanitize_subprocess_env

from prefect_mlops.core.errors import BackendError
from prefect_mlops.deployments.fork_worker.internals import CONTROL_PORT, CONTROL_TOKEN, RUN_HOOKS, RUN_ID

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.runner._control_channel import ControlChannel
    from prefect.runner._flow_run_executor import FlowRunExecutionResult, FlowRunExecutorContext

    from prefect_mlops.deployments.fork_worker.client import ForkClients
    from prefect_mlops.deployments.fork_worker.pool import WarmProcessJobConfiguration


class ForkStarter(WorkspaceResolvingEngineCommandStarter):
    """Starts a flow run as Prefect's own starter does, in a forked process instead of a new one."""

    def __init__(
        self,
        clients: ForkClients,
        configuration: WarmProcessJobConfiguration,
        deployment: DeploymentResponse,
        *,
        folder: Path,
        control_channel: ControlChannel,
    ) -> None:
        super().__init__(
            workspace_root=folder,
            source_cwd=folder,
            environment=configuration.env,
            stream_output=configuration.stream_output,
            control_channel=control_channel,
        )
        self.clients, self.configuration, self.deployment = clients, configuration, deployment
        self.folder, self.channel = folder, control_channel

    async def start(
        self, flow_run: FlowRun, task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Fork, report the process, and wait for its end; start the flow run the stock way where no fork is possible.

        Args:
            flow_run: what to run.
            task_status: gets the process as soon as there is one.
        """
        config = WorkspaceSupervisorConfig(
            flow_run_id=flow_run.id, workspace_root=self.folder, manifest_path=self._manifest_path
        )
        write_private_model(self._config_path, config)
        try:
            process = await self.clients.fork(
                complete_environment({**self.configuration.env, **self._run_variables(flow_run)}),
                self.configuration.imported_ahead,
                memory_mb=self.configuration.memory_mb,
                flow_run=flow_run.model_dump_json(),
                deployment=self.deployment.model_dump_json(),
                folder=str(self.folder),
                config=str(self._config_path),
                output=self.configuration.stream_output,
            )
        except BackendError as error:
            self.clients.log.warning("Flow run '%s' starts as in a process worker: %s", flow_run.name, error)
            await super().start(flow_run, task_status)
            return
        scope = create_isolated_termination_scope(process.pid)
        task_status.started(ProcessHandle(process, termination_scope=scope))  # type: ignore[arg-type]
        try:
            await process.wait()
        finally:
            if process.returncode is None:  # the worker is being stopped
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)

    def _run_variables(self, flow_run: FlowRun) -> dict[str, str | None]:
        """Return the variables that name the flow run and the channel for its cancellation and its end."""
        control: dict[str, str | None] = {}
        with contextlib.suppress(RuntimeError):  # no port to listen on: then it is cancelled by a signal alone
            port, token = self.channel.register(flow_run.id)
            control = {CONTROL_PORT: str(port), CONTROL_TOKEN: token}
        return {RUN_ID: str(flow_run.id), RUN_HOOKS: "false", **control}


async def execute(
    context: FlowRunExecutorContext, flow_run: FlowRun, starter: ForkStarter, task_status: anyio.abc.TaskStatus[int]
) -> FlowRunExecutionResult | None:
    """Let Prefect's executor see the flow run through, and report its process id as soon as it is known."""
    executor = context.create_executor(flow_run, starter, propose_submitting=False, hook_runner=starter.hook_runner)
    results: list[FlowRunExecutionResult | None] = []

    async def run(*, task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED) -> None:
        results.append(await executor.submit(task_status=task_status))

    async with anyio.create_task_group() as group:
        handle: ProcessHandle = await group.start(run)
        task_status.started(handle.pid)  # type: ignore[arg-type]
    return results[0]


def complete_environment(own: dict[str, str | None]) -> dict[str, str]:
    """Complete a flow run's variables to a whole environment, as Prefect's process worker does.

    Args:
        own: what the pool, the deployment and the run set; None takes a variable away.

    Returns:
        Variables of the worker, then its Prefect settings, then the run's own.
    """
    return sanitize_subprocess_env({**os.environ, **_settings(), **own})


@functools.cache
def _settings() -> dict[str, str]:
    """Return the worker's Prefect settings as variables: the same all its life, and slow to dump."""
    return get_current_settings().to_environment_variables(exclude_unset=True)
