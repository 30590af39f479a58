"""Approval as people give it: a request, an answer in the flow `decide`, and what stands in the history then."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from prefect_mlops.core.errors import ConfigError, ConflictError
from prefect_mlops.core.promotion.history import Entry, champion_entry, read_history, read_rows
from prefect_mlops.core.promotion.lock import decision_of
from prefect_mlops.core.promotion.tampering import audit_history
from prefect_mlops.core.values import Decision, ModelVersion
from prefect_mlops.flows.decide import decide
from prefect_mlops.flows.maintenance import maintenance
from prefect_mlops.tasks import (
    evaluate_model,
    find_version,
    log_run,
    promote_model,
    register_model,
    roll_back_model,
    split_table,
    train_model,
)
from prefect_mlops.tasks.loop import request_approval
from prefect_mlops.tracking.anchors import noted

SPECS = """
from dataclasses import replace
from datetime import timedelta

from bundled import cancer, cancer_blind

asked = replace(cancer, approval="required", approvers=["anna", "@risk"])
blind = replace(cancer_blind, approval="required", approvers=["anna", "@risk"])
anybody = replace(cancer, approval="required", approval_expires=timedelta(hours=1))
"""
LATER = timedelta(days=7)


@pytest.fixture
def specs(prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Specs whose challengers wait for a person's answer. Returns their module."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    (tmp_path / "approving.py").write_text(SPECS)
    import bundled

    for name, table in bundled.TABLES.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
    import approving

    return approving


def registered(spec) -> ModelVersion:
    """Train a spec's model and register it, as `train` does."""
    import bundled

    table = bundled.TABLES["cancer"]
    split = split_table.fn(table, spec.target, **spec.split_options)
    model = train_model.fn(spec.estimator, split.X_train, split.y_train, seed=spec.seed)
    scores = evaluate_model.fn(model, split.X_test, split.y_test, metrics=spec.metrics)
    rows = split.X_test
    run = log_run.fn(model, scores, experiment="cancer", example=rows.head(), smoke_test_rows=rows.head(50))
    return register_model.fn(run, spec.name)


def ask(version: ModelVersion, *, replaced: int | None = None, expires: timedelta = LATER) -> Entry:
    decision = Decision(model="cancer", decision="requested", reason="roc_auc is good", replaced=replaced)
    return request_approval.fn(version, decision, expires=expires, approvers=("anna", "@risk"), recipe="sha256:r")


def champion() -> tuple[int | None, int | None]:
    entry, alias = champion_entry(read_history("cancer")), find_version.fn("cancer")
    return (entry.version if entry else None), (alias.version if alias else None)


def kinds() -> list[str]:
    return [f"{entry.kind} {entry.version}" for entry in read_history("cancer")]


def page() -> str:
    """The verdict of the newest run of decide."""
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["verdict-decide-cancer"]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)
    return str(found[0].data)


def test_who_is_approved_becomes_champion_with_the_approval_in_the_history(specs) -> None:
    version = registered(specs.asked)
    request = ask(version)
    assert champion() == (None, None)
    decision = decide("approving.asked", "approve", "anna", comment="looks <b>right</b>", version=1)
    assert (decision.decision, decision.version) == ("promoted", 1)
    assert "roc_auc is good; loads in a clean process" in decision.reason
    assert champion() == (1, 1)
    entry = champion_entry(read_history("cancer"))
    assert (entry.by, entry.recipe) == ("anna", "sha256:r")
    assert entry.details["approval"] == {
        "by": "anna",
        "comment": "looks <b>right</b>",
        "request": request.sequence,
        "typed": "anna",
        "without_rehearsal": False,
    }
    assert decision_of(entry).reason == decision.reason
    assert audit_history("cancer", read_rows("cancer"), noted(MlflowClient(), "cancer")).passed
    assert noted(MlflowClient(), "cancer")[entry.sequence] == entry.hash
    verdict = page()
    assert verdict.startswith("# cancer: v1 promoted, anna said approve")
    assert "<b>" not in verdict
    with pytest.raises(ConfigError, match="no version waits for approval; the last decision is: promoted v1"):
        decide("approving.asked", "approve", "anna")


def test_who_is_refused_stays_in_the_registry_even_if_it_cannot_be_loaded(specs, tmp_path: Path) -> None:
    ask(registered(specs.asked))
    (stored,) = tmp_path.rglob("model.skops")
    stored.write_bytes(b"nothing that loads")
    with pytest.raises(ConfigError):
        decide("approving.asked", "approve", "anna")
    decision = decide("approving.asked", "refuse", "anna", comment="unfair to night flights")
    assert (decision.decision, decision.reason) == ("refused", "refused by anna: unfair to night flights")
    assert champion() == (None, None)
    entry = read_history("cancer")[-1]
    assert (entry.kind, entry.by, entry.details["approval"]["comment"]) == (
        "refused",
        "anna",
        "unfair to night flights",
    )


def test_who_may_not_answer_is_refused_and_written_down(specs, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(registered(specs.asked))
    for name in ("eve", "@risk", "Anna"):
        with pytest.raises(ConfigError, match=f"cancer: '{name}' may not answer for v1; who may: anna, @risk"):
            decide("approving.asked", "approve", name)
    assert kinds() == ["requested 1", "denied 1", "denied 1", "denied 1"]
    assert [entry.by for entry in read_history("cancer")[1:]] == ["eve", "@risk", "Anna"]
    with pytest.raises(ConfigError, match="needs the name of who gives it"):
        decide("approving.asked", "approve", "  ")
    assert champion() == (None, None)
    with pytest.raises(ConfigError, match="'ben' may not answer"):
        decide("approving.asked", "approve", "ben")
    monkeypatch.setenv("PREFECT_MLOPS_GROUPS", '{"risk": ["ben"]}')
    assert decide("approving.asked", "approve", " ben ").decision == "promoted"
    assert champion_entry(read_history("cancer")).by == "ben"


def test_without_approvers_anybody_with_a_name_may_answer(specs) -> None:
    ask(registered(specs.anybody))
    assert decide("approving.anybody", "approve", "whoever").decision == "promoted"


def test_the_version_somebody_looked_at_has_to_be_the_one_that_waits(specs) -> None:
    version = registered(specs.asked)
    ask(version)
    with pytest.raises(ConfigError, match=r"v1 waits for approval, not v7\. Look at it, then answer"):
        decide("approving.asked", "approve", "anna", version=7)
    assert kinds() == ["requested 1"]


def test_a_request_nobody_answered_in_time_is_refused(specs) -> None:
    ask(registered(specs.asked), expires=timedelta(microseconds=1))
    maintenance()
    refused = read_history("cancer")[-1]
    assert (refused.kind, refused.version, refused.by) == ("refused", 1, "automatic")
    assert "expired unanswered" in refused.reason
    with pytest.raises(ConfigError, match="no version waits for approval; the last decision is: refused v1"):
        decide("approving.asked", "approve", "anna")
    ask(registered(specs.blind), expires=timedelta(microseconds=1))
    with pytest.raises(ConfigError, match="the last decision is: refused v2"):
        decide("approving.asked", "approve", "anna")
    assert champion() == (None, None)


def test_a_challenger_is_judged_again_when_the_champion_has_changed(specs) -> None:
    weak, strong = registered(specs.blind), registered(specs.asked)
    promote_model.fn(weak)
    ask(strong, replaced=None)
    decision = decide("approving.asked", "approve", "anna")
    assert (decision.decision, decision.replaced) == ("promoted", 1)
    assert "not worse than the champion" in decision.reason
    assert "v1 became champion since v2 was judged" in page()
    assert champion() == (2, 2)


def test_a_challenger_that_loses_against_the_new_champion_is_refused_though_approved(specs) -> None:
    weak, strong = registered(specs.blind), registered(specs.asked)
    promote_model.fn(strong)
    ask(weak, replaced=None)
    decision = decide("approving.blind", "approve", "anna")
    assert (decision.decision, decision.replaced) == ("refused", 2)
    assert "not worse than the champion" in decision.reason
    entry = read_history("cancer")[-1]
    assert (entry.kind, entry.by, entry.details["approval"]["by"]) == ("refused", "anna", "anna")
    assert champion() == (2, 2)


def test_an_approved_version_whose_files_changed_does_not_pass_its_rehearsal(specs, tmp_path: Path) -> None:
    ask(registered(specs.asked))
    registered(specs.blind)
    one, two = sorted(tmp_path.rglob("model.skops"), key=lambda path: path.stat().st_mtime)
    one.write_bytes(two.read_bytes())
    decision = decide("approving.asked", "approve", "anna")
    assert decision.decision == "refused"
    assert champion() == (None, None)


def test_an_alias_moved_by_hand_does_not_stand_in_the_way(specs) -> None:
    first, second = registered(specs.blind), registered(specs.asked)
    promote_model.fn(first)
    ask(second, replaced=1)
    MlflowClient().delete_registered_model_alias("cancer", "champion")
    assert decide("approving.asked", "approve", "anna").decision == "promoted"
    assert "removed by hand" in page()
    assert champion() == (2, 2)


def test_of_two_people_who_answer_in_the_same_second_one_counts(specs) -> None:
    ask(registered(specs.asked))
    said: dict[str, object] = {}

    def answer(name: str, word: str) -> None:
        try:
            said[name] = decide("approving.anybody", word, name).decision
        except (ConflictError, ConfigError) as lost:
            said[name] = lost

    people = [threading.Thread(target=answer, args=one) for one in (("anna", "approve"), ("ben", "refuse"))]
    for person in people:
        person.start()
    for person in people:
        person.join()
    (won,) = [name for name, heard in said.items() if isinstance(heard, str)]
    (lost,) = [heard for heard in said.values() if isinstance(heard, Exception)]
    assert "meanwhile" in str(lost) or "no version waits" in str(lost)
    decisions = [entry for entry in read_history("cancer") if entry.kind in ("promoted", "refused")]
    assert [entry.by for entry in decisions] == [won]
    assert champion() == ((1, 1) if decisions[0].kind == "promoted" else (None, None))


def test_a_rollback_while_a_request_waits_leaves_it_waiting_and_judged_again(specs) -> None:
    first, second, third = registered(specs.blind), registered(specs.blind), registered(specs.asked)
    promote_model.fn(first)
    promote_model.fn(second)
    ask(third, replaced=2)
    roll_back_model.fn("cancer", why="bad")
    assert decide("approving.asked", "approve", "anna").replaced == 1
    assert champion() == (3, 3)


def test_a_run_that_was_killed_after_its_answer_is_finished_by_the_next(specs, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect_mlops.tracking import registry

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    ask(registered(specs.asked))
    with monkeypatch.context() as dying:
        dying.setattr(registry, "_set_alias", killed)
        with pytest.raises(Killed):
            decide("approving.asked", "approve", "anna")
    assert champion() == (1, None)
    with pytest.raises(ConfigError, match="no version waits"):
        decide("approving.asked", "approve", "anna")
    assert champion() == (1, 1)
    assert kinds() == ["requested 1", "promoted 1", "repaired 1"]


def test_a_request_is_told_by_an_event(specs) -> None:
    from prefect.events.worker import EventsWorker

    since = datetime.now(timezone.utc)
    request = ask(registered(specs.asked))
    EventsWorker.drain_all(timeout=10)
    wanted = {
        "event": {"name": ["prefect-mlops.approval.requested"]},
        "resource": {"id": ["prefect-mlops.approval.cancer"]},
        "occurred": {"since": since.isoformat()},
    }
    with get_client(sync_client=True) as client:
        for _ in range(80):
            found = client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"]
            if found:
                break
            time.sleep(0.25)
    assert found[0]["payload"] == {
        "model": "cancer",
        "version": 1,
        "until": request.until.isoformat(),
        "approvers": ["anna", "@risk"],
        "reason": "roc_auc is good",
    }
    assert request.until - since > LATER


def test_the_form_offers_both_answers_and_labels_every_field() -> None:
    form = decide.parameters.model_dump()
    fields = form["properties"]
    assert fields["answer"]["enum"] == ["approve", "refuse"]
    assert [fields[name]["title"] for name in ("model", "answer", "name", "comment", "version")] == [
        "Model",
        "Answer",
        "Your name",
        "Comment",
        "Version",
    ]
    assert all(field.get("description") for field in fields.values())
    assert form["required"] == ["model", "answer", "name"]


@pytest.mark.slow
def test_a_training_ends_with_a_request_and_its_answer_makes_the_champion(specs) -> None:
    from prefect_mlops.flows.train import train

    asked = train("approving.anybody")
    assert (asked.decision, asked.version) == ("requested", 1)
    assert champion() == (None, None)
    assert train("approving.anybody").again
    assert kinds()[-1] == "requested 1"
    assert decide("approving.anybody", "approve", "anna", version=1).decision == "promoted"
    assert champion() == (1, 1)
    known = train("approving.anybody")
    assert (known.decision, known.again) == ("promoted", True)
