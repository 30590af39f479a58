"""`prefect-mlops backfill` as a user runs it; what the flow does is tested with the flow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.settings import get_current_settings

from prefect_mlops.tasks import ingest_files

pytestmark = pytest.mark.slow
COMMAND = str(Path(sys.executable).with_name("prefect-mlops"))
PROJECT = """
name: shop
pull: []
deployments:
  - {name: train, entrypoint: prefect_mlops.flows.train.train, parameters: {model: shop.model}}
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop to which two days have come, one after the other."""
    projects = Path(__file__).parent.parent / "projects"
    monkeypatch.syspath_prepend(str(projects))
    import shop

    shutil.copy(projects / "shop.py", tmp_path)
    (tmp_path / "prefect.yaml").write_text(PROJECT)
    (tmp_path / "landing").mkdir()
    for day in (1, 2):
        shop.sales(day).to_csv(tmp_path / "landing" / f"{day}.csv", index=False)
        ingest_files.fn([f"{day}.csv"], dataset=shop.sales_files)
    return tmp_path


@pytest.fixture
def backfill(project: Path) -> Run:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PREFECT_API_URL": str(get_current_settings().api.url), **variables}
        environment = {name: value for name, value in environment.items() if value != "-"}
        command = [COMMAND, "backfill", *arguments]
        return subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True, timeout=240)

    return run


def versions() -> int:
    return len(MlflowClient().search_model_versions("name = 'shop'"))


def test_a_range_is_looked_at_trained_and_known_the_next_time(project: Path, backfill: Run) -> None:
    dry = backfill("shop", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "@1" in dry.stdout
    assert "2 data versions: 2 planned." in dry.stdout
    assert "Nothing was trained: this was a dry run." in dry.stdout
    assert versions() == 0

    done = backfill("shop", "--from", "@2")
    assert done.returncode == 0, done.stderr
    header, line, *rest = done.stdout.splitlines()
    assert header.split() == ["DATA", "COMMITTED", "STATE", "MODEL", "ROWS", "roc_auc"]
    assert line.split()[0] == "@2"
    assert "passed  v1" in line
    assert rest == [
        "1 data version: 1 passed.",
        "The champion stays who it is; 'passed' means that it would have been replaced.",
    ]
    assert "1 of 1: @2 v1 passed: roc_auc 0." in done.stderr
    assert "Traceback" not in done.stderr
    assert "Finished in state" not in done.stderr

    both = json.loads(backfill("shop.model", "--json").stdout)
    assert (both["model"], both["promote"], both["dry_run"]) == ("shop", False, False)
    assert [(one["data"], one["state"], one["again"]) for one in both["versions"]] == [
        (1, "passed", False),
        (2, "passed", True),
    ]
    assert versions() == 2


def test_wrong_requests_are_one_line(project: Path, backfill: Run) -> None:
    for arguments, says in [
        (["shp"], "did you mean 'shop'"),
        (["shop", "--from", "soon"], "neither a data version such as @3 nor a date"),
        (["shop", "--from", "@7"], "there are @1"),
    ]:
        wrong = backfill(*arguments)
        assert wrong.returncode == 2, wrong.stderr
        assert says in wrong.stderr
        assert "Traceback" not in wrong.stderr
    unset = backfill("shop", MLFLOW_TRACKING_URI="-")
    assert (unset.returncode, "set MLFLOW_TRACKING_URI" in unset.stderr) == (2, True)
