"""What a ``warm-process`` work pool lets its users set: a process worker's options, and what is imported ahead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect.workers.process import ProcessJobConfiguration, ProcessVariables
from pydantic import Field, PrivateAttr

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

# What the flows of this project import anywhere: a run of `ingest`, `train` or `monitor` has nothing left to import
# that costs more than a few milliseconds. A name that an installed release does not have is left out, with a warning.
PRELOAD = (
    *("prefect.flow_engine", "prefect.task_engine", "prefect.runner._workspace_supervisor", "anyio._backends._asyncio"),
    *("pandas", "pyarrow.dataset", "pyarrow.parquet", "deltalake"),
    *("sklearn.ensemble", "sklearn.inspection", "skops.io"),
    *("mlflow.sklearn", "mlflow.pyfunc.loaders", "mlflow.tracking.request_header.registry"),
    *("great_expectations", "evidently", "matplotlib.figure", "matplotlib.backends.backend_svg"),
    *("prefect_mlops.flows.ingest", "prefect_mlops.flows.train", "prefect_mlops.flows.monitor"),
)
MEMORY_MB = 2000.0  # the libraries of this project take about 500


class WarmProcessJobConfiguration(ProcessJobConfiguration):
    """What a flow run is started with: the options of a process worker, and what is imported ahead."""

    preload: list[str] = Field(default=[])
    memory_mb: float = Field(default=MEMORY_MB)

    _deployment: Any = PrivateAttr(default=None)  # a DeploymentResponse
    _own_command: bool = PrivateAttr(default=False)

    @property
    def deployment(self) -> DeploymentResponse | None:
        """The deployment of the flow run; None where it has none."""
        found: DeploymentResponse | None = self._deployment
        return found

    @property
    def imported_ahead(self) -> Sequence[str]:
        """The modules to import ahead: those of the pool or deployment, else those of this project's flows."""
        return self.preload or PRELOAD

    @property
    def own_command(self) -> bool:
        """Whether the pool or the deployment names a command of its own."""
        return self._own_command

    def prepare_for_flow_run(
        self, flow_run: FlowRun, deployment: DeploymentResponse | None = None, *args: Any, **options: Any
    ) -> None:
        """Complete the configuration for a flow run, and keep its deployment: the run need not look it up again."""
        self._deployment = deployment
        self._own_command = self.command is not None  # Prefect fills in its default next
        super().prepare_for_flow_run(flow_run, deployment, *args, **options)


class WarmProcessVariables(ProcessVariables):
    """What can be set for the pool, and for each deployment."""

    preload: list[str] = Field(
        default=[],
        title="Imported ahead",
        description="Modules that runs find imported already, in this order; none named means what the flows of "
        "prefect-mlops import. What starts a thread, opens a connection or reads a setting of its own when it is "
        "imported does not belong here.",
    )
    memory_mb: float = Field(
        default=MEMORY_MB,
        title="Memory for imports (MB)",
        description="No more is imported ahead once the parent of the runs holds this much.",
    )
