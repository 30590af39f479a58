"""Flow runs whose process is gone: Prefect shows them as running for ever."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import BackendError
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

MISSED_HEARTBEATS = 3  # one may get lost, two while a server restarts
STARTING_SECONDS = 300.0  # a new process imports everything from a cold disk before its first sign of life
PAGE = 200  # the most rows Prefect's API gives in one answer


@step("crash-zombie-runs", backend=True)
def crash_zombie_runs(flows: Sequence[str], *, silent_for: timedelta | None = None) -> list[str]:
    """Mark runs of deployments as crashed whose process gives no sign of life any more.

    A killed worker or machine leaves its runs RUNNING or PENDING. A run that works sends heartbeats; one that has sent
    none for three intervals is taken for dead. Should it live after all, nothing is lost: what counts is in the lake.

    Args:
        flows: names of the flows to look at.
        silent_for: time without a heartbeat; three of the configured intervals by default.

    Returns:
        Names of the runs that were marked.

    Raises:
        BackendError: Prefect's API failed; retried.
    """
    import httpx

    try:
        return _crash(flows, silent_for)
    except httpx.HTTPError as error:
        raise BackendError(f"Prefect's API failed while dead runs were looked for: {error}") from error


def _crash(flows: Sequence[str], silent_for: timedelta | None) -> list[str]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    limit = silent_for or timedelta(seconds=MISSED_HEARTBEATS * _interval())
    now = datetime.now(timezone.utc)
    dead = []
    with get_client(sync_client=True) as client:
        for run in _unfinished(client, flows):
            assert run.state is not None  # noqa: S101 - looked for by its state
            starts = run.state.type == StateType.PENDING
            patience = max(limit, timedelta(seconds=STARTING_SECONDS)) if starts and silent_for is None else limit
            if run.state.timestamp > now - patience or (not starts and _lives(client, run, now - limit)):
                continue
            words = f"No sign of life for {patience}: its process is gone. What it had committed is in the lake."
            client.set_flow_run_state(run.id, Crashed(message=words), force=True)
            dead.append(run.name)
    return dead


def _interval() -> float:
    from prefect.settings import get_current_settings

    return float(get_current_settings().flows.heartbeat_frequency or 180)


def _unfinished(client: SyncPrefectClient, flows: Sequence[str]) -> list[FlowRun]:
    import prefect.runtime
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    unfinished = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
    found: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(flows))),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=unfinished)),
            limit=PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < PAGE:
            break
    mine = str(prefect.runtime.flow_run.id)
    return [run for run in found if run.deployment_id is not None and str(run.id) != mine]


def _lives(client: SyncPrefectClient, run: FlowRun, since: datetime) -> bool:
    wanted: dict[str, Any] = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run.id}"]},
        "occurred": {"since": since.isoformat()},
    }
    answer = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1})
    return bool(answer.json()["events"])
