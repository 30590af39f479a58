"""The training lock of a model: one run at a time trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect_mlops.core.errors import BackendError
from prefect_mlops.core.promotion import lock
from prefect_mlops.core.promotion.guards import held_lock
from prefect_mlops.core.promotion.history import read_history
from prefect_mlops.tasks._step import step
from prefect_mlops.tasks.flow_context import flow_run_id

if TYPE_CHECKING:
    from prefect_mlops.core.promotion.history import Entry
    from prefect_mlops.core.promotion.lock import LockAttempt
    from prefect_mlops.core.specs.policies import Retrain


@step("take-training-lock-{model_name}", backend=True)
def take_training_lock(
    model_name: str,
    retrain: Retrain,
    *,
    automatic: bool = False,
    recipe: str = "",
    details: dict[str, Any] | None = None,
) -> LockAttempt:
    """Take the training lock of a model: until it is freed or expires, no other run trains the model.

    Args:
        model_name: registered model.
        retrain: the guards that hold trainings back, and how long the lock is held.
        automatic: started by a trigger or schedule, which cool-down and breaker hold back.
        recipe: run fingerprint; empty takes the lock whether or not it was decided on before.
        details: kept with the lock's entry; plain JSON.

    Returns:
        The lock's entry, for `promote_model` and `refuse_model`; or the guard that holds the training back; or what
        another run decided on this recipe meanwhile.

    Raises:
        BackendError: storage failed; retried.
    """
    return lock.take(model_name, retrain, automatic=automatic, recipe=recipe, flow_run=flow_run_id(), details=details)


@step("free-training-lock-{model_name}", backend=True)
def free_training_lock(model_name: str) -> Entry | None:
    """Free the training lock of a run that has ended without freeing it, as one that was killed.

    Without it the model would wait until the lock expires. That a killed run has ended is noticed by its worker, or
    by the flow ``maintenance``.

    Args:
        model_name: registered model.

    Returns:
        The entry that freed the lock, which `lock.freed_sentence` says in words; None where the lock is free, or its
        run is still running.

    Raises:
        BackendError: storage or Prefect's API failed; retried.
    """
    lease = held_lock(read_history(model_name))
    if lease is None or not lease.flow_run or lease.flow_run == flow_run_id():
        return None
    ended = _ended(lease.flow_run)
    return lock.give_up(lease, f"flow run {lease.flow_run} {ended} without giving its turn back") if ended else None


def _ended(flow_run: str) -> str:
    """Say how a flow run ended; empty while it has not, or where another server than ours knows it."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(flow_run)).state
    except (ObjectNotFound, ValueError):
        return ""
    except httpx.HTTPError as error:
        raise BackendError(f"Prefect's API does not tell how flow run {flow_run} ended: {error}") from error
    return f"ended as {state.name}" if state is not None and state.is_final() else ""
