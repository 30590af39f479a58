"""The promoted recipe trained once more on all rows, as a version of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.evaluation.unseen_rows import find_unseen_rows
from prefect_mlops.core.lineage.training_data import lineage_of
from prefect_mlops.core.promotion.history import read_history
from prefect_mlops.core.specs.policies import Limits
from prefect_mlops.flows import refit
from prefect_mlops.flows.train import train
from prefect_mlops.tasks import load_model, roll_back_model


def entries() -> list[tuple[str, int | None, int | None]]:
    kept = read_history("cancer")
    return [(one.kind, one.version, one.replaced) for one in kept if one.kind in ("promoted", "refused")]


@pytest.mark.slow
def test_the_refitted_version_goes_live_and_the_judged_one_is_compared_with(project, declare) -> None:
    spec = declare("cancer", refit="all")
    decision = train(spec)
    assert (decision.decision, decision.version, decision.refit_of, decision.rows) == ("promoted", 2, 1, 569)
    assert decision.reason.startswith("v1 trained again on all 569 rows, which passed: roc_auc: minimum score")
    assert entries() == [("promoted", 1, None), ("promoted", 2, 1)]
    judged, live = (load_model.fn("cancer", version=number).estimator for number in (1, 2))
    assert (lineage_of(judged).rows, lineage_of(live).rows) == (455, 569)
    assert lineage_of(live).refit_of == 1
    client = MlflowClient()
    assert int(client.get_model_version_by_alias("cancer", "champion").version) == 2
    run = client.get_model_version("cancer", "2").run_id
    card = Path(client.download_artifacts(run, "card.md")).read_text()
    assert "This is v1 trained again on all 569 rows, also on those that judged it" in card
    assert client.get_run(run).data.tags["prefect_mlops.refit_of"] == "1"

    unseen = find_unseen_rows({"champion": live}, project.TABLES["cancer"]).check
    assert not unseen.passed
    assert "it was trained on all rows after v1 was judged" in unseen.observed

    with get_client(sync_client=True) as prefect:
        keyed = ArtifactFilter(key=ArtifactFilterKey(any_=["verdict-train-cancer"]))
        verdict = prefect.read_artifacts(artifact_filter=keyed, sort=ArtifactSort.CREATED_DESC)[0].data
    assert "v1 trained again on all 569 rows. What follows is of v1, which was judged." in verdict

    assert train(spec) == decision.model_copy(update={"again": True})
    lenient = declare("cancer", refit="all", limits=Limits(size_mb=500))
    assert train(lenient).again, "the training of the champion is not judged against itself"

    better = train(declare("cancer_forest", refit="all"))
    assert (better.decision, better.version, better.refit_of, better.replaced) == ("promoted", 4, 3, 3)
    gate = Path(
        client.download_artifacts(client.get_model_version("cancer", "3").run_id, "reports/gate.md")
    ).read_text()
    assert "The champion v2 is v1 trained again on all rows; the challenger was compared with v1" in gate.replace(
        "\\", ""
    )
    assert roll_back_model.fn("cancer", why="wrong", by="anna").version == 3


def test_with_an_approval_it_is_refused(declare) -> None:
    with pytest.raises(ConfigError, match="refit: with approval='required' a person would approve another version"):
        declare("cancer", refit="all", approval="required")
    with pytest.raises(ConfigError, match="refit: expected 'none' or 'all', got 'some'"):
        declare("cancer", refit="some")


@pytest.mark.slow
def test_where_the_refit_fails_the_judged_version_is_champion(project, declare, monkeypatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise BackendError("the disk is full")

    monkeypatch.setattr(refit, "train_model", failing)
    decision = train(declare("cancer", refit="all"))
    assert (decision.decision, decision.version, decision.refit_of) == ("promoted", 1, None)
    assert entries() == [("promoted", 1, None)]
    with get_client(sync_client=True) as prefect:
        keyed = ArtifactFilter(key=ArtifactFilterKey(any_=["verdict-train-cancer"]))
        verdict = prefect.read_artifacts(artifact_filter=keyed, sort=ArtifactSort.CREATED_DESC)[0].data
    assert "Training it again on all rows did not finish: the disk is full." in verdict
