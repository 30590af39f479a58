"""The flow `rollback`, as the form in the Prefect UI starts it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from prefect_mlops.core.errors import ConfigError, ConflictError
from prefect_mlops.core.promotion import lock
from prefect_mlops.core.promotion.history import read_history
from prefect_mlops.core.specs.policies import Retrain
from prefect_mlops.flows.rollback import rollback
from prefect_mlops.tasks import find_version, promote_model


@pytest.fixture
def cancer(prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three champions after one another of the model of `bundled.cancer`."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    client = MlflowClient()
    client.create_registered_model("cancer")
    for number in (1, 2, 3):
        client.create_model_version("cancer", source=f"file:///nowhere/{number}")
        promote_model.fn(find_version.fn("cancer", version=number))


def page() -> str:
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["verdict-rollback-cancer"]))
    with get_client(sync_client=True) as client:
        return str(client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)[0].data)


def test_an_earlier_champion_is_champion_again_and_the_verdict_says_why(cancer: None) -> None:
    entry = rollback("bundled.cancer", why="late <since> noon", name="anna")
    assert (entry.version, entry.replaced, entry.by) == (2, 3, "anna")
    assert entry.flow_run
    assert find_version.fn("cancer").version == 2
    verdict = page()
    assert verdict.startswith("# cancer: v2 is champion again")
    assert "v3 was taken back by anna" in verdict
    assert "<since>" not in verdict
    assert rollback("bundled.cancer", why="back to the first", name="anna", version=1).version == 1


def test_started_twice_from_the_same_form_it_goes_back_once(cancer: None) -> None:
    first = rollback("bundled.cancer", why="bad", name="anna")
    assert rollback("bundled.cancer", why="bad", name="anna") == first
    assert find_version.fn("cancer").version == 2


def test_a_training_at_work_is_not_waited_for_and_loses_its_decision(cancer: None) -> None:
    lease = lock.take("cancer", Retrain(), flow_run="at work").lock
    assert rollback("bundled.cancer", why="bad", name="anna").version == 2
    made = lock.conclusion_on("promoted", find_version.fn("cancer", version=3), lease=lease)
    with pytest.raises(ConflictError, match="v2 became champion meanwhile"):
        lock.conclude(made, lease=lease, replaces=3)


def test_what_cannot_be_done_is_said_on_the_page(cancer: None) -> None:
    with pytest.raises(ConfigError, match="v9 was never champion"):
        rollback("bundled.cancer", why="bad", name="anna", version=9)
    assert "v9 was never champion" in page()
    with pytest.raises(ConfigError, match="a rollback needs a reason"):
        rollback("bundled.cancer", why=" ", name="anna")
    assert find_version.fn("cancer").version == 3
    assert [entry.kind for entry in read_history("cancer")].count("rolled_back") == 0


def test_the_form_labels_every_field() -> None:
    fields = rollback.parameters.model_dump()["properties"]
    assert [fields[name]["title"] for name in ("model", "why", "name", "version")] == [
        "Model",
        "Why",
        "Your name",
        "Version",
    ]
    assert all(field.get("description") for field in fields.values())
