"""`prefect-mlops status` as a user runs it, on what real flows left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from prefect_mlops.core.promotion import decisions, lock
from prefect_mlops.core.promotion.history import Entry, champion_entry, read_history, record
from prefect_mlops.core.specs.policies import Retrain
from prefect_mlops.core.values import Decision
from prefect_mlops.tasks import find_version, ingest_files

pytestmark = pytest.mark.slow
COMMAND = str(Path(sys.executable).with_name("prefect-mlops"))
PROJECT = """
name: shop
pull: []
deployments:
  - {name: ingest, entrypoint: prefect_mlops.flows.ingest.ingest, parameters: {dataset: shop.sales_files}}
  - {name: train, entrypoint: prefect_mlops.flows.train.train, parameters: {model: shop.model}}
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop's project, as current folder."""
    projects = Path(__file__).parent.parent / "projects"
    monkeypatch.syspath_prepend(str(projects))
    shutil.copy(projects / "shop.py", tmp_path)
    (tmp_path / "prefect.yaml").write_text(PROJECT)
    (tmp_path / "landing").mkdir()
    return tmp_path


@pytest.fixture
def status(project: Path) -> Run:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **variables}
        environment = {name: value for name, value in environment.items() if value != "-"}
        command = [COMMAND, "status", *arguments]
        return subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True, timeout=120)

    return run


def arrive(day: int) -> None:
    import shop

    shop.sales(day).to_csv(Path("landing", f"{day}.csv"), index=False)
    ingest_files.fn([f"{day}.csv"], dataset=shop.sales_files)


def promoted(version: int = 1) -> None:
    """Make a champion as `train` does, without the training."""
    client = MlflowClient()
    if not client.search_registered_models():
        client.create_registered_model("shop")
    client.create_model_version("shop", source=f"file:///nowhere/{version}")
    client.set_registered_model_alias("shop", "champion", str(version))
    lease = lock.take("shop", Retrain(), flow_run="a").lock
    before = champion_entry(read_history("shop"))
    replaced = before.version if before else None
    decision = Decision(model="shop", decision="promoted", reason="roc_auc is good", replaced=replaced)
    lock.conclude(lock.conclusion_on("promoted", find_version.fn("shop"), decision, lease=lease), lease=lease)
    decisions.note_carried_out(champion_entry(read_history("shop")))


def test_one_screen_says_how_everything_stands_and_what_to_do(project: Path, status: Run) -> None:
    arrive(1)
    Path("landing", "2.csv").write_text("sold_at,kind\n")
    Path("landing", "bad\x1b[2J.csv").write_text("n\n1\n")
    ingest_files.fn(["bad\x1b[2J.csv"], dataset=__import__("shop").sales_files)
    promoted()
    refused = Decision(model="shop", decision="refused", reason="too low \x1b[31m", replaced=1)
    for _ in range(3):
        lease = lock.take("shop", Retrain(), automatic=True, flow_run="b").lock
        second = find_version.fn("shop").model_copy(update={"version": 2})
        lock.conclude(lock.conclusion_on("refused", second, refused, lease=lease), lease=lease)
    record(Entry(model="shop", kind="drifted", version=1, reason="price moved"))

    shown = status()
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0] == "shop  (shop.model)"
    assert len(lines) <= 24
    assert max(map(len, lines)) < 330
    text = shown.stdout
    assert "Champion      v1 for" in text
    assert "roc_auc is good" in text
    assert "Last decision v2 refused" in text
    assert "Braked        breaker: 3 challengers in a row were refused" in text
    assert "Last drift    v1 drifted" in text
    assert "Data          shop: version @1, committed" in text
    assert "1 file waiting, the oldest for" in text
    assert "1 file refused, 0 rows in quarantine" in text
    assert "that closes the breaker" in text
    assert "run prefect-mlops ingest shop" in text
    assert "prefect-mlops quarantine list shop" in text
    assert "\x1b" not in text

    told = json.loads(status("shop", "--json").stdout)
    (model,) = told["models"]
    assert (model["spec"], model["champion"]["version"], model["alias"]) == ("shop.model", 1, 1)
    assert (model["dataset"]["pending"], model["dataset"]["version"]) == (1, 1)
    assert [brake["kind"] for brake in model["brakes"]] == ["breaker"]
    assert len(model["todo"]) == 4


def test_a_project_to_which_nothing_has_happened(project: Path, status: Run) -> None:
    shown = status()
    assert shown.returncode == 0, shown.stderr
    assert "Champion      none yet" in shown.stdout
    assert "Data          shop: nothing was committed yet" in shown.stdout
    assert "To do         There is no champion: start train to make the first one." in shown.stdout
    assert not (project / ".prefect-mlops").exists(), "it reads only"


def test_without_mlflow_the_rest_is_shown_and_no_database_made(project: Path, status: Run) -> None:
    promoted()
    for file in (project / "mlflow.db", project / "mlruns"):
        file.unlink(missing_ok=True)
    shown = status(MLFLOW_TRACKING_URI="-")
    assert shown.returncode == 0, shown.stderr
    assert "v1 for" in shown.stdout
    assert "MLflow was not asked" in shown.stdout
    assert "set MLFLOW_TRACKING_URI" in shown.stderr
    assert not (project / "mlflow.db").exists()
    away = status(MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert away.returncode == 0
    assert "MLflow was not asked" in away.stdout
    assert "Is it running" in away.stderr


def test_the_mlflow_of_the_home_is_asked(project: Path, status: Run) -> None:
    promoted()
    home = project / "home"
    home.mkdir()
    shutil.copy(project / "mlflow.db", home / "mlflow.db")
    shutil.copytree(project / ".prefect-mlops" / "lake", home / "lake")
    shown = status("--json", MLFLOW_TRACKING_URI="-", PREFECT_MLOPS_HOME=str(home))
    assert json.loads(shown.stdout)["models"][0]["alias"] == 1


def test_a_model_that_is_being_trained_and_an_alias_moved_by_hand(project: Path, status: Run) -> None:
    promoted(1)
    promoted(2)
    MlflowClient().set_registered_model_alias("shop", "champion", "1")
    lock.take("shop", Retrain(lease=timedelta(hours=1)), flow_run="run-x")
    shown = status("shop.model")
    assert "At work       flow run run-x, for" in shown.stdout
    assert "Alias         The history names v2 as champion, but the alias was moved to v1 by hand" in shown.stdout


def test_wrong_requests_are_one_line(project: Path, status: Run) -> None:
    wrong = status("shp")
    assert wrong.returncode == 2
    assert "did you mean 'shop'" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    (project / "prefect.yaml").write_text(PROJECT.replace("shop.model", "shopp.model"))
    broken = status()
    assert broken.returncode == 1
    assert "Not shown:" in broken.stdout
    assert "shopp" in broken.stdout
