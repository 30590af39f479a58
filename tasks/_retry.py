"""Which failures are worth another attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import BackendError

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

RETRIES = 2
RETRY_DELAYS_S = [1.0, 5.0]  # a restarting server is back within seconds; longer outages are the schedule's business


def backend_failed(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Retry only when a backend failed: a wrong request or a refused table stays wrong."""
    try:
        state.result()
    except BackendError:
        return True
    except Exception:  # noqa: BLE001 - any other failure is final, whatever it is
        return False
    return False
