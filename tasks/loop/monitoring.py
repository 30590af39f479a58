"""Number the monitoring runs of a champion for alpha spending, record them, show their history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefect_mlops.core.drift import monitoring
from prefect_mlops.tasks._events import slug
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    from prefect_mlops.core.drift.monitoring import MonitoringRun


number_monitoring_run = step("number-{kind}-monitoring-{model_name}", backend=True)(monitoring.number_monitoring_run)


record_monitoring_run = step("record-{run.kind}-monitoring-{run.model}", backend=True)(monitoring.record_monitoring_run)


@step("show-monitoring-{model_name}", backend=True)
def show_monitoring(model_name: str, runs: Sequence[MonitoringRun] | None = None) -> str:
    """Show the monitoring runs of a model as a markdown artifact: a plot of changes, tables of the last runs.

    Its key is ``drift-history-<model name>``, so that Prefect keeps all of them in one place. When the picture cannot
    be drawn the tables stand alone.

    Args:
        model_name: registered model.
        runs: oldest first; None shows all that were kept.

    Returns:
        The artifact's id.

    Raises:
        BackendError: storage failed; retried.
    """
    from prefect.artifacts import create_markdown_artifact

    from prefect_mlops.core.drift.monitoring_page import history_page

    shown = monitoring.read_monitoring_runs(model_name) if runs is None else list(runs)
    failed = sum(not run.passed for run in shown)
    page = history_page(model_name, shown)
    description = f"{len(shown)} {'look' if len(shown) == 1 else 'looks'} at {model_name}, {failed} failed"
    # In a synchronous task the call returns the id itself; its declared type also covers coroutines.
    return str(
        create_markdown_artifact(markdown=page, key=slug(f"drift-history-{model_name}"), description=description[:200])
    )
