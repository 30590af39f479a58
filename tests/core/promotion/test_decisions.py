"""Who becomes champion outside of a training, on real histories in a lake."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from prefect_mlops.core.errors import ConfigError, ConflictError
from prefect_mlops.core.promotion import history, lock
from prefect_mlops.core.promotion.decisions import (
    Approval,
    difference,
    earlier_champions,
    expire_request,
    known_rollback,
    may_approve,
    moved_by_hand,
    note_carried_out,
    open_request,
    roll_back,
    rollback_target,
    sign,
)
from prefect_mlops.core.promotion.history import Entry, champion_entry, read_history, record
from prefect_mlops.core.values import Decision, ModelVersion

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))


def crown(version: int, *, done: bool = True, kind: str = "promoted") -> Entry:
    """Write a champion, and that its alias was set."""
    entry = record(Entry(model="shop", kind=kind, version=version, replaced=None))
    if done:
        note_carried_out(entry)
    return entry


def requested(version: int, *, replaced: int | None = None, until: datetime | None = NOW) -> Entry:
    decision = Decision(model="shop", version=version, decision="requested", reason="good enough").model_dump()
    return record(
        Entry(
            model="shop",
            kind="requested",
            version=version,
            replaced=replaced,
            until=until,
            recipe="sha256:1",
            details={"decision": decision},
        )
    )


def made(kind: str, version: int, *, replaced: int | None = None, approval: Approval | None = None) -> Entry:
    model = ModelVersion(name="shop", version=version, run_id="r", model_uri="m")
    word = "promoted" if kind == "promoted" else "refused"
    decision = Decision(model="shop", decision=word, reason="because", replaced=replaced)
    entry = lock.conclusion_on(kind, model, decision)
    return approval.on(entry) if approval else entry


def signed(by: str, request: Entry | None = None, **options) -> Approval:
    return sign("shop", by=by, approvers=(), request=request, **options)


def kinds() -> list[str]:
    return [f"{entry.kind} {entry.version}" for entry in read_history("shop")]


@pytest.mark.parametrize(
    ("crowns", "earlier"),
    [
        ([], []),
        ([1], []),
        ([1, 2, 3], [2, 1]),
        ([1, 2, 3, -2], [1]),
        ([1, 2, 3, -2, -1], []),
        ([1, 2, 3, -1, 4], [1]),
        ([1, 2, 3, -2, 3], [2, 1]),
        ([1, 1, 2], [1]),
    ],
)
def test_each_rollback_goes_further_back(crowns: list[int], earlier: list[int]) -> None:
    entries = [
        Entry(model="shop", kind="promoted" if one > 0 else "rolled_back", version=abs(one), sequence=place)
        for place, one in enumerate(crowns, 1)
    ]
    refused = Entry(model="shop", kind="refused", version=9, sequence=len(entries) + 1)
    assert earlier_champions([*entries, refused]) == earlier


def test_a_rollback_names_what_it_took_back_and_why() -> None:
    crown(1)
    crown(2)
    entry = roll_back("shop", why="predicts nonsense", by="anna", flow_run="run-1")
    assert (entry.kind, entry.version, entry.replaced) == ("rolled_back", 1, 2)
    assert (entry.reason, entry.by, entry.flow_run) == ("predicts nonsense", "anna", "run-1")
    assert champion_entry(read_history("shop")) == entry


def test_a_version_that_does_not_pass_the_check_is_not_rolled_back_to() -> None:
    def gone(version: int) -> None:
        raise ConfigError(f"v{version} is gone")

    crown(1)
    crown(2)
    before = read_history("shop")
    with pytest.raises(ConfigError, match="v1 is gone"):
        roll_back("shop", why="bad", check=gone)
    assert read_history("shop") == before


def test_a_version_that_was_refused_was_never_champion() -> None:
    crown(1)
    crown(2)
    lock.conclude(made("refused", 3, replaced=2))
    with pytest.raises(ConfigError, match="v3 was never champion, only v1, v2 were"):
        roll_back("shop", to=3, why="bad")


def test_the_same_rollback_again_changes_nothing_and_another_one_goes_further_back() -> None:
    for version in (1, 2, 3):
        crown(version)
    first = roll_back("shop", why="bad", by="anna")
    note_carried_out(first)
    assert roll_back("shop", why="bad", by="anna") == first
    assert roll_back("shop", to=2, why="bad", by="anna") == first
    assert known_rollback(read_history("shop"), to=None, why="bad", by="anna") == first
    assert known_rollback(read_history("shop"), to=None, why="bad", by="ben") is None
    assert known_rollback(read_history("shop"), to=1, why="bad", by="anna") is None
    assert roll_back("shop", why="bad too", by="anna").version == 1


def test_a_half_done_rollback_is_finished_whoever_asks_again() -> None:
    for version in (1, 2, 3):
        crown(version)
    half = roll_back("shop", why="bad", by="anna")
    assert roll_back("shop", why="what is this?", by="ben") == half
    assert roll_back("shop", to=1, why="all the way", by="ben").version == 1


@pytest.mark.parametrize(
    ("crowns", "to", "says"),
    [
        ([], None, "nothing was promoted yet"),
        ([], 3, "nothing was promoted yet"),
        ([1], None, "v1 is the first champion"),
        ([1, 2], 2, "v2 is the champion already, since"),
        ([1, 2], 7, "v7 was never champion, only v1, v2 were. .* prefect-mlops promote shop 7 --why"),
    ],
)
def test_what_cannot_be_rolled_back_is_said_and_nothing_written(crowns: list[int], to: int | None, says: str) -> None:
    for version in crowns:
        crown(version)
    before = read_history("shop")
    with pytest.raises(ConfigError, match=says):
        rollback_target("shop", before, to)
    with pytest.raises(ConfigError, match=says):
        roll_back("shop", to=to, why="bad")
    assert read_history("shop") == before


def between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen after the next writer has looked and before it commits."""
    real = history.append_next

    def late(*args, **options) -> int:
        monkeypatch.setattr(history, "append_next", real)
        act()
        return real(*args, **options)

    monkeypatch.setattr(history, "append_next", late)


def test_a_rollback_that_meets_a_promotion_tells_who_won(monkeypatch: pytest.MonkeyPatch) -> None:
    crown(1)
    crown(2)
    between(monkeypatch, lambda: crown(3, done=False))
    with pytest.raises(ConflictError, match=r"promoted v3 at .* at the same time; nothing was rolled back"):
        roll_back("shop", why="bad")
    assert kinds()[-1] == "promoted 3"


def test_a_rollback_that_meets_the_same_version_promoted_anew_tells_so(monkeypatch: pytest.MonkeyPatch) -> None:
    crown(1)
    crown(2)
    between(monkeypatch, lambda: crown(2, done=False))
    with pytest.raises(ConflictError, match="at the same time"):
        roll_back("shop", why="bad")


def test_of_two_promotions_judged_against_the_same_champion_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    crown(1)
    between(monkeypatch, lambda: lock.conclude(made("promoted", 2, replaced=1), replaces=1))
    with pytest.raises(ConflictError, match=r"v2 became champion meanwhile \(promoted v2 at .*judged against v1"):
        lock.conclude(made("promoted", 3, replaced=1), replaces=1)
    assert kinds() == ["promoted 1", "released 1", "promoted 2"]
    assert lock.conclude(made("promoted", 3), replaces=2).replaced == 2


def test_who_replaces_whoever_is_champion_says_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    crown(1)
    between(monkeypatch, lambda: crown(2))
    assert lock.conclude(made("promoted", 3, replaced=1)).replaced == 2


def test_the_alias_is_noted_for_the_champion_of_that_moment_only() -> None:
    first = crown(1, done=False)
    second = crown(2, done=False)
    assert note_carried_out(first) is None
    assert note_carried_out(second).kind == "released"
    assert kinds() == ["promoted 1", "promoted 2", "released 2"]


def test_where_history_and_alias_differ_the_reason_is_said() -> None:
    entries = [crown(1), crown(2), crown(3, done=False)] and read_history("shop")
    assert difference([], None) == ""
    assert "which the history does not know" in difference([], 4)
    assert difference(entries, 3) == ""
    assert "a crash came between, or it is being set" in difference(entries, 2)
    note_carried_out(champion_entry(entries))
    entries = read_history("shop")
    assert "the alias was moved to v2 by hand" in difference(entries, 2)
    assert "the alias was moved to v9 by hand" in difference(entries, 9)
    assert "the alias was removed by hand" in difference(entries, None)
    assert moved_by_hand(entries, 2)


def test_an_alias_that_is_still_to_be_set_was_not_moved_by_hand() -> None:
    crown(1)
    crown(2, done=False)
    assert not moved_by_hand(read_history("shop"), 1)
    assert not moved_by_hand([], 1)


def test_a_promotion_that_was_overtaken_is_no_hand() -> None:
    crown(1)
    crown(2, done=False)
    crown(3)
    entries = read_history("shop")
    assert "an older promotion set it late" in difference(entries, 2)
    assert not moved_by_hand(entries, 2)
    assert moved_by_hand(entries, 1)


def test_a_request_waits_until_something_is_decided_on_its_version() -> None:
    assert open_request([]) is None
    crown(1)
    older = requested(2, replaced=1)
    assert open_request(read_history("shop")) == older
    newer = requested(3, replaced=1)
    assert open_request(read_history("shop")) == newer
    lock.conclude(made("refused", 4, replaced=1))
    assert open_request(read_history("shop")) == newer, "another version's decision is no answer"
    lock.conclude(made("refused", 3, replaced=1))
    assert open_request(read_history("shop")) is None


def test_a_request_nobody_answered_is_refused_once_and_keeps_what_it_was_about() -> None:
    crown(1)
    request = requested(2, replaced=1, until=NOW)
    assert expire_request("shop", NOW - timedelta(seconds=1)) is None
    expired = expire_request("shop", NOW)
    assert (expired.kind, expired.version, expired.replaced, expired.by) == ("refused", 2, 1, "automatic")
    assert expired.recipe == request.recipe
    assert expired.details["request"] == request.sequence
    assert lock.decision_of(expired).decision == "refused"
    assert "expired unanswered" in expired.reason
    assert expire_request("shop", NOW) is None
    assert open_request(read_history("shop")) is None


def test_a_request_without_an_end_waits_for_ever() -> None:
    requested(2, until=None)
    assert expire_request("shop", NOW + timedelta(days=9999)) is None


@pytest.mark.parametrize(
    ("first", "second"), [("promoted", "promoted"), ("promoted", "refused"), ("refused", "promoted")]
)
@pytest.mark.parametrize("done", [True, False])
def test_of_two_answers_to_a_request_the_first_one_counts(first: str, second: str, done: bool) -> None:
    crown(1)
    request = requested(2, replaced=1)
    anna, ben = (signed(name, request) for name in ("anna", "ben"))
    given = lock.conclude(made(first, 2, replaced=1, approval=anna), replaces=1)
    if done and first == "promoted":
        note_carried_out(given)
    with pytest.raises(ConflictError, match=rf"answered meanwhile \({first} v2 at .*, anna\); nothing was changed"):
        lock.conclude(made(second, 2, replaced=1, approval=ben), replaces=1)
    assert [entry.by for entry in read_history("shop") if entry.kind == first and entry.version == 2] == ["anna"]


def test_an_answer_to_a_request_that_ran_out_or_made_way_is_refused() -> None:
    request = requested(2)
    approval = signed("anna", request)
    expire_request("shop", NOW)
    with pytest.raises(ConflictError, match=r"answered meanwhile \(refused v2 at .*, automatic\)"):
        lock.conclude(made("promoted", 2, approval=approval), replaces=None)
    older = requested(3)
    requested(4)
    with pytest.raises(ConflictError, match=r"answered meanwhile \(requested v4"):
        lock.conclude(made("promoted", 3, approval=signed("anna", older)), replaces=None)


def test_an_approval_is_kept_with_the_entry() -> None:
    request = requested(2)
    approval = signed("anna", request, comment="fine", typed="Anna")
    entry = lock.conclude(made("promoted", 2, approval=approval), replaces=None)
    kept = read_history("shop")[-1]
    assert kept == entry
    assert kept.by == "anna"
    assert Approval.model_validate(kept.details["approval"]).model_dump() == approval.model_dump()
    assert lock.decision_of(kept).reason == "because"


@pytest.mark.parametrize(
    ("name", "approvers", "allowed"),
    [
        ("anna", [], True),
        ("", [], False),
        ("anna", ["anna"], True),
        ("Anna", ["anna"], False),
        ("eve", ["anna"], False),
        ("", ["anna", ""], False),
        ("ben", ["anna", "@risk"], True),
        ("eve", ["anna", "@risk"], False),
        ("@risk", ["anna", "@risk"], False),
        ("@risk", [], False),
        ("risk", ["@risk"], False),
        ("ben", ["@nobody-knows-this-group"], False),
    ],
)
def test_names_and_groups_may_approve_and_nobody_else(name: str, approvers: list[str], allowed: bool) -> None:
    assert may_approve(name, approvers, {"risk": ("ben", "cleo")}) is allowed


def test_who_may_not_answer_is_written_down() -> None:
    request = requested(2)
    with pytest.raises(ConfigError, match="shop: 'eve' may not answer for v2; who may: anna, @risk"):
        sign("shop", by="eve", approvers=("anna", "@risk"), request=request, flow_run="run-1")
    denied = read_history("shop")[-1]
    assert (denied.kind, denied.version, denied.by) == ("denied", 2, "eve")
    assert "'eve' answered the request for v2 and is not among those who may" in denied.reason
    assert open_request(read_history("shop")) == request


def test_a_promotion_without_a_request_needs_an_approver_too_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crown(1)
    before = read_history("shop")
    with pytest.raises(ConfigError, match="shop: 'eve' may not promote it; who may: anna, @risk"):
        sign("shop", by="eve", approvers=("anna", "@risk"))
    with pytest.raises(ConfigError, match="shop: a promotion needs the name of who gives it"):
        sign("shop", by="", approvers=())
    with pytest.raises(ConfigError, match="who may: anybody with a name"):
        sign("shop", by="@risk", approvers=())
    assert read_history("shop") == before
    monkeypatch.setenv("PREFECT_MLOPS_GROUPS", '{"risk": ["ben"]}')
    approval = sign("shop", by="ben", approvers=("anna", "@risk"), comment="agreed", without_rehearsal=True)
    assert approval.model_dump() == {
        "by": "ben",
        "comment": "agreed",
        "request": 0,
        "typed": "ben",
        "without_rehearsal": True,
    }


@pytest.mark.parametrize(
    "approval",
    [
        Approval(by="eve"),
        Approval.model_validate(Approval(by="eve").model_dump()),
        sign("another", by="eve", approvers=()),
    ],
    ids=["made without sign", "read back", "for another model"],
)
@pytest.mark.parametrize("kind", ["promoted", "refused"])
def test_an_approval_that_was_not_checked_is_not_accepted(approval: Approval, kind: str) -> None:
    with pytest.raises(ConfigError, match="shop: whether 'eve' may decide on v2 was not checked"):
        made(kind, 2, approval=approval)


def test_a_signature_outlives_another_process() -> None:
    assert pickle.loads(pickle.dumps(signed("anna"))) == signed("anna")
