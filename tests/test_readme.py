from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_breast_cancer
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from prefect_mlops.core import GateError, LoadedModel, Report
from prefect_mlops.tasks import evaluate_model, judge_model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    """The code between the markers of that name."""
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```\n<!-- /{name} -->", README, re.DOTALL)
    assert found, f"README has no block {name}"
    return found[1]


def test_the_flow_of_the_readme_runs_as_it_stands(
    prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_breast_cancer(as_frame=True).frame.to_parquet(tmp_path / "my-table.parquet")
    (tmp_path / "my_flow.py").write_text(block("flow"))
    monkeypatch.syspath_prepend(str(tmp_path))
    from my_flow import train_and_promote

    first = train_and_promote("my-table.parquet")
    assert (first.name, first.version, first.alias) == ("my-model", 1, "champion")
    assert train_and_promote("my-table.parquet").version == 2, "an equal challenger loses nothing"
    assert int(MlflowClient().get_model_version_by_alias("my-model", "champion").version) == 2


def drawn(rows: int, seed: int) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    table = pd.DataFrame(chance.normal(size=(rows, 6)), columns=list("abcdef"))
    return table.assign(target=(table["a"] + table["b"] + chance.normal(size=rows) > 0).astype(int))


@pytest.mark.slow
def test_on_a_growing_table_its_champion_shows_its_honest_score(
    prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten rounds: the champion was trained on most rows of the table that it is judged on."""
    (tmp_path / "growing_flow.py").write_text(block("flow"))
    monkeypatch.syspath_prepend(str(tmp_path))
    import growing_flow

    table, apart, judged = drawn(6_600, seed=0), drawn(50_000, seed=1), []

    def judge(model: object, champion: LoadedModel, X: pd.DataFrame, y: pd.Series, **options: object) -> Report:
        report = judge_model(model, champion, X, y, **options)
        judged.append((champion, X, y, report))
        return report

    def run(rows: int, estimator: object = growing_flow.estimator) -> bool:
        table[:rows].to_parquet("table.parquet")
        monkeypatch.setattr(growing_flow, "estimator", estimator)
        try:
            return bool(growing_flow.train_and_promote("table.parquet").version)
        except GateError:
            return False

    monkeypatch.setattr(growing_flow, "judge_model", judge)
    promoted = [run(600 * size) for size in range(1, 11)]
    assert promoted[0], "it has no champion to beat"
    honest = 0
    for champion, X, y, report in judged[1:]:
        shown = evaluate_model.fn(champion, X, y, metrics=["roc_auc"])
        low, high = shown.intervals["roc_auc"]
        honest += (
            low <= evaluate_model.fn(champion, apart, apart["target"], metrics=["roc_auc"]).metrics["roc_auc"] <= high
        )
        assert f"champion {shown.metrics['roc_auc']:.4f}" in report.checks[2].observed
        assert report.checks[0].observed.startswith(f"{len(X):,} of {len(X):,} rows")
    assert honest >= 8, "of nine 95 % intervals"
    assert not run(6_600, make_pipeline(SelectKBest(k=1), LogisticRegression())), "it looks at one column of the two"
    assert run(6_600, LogisticRegression()), "what the target was made by"


def test_the_ready_flow_with_a_step_of_ones_own_runs_as_it_stands(
    prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_breast_cancer(as_frame=True).frame.to_parquet(tmp_path / "cancer.parquet")
    (tmp_path / "own_step.py").write_text(block("own-step"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "projects"))
    from own_step import my_train

    decision = my_train("bundled.cancer")
    assert (decision.decision, decision.version) == ("promoted", 1), decision.reason
    client = MlflowClient()
    run = client.get_model_version("cancer", "1").run_id
    gate = json.loads(Path(client.download_artifacts(run, "reports/gate.json", str(tmp_path))).read_text())
    assert "alike for all sizes" in [check["name"] for check in gate["checks"]]


def test_the_flow_with_a_step_of_ones_own_is_ten_lines() -> None:
    body = block("own-step").partition("@flow\n")[2]
    assert len(body.splitlines()) <= 10


@pytest.mark.slow
def test_it_also_runs_as_a_script_with_nothing_configured(tmp_path: Path) -> None:
    load_breast_cancer(as_frame=True).frame.to_parquet(tmp_path / "my-table.parquet")
    (tmp_path / "my_flow.py").write_text(block("flow"))
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"}
    done = subprocess.run(
        [sys.executable, "my_flow.py"], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "name='my-model' version=1" in done.stdout
    assert (tmp_path / "mlflow.db").exists()


def test_the_flow_is_fifteen_lines_or_fewer() -> None:
    body = block("flow").partition("@flow\n")[2].partition("\n\n\nif __name__")[0]
    assert len(body.splitlines()) <= 15


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_every_public_task_is_in_the_table() -> None:
    from prefect_mlops import tasks

    missing = [name for name in tasks.__all__ if f"`{name}(" not in README]
    assert not missing


def test_every_setting_is_in_the_table() -> None:
    from prefect_mlops.core.settings import Settings

    assert not [name for name in Settings.model_fields if f"`PREFECT_MLOPS_{name.upper()}`" not in README]


def test_commands_of_the_readme_exist() -> None:
    from prefect_mlops.cli.app import app

    known = {command.callback.__name__.replace("_", "-") for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups}
    named = set(re.findall(r"prefect-mlops ([\w-]+)", README)) - {"is", "demo]"}
    assert {"demo", "up"} <= named <= known
