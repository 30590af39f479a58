from __future__ import annotations

import dataclasses
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.flows.check_freshness import check_freshness, freshness, in_words
from prefect_mlops.flows.ingest import ingest

NOW = datetime(2026, 1, 10, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("last", "promise", "passed", "says"),
    [
        (NOW - timedelta(hours=2), timedelta(hours=3), True, "last commit 2 h ago"),
        (NOW - timedelta(hours=4, minutes=5), timedelta(hours=3), False, "last commit 4 h 5 min ago"),
        (None, timedelta(hours=3), False, "nothing was ever committed"),
    ],
)
def test_the_promise_is_compared_with_the_last_commit(last, promise, passed: bool, says: str) -> None:
    report = freshness("shop", last, promise=promise, now=NOW)
    assert report.passed == passed
    assert report.checks[0].observed == says


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (timedelta(seconds=5), "less than a minute"),
        (timedelta(days=35), "35 d"),
        (timedelta(days=1, minutes=3), "1 d 3 min"),
    ],
)
def test_times_are_said_in_two_units(time: timedelta, words: str) -> None:
    assert in_words(time) == words


def test_a_broken_promise_is_an_event_and_no_failure(
    prefect_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.events.worker import EventsWorker

    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    monkeypatch.chdir(tmp_path)
    import shop

    with pytest.raises(ConfigError, match="promises nothing"):
        check_freshness("shop.sales_files")
    promised = dataclasses.replace(shop.sales_files, late_after=timedelta(minutes=5))
    monkeypatch.setattr(shop, "sales_files", promised)
    started = datetime.now(timezone.utc)
    assert not check_freshness("shop.sales_files").passed
    (tmp_path / "landing").mkdir()
    shop.sales(1).to_csv(tmp_path / "landing" / "a.csv", index=False)
    ingest("shop.sales_files")
    assert check_freshness("shop.sales_files").passed

    EventsWorker.drain_all(timeout=20)
    wanted = {"event": {"name": ["prefect-mlops.data.late"]}, "occurred": {"since": started.isoformat()}}
    events, deadline = [], time.monotonic() + 30
    with get_client(sync_client=True) as client:
        while not events and time.monotonic() < deadline:  # a server takes them down a moment later
            time.sleep(0.1)
            events = client._client.post("/events/filter", json={"filter": wanted}).json()["events"]
    (event,) = events
    assert event["resource"]["prefect.resource.id"] == "prefect-mlops.data.shop"
    assert "nothing was ever committed" in event["payload"]["summary"]
