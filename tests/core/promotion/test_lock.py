from __future__ import annotations

import multiprocessing
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from prefect_mlops.core.errors import ConflictError
from prefect_mlops.core.promotion import decisions, lock
from prefect_mlops.core.promotion.history import Entry, carried_out, champion_entry, read_history, record
from prefect_mlops.core.specs.policies import Retrain
from prefect_mlops.core.values import Decision, ModelVersion

RETRAIN = Retrain()
EXPIRED = Retrain(lease=timedelta(microseconds=1))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


def version(number: int) -> ModelVersion:
    return ModelVersion(name="shop", version=number, run_id="r", model_uri="models:/m-1", url="http://mlflow/v")


def decision(word="promoted", replaced: int | None = None) -> Decision:
    return Decision(model="shop", decision=word, reason="why", metrics={"roc_auc": 0.5}, replaced=replaced)


def take(run: str, **options) -> Entry:
    taken = lock.take("shop", options.pop("retrain", RETRAIN), flow_run=run, **options)
    assert taken.lock is not None, taken
    return taken.lock


def conclude(kind, about: ModelVersion, word: Decision | None = None, **options) -> Entry:
    lease = options.pop("lease", None)
    made = lock.conclusion_on(kind, about, word, lease=lease, **options)
    return lock.conclude(made, lease=lease)


def carried_out_now() -> Entry | None:
    return decisions.note_carried_out(champion_entry(read_history("shop")))


def test_one_turn_at_a_time(home: Path) -> None:
    lease = take("a", automatic=True)
    assert (lease.kind, lease.by, lease.until - lease.at) == ("leased", "automatic", timedelta(hours=2))
    held = lock.take("shop", RETRAIN, flow_run="b")
    assert (held.lock, held.guard.kind, held.decided) == (None, "busy", None)
    assert take("a").sequence == 2, "a retry of the same run takes its own turn again"
    conclude("refused", version(1), decision("refused"), lease=lease.model_copy(update={"sequence": 2}))
    assert take("b").by == "person"


def test_the_turn_of_a_killed_run_ends_by_itself() -> None:
    take("killed", retrain=EXPIRED)
    take("b")


def test_a_turn_for_what_was_decided_meanwhile_gives_the_decision() -> None:
    lease = take("a", recipe="sha256:1")
    conclude("promoted", version(4), decision(), recipe="sha256:1", lease=lease)
    carried_out_now()
    known = lock.take("shop", RETRAIN, flow_run="b", recipe="sha256:1")
    assert known == lock.LockAttempt(decided=decision().model_copy(update={"version": 4, "url": "http://mlflow/v"}))
    assert lock.take("shop", RETRAIN, flow_run="b", recipe="").lock is not None


def test_a_promotion_holds_the_turn_until_the_alias_is_set() -> None:
    lease = take("a")
    promoted = conclude("promoted", version(2), decision(replaced=1), recipe="r", lease=lease)
    assert (promoted.version, promoted.replaced, promoted.reason, promoted.recipe) == (2, 1, "why", "r")
    assert lock.take("shop", RETRAIN, flow_run="b").guard is not None
    assert not carried_out(read_history("shop"), promoted)
    carried_out_now()
    assert carried_out(read_history("shop"), promoted)
    take("b")


def test_a_retried_conclusion_is_written_once() -> None:
    lease = take("a")
    first = conclude("promoted", version(2), decision(), lease=lease)
    assert conclude("promoted", version(2), decision(), lease=lease) == first
    conclude("promoted", version(3), flow_run="by hand")
    conclude("promoted", version(3), flow_run="by hand")
    assert [entry.kind for entry in read_history("shop")] == ["leased", "promoted", "promoted"]
    assert champion_entry(read_history("shop")).replaced == 2


def test_a_refusal_is_written_once_for_each_lock() -> None:
    lease = take("a")
    first = conclude("refused", version(2), decision("refused"), lease=lease)
    assert conclude("refused", version(2), decision("refused"), lease=lease) == first
    again = take("a")
    assert conclude("refused", version(2), decision("refused"), lease=again).sequence > again.sequence
    other = take("b")
    assert conclude("refused", version(2), decision("refused"), lease=other).sequence > other.sequence


def test_who_worked_past_the_lease_decides_nothing() -> None:
    late = take("late", retrain=EXPIRED)
    take("b")
    for kind in ("promoted", "refused"):
        with pytest.raises(ConflictError, match="flow run late worked past its lease, and flow run b took over"):
            conclude(kind, version(2), decision(kind), lease=late)
    assert champion_entry(read_history("shop")) is None


def test_a_turn_that_failed_is_over_and_says_why() -> None:
    lease = take("a", automatic=True)
    failed = lock.give_up(lease, "MLflow is away")
    assert (failed.kind, failed.reason, failed.by, failed.flow_run) == ("failed", "MLflow is away", "automatic", "a")
    assert lock.freed_sentence(failed) == "MLflow is away: it was taken from it."
    assert lock.give_up(lease, "twice") is None
    second = take("b")
    assert lock.give_up(lease, "later") is None, "the turn of another run is not ended"
    third = take("b")
    assert lock.give_up(second, "a process that Prefect thought dead") is None
    conclude("refused", version(1), decision("refused"), lease=third)


def test_a_lease_that_ran_out_unnoticed_does_no_harm() -> None:
    conclude("promoted", version(2), decision(), lease=take("late", retrain=EXPIRED))
    assert champion_entry(read_history("shop")).version == 2


def test_the_same_run_started_twice_decides_once() -> None:
    """Prefect thinks a run is dead and starts it again, while its process still works."""
    first, second = take("a"), take("a")
    with pytest.raises(ConflictError, match="worked past its lease"):
        conclude("promoted", version(2), decision(), lease=first)
    conclude("promoted", version(2), decision(), lease=second)


def test_a_champion_made_by_hand_meanwhile_is_not_overrun() -> None:
    lease = take("a")
    conclude("promoted", version(7), flow_run="by hand")
    with pytest.raises(ConflictError, match="v7 became champion meanwhile"):
        conclude("promoted", version(8), decision(), lease=lease)


def test_other_entries_between_do_not_matter() -> None:
    lease = take("a")
    record(Entry(model="shop", kind="drifted", flow_run="m"))
    assert conclude("promoted", version(8), decision(), lease=lease).sequence == 3


def under_way(run: str) -> bool:
    return decisions.under_way(read_history("shop"), datetime.now(timezone.utc), flow_run=run)


def test_a_promotion_under_way_is_left_to_its_run() -> None:
    assert not under_way("m")
    conclude("promoted", version(2), decision(), lease=take("a"))
    assert under_way("m")
    assert not under_way("a"), "a retry of that run may"
    carried_out_now()
    assert not under_way("m")


def test_a_promotion_whose_run_was_killed_is_under_way_no_more() -> None:
    conclude("promoted", version(2), decision(), lease=take("killed", retrain=EXPIRED))
    assert not under_way("m")
    carried_out_now()
    take("b")


def test_alias_and_history_are_told_apart() -> None:
    def told(points_at: int | None) -> str:
        return decisions.difference(read_history("shop"), points_at)

    assert told(None) == ""
    assert "which the history does not know" in told(3)
    conclude("promoted", version(2), decision(), lease=take("a"))
    assert "v2 was made champion, and the alias still points at v1" in told(1)
    carried_out_now()
    assert told(2) == ""
    assert "names v2 as champion, but the alias was moved to v1 by hand" in told(1)
    assert "the alias was removed by hand" in told(None)


def _race(lake_uri: str, barrier, got, name: str) -> None:
    os.environ["PREFECT_MLOPS_LAKE"] = lake_uri
    for turn in range(3):
        barrier.wait()
        taken = lock.take("shop", RETRAIN, flow_run=name)
        barrier.wait()
        if taken.lock is not None:
            conclude("promoted", version(turn + 1), decision(replaced=turn or None), lease=taken.lock)
            carried_out_now()
            got.put((turn, name))


@pytest.mark.slow
def test_of_four_processes_one_gets_each_turn() -> None:
    context = multiprocessing.get_context("spawn")  # deltalake's runtime does not survive a fork
    barrier, got = context.Barrier(4), context.Queue()
    lake = os.environ["PREFECT_MLOPS_LAKE"]
    workers = [context.Process(target=_race, args=(lake, barrier, got, f"run-{n}")) for n in range(4)]
    for worker in workers:
        worker.start()
    turns = [got.get(timeout=120) for _ in range(3)]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert got.empty()
    assert sorted(turn for turn, _ in turns) == [0, 1, 2]
    assert [entry.kind for entry in read_history("shop")] == ["leased", "promoted", "released"] * 3
