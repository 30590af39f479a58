from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from prefect_mlops.core.promotion.guards import find_guard, held_lock, opened, refused_in_a_row
from prefect_mlops.core.promotion.history import Entry
from prefect_mlops.core.specs.policies import Retrain

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def story(*happened: dict) -> list[Entry]:
    """A history; each entry a minute after the one before, the last one an hour ago."""
    start = NOW - HOUR - timedelta(minutes=len(happened))
    return [
        Entry(**{"model": "shop", "sequence": place, "at": start + timedelta(minutes=place), "flow_run": "a", **one})
        for place, one in enumerate(happened, start=1)
    ]


LEASED = {"kind": "leased", "until": NOW + HOUR}
REFUSED = {"kind": "refused", "version": 2, "by": "automatic", "reason": "roc_auc too low"}
PROMOTED = {"kind": "promoted", "version": 1, "by": "automatic"}


def brake(entries: list[Entry], *, automatic: bool = True, flow_run: str = "b", now: datetime = NOW, **retrain):
    found = find_guard(entries, Retrain(**retrain), now, automatic=automatic, flow_run=flow_run)
    return found.kind if found else None


def test_nothing_holds_a_new_model() -> None:
    assert brake([], cool_down=HOUR) is None


@pytest.mark.parametrize("automatic", [True, False])
def test_one_training_at_a_time_whoever_starts_it(automatic: bool) -> None:
    assert brake(story(LEASED), automatic=automatic) == "busy"
    found = find_guard(story(LEASED), Retrain(), NOW, automatic=automatic, flow_run="b")
    assert found.until == NOW + HOUR
    assert "flow run a has held the training lock of shop since 2026-11-21 11:00 UTC" in found.reason
    assert "the lock expires at 2026-11-21 13:00 UTC" in found.advice


def test_a_lease_ends_by_itself_at_its_time_and_not_before() -> None:
    assert brake(story(LEASED), now=NOW + HOUR - timedelta(microseconds=1)) == "busy"
    assert brake(story(LEASED), now=NOW + HOUR) is None


def test_a_retry_of_the_same_run_is_not_held_by_its_own_lease() -> None:
    assert brake(story(LEASED), flow_run="a") is None
    assert brake(story({**LEASED, "flow_run": ""}), flow_run="") == "busy"


@pytest.mark.parametrize("end", ["released", "refused", "failed", "repaired"])
def test_a_run_that_ended_holds_nobody(end: str) -> None:
    assert brake(story(LEASED, {"kind": end})) is None
    assert brake(story(LEASED, {"kind": end, "flow_run": "c"})) == "busy", "another run cannot end it"
    assert brake(story({"kind": end}, LEASED)) == "busy", "an end before the lease is not its end"


@pytest.mark.parametrize("middle", ["promoted", "drifted", "backfilled", "opened"])
def test_a_promotion_under_way_still_holds_the_lease(middle: str) -> None:
    assert brake(story(LEASED, {"kind": middle, "version": 3})) == "busy"


def test_a_later_lease_counts_not_an_earlier_one() -> None:
    taken_over = story({**LEASED, "until": NOW - HOUR}, {**LEASED, "flow_run": "c"})
    assert held_lock(taken_over).flow_run == "c"
    assert held_lock([*taken_over, *story({"kind": "failed"})]) is not None, "the old run ends its own lease only"


@pytest.mark.parametrize("decision", [PROMOTED, REFUSED, {**REFUSED, "by": "ada"}])
def test_a_cool_down_counts_from_the_last_decision(decision: dict) -> None:
    entries = story(decision)
    assert brake(entries, cool_down=HOUR) is None
    assert brake(entries, cool_down=HOUR + timedelta(seconds=1)) == "cool-down"
    assert brake(entries, cool_down=2 * HOUR, automatic=False) is None, "a person does not wait"
    found = find_guard(entries, Retrain(cool_down=2 * HOUR), NOW, automatic=True)
    assert found.until == NOW + HOUR
    assert found.advice == "Wait until 2026-11-21 13:00 UTC, or start train by hand."


def test_what_is_no_decision_starts_no_cool_down() -> None:
    assert brake(story({"kind": "failed"}, {"kind": "drifted"}, {"kind": "backfilled"}), cool_down=2 * HOUR) is None


@pytest.mark.parametrize(
    ("entries", "count"),
    [
        ([], 0),
        ([REFUSED], 1),
        ([REFUSED] * 5, 5),
        ([PROMOTED, REFUSED, REFUSED], 2),
        ([REFUSED, REFUSED, PROMOTED], 0),
        ([REFUSED, {**REFUSED, "by": "person"}, REFUSED], 1),
        ([REFUSED, REFUSED, {**REFUSED, "by": "ada"}], 0),
        ([REFUSED, REFUSED, {"kind": "closed", "by": "ada"}], 0),
        ([REFUSED, LEASED, {"kind": "failed"}, REFUSED, {"kind": "drifted"}, {"kind": "opened"}], 2),
    ],
)
def test_refusals_in_a_row(entries: list[dict], count: int) -> None:
    assert refused_in_a_row(story(*entries)) == count


def test_the_breaker_opens_after_so_many_refusals() -> None:
    assert brake(story(REFUSED, REFUSED)) is None
    assert brake(story(REFUSED, REFUSED, REFUSED)) == "breaker"
    assert brake(story(*[REFUSED] * 3), automatic=False) is None, "a person may always try"
    assert brake(story(*[REFUSED] * 9), refused_in_a_row=0) is None
    assert brake(story(REFUSED), refused_in_a_row=1) == "breaker"
    found = find_guard(story(*[REFUSED] * 3), Retrain(), NOW, automatic=True)
    assert found.until is None
    assert "3 challengers in a row were refused, the last one because: roc_auc too low" in found.reason


def test_what_only_a_person_can_release_is_said_first() -> None:
    assert brake(story(REFUSED, REFUSED, REFUSED, LEASED), cool_down=9 * HOUR) == "breaker"
    assert brake(story(REFUSED, LEASED), cool_down=9 * HOUR) == "busy"


@pytest.mark.parametrize(
    ("after", "is_open"),
    [
        ([], True),
        ([REFUSED, {"kind": "drifted"}, LEASED], True),
        ([PROMOTED], False),
        ([{**REFUSED, "by": "person"}], False),
        ([{"kind": "closed"}], False),
        ([{"kind": "closed"}, REFUSED, {"kind": "opened"}], True),
    ],
)
def test_whether_the_breaker_was_written_down_as_open(after: list[dict], is_open: bool) -> None:
    assert not opened(story(REFUSED))
    assert opened(story(REFUSED, {"kind": "opened"}, *after)) == is_open
