from __future__ import annotations

import dataclasses
import time
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from prefect.events.worker import EventsWorker

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake.ingest import arrivals
from prefect_mlops.flows.ingest import ingest
from prefect_mlops.tasks import _intake


@pytest.fixture
def shop(prefect_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A shop's project with a lake and a landing folder of its own. Returns the module of its specs."""
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    import shop

    monkeypatch.chdir(tmp_path)
    (tmp_path / "landing").mkdir()
    return shop


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    return tmp_path / "landing"


def put(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def last_run(name: str = "ingest-shop.sales_files") -> tuple[list, str]:
    """The artifacts of the newest flow run of that name, in the order they were made, and the run's final state."""
    with get_client(sync_client=True) as client:
        names = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
        run = client.read_flow_runs(flow_run_filter=names, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        made = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])),
            sort=ArtifactSort.CREATED_DESC,
        )
    return made[::-1], run.state_name


def events(name: str, *, since: datetime, count: int) -> list[dict]:
    """Events that reached the server; they are sent in the background, so it may take a moment."""
    EventsWorker.drain_all(timeout=20)
    wanted = {"filter": {"event": {"name": [name]}, "occurred": {"since": since.isoformat()}}}
    with get_client(sync_client=True) as client:
        for _ in range(40):
            found = client._client.post("/events/filter", json=wanted).json()["events"]
            if len(found) >= count:
                break
            time.sleep(0.25)
    return found


def rows_in_lake() -> int:
    uri = table_uri("datasets", "shop")
    return DeltaTable(uri).to_pandas().shape[0] if DeltaTable.is_deltatable(uri) else 0


@pytest.mark.parametrize("files", [None, []], ids=["left out", "empty"])
def test_every_file_of_the_folder_is_taken(shop, landing: Path, files: list[str] | None) -> None:
    put(landing / "day-2.csv", shop.sales(2))
    put(landing / "day-1.csv", shop.sales(1))
    put(landing / "south" / "day-1.csv", shop.sales(3))
    done = ingest("shop.sales_files", files).arrivals
    assert [(arrival.path, arrival.state) for arrival in done] == [
        ("day-1.csv", "committed"),
        ("day-2.csv", "committed"),
        ("south/day-1.csv", "committed"),
    ]
    assert rows_in_lake() == 1200


def test_only_the_named_files_are_taken(shop, landing: Path) -> None:
    for day in (1, 2):
        put(landing / f"day-{day}.csv", shop.sales(day))
    assert [arrival.path for arrival in ingest("shop.sales_files", ["day-2.csv"]).arrivals] == ["day-2.csv"]
    assert rows_in_lake() == 400


def test_hidden_files_and_folders_are_left_alone(shop, landing: Path) -> None:
    for name in (".day-1.csv.part", ".uploading/day-1.csv", "south/.trash/day-1.csv", "south/.day.csv"):
        put(landing / name, shop.sales(1))
    put(landing / "day-1.csv", shop.sales(1))
    assert [arrival.path for arrival in ingest("shop.sales_files").arrivals] == ["day-1.csv"]


def test_a_refused_file_fails_neither_the_run_nor_the_files_after_it(shop, landing: Path) -> None:
    put(landing / "a.csv", shop.sales(1).rename(columns={"price": "cost"}))
    (landing / "b.txt").write_text("dear all")
    (landing / "c.csv.gz").write_bytes(b"\x1f\x8b\x08cut")
    put(landing / "d.csv", shop.sales(2).assign(price=lambda table: table["price"].where(table.index > 3, -1.0)))
    put(landing / "e.csv", shop.sales(3))
    done = ingest("shop.sales_files").arrivals
    assert [arrival.state for arrival in done] == ["refused", "refused", "refused", "partly", "committed"]
    made, state = last_run()
    assert state == "Completed"
    lines = made[0].data.splitlines()
    assert lines[0] == "# shop: 5 new of 5 files, 3 refused"
    assert lines[2] == "- 796 rows committed, 4 in quarantine."
    for name in ("a.csv", "b.txt", "c.csv.gz"):
        assert any(line.startswith(f"- {name}: refused. ") for line in lines), name
    assert any(line.startswith("- d.csv: partly. 4 of 400 rows") for line in lines)
    assert "e.csv" not in made[0].data, "a good file needs no words"


def test_a_link_that_leads_out_is_not_read_and_holds_nobody_up(shop, landing: Path, tmp_path: Path) -> None:
    put(tmp_path / "secret.csv", shop.sales(9))
    (landing / "a.csv").symlink_to(tmp_path / "secret.csv")
    put(landing / "b.csv", shop.sales(1))
    assert [arrival.path for arrival in ingest("shop.sales_files").arrivals] == ["b.csv"]
    verdict = last_run()[0][0].data
    assert "Left: 'a.csv' leads out of the landing folder" in verdict
    with pytest.raises(ConfigError, match="leads out of the landing folder"):
        ingest("shop.sales_files", ["a.csv"])


def test_the_verdict_is_the_first_artifact_and_names_cannot_add_markup(shop, landing: Path) -> None:
    name = "<img src=x onerror=alert(1)> [here](http:x) **bold**\n# new heading.csv"
    put(landing / name, shop.sales(1).drop(columns="price"))
    (arrival,) = ingest("shop.sales_files").arrivals
    assert (arrival.path, arrival.state) == (name, "refused")
    made, _ = last_run()
    assert made[0].key == "verdict-ingest-shop"
    text = made[0].data
    assert "&lt;img src=x onerror=alert" in text
    assert "<img" not in text
    assert "](" not in text
    assert "**" not in text
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# shop: 1 new of 1 files, 1 refused"]


def test_many_refused_files_keep_the_verdict_short(shop, landing: Path) -> None:
    for number in range(14):
        (landing / f"{number}.csv").write_text("n\n")
    ingest("shop.sales_files")
    made, _ = last_run()
    assert made[0].data.startswith("# shop: 14 new of 14 files, 14 refused")
    lines = [line for line in made[0].data.splitlines() if line.startswith("- ")]
    assert len(lines) == 10
    assert lines[-1] == "- and 6 more"


def test_running_twice_changes_nothing_and_says_so(shop, landing: Path) -> None:
    put(landing / "a.csv", shop.sales(1))
    put(landing / "b.csv", shop.sales(2).rename(columns={"price": "cost"}))
    first = ingest("shop.sales_files").arrivals
    ledger = arrivals("shop")
    assert ingest("shop.sales_files").arrivals == ()
    assert last_run()[0][0].data.startswith("# shop: 0 new of 0 files, 0 refused")
    again = ingest("shop.sales_files", verify=True).arrivals
    assert [arrival.again for arrival in again] == [True, True]
    assert tuple(arrival.model_copy(update={"again": False}) for arrival in again) == first
    assert (rows_in_lake(), arrivals("shop")) == (400, ledger)
    assert last_run()[0][0].data.startswith("# shop: 0 new of 2 files, 0 refused")


def test_a_copy_is_a_duplicate_and_said_so(shop, landing: Path) -> None:
    put(landing / "a.csv", shop.sales(1))
    ingest("shop.sales_files")
    put(landing / "b.csv", shop.sales(1))
    assert [arrival.state for arrival in ingest("shop.sales_files").arrivals] == ["duplicate"]
    assert "- b.csv: duplicate. the same content as a.csv; nothing was done" in last_run()[0][0].data
    assert ingest("shop.sales_files").arrivals == (), "a duplicate is not looked into again"


def test_a_dry_run_checks_and_writes_nothing(shop, landing: Path, tmp_path: Path) -> None:
    put(landing / "a.csv", shop.sales(1))
    (arrival,) = ingest("shop.sales_files", dry_run=True).arrivals
    assert (arrival.state, arrival.rows, arrival.version) == ("committed", 400, None)
    assert not (tmp_path / "lake").exists()
    assert "dry run: nothing was written" in last_run()[0][0].data


def test_a_commit_is_announced_with_what_came(shop, landing: Path) -> None:
    started = datetime.now(timezone.utc)
    put(landing / "a.csv", shop.sales(1))
    put(landing / "b.csv", shop.sales(2).drop(columns="price"))
    ingest("shop.sales_files")
    ingest("shop.sales_files", verify=True)  # nothing new is no news
    put(landing / "c.csv", shop.sales(3))
    ingest("shop.sales_files")
    newer, event = events("prefect-mlops.data.committed", since=started, count=2)
    assert newer["payload"]["paths"] == ["c.csv"]
    assert event["resource"]["prefect.resource.id"] == "prefect-mlops.data.shop"
    assert event["payload"] == {
        "dataset": "shop",
        "version": 1,
        "files": 1,
        "rows": 400,
        "refused": 0,
        "paths": ["a.csv"],
    }


def test_a_file_that_cannot_be_read_now_waits_and_holds_nobody_up(shop, landing: Path) -> None:
    put(landing / "a.csv", shop.sales(1))
    put(landing / "b.csv", shop.sales(2))
    real = _intake.digest_of

    def unreadable(file: Path) -> str:
        if file.name == "a.csv":
            raise PermissionError(13, "Permission denied", str(file))
        return real(file)

    with pytest.MonkeyPatch.context() as patch:  # root reads everything, so the system cannot be asked to refuse
        patch.setattr(_intake, "digest_of", unreadable)
        taken = ingest("shop.sales_files")
        assert [arrival.path for arrival in taken.arrivals] == ["b.csv"]
        assert "Permission denied" in taken.left[0]
    assert "Left: a.csv cannot be read now" in last_run()[0][0].data
    assert [arrival.path for arrival in ingest("shop.sales_files").arrivals] == ["a.csv"]


def test_the_ledger_says_which_run_did_it(shop, landing: Path) -> None:
    put(landing / "a.csv", shop.sales(1))
    ingest("shop.sales_files")
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(arrivals("shop")[0].flow_run).name == "ingest-shop.sales_files"


@pytest.mark.parametrize(
    ("dataset", "paths", "says"),
    [
        ("shop.lost_files", None, "there is no landing folder"),
        ("shop.sales_files", ["b.csv"], "there is no file 'b.csv'"),
        ("shop.sales_files", ["../landing/a.csv"], "leads out of the landing folder"),
        ("shop.model", None, "dataset 'shop.model' is a ModelSpec, not a DatasetSpec"),
        ("shop.sale_files", None, "did you mean 'sales_files'"),
    ],
)
def test_a_wrong_request_is_said_in_words(
    shop, tmp_path: Path, dataset: str, paths: list[str] | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shop, "lost_files", dataclasses.replace(shop.sales_files, landing=str(tmp_path / "nowhere")), raising=False
    )
    put(tmp_path / "landing" / "a.csv", shop.sales(1))
    with pytest.raises(ConfigError) as refused:
        ingest(dataset, paths)
    assert says in str(refused.value)
    assert not (tmp_path / "lake").exists()


def test_parameters_make_a_good_form() -> None:
    form = ingest.parameters.model_dump()["properties"]
    assert [field["title"] for field in form.values()] == ["Dataset", "Files", "Read all files again", "Dry run"]
    assert all(field.get("description") for field in form.values())
    assert ingest.parameters.required == ["dataset"]
