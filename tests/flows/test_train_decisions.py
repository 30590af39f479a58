"""What `train` decides beside the gates: a rival made meanwhile, the rehearsal, limits, approval, a later rollback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from prefect_mlops.core.promotion.history import champion_entry, read_history
from prefect_mlops.core.specs.policies import Limits, Tune
from prefect_mlops.flows import decision_summary
from prefect_mlops.flows.train import train
from prefect_mlops.flows.training_run import TrainingRun
from prefect_mlops.tasks import find_version, roll_back_model


def kinds() -> list[str]:
    return [entry.kind for entry in read_history("cancer")]


def artifact(version: int, path: str) -> str:
    client = MlflowClient()
    run = client.get_model_version("cancer", str(version)).run_id
    return Path(client.download_artifacts(run, path)).read_text()


@pytest.mark.slow
def test_a_rival_made_meanwhile_is_judged_against_before_anything_is_promoted(
    project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While v3 is trained and judged against v2, a person rolls back to v1."""
    train("bundled.cancer")
    train("bundled.cancer_forest")
    real, rivals = TrainingRun._judge, []

    def interrupted(run: TrainingRun):
        gate = real(run)
        rivals.append(run.champion.version.version)
        if len(rivals) == 1:
            person = threading.Thread(target=roll_back_model.fn, args=("cancer",), kwargs={"why": "slow", "by": "anna"})
            person.start()  # outside of this run
            person.join()
        return gate

    monkeypatch.setattr(TrainingRun, "_judge", interrupted)
    decision = train("bundled.cancer", force=True)
    assert rivals == [2, 1]
    assert (decision.decision, decision.version, decision.replaced) == ("promoted", 3, 1)
    champion = champion_entry(read_history("cancer"))
    assert (champion.version, champion.replaced) == (3, 1)
    assert find_version.fn("cancer").version == 3
    gate = json.loads(artifact(3, "reports/gate.json"))
    assert len([name for name in gate["checks"] if name["name"] == "loads in a clean process"]) == 1


def test_what_costs_too_much_to_run_is_refused(declare: Callable[..., str]) -> None:
    decision = train(declare("cancer", limits=Limits(size_mb=0.0001)))
    assert decision.decision == "refused"
    assert "size" in decision.reason
    assert find_version.fn("cancer") is None
    assert kinds() == ["leased", "refused"]


def test_a_challenger_that_needs_approval_waits_without_a_worker(trained, declare: Callable[..., str]) -> None:
    careful = declare("cancer_forest", approval="required", approvers=("anna",), approval_expires=timedelta(days=2))
    decision = train(careful)
    assert (decision.decision, decision.version, decision.replaced) == ("requested", 2, 1)
    assert find_version.fn("cancer").version == 1
    request = read_history("cancer")[-1]
    assert (request.kind, request.version, request.until - request.at > timedelta(days=1)) == ("requested", 2, True)
    assert train(careful) == decision.model_copy(update={"again": True})
    assert kinds().count("requested") == 1


def test_after_a_rollback_it_is_said_who_is_champion_now(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    decision = train("bundled.cancer_forest")
    roll_back_model.fn("cancer", why="wrong in production", by="anna")
    words = []
    monkeypatch.setattr(
        decision_summary, "_words", lambda *one, real=decision_summary._words: words.append(real(*one)) or real(*one)
    )
    assert train("bundled.cancer_forest") == decision.model_copy(update={"again": True})
    assert words[0][1].startswith("v1 is the champion now: rolled_back v1")
    assert find_version.fn("cancer").version == 1


def test_every_version_has_a_card_and_its_last_report(trained) -> None:
    card = artifact(1, "card.md")
    assert "cancer" in card
    assert "prefect-mlops rollback cancer" in card
    names = {check["name"] for check in json.loads(artifact(1, "reports/gate.json"))["checks"]}
    assert {"minimum score", "loads in a clean process"} <= names


def test_parameters_are_tuned_on_the_training_rows_only(declare: Callable[..., str]) -> None:
    tuned = declare("cancer", tune=Tune(space={"logisticregression__C": [0.01, 1.0]}, trials=2))
    assert train(tuned).decision == "promoted"
    client = MlflowClient()
    run = client.get_run(client.get_model_version("cancer", "1").run_id)
    assert json.loads(run.data.tags["prefect_mlops.tuned"]).keys() == {"logisticregression__C"}
