from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from prefect_mlops.core.promotion.history import Entry
from prefect_mlops.core.promotion.status import ModelStatus, find_status
from prefect_mlops.core.specs.policies import Retrain

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
PROMOTED = [{"kind": "promoted", "version": 1}, {"kind": "released", "version": 1}]
REFUSED = {"kind": "refused", "version": 2, "by": "automatic", "reason": "too low"}
DRIFTED = {"kind": "drifted", "version": 1, "flow_run": "m", "reason": "price moved"}


def standing(*happened: dict, alias: int | None = 1, retrain: Retrain | None = None, **options) -> ModelStatus:
    start = NOW - HOUR - timedelta(minutes=len(happened))
    entries = [
        Entry(**{"model": "shop", "sequence": place, "at": start + timedelta(minutes=place), "flow_run": "a", **one})
        for place, one in enumerate(happened, start=1)
    ]
    return find_status("shop", entries, retrain or Retrain(), NOW, alias=alias, **options)


def test_a_model_that_is_well_needs_nobody() -> None:
    found = standing(*PROMOTED)
    assert (found.champion.version, found.difference, found.brakes, found.todo) == (1, "", (), ())


def test_a_new_model_needs_its_first_training() -> None:
    assert standing(alias=None).todo == ("There is no champion: start train to make the first one.",)
    leased = {"kind": "leased", "until": NOW + HOUR}
    at_work = standing(leased, alias=None)
    assert at_work.todo == ()
    assert at_work.work.flow_run == "a"
    assert standing({**leased, "until": NOW}, alias=None).work is None
    assert standing(alias=None, alias_known=False).todo == (), "nobody knows"


def test_an_open_breaker_says_what_closes_it() -> None:
    found = standing(*PROMOTED, REFUSED, REFUSED, REFUSED, DRIFTED)
    assert [brake.kind for brake in found.brakes] == ["breaker"]
    assert "start train by hand: that closes the breaker" in found.todo[0]
    assert "is not retrained before the breaker is closed" in found.todo[1]


def test_drift_waits_for_the_cool_down_and_is_over_with_the_next_decision() -> None:
    resting = standing(*PROMOTED, DRIFTED, retrain=Retrain(cool_down=2 * HOUR))
    assert resting.todo == (
        "It has drifted since 2026-11-21 11:00 UTC; it is retrained by the next trigger or schedule after "
        "2026-11-21 12:58 UTC.",
    )
    assert "was not trained since: start train" in standing(*PROMOTED, DRIFTED).todo[0]
    over = standing(*PROMOTED, DRIFTED, REFUSED)
    assert over.todo == ()
    assert over.drift.reason == "price moved"


def test_a_failure_counts_until_something_is_decided() -> None:
    failed = {"kind": "failed", "reason": "MLflow is away"}
    assert "start train. MLflow is away" in standing(*PROMOTED, failed).todo[0]
    assert standing(*PROMOTED, failed, REFUSED).failure is None


def test_a_request_waits_until_its_version_is_decided_on() -> None:
    request = {"kind": "requested", "version": 2, "until": NOW + timedelta(days=7)}
    waiting = standing(*PROMOTED, request)
    assert waiting.request.version == 2
    assert waiting.todo[0].startswith("v2 waits for approval until")
    assert standing(*PROMOTED, request, {"kind": "refused", "version": 2}).request is None


def test_an_alias_that_does_not_follow_the_history() -> None:
    moved = standing(*PROMOTED, {"kind": "promoted", "version": 2}, {"kind": "released", "version": 2})
    assert "the alias was moved to v1 by hand" in moved.todo[0]
    behind = standing(*PROMOTED, {"kind": "promoted", "version": 2})
    assert behind.todo[0].startswith("The next run of train, monitor or maintenance lets the alias follow the history.")
    unasked = standing(*PROMOTED, alias=None, alias_known=False)
    assert (unasked.difference, unasked.todo) == ("", ())


@pytest.mark.parametrize(
    "happened",
    [
        [{"kind": "failed", "reason": "MLflow is away"}],
        [DRIFTED],
        [{"kind": "promoted", "version": 2}],
    ],
    ids=["failed", "drifted", "alias behind"],
)
def test_what_a_training_at_work_may_mend_is_left_to_it(happened: list[dict[str, object]]) -> None:
    leased = {"kind": "leased", "until": NOW + HOUR, "flow_run": "b"}
    assert standing(*PROMOTED, *happened).todo != ()
    assert standing(*PROMOTED, *happened, leased).todo == ()


def test_a_request_without_an_end_names_none() -> None:
    waiting = standing(*PROMOTED, {"kind": "requested", "version": 2})
    assert waiting.todo[0].startswith("v2 waits for approval: start")


def test_drift_of_a_model_without_a_decision_waits() -> None:
    assert standing(DRIFTED, alias=None).todo[-1].startswith("It has drifted since")
