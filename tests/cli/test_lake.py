from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from prefect_mlops.cli.app import app
from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.lake.ingest import Arrival, checked, commit_arrivals, table_ref, without_marks
from prefect_mlops.core.lineage.training_data import Lineage, lineage_of, training_digest
from prefect_mlops.core.promotion.history import Entry, record
from prefect_mlops.core.tables.read import read_table
from prefect_mlops.core.values import Evaluation, LoggedRun
from prefect_mlops.tasks import ingest_files, load_table, log_run, register_model, split_table, train_model


@pytest.fixture
def lake(mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake with six files, each a version, beside a fresh MLflow store."""
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    for number in range(6):
        arrival = Arrival(dataset="shop", path=f"{number}.csv", digest=f"sha256:{number}", state="committed")
        table = pd.DataFrame({"n": range(40 * number, 40 * number + 40), "y": [0, 1] * 20})
        commit_arrivals("shop", [checked(arrival, accepted=table)])
    return tmp_path / "lake"


def rows(version: int) -> pd.DataFrame:
    return without_marks(load_table.fn(f"delta://{table_uri('datasets', 'shop')}@{version}"))


def trained(version: int) -> tuple[LoggedRun, Lineage]:
    split = split_table.fn(rows(version), "y")
    model = train_model.fn(LogisticRegression(), split.X_train, split.y_train)
    lineage = lineage_of(model)
    assert lineage is not None
    return log_run.fn(model, Evaluation(metrics={"accuracy": 0.5}, rows=10), experiment="shop"), lineage


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["lake", "optimize", *arguments])
    assert (done.exit_code != 0) == (code != 0), done.output + str(done.exception)
    return done.stdout + (str(done.exception) if done.exception else "")


def tables(*arguments: str) -> dict[str, dict]:
    answer = json.loads(run("--json", *arguments))
    return {table["table"]: table for table in answer["tables"]}


def gone(version: int) -> bool:
    try:
        rows(version)
    except Exception:  # noqa: BLE001 - whatever a reader says of missing files
        return True
    return False


def test_versions_of_models_and_runs_stay_and_others_go(lake: Path) -> None:
    registered, learned = trained(3)
    register_model.fn(registered, "shop")
    only_logged, _ = trained(2)
    order = rows(3)
    done = tables("--keep-days", "0")["datasets/shop"]
    assert (done["files_before"], done["files_after"]) == (6, 1)
    assert done["kept"] == {"2": [f"run {only_logged.run_id[:8]}"], "3": ["shop v1"]}
    assert done["files_deleted"] == 3
    assert done["bytes_deleted"] > 0
    assert [gone(version) for version in range(1, 7)] == [False, False, False, True, True, True]
    pd.testing.assert_frame_equal(rows(3), order)
    split = split_table.fn(rows(3), "y")
    assert training_digest(split.X_train, split.y_train) == learned.digest, "the model can be rebuilt"
    assert len(read_table(table_uri("datasets", "shop"))) == 240


def test_by_default_a_week_stays(lake: Path) -> None:
    done = tables()
    assert {name: table["files_deleted"] for name, table in done.items()} == {"datasets/shop": 0, "arrivals/shop": 0}
    assert not any(gone(version) for version in range(1, 7))


def test_people_see_files_bytes_and_why(lake: Path) -> None:
    registered, _ = trained(3)
    register_model.fn(registered, "shop")
    said = run("shop", "--keep-days", "0")
    assert "datasets/shop" in said
    assert "6 to 1" in said
    assert "@3 (shop v1)" in said
    assert "kB" in said
    assert run("shop").count("1 to 1") == 2


def test_a_dry_run_changes_nothing(lake: Path) -> None:
    before = sorted(lake.rglob("*"))
    assert "dry run" in run("--dry-run", "--keep-days", "0")
    assert sorted(lake.rglob("*")) == before


def test_a_dataset_that_is_not_there_is_said(lake: Path) -> None:
    assert "did you mean 'shop'" in run("shpo", code=2)


def test_an_empty_lake_is_no_error(mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "none"))
    assert "no tables yet" in run()


# Whoever cannot say what is needed deletes nothing.


def refused(lake: Path) -> str:
    said = run("--keep-days", "0", code=1)
    assert "no file was deleted" in said
    assert "6 to 1" in said, "compacted all the same"
    assert len(list((lake / "datasets" / "shop").glob("*.parquet"))) == 7
    return said


@pytest.mark.slow
def test_nothing_is_deleted_when_mlflow_does_not_answer(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert "s3cret" not in refused(lake)


def test_nothing_is_deleted_when_no_store_is_named(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert "MLFLOW_TRACKING_URI is not set" in refused(lake)


def test_nothing_is_deleted_when_the_store_would_be_made(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{lake}/no.db")
    assert "not there" in refused(lake)
    assert not (lake / "no.db").exists()


def test_nothing_is_deleted_when_the_store_belongs_to_another_lake(lake: Path) -> None:
    record(Entry(model="shop", kind="promoted", version=1))
    assert "none of the models" in refused(lake)


def test_nothing_is_deleted_when_a_models_run_is_gone(
    lake: Path, mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    registered, _ = trained(3)
    register_model.fn(registered, "shop")
    MlflowClient().delete_run(registered.run_id)
    MlflowClient()._tracking_client.store._hard_delete_run(registered.run_id)  # as `mlflow gc` does
    said = refused(lake)
    assert "shop v1" in said
    assert registered.run_id in said


def test_a_run_in_the_trash_counts(lake: Path) -> None:
    from mlflow import MlflowClient

    logged, _ = trained(3)
    MlflowClient().delete_run(logged.run_id)
    assert tables("--keep-days", "0")["datasets/shop"]["kept"] == {"3": [f"run {logged.run_id[:8]}"]}


def test_the_store_of_the_home_is_taken(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(3)
    (tmp_path / "home").mkdir()
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "home" / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("PREFECT_MLOPS_HOME", "home")
    assert list(tables("--project", str(tmp_path))["datasets/shop"]["kept"]) == ["3"]


def test_the_newest_version_is_what_table_ref_says(lake: Path) -> None:
    before = table_ref("shop")
    tables()
    assert table_ref("shop").digest == before.digest


@pytest.mark.slow
def test_monitor_finds_the_training_rows_of_a_model_again(
    prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PREFECT_MLOPS_LAKE", raising=False)
    import shop

    from prefect_mlops.flows import monitor as monitoring
    from prefect_mlops.flows.train import train

    def arrive(day: int) -> None:
        (tmp_path / "landing").mkdir(exist_ok=True)
        shop.sales(day).to_csv(tmp_path / "landing" / f"{day}.csv", index=False)
        assert ingest_files.fn([f"{day}.csv"], dataset=shop.sales_files).arrivals[0].state == "committed"

    said: list[str] = []
    real = monitoring.RunSummary.say
    monkeypatch.setattr(monitoring.RunSummary, "say", lambda run, *lines: (said.extend(lines), real(run, *lines))[1])
    for day in (1, 2, 3):
        arrive(day)
    assert train("shop.model").decision == "promoted"
    arrive(4)
    assert tables("--keep-days", "0")["datasets/shop"]["files_deleted"] == 1, "the model needs three of four"
    monitoring.monitor("shop.model")
    assert said
    assert "could not be rebuilt" not in " ".join(said)
