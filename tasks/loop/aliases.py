"""Let the aliases of MLflow follow the histories of the models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_mlops.tasks._step import step
from prefect_mlops.tasks.flow_context import flow_run_id
from prefect_mlops.tracking import registry

if TYPE_CHECKING:
    from prefect_mlops.core.promotion.decisions import AliasRepair, ModelSweep


@step("repair-alias-{model_name}", backend=True)
def repair_alias(model_name: str) -> AliasRepair | None:
    """Let MLflow's alias follow the history, where a crash left it behind or it was moved in MLflow.

    Args:
        model_name: registered model.

    Returns:
        What was wrong, and whether it was repaired; None where alias and history agree, or a promotion is under way.

    Raises:
        ConfigError: a name the registry cannot address.
        BackendError: MLflow or the lake failed; retried.
    """
    return registry.repair_alias(model_name, flow_run=flow_run_id())


@step("sweep-models", backend=True)
def sweep_models() -> tuple[ModelSweep, ...]:
    """Repair the alias of every model that has a history, and record requests that expired as refused.

    Returns:
        What was done, for each model with which there was something to do; what failed does not stop the others.

    Raises:
        BackendError: the lake failed; retried.
    """
    return registry.sweep(flow_run=flow_run_id())
