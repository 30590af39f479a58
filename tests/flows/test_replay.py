from __future__ import annotations

import dataclasses
import time
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from deltalake import DeltaTable
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from prefect.events import emit_event
from prefect.events.worker import EventsWorker

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake.ledger import read_ledger
from prefect_mlops.flows.replay import Replayed, replay
from prefect_mlops.tasks import ingest_files

NAME = "shop.sales_files"


class Shop:
    """A shop's project with a lake and a landing folder of its own, and a suite that can be mended."""

    def __init__(self, module: Any, landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module, self.landing, self.monkeypatch = module, landing, monkeypatch

    def put(self, name: str, table: pd.DataFrame) -> None:
        table.to_csv(self.landing / name, index=False)

    def ingest(self, *names: str) -> None:
        ingest_files.fn(list(names), dataset=self.module.sales_files)

    def mend(self, *expectations: Any) -> None:
        suite = ExpectationSuite(name="mended", expectations=list(expectations))
        self.monkeypatch.setattr(self.module, "sales_files", dataclasses.replace(self.module.sales_files, suite=suite))

    def expensive(self, day: int, *rows: int) -> pd.DataFrame:
        table: pd.DataFrame = self.module.sales(day)
        table.loc[[row - 1 for row in rows], "price"] = 2000.0
        return table

    @property
    def rows(self) -> int:
        uri = table_uri("datasets", "shop")
        return DeltaTable(uri).to_pyarrow_table().num_rows if DeltaTable.is_deltatable(uri) else 0


@pytest.fixture
def shop(prefect_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    import shop

    assert isinstance(shop, ModuleType)
    (tmp_path / "landing").mkdir()
    return Shop(shop, tmp_path / "landing", monkeypatch)


def last_verdict() -> str:
    with get_client(sync_client=True) as client:
        names = FlowRunFilter(name=FlowRunFilterName(any_=[f"replay-{NAME}"]))
        run = client.read_flow_runs(flow_run_filter=names, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        made = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])),
            sort=ArtifactSort.CREATED_DESC,
        )
    assert run.state_name == "Completed"
    assert len(made) == 1
    return str(made[0].data)


def committed_since(start: datetime) -> list[dict[str, Any]]:
    """The payloads of the events the server has; it has them shortly after they were sent."""
    EventsWorker.drain_all(timeout=30)
    wanted = {
        "event": {"name": ["prefect-mlops.data.committed", "test.last"]},
        "occurred": {"since": start.isoformat()},
    }
    emit_event("test.last", resource={"prefect.resource.id": "test"})
    with get_client(sync_client=True) as client:
        while True:
            answer = client.request("POST", "/events/filter", json={"filter": wanted})
            found = {event["event"]: event["payload"] for event in answer.json()["events"]}
            if "test.last" in found:
                return [event["payload"] for event in answer.json()["events"] if event["event"] != "test.last"]
            time.sleep(0.2)


def between(top: float, low: float = 0) -> Any:
    return gxe.ExpectColumnValuesToBeBetween(column="price", min_value=low, max_value=top)


def test_rows_and_files_come_in_after_the_suite_was_mended(shop: Shop) -> None:
    shop.put("a\n<b>.csv", shop.expensive(1, 4, 6))
    shop.put("b.csv", shop.expensive(2, *range(1, 101)))
    shop.ingest("a\n<b>.csv", "b.csv")
    assert shop.rows == 398
    shop.mend(between(5000))
    start = datetime.now(timezone.utc)
    done = replay(NAME)
    assert [(one.path, one.rows, one.left) for one in done.rows] == [("a\n<b>.csv", 2, 0)]
    assert [(one.path, one.state, one.rows) for one in done.files] == [("b.csv", "committed", 400)]
    assert (done.count, done.changed, done.complete) == (402, True, True)
    assert shop.rows == 800
    told = last_verdict()
    assert told.startswith("# shop: 402 rows came in\n")
    assert "&lt;b&gt;" in told
    (event,) = committed_since(start)
    assert (event["dataset"], event["version"], event["files"], event["rows"]) == ("shop", 3, 2, 402)

    again = replay(NAME)
    assert again == Replayed()
    assert "nothing changed" in last_verdict()
    assert shop.rows == 800
    assert len(committed_since(start)) == 1


def test_what_still_fails_stays_and_fails_no_run(shop: Shop) -> None:
    shop.put("a.csv", shop.expensive(1, 4))
    shop.put("b.csv", shop.expensive(2, *range(1, 101)))
    shop.ingest("a.csv", "b.csv")
    before = len(read_ledger("shop").lines)
    start = datetime.now(timezone.utc)
    done = replay(NAME)
    assert (done.count, done.changed, done.complete) == (0, False, False)
    assert [(one.path, one.state) for one in done.files] == [("b.csv", "refused")]
    assert "a.csv: 0 rows came in, 1 stay: price" in last_verdict().replace("\\", "")
    assert len(read_ledger("shop").lines) == before
    assert committed_since(start) == []


def test_a_dry_run_writes_nothing(shop: Shop) -> None:
    shop.put("a.csv", shop.expensive(1, 4))
    shop.put("b.csv", shop.expensive(2, *range(1, 101)))
    shop.ingest("a.csv", "b.csv")
    shop.mend(between(5000))
    before = read_ledger("shop").lines
    start = datetime.now(timezone.utc)
    done = replay(NAME, dry_run=True)
    assert (done.count, done.changed, done.dry_run) == (401, True, True)
    assert shop.rows == 399
    assert read_ledger("shop").lines == before
    assert "dry run: nothing was written" in last_verdict()
    assert committed_since(start) == []


def test_refused_files_that_are_gone_or_changed_are_said(shop: Shop) -> None:
    for day, name in enumerate(("gone.csv", "changed.csv", "link.csv", "there.csv")):
        shop.put(name, shop.expensive(day, *range(1, 101)))
        shop.ingest(name)
    (shop.landing / "gone.csv").unlink()
    (shop.landing / "link.csv").unlink()
    (shop.landing / "link.csv").symlink_to("/etc/hostname")
    shop.put("changed.csv", shop.expensive(9, *range(1, 101)))
    shop.mend(between(5000))
    done = replay(NAME)
    assert [one.path for one in done.files] == ["there.csv"]
    gone, changed, link = sorted(done.left, key=lambda sentence: ("gone", "chan", "link").index(sentence[:4]))
    assert "there is no file 'gone.csv'" in gone
    assert "another content by now" in changed
    assert "leads out" in link
    assert not done.complete
    assert shop.rows == 400
    assert replay(NAME).files == ()


def test_a_refused_file_of_which_a_later_content_was_taken_is_only_checked_when_named(shop: Shop) -> None:
    shop.put("a.csv", shop.expensive(1, *range(1, 101)))
    shop.ingest("a.csv")
    shop.put("a.csv", shop.module.sales(1))
    shop.ingest("a.csv")
    assert replay(NAME) == Replayed()
    assert "another content by now" in replay(NAME, ["a.csv"]).left[0]


def test_a_crash_between_rows_and_files_is_completed_by_the_next_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put("a.csv", shop.expensive(1, 4))
    shop.put("b.csv", shop.expensive(2, *range(1, 101)))
    shop.ingest("a.csv", "b.csv")
    shop.mend(between(5000))
    from prefect_mlops.core.lake import ingest as lake

    def crash(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(lake, "append_next", crash)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - Prefect has words of its own for it
            replay(NAME)
    assert shop.rows == 400
    done = replay(NAME)
    assert (done.rows, [one.state for one in done.files]) == ((), ["committed"])
    assert shop.rows == 800
    assert sum(line.rows for line in read_ledger("shop").lines) == 800


def test_nothing_has_ever_arrived(shop: Shop) -> None:
    assert replay(NAME) == Replayed()
    with pytest.raises(ConfigError, match="there are none"):
        replay(NAME, ["a.csv"])
    with pytest.raises(ConfigError, match="sales_files"):
        replay("shop.sales_file")
