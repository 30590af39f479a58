from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import ArtifactSort
from prefect.states import Completed, Pending, Running, Scheduled

from prefect_mlops.core.promotion.history import Entry, read_history, record
from prefect_mlops.flows.maintenance import maintenance
from prefect_mlops.tasks import find_version, promote_model
from prefect_mlops.tasks.loop import crash_zombie_runs

SILENT = timedelta(seconds=1)


@flow(name="ingest")
def ours() -> None: ...


@flow(name="somebody-elses")
def others() -> None: ...


def start(client: SyncPrefectClient, of, state: State) -> UUID:
    """A run of a deployment, as a worker leaves it."""
    name = f"maintenance-{uuid4()}"
    deployment = client.create_deployment(client.create_flow(of), name)
    run = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(run.id, state, force=True)
    return run.id


def beat(client: SyncPrefectClient, run: UUID) -> None:
    event = {
        "id": str(uuid4()),
        "event": "prefect.flow-run.heartbeat",
        "occurred": datetime.now(timezone.utc).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "payload": {},
    }
    client.request("POST", "/events", json=[event])


def test_only_silent_runs_of_our_deployments_are_dead(prefect_api: None) -> None:
    with get_client(sync_client=True) as client:
        silent = [start(client, ours, state) for state in (Running(), Pending())]
        quiet = [start(client, ours, Completed()), start(client, ours, Scheduled()), start(client, others, Running())]
        before = {run: client.read_flow_run(run).state_type for run in quiet}
        time.sleep(1.2)
        fresh = start(client, ours, Running())
        assert len(crash_zombie_runs.fn(["ingest"], silent_for=SILENT)) >= len(silent)
        states = {run: client.read_flow_run(run).state_name for run in (*silent, fresh)}
        assert [states[run] for run in silent] == ["Crashed", "Crashed"]
        assert states[fresh] == "Running", "it may not have had time for a sign of life"
        assert {run: client.read_flow_run(run).state_type for run in quiet} == before
        assert "No sign of life" in (client.read_flow_run(silent[0]).state.message or "")


def test_a_run_that_sends_heartbeats_lives(prefect_api: None) -> None:
    with get_client(sync_client=True) as client:
        alive = start(client, ours, Running())
        time.sleep(1.2)
        for _ in range(40):
            beat(client, alive)
            time.sleep(0.25)
            wanted = {
                "event": {"name": ["prefect.flow-run.heartbeat"]},
                "resource": {"id": [f"prefect.flow-run.{alive}"]},
            }
            if client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"]:
                break
        crash_zombie_runs.fn(["ingest"], silent_for=timedelta(seconds=15))
        crash_zombie_runs.fn(["ingest"], silent_for=SILENT)
        assert client.read_flow_run(alive).state_name == "Running"


@pytest.mark.parametrize("state", [Running, Pending])
def test_the_flow_waits_for_three_heartbeats_and_leaves_itself_alone(prefect_api: None, state) -> None:
    with get_client(sync_client=True) as client:
        run = start(client, ours, state())
        assert maintenance() == []
        assert client.read_flow_run(run).state_type.value == state().type.value


def test_it_lets_aliases_follow_and_ends_requests_and_says_so(
    prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    client = MlflowClient()
    client.create_registered_model("shop")
    for number in (1, 2):
        client.create_model_version("shop", source=f"file:///nowhere/{number}")
    promote_model.fn(find_version.fn("shop", version=1))
    past = datetime(2020, 1, 1, tzinfo=timezone.utc)
    record(Entry(model="shop", kind="requested", version=2, replaced=1, until=past))
    client.set_registered_model_alias("shop", "champion", "2")
    maintenance()
    assert find_version.fn("shop").version == 1
    assert [(entry.kind, entry.version) for entry in read_history("shop")[-2:]] == [("refused", 2), ("repaired", 1)]
    verdict = newest_verdict()
    assert "1 models mended" in verdict
    assert "shop: v2 counts as refused: the request of" in verdict
    assert "the alias was moved to v2 by hand" in verdict
    maintenance()
    assert "shop" not in newest_verdict()


def newest_verdict() -> str:
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["verdict-maintenance-flow-runs-and-models"]))
    with get_client(sync_client=True) as client:
        return str(client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)[0].data)
