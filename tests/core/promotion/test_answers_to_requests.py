"""One request gets one answer, one promotion is written once: what counts as the same step, and what comes too late."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefect_mlops.core.errors import ConflictError
from prefect_mlops.core.promotion import lock
from prefect_mlops.core.promotion.decisions import note_carried_out
from prefect_mlops.core.promotion.guards import held_lock
from prefect_mlops.core.promotion.history import Entry, champion_entry, read_history, record
from prefect_mlops.core.values import Decision, ModelVersion


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


def entry(kind: str, version: int | None = None, **fields) -> Entry:
    return record(Entry(model="shop", kind=kind, version=version, by="person", **fields))


def answer(version: int, request: int, *, by: str, flow_run: str = "") -> Entry:
    about = ModelVersion(name="shop", version=version, run_id="r", model_uri="models:/m-1")
    decision = Decision(model="shop", decision="promoted", reason="why")
    made = lock.conclusion_on("promoted", about, decision, flow_run=flow_run)
    return made.model_copy(update={"by": by, "details": {**made.details, "approval": {"request": request}}})


def test_the_second_person_who_says_the_same_comes_too_late() -> None:
    request = entry("requested", 2)
    lock.conclude(answer(2, request.sequence, by="anna"))
    with pytest.raises(ConflictError, match=r"answered meanwhile \(promoted v2.*, anna\)"):
        lock.conclude(answer(2, request.sequence, by="ben"))
    assert [one.kind for one in read_history("shop")] == ["requested", "promoted"]


def test_a_retry_of_the_run_that_answered_is_the_same_answer() -> None:
    request = entry("requested", 2)
    first = lock.conclude(answer(2, request.sequence, by="anna", flow_run="a"))
    assert lock.conclude(answer(2, request.sequence, by="anna", flow_run="a")).sequence == first.sequence


def test_an_answer_of_an_earlier_request_is_not_that_of_this_one() -> None:
    first = entry("requested", 2)
    lock.conclude(answer(2, first.sequence, by="anna", flow_run="a"))
    second = entry("requested", 2)
    made = lock.conclude(answer(2, second.sequence, by="anna", flow_run="a"))
    assert made.sequence > second.sequence


def test_decisions_before_the_request_are_not_named_as_its_answer() -> None:
    entry("refused", 2)
    old = entry("requested", 2)
    entry("requested", 3)
    with pytest.raises(ConflictError) as error:
        lock.conclude(answer(2, old.sequence, by="anna"))
    assert "requested v3" in str(error.value), "the newer request took its place"
    assert "refused" not in str(error.value)


def test_the_answer_to_the_request_is_named_and_not_a_later_decision_on_another_version() -> None:
    request = entry("requested", 2)
    lock.conclude(answer(2, request.sequence, by="anna"))
    entry("refused", 4)
    with pytest.raises(ConflictError, match=r"answered meanwhile \(promoted v2.*, anna\)"):
        lock.conclude(answer(2, request.sequence, by="ben"))


def promotion(version: int, flow_run: str = "") -> Entry:
    about = ModelVersion(name="shop", version=version, run_id="r", model_uri="models:/m-1")
    return lock.conclusion_on("promoted", about, flow_run=flow_run)


def test_a_version_that_was_replaced_is_promoted_anew() -> None:
    first = lock.conclude(promotion(1, "a"))
    lock.conclude(promotion(2, "b"))
    assert lock.conclude(promotion(1, "a")).sequence > first.sequence


def test_a_promotion_by_a_person_is_the_same_until_its_alias_is_set() -> None:
    first = lock.conclude(promotion(1))
    assert lock.conclude(promotion(1)).sequence == first.sequence, "a crash before the alias: finish that one"
    champion = champion_entry(read_history("shop"))
    assert champion is not None
    note_carried_out(champion)
    assert lock.conclude(promotion(1)).sequence > first.sequence, "done before: this is another step"


def test_a_lock_is_ended_only_by_what_its_own_run_says_afterwards() -> None:
    entry("released", flow_run="a")
    lease = entry("leased", flow_run="a")
    entry("released", flow_run="b")
    held = held_lock(read_history("shop"))
    assert held is not None
    assert held.sequence == lease.sequence
    entry("released", flow_run="a")
    assert held_lock(read_history("shop")) is None
