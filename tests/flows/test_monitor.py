from __future__ import annotations

import shutil
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort

from prefect_mlops.core.drift.monitoring import level_of, read_monitoring_runs
from prefect_mlops.core.drift.training_profile import PREDICTION
from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.lake.ledger import Arrival
from prefect_mlops.core.promotion import lock
from prefect_mlops.core.promotion.history import read_history
from prefect_mlops.core.reports import Report
from prefect_mlops.core.specs.policies import Retrain
from prefect_mlops.core.values import Evaluation
from prefect_mlops.flows.monitor import monitor
from prefect_mlops.flows.train import train
from prefect_mlops.tasks import find_version, ingest_files, log_run, promote_model, register_model, train_model

REBUILT = "could not be rebuilt"


@pytest.fixture(scope="module")
def shop():
    """The module of a shop's specs, importable as a user's own would be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
        import shop

        yield shop


def move_in(folder: Path, store: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make a folder a project with lake, registry and landing place of its own."""
    (folder / "landing").mkdir()
    shutil.copy(store, folder / "mlflow.db")
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    patch.delenv("MLFLOW_RUN_ID", raising=False)
    patch.setenv("PREFECT_MLOPS_HOME", str(folder / "home"))
    patch.delenv("PREFECT_MLOPS_LAKE", raising=False)
    patch.chdir(folder)
    return folder


@pytest.fixture
def empty(prefect_api: None, shop, migrated_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project to which nothing has happened yet."""
    return move_in(tmp_path, migrated_store, monkeypatch)


@pytest.fixture(scope="module")
def trained(prefect_api: None, shop, migrated_store: Path, tmp_path_factory: pytest.TempPathFactory):
    """A project with a champion trained on three days out of the lake; the folder and the decision."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        move_in(folder, migrated_store, patch)
        arrive("first.csv", pd.concat([shop.sales(day) for day in (1, 2, 3)]))
        decision = train("shop.model")
    assert (decision.decision, decision.version) == ("promoted", 1), decision.reason
    return folder, decision


@pytest.fixture
def champion(trained, monkeypatch: pytest.MonkeyPatch):
    """That project, as current folder, shared by the module: what arrived last is what counts. Returns the decision."""
    folder, decision = trained
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(folder / "home"))
    monkeypatch.delenv("PREFECT_MLOPS_LAKE", raising=False)
    monkeypatch.chdir(folder)
    return decision


@pytest.fixture
def champion_of_its_own(champion, trained, copy_project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of that project, as current folder, for a test that breaks it."""
    folder, _ = trained
    copy_project(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def arrive(name: str, table: pd.DataFrame) -> Arrival:
    """Let one file arrive in the current project."""
    return arrive_together({name: table})[0]


def arrive_together(tables: dict[str, pd.DataFrame]) -> list[Arrival]:
    """Let files arrive in the current project, and be committed in one."""
    import shop

    for name, table in tables.items():
        table.to_csv(Path("landing", name), index=False)
    taken = ingest_files.fn(list(tables), dataset=shop.sales_files).arrivals
    assert not any(arrival.again for arrival in taken), "the project is shared: each needs rows or a name of its own"
    return list(taken)


def last_run() -> tuple[list, str]:
    """The artifacts of the newest run of the flow, in the order they were made, and the run's final state."""
    with get_client(sync_client=True) as client:
        names = FlowRunFilter(name=FlowRunFilterName(like_="monitor-shop"))
        run = client.read_flow_runs(flow_run_filter=names, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        made = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])),
            sort=ArtifactSort.CREATED_DESC,
        )
    return made[::-1], run.state_name


def drifted(report: Report) -> set[str]:
    return {check.subject for check in report.failures if check.subject}


def event(name: str, subject: str) -> dict:
    """Ask the real API until the event, which is sent in the background, has arrived."""
    wanted = {"event": {"name": [name]}, "resource": {"labels": {"prefect.resource.name": [subject]}}}
    deadline = time.monotonic() + 20
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            if found := client._client.post("/events/filter", json={"filter": wanted}).json()["events"]:
                return found[0]
            time.sleep(0.2)
    raise AssertionError(f"{name} about {subject} did not arrive")


def test_data_like_the_training_data_has_not_drifted(shop, champion) -> None:
    arrive("second.csv", shop.sales(4, rows=1000))
    report = monitor("shop.model")
    assert report.passed
    assert drifted(report) == set()
    assert report.subject == "shop: second.csv against the training data of v1"
    assert report.rows == 1000
    assert any(f"1,000 now, {champion.rows:,} in the reference" in note for note in report.notes)
    made, state = last_run()
    assert state == "Completed"
    assert [artifact.key for artifact in made] == ["verdict-monitor-shop", "drift-shop", "drift-history-shop"]
    assert made[0].data.startswith("# shop: no drift")
    assert REBUILT not in made[0].data, "the rows it was trained on were found again, cell for cell"


def test_real_drift_fails_the_report_is_announced_and_completes_the_run(shop, champion) -> None:
    dear = shop.sales(5, rows=1000, price=60.0).assign(kind=lambda table: table["kind"].replace("hat", "shoes"))
    arrive("dear.csv", dear)
    report = monitor("shop.model")
    assert not report.passed
    assert {"price", "kind"} <= drifted(report)
    assert "weight" not in drifted(report)

    sent = event("prefect-mlops.drift.failed", report.subject)
    assert sent["resource"]["prefect.resource.id"] == "prefect-mlops.drift.shop"
    assert sent["payload"]["passed"] is False
    assert any(related["prefect.resource.role"] == "flow-run" for related in sent["related"])

    noted = read_history("shop")[-1]
    assert (noted.kind, noted.version, noted.reason) == ("drifted", 1, report.summary)
    assert noted.flow_run

    made, state = last_run()
    assert state == "Completed"
    assert made[0].key == "verdict-monitor-shop"
    assert made[0].data.startswith("# shop: dear.csv has drifted")
    assert REBUILT not in made[0].data
    assert len([line for line in made[0].data.splitlines() if line.startswith("- ")]) <= 10

    client = MlflowClient()
    run = client.get_model_version_by_alias("shop", "champion").run_id
    page = next(file for file in client.list_artifacts(run, "drift") if "dear" in file.path)
    local = Path("home", "reports", "drift-shop-dear.html")
    assert page.path == "drift/drift-shop-dear.html"
    assert Path(client.download_artifacts(run, page.path)).read_bytes() == local.read_bytes()
    assert b"price" in local.read_bytes()


def test_looks_are_numbered_and_the_same_rows_are_one_look(shop, champion) -> None:
    before = len(read_monitoring_runs("shop"))
    arrive("ninth.csv", shop.sales(9, rows=1000))
    monitor("shop.model")
    monitor("shop.model")
    arrive("tenth.csv", shop.sales(10, rows=1000, price=60.0))
    monitor("shop.model")
    looks = read_monitoring_runs("shop")[before:]
    assert [(look.number, look.subject, look.passed) for look in looks] == [
        (before + 1, "ninth.csv", True),
        (before + 2, "tenth.csv", False),
    ]
    assert looks[0].level == level_of(before + 1) > looks[1].level
    assert looks[1].sizes["price"] > 0.5 > looks[0].sizes["price"]
    assert "price" in looks[1].drifted
    assert looks[1].scores["drifted"] > 0.2
    made, _ = last_run()
    assert made[-1].key == "drift-history-shop"
    assert "tenth.csv" in made[-1].data


def test_what_the_champion_says_is_compared_and_drift_that_reaches_it_alarms(shop, champion) -> None:
    arrive("eleventh.csv", shop.sales(11, rows=1000, price=60.0))
    checks = {(check.subject, check.name): check for check in monitor("shop.model").checks}
    said = checks[PREDICTION, "distribution"]
    assert (said.passed, said.severity) == (False, "error")
    assert "of the model's importance" in checks["price", "distribution"].observed
    assert checks["", "weight of drifted columns"].passed is False


def test_drift_that_the_model_does_not_use_informs_and_does_not_alarm(shop, champion) -> None:
    heavy = shop.sales(12, rows=1000).assign(weight=lambda table: table["weight"] + 0.7)
    arrive("heavy.csv", heavy)
    report = monitor("shop.model")
    assert report.passed
    drift = next(check for check in report.failures if (check.subject, check.name) == ("weight", "distribution"))
    assert drift.severity == "warning"
    assert "the model does not use it" in drift.observed


def test_a_champion_without_a_reference_gets_one_at_the_first_look(shop, champion_of_its_own) -> None:
    client = MlflowClient()
    run = client.get_model_version_by_alias("shop", "champion").run_id
    kept = Path(client.download_artifacts(run, "reference/profile.json.gz"))
    store = client.get_run(run).info.artifact_uri.removeprefix("file://")
    original = kept.read_bytes()
    shutil.rmtree(Path(store, "reference"))
    arrive("without reference.csv", shop.sales(40, rows=1000))
    assert monitor("shop.model").passed
    assert Path(client.download_artifacts(run, "reference/profile.json.gz")).read_bytes() == original
    (Path(store, "reference") / "profile.json.gz").write_bytes(b"damaged")
    assert monitor("shop.model").passed
    assert Path(client.download_artifacts(run, "reference/profile.json.gz")).read_bytes() == original


def test_only_the_file_that_arrived_last_is_looked_at(shop, champion) -> None:
    """Also where its name arrived before: the earlier content would hide what the later one has become."""
    arrive("today.csv", shop.sales(4, rows=3000))
    assert monitor("shop.model").passed
    arrive("today.csv", shop.sales(5, rows=600, price=60.0))
    report = monitor("shop.model")
    assert report.rows == 600
    assert "price" in drifted(report)


def test_files_that_were_committed_together_are_looked_at_together(shop, champion) -> None:
    dear = shop.sales(5, rows=500, price=60.0)
    arrive_together({"night.csv": dear, "morning.csv": shop.sales(6, rows=100)})
    report = monitor("shop.model")
    assert report.rows == 600
    assert "2 files up to" in report.subject
    assert "price" in drifted(report)


def test_a_refused_file_is_not_looked_at(shop, champion) -> None:
    arrive("second.csv", shop.sales(4))
    assert arrive("third.csv", pd.DataFrame({"n": [1]})).state == "refused"
    assert "second.csv against" in monitor("shop.model").subject


def test_the_reference_stays_the_champions_when_more_data_arrives(shop, champion) -> None:
    """What is compared with is the data version it learned from, not the dataset as it is now."""
    for day in (6, 7):
        arrive(f"{day}.csv", shop.sales(day, rows=1000, price=60.0))
    report = monitor("shop.model")
    assert any(f"{champion.rows:,} in the reference" in note for note in report.notes)
    assert "price" in drifted(report)
    made, _ = last_run()
    assert REBUILT not in made[0].data


def test_a_changed_preparation_is_said_and_used(shop, champion) -> None:
    arrive("eighth.csv", shop.sales(8, rows=1000))
    report = monitor("shop.changed")
    assert report.passed, "both sides are prepared in the new way"
    made, _ = last_run()
    assert f"The rows of shop v1 {REBUILT} exactly" in made[0].data


def test_parts_are_looked_at_by_tasks_of_their_own_and_give_the_same(shop, champion) -> None:
    arrive_together({f"{hour}.csv": shop.sales(13 + hour, rows=700) for hour in range(3)})
    whole, parted = monitor("shop.by_row"), monitor("shop.by_row", parts=3)
    sizes = [{(check.subject, check.name): check.value for check in one.checks[1:]} for one in (whole, parted)]
    assert sizes[1] == pytest.approx(sizes[0], abs=1e-9)
    assert parted.rows == 2100
    with pytest.raises(ConfigError, match="row_wise=True"):
        monitor("shop.model", parts=3)


@pytest.mark.slow
def test_parts_are_summarised_by_workers_of_a_cluster(shop, champion) -> None:
    from prefect_dask import DaskTaskRunner

    arrive_together({f"{hour} o'clock.csv": shop.sales(20 + hour, rows=700) for hour in range(3)})
    cluster = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    spread = monitor.with_options(task_runner=DaskTaskRunner(cluster_kwargs=cluster))
    report = spread("shop.by_row", parts=2)
    assert report.rows == 2100
    alone = monitor("shop.by_row")
    assert {check.subject: check.value for check in report.checks[1:]} == pytest.approx(
        {check.subject: check.value for check in alone.checks[1:]}
    )


def test_any_table_can_be_looked_at(shop, champion, tmp_path: Path) -> None:
    shop.sales(5, rows=800, price=60.0).to_parquet(tmp_path / "a <b> week.parquet")
    report = monitor("shop.model", current=str(tmp_path / "a <b> week.parquet"))
    assert report.subject == "shop: a <b> week.parquet against the training data of v1"
    assert report.rows == 800
    assert "price" in drifted(report)
    made, _ = last_run()
    assert "<b>" not in made[0].data
    assert Path("home", "reports", "drift-shop-a--b--week.html").is_file()


def test_a_version_of_the_dataset_can_be_looked_at(shop, champion) -> None:
    arrive("newest.csv", shop.sales(5, rows=1000, price=60.0))
    report = monitor("shop.model", current="@1")
    assert (report.passed, report.rows) == (True, 1200)


def test_a_champion_trained_on_a_file_is_compared_with_that_file(shop, empty) -> None:
    pd.concat([shop.sales(day) for day in (1, 2, 3)]).to_csv("shop.csv", index=False)
    assert train("shop.from_a_file").decision == "promoted"
    shop.sales(4, rows=1000).to_csv("recent.csv", index=False)
    assert monitor("shop.from_a_file", current="recent.csv").passed
    made, _ = last_run()
    assert REBUILT not in made[0].data
    with pytest.raises(ConfigError, match=r"dataset 'shop.csv' is an address without arrivals: give current"):
        monitor("shop.from_a_file")


def test_without_a_champion_there_is_nothing_to_compare_with_yet(shop, empty) -> None:
    """The first data of a new model wakes the monitor before anything was trained: that is no failure."""
    arrive("first.csv", shop.sales(1))
    assert monitor("shop.model") is None
    made, state = last_run()
    assert state == "Completed"
    assert [artifact.key for artifact in made] == ["verdict-monitor-shop"]
    assert made[0].data.startswith("# shop: nothing to compare yet")
    assert "start train to make the first one" in made[0].data


def test_without_arrivals_there_is_nothing_to_look_at_yet(shop, empty, tmp_path: Path) -> None:
    pd.concat([shop.sales(day) for day in (1, 2, 3)]).to_csv(tmp_path / "old.csv", index=False)
    train("shop.model", data=str(tmp_path / "old.csv"))
    assert monitor("shop.model") is None
    made, state = last_run()
    assert state == "Completed"
    assert "Nothing has arrived in dataset 'shop'" in made[0].data


def test_an_alias_left_behind_by_a_crash_is_set_before_anything_is_compared(shop, champion_of_its_own) -> None:
    train("shop.model", force=True)
    client = MlflowClient()
    client.set_registered_model_alias("shop", "champion", "1")
    lease = lock.take("shop", Retrain(lease=timedelta(microseconds=1)), flow_run="killed").lock
    version = find_version.fn("shop").model_copy(update={"version": 2})
    lock.conclude(lock.conclusion_on("promoted", version, lease=lease), lease=lease)
    assert "of v2" in monitor("shop.model").subject
    assert client.get_model_version_by_alias("shop", "champion").version == 2
    assert [entry.kind for entry in read_history("shop")][-2:] == ["promoted", "repaired"]


def test_a_champion_trained_elsewhere_says_what_to_do(shop, empty) -> None:
    table = shop.prepare(shop.sales(1))
    X, y = table.drop(columns=["returned", "sold_at"]), table["returned"]
    arrive("first.csv", shop.sales(1))
    scores = Evaluation(metrics={"roc_auc": 0.7}, rows=10)
    for model in (shop.model.estimator.fit(X, y), train_model.fn(shop.model.estimator, X, y)):
        run = log_run.fn(model, scores, experiment="elsewhere", example=X.head())
        promote_model.fn(register_model.fn(run, "shop"))
        with pytest.raises(ConfigError, match=r"shop v\d does not say what it was trained on: train it with the train"):
            monitor("shop.model")


def test_a_reference_that_was_vacuumed_is_said_in_words(shop, champion, tmp_path: Path) -> None:
    lake = Path("home", "lake", "datasets", "shop")
    aside = shutil.copytree(lake, tmp_path / "aside")
    for file in lake.glob("*.parquet"):
        file.unlink()
    with pytest.raises(DataCheckError, match="that the Delta log names and that is gone"):
        monitor("shop.model")
    shutil.copytree(aside, lake, dirs_exist_ok=True)


def test_parameters_make_a_good_form() -> None:
    form = monitor.parameters.model_dump()["properties"]
    assert [field["title"] for field in form.values()] == ["Model", "Recent data", "Parts"]
    assert all(field.get("description") for field in form.values())
    assert monitor.parameters.required == ["model"]
