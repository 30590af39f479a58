"""What holds `train` back, and what a crash leaves behind; tests of the decisions themselves are beside this file."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from prefect.states import Crashed, Running

from prefect_mlops.core.errors import ConflictError, MLOpsError
from prefect_mlops.core.promotion import lock
from prefect_mlops.core.promotion.history import Entry, champion_entry, read_history, record
from prefect_mlops.core.specs.policies import Retrain
from prefect_mlops.flows.train import train
from prefect_mlops.flows.training_run import TrainingRun

HOUR = timedelta(hours=1)


def kinds(model: str = "cancer") -> list[str]:
    return [entry.kind for entry in read_history(model)]


def alias_of(name: str = "cancer") -> int:
    return int(MlflowClient().get_model_version_by_alias(name, "champion").version)


def versions() -> int:
    return len(MlflowClient().search_model_versions("name = 'cancer'"))


def last_run(name: str) -> tuple[str, str]:
    """The verdict as a reader sees it, and the final state, of the newest run of that name."""
    with get_client(sync_client=True) as client:
        names = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
        run = client.read_flow_runs(flow_run_filter=names, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        made = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])),
            sort=ArtifactSort.CREATED_DESC,
        )
    return re.sub(r"\\(.)", r"\1", made[-1].data), run.state_name


def events(name: str, about: str, since: datetime) -> list[dict]:
    """Ask the real API until the event, which is sent in the background, has arrived."""
    wanted = {
        "event": {"name": [name]},
        "resource": {"id": [about]},
        "occurred": {"since": since.isoformat(), "until": (since + HOUR).isoformat()},
    }
    deadline = time.monotonic() + 20
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            if found := client._client.post("/events/filter", json={"filter": wanted}).json()["events"]:
                return found
            time.sleep(0.2)
    return []


def test_every_decision_is_in_the_history(project) -> None:
    first, second = train("bundled.cancer"), train("bundled.cancer_blind", automatic=True)
    assert kinds() == ["leased", "promoted", "released", "leased", "refused"]
    promoted, refused = read_history("cancer")[1], read_history("cancer")[4]
    assert (promoted.version, promoted.replaced, promoted.reason, promoted.by) == (1, None, first.reason, "person")
    assert (refused.version, refused.replaced, refused.reason, refused.by) == (2, 1, second.reason, "automatic")
    assert lock.decision_of(promoted) == first
    assert promoted.recipe != refused.recipe
    assert promoted.flow_run != refused.flow_run
    train("bundled.cancer")
    train("bundled.cancer_forest", dry_run=True)
    assert len(kinds()) == 5, "what was decided before, and a dry run, leave no trace"


def test_one_training_at_a_time(project) -> None:
    other = lock.take("cancer", Retrain(lease=HOUR), flow_run="other").lock
    assert train("bundled.cancer", automatic=True).decision == "braked"
    held = train("bundled.cancer")
    assert (held.decision, held.version, versions()) == ("braked", None, 0)
    assert "flow run other has held the training lock of cancer" in held.reason
    verdict, state = last_run("train-bundled.cancer")
    assert state == "Completed"
    assert verdict.startswith("# cancer: braked (busy)")
    assert "the lock expires at" in verdict
    assert kinds() == ["leased"]
    assert train("bundled.cancer", dry_run=True).decision == "promoted"
    lock.give_up(other, "it ended")
    assert train("bundled.cancer", automatic=True).decision == "promoted"


def test_a_killed_training_holds_nobody_for_longer_than_its_lease(project) -> None:
    lock.take("cancer", Retrain(lease=timedelta(microseconds=1)), flow_run="killed")
    assert train("bundled.cancer").decision == "promoted"


@pytest.mark.parametrize(("state", "decided"), [(Crashed(), "promoted"), (Running(), "braked")])
def test_a_turn_is_taken_from_a_run_that_has_ended(project, state: State, decided: str) -> None:
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(train, parameters={"model": "bundled.cancer"})
        client.set_flow_run_state(run.id, state, force=True)
    now = datetime.now(timezone.utc)
    record(Entry(model="cancer", kind="leased", flow_run=str(run.id), at=now, until=now + HOUR))
    assert train("bundled.cancer", automatic=True).decision == decided
    assert ("failed" in kinds()) == (decided == "promoted")


def test_what_was_decided_is_answered_while_another_run_is_at_work(trained) -> None:
    lock.take("cancer", Retrain(lease=HOUR), flow_run="other")
    assert train("bundled.cancer").again


def test_a_training_that_fails_gives_its_turn_back_with_the_reason(project, tmp_path: Path, declare) -> None:
    from sklearn.linear_model import LogisticRegression

    name = declare("cancer", estimator=LogisticRegression(C=-1.0))
    with pytest.raises(Exception, match="C") as stopped:
        train(name)
    assert kinds() == ["leased", "failed"]
    assert "'C'" in read_history("cancer")[1].reason
    assert isinstance(stopped.value, MLOpsError | ValueError)
    assert train("bundled.cancer").decision == "promoted"


@pytest.mark.slow
def test_a_cool_down_holds_triggers_and_schedules_but_no_person(trained, tmp_path: Path, declare) -> None:
    resting = declare("cancer_forest", retrain=Retrain(cool_down=HOUR))
    held = train(resting, automatic=True)
    assert (held.decision, versions()) == ("braked", 1)
    assert "v1 was promoted at" in held.reason
    verdict, state = last_run(f"train-{resting}")
    assert (verdict.splitlines()[0], state) == ("# cancer: braked (cool-down)", "Completed")
    assert "or start train by hand" in verdict
    assert train(resting).decision == "promoted"


@pytest.mark.slow
def test_the_breaker_opens_once_says_so_once_and_a_person_closes_it(project, declare) -> None:
    since = datetime.now(timezone.utc)
    train("bundled.cancer")
    blind = declare("cancer_blind", retrain=Retrain(refused_in_a_row=2))

    assert train(blind, automatic=True, force=True).decision == "refused"
    assert "opened" not in kinds()
    assert train(blind, automatic=True, force=True).decision == "refused"
    assert "Automatic training of cancer is stopped: 2 challengers in a row" in last_run(f"train-{blind}")[0]
    for _ in range(2):
        assert train(blind, automatic=True, force=True).decision == "braked"
    verdict, state = last_run(f"train-{blind}")
    assert (verdict.splitlines()[0], state) == ("# cancer: braked (breaker)", "Completed")
    assert "start train by hand: that closes the breaker" in verdict
    assert kinds().count("opened") == 1
    assert versions() == 3
    (sent,) = events("prefect-mlops.loop.stopped", "prefect-mlops.loop.cancer", since)
    assert sent["payload"]["model"] == "cancer"

    assert train(blind).again, "a person asks, and the answer is known"
    assert kinds()[-1] == "closed"
    assert train(blind, automatic=True, force=True).decision == "refused"
    assert train(blind, automatic=True, force=True).decision == "refused"
    assert kinds().count("opened") == 2
    assert train(blind, force=True).decision == "refused"
    assert train(blind, automatic=True, force=True).decision == "refused", "a person's decision closed it, too"


def test_started_by_a_trigger_before_there_is_data_it_says_so(project) -> None:
    waiting = train("shop.model", automatic=True)
    assert (waiting.decision, waiting.reason) == ("waiting", "nothing has arrived in dataset 'shop' yet")
    verdict, state = last_run("train-shop.model")
    assert (verdict.splitlines()[0], state) == ("# shop: nothing to learn from yet", "Completed")
    assert read_history("shop") == []
    with pytest.raises(MLOpsError, match="shop"):
        train("shop.model")
    assert last_run("train-shop.model")[1] == "Failed"


def half_done(run: str = "killed") -> None:
    """Leave what a run leaves that was killed between the history and the alias: v2 promoted, the alias at v1."""
    forest = train("bundled.cancer_forest")
    assert alias_of() == forest.version == 2
    MlflowClient().set_registered_model_alias("cancer", "champion", "1")
    before = read_history("cancer")
    lease = lock.take("cancer", Retrain(lease=timedelta(microseconds=1)), flow_run=run).lock
    from prefect_mlops.tasks import find_version

    version = find_version.fn("cancer").model_copy(update={"version": 2})
    made = lock.conclusion_on("promoted", version, forest, recipe=before[-2].recipe, lease=lease)
    lock.conclude(made, lease=lease, replaces=2)


def test_an_alias_left_behind_by_a_crash_is_set(trained) -> None:
    half_done()
    train("bundled.cancer")
    assert alias_of() == 2
    assert kinds()[-2:] == ["promoted", "repaired"]
    told = last_run("train-bundled.cancer")[0]
    assert "Repaired: v2 was made champion, and the alias still points at v1: a crash came between" in told
    assert "It points at v2 now." in told
    train("bundled.cancer")
    assert kinds().count("repaired") == 1


@pytest.mark.slow
def test_an_alias_that_was_moved_by_hand_is_reported_as_such_and_set_back(trained) -> None:
    train("bundled.cancer_forest")
    MlflowClient().set_registered_model_alias("cancer", "champion", "1")
    train("bundled.cancer")
    told = last_run("train-bundled.cancer")[0]
    assert "Repaired: The history names v2 as champion, but the alias was moved to v1 by hand." in told
    assert "a champion is changed by prefect-mlops promote cancer 1 --why TEXT" in told
    assert alias_of() == 2
    repaired = read_history("cancer")[-1]
    assert (repaired.kind, repaired.version, repaired.details) == ("repaired", 2, {"by_hand": True})
    MlflowClient().delete_registered_model_alias("cancer", "champion")
    train("bundled.cancer")
    assert "the alias was removed by hand" in last_run("train-bundled.cancer")[0]
    assert alias_of() == 2


def test_a_decision_that_a_crash_kept_out_of_mlflow_is_known_from_the_history(trained) -> None:
    decision = train("bundled.cancer")
    client = MlflowClient()
    for tag in ("prefect_mlops.decision", "prefect_mlops.recipe"):
        client.delete_model_version_tag("cancer", "1", tag)
    assert train("bundled.cancer") == decision.model_copy(update={"again": True})
    assert versions() == 1


@pytest.mark.slow
def test_a_turn_lost_to_another_run_promotes_nothing(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it trains, its lease runs out and another run promotes: what it judged against is no longer true."""
    real = TrainingRun._judge

    def slow(run: TrainingRun):
        record(Entry(model="cancer", kind="leased", flow_run="other"))
        return real(run)

    monkeypatch.setattr(TrainingRun, "_judge", slow)
    with pytest.raises(ConflictError, match="worked past its lease, and flow run other took over"):
        train("bundled.cancer_forest")
    assert alias_of() == 1
    assert champion_entry(read_history("cancer")).version == 1
    assert kinds()[-2:] == ["leased", "leased"], "the other run's turn is not ended"
