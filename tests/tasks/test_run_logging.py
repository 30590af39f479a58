from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import sklearn
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from prefect import flow
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from prefect_mlops.core.lineage.training_data import lineage_of
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.values import LoggedRun
from prefect_mlops.tasks import evaluate_model, log_run, train_model
from tests.tracking.candidates import ROWS, SCORES, estimator, runs_of

CANDIDATES = [0.01, 0.1, 1.0, 10.0]


@flow
def candidates_by_submit() -> list[LoggedRun]:
    X, y = ROWS
    models = [train_model.submit(estimator(c), X, y) for c in CANDIDATES]
    scores = [evaluate_model.submit(model, X, y, metrics=["roc_auc", "f1"]) for model in models]
    logged = [
        log_run.submit(model, score, experiment="many", example=X.head())
        for model, score in zip(models, scores, strict=True)
    ]
    return [run.result() for run in logged]


def one_parent_and_a_child_each(logged: list[LoggedRun]) -> None:
    (parent,), children = runs_of("many")
    assert len(children) == len(CANDIDATES)
    assert {child.info.run_id for child in children} == {run.run_id for run in logged}
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert {run.parent_run_id for run in logged} <= {parent.info.run_id}
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert all(set(child.data.metrics) >= {"roc_auc", "f1"} for child in children)
    assert sorted(float(child.data.params["logisticregression__C"]) for child in children) == CANDIDATES


@pytest.mark.parametrize("ambient", [False, True], ids=["clean", "MLFLOW_RUN_ID set"])
def test_threads_write_one_child_for_each_candidate(
    prefect_api: None, mlflow_store: str, monkeypatch: pytest.MonkeyPatch, ambient: bool
) -> None:
    if ambient:
        client = MlflowClient()
        monkeypatch.setenv("MLFLOW_RUN_ID", client.create_run(client.create_experiment("other")).info.run_id)
    one_parent_and_a_child_each(candidates_by_submit.with_options(task_runner=ThreadPoolTaskRunner(max_workers=4))())
    if ambient:
        (stranger,), none = runs_of("other")
        assert not stranger.data.metrics
        assert not none


@pytest.mark.slow
def test_processes_write_one_child_for_each_candidate(prefect_api: None, mlflow_store: str) -> None:
    runner = ProcessPoolTaskRunner(max_workers=2)
    logged = candidates_by_submit.with_options(task_runner=runner)()
    (parent,), _ = runs_of("many")
    # a worker may have answered before the last twin was settled; the runs themselves have one parent
    one_parent_and_a_child_each([run.model_copy(update={"parent_run_id": parent.info.run_id}) for run in logged])


def test_a_retried_flow_finds_its_runs_again(prefect_api: None, mlflow_store: str) -> None:
    attempts: list[LoggedRun] = []

    @flow(retries=2)
    def unlucky() -> None:
        X, y = ROWS
        model = train_model(estimator(1.0), X, y)
        attempts.append(log_run(model, SCORES, experiment="many", example=X.head()))
        if len(attempts) < 3:
            raise RuntimeError("the network is away")

    unlucky()
    (parent,), (child,) = runs_of("many")
    assert {attempt.run_id for attempt in attempts} == {child.info.run_id}
    assert {attempt.parent_run_id for attempt in attempts} == {parent.info.run_id}
    assert child.info.status == "FINISHED"


def test_two_flow_runs_are_two_parents(prefect_api: None, mlflow_store: str) -> None:
    @flow
    def once() -> None:
        log_run(train_model(estimator(1.0), *ROWS), SCORES, experiment="many")

    once()
    once()
    parents, children = runs_of("many")
    assert (len(parents), len(children)) == (2, 2)


def test_twin_parents_are_settled_to_one(prefect_api: None, mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines that open the parent in the same moment both make one; the last to finish leaves one."""
    from prefect_mlops.tracking import runs

    real = runs._parents
    blind = iter([True, True])
    monkeypatch.setattr(runs, "_parents", lambda *seen: [] if next(blind, False) else real(*seen))

    @flow
    def racing() -> None:
        for c in (1.0, 2.0):
            model = train_model(estimator(c), *ROWS)
            blind_once = iter([True])
            monkeypatch.setattr(runs, "_parents", lambda *seen, b=blind_once: [] if next(b, False) else real(*seen))
            log_run(model, SCORES, experiment="many")

    racing()
    (parent,), children = runs_of("many")
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert len(children) == 2


@pytest.fixture
def checkout(tmp_path: Path, mlflow_store: str) -> Path:
    """The current folder as a git checkout with a change that is not committed, and a lock file."""

    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    (tmp_path / "model.py").write_text("c = 1\n")
    (tmp_path / "requirements.lock").write_text("scikit-learn==1.9.1\n")
    git("init")
    git("add", "model.py")
    git("commit", "-m", "first")
    (tmp_path / "model.py").write_text("c = 2\n")
    return tmp_path


def test_the_run_holds_what_the_model_comes_from(prefect_api: None, checkout: Path) -> None:
    X, y = ROWS
    verdict = Report(kind="gate", subject="m", checks=(Check(name="minimum score", passed=True),))

    @flow
    def life() -> LoggedRun:
        model = train_model(estimator(1.0), X, y, seed=4)
        return log_run(model, SCORES, experiment="many", example=X.head(), reports=[verdict], params={"why": "test"})

    logged = life()
    run = MlflowClient().get_run(logged.run_id)
    lineage = lineage_of(train_model.fn(estimator(1.0), X, y, seed=4))
    tags = run.data.tags
    assert logged.data_digest == tags["prefect_mlops.data"] == lineage.digest
    assert run.inputs.dataset_inputs[0].dataset.digest == lineage.digest.removeprefix("sha256:")[:36]
    assert tags["prefect_mlops.seed"] == "4"
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert tags["prefect_mlops.git.dirty"] == "true"
    assert tags["prefect_mlops.lock"].startswith("sha256:")
    assert tags["prefect_mlops.environment.python"].count(".") == 2
    assert tags["prefect_mlops.environment.cpu"]
    assert int(tags["prefect_mlops.environment.blas_threads"]) >= 1
    assert int(tags["prefect_mlops.environment.openmp_threads"]) >= 1
    assert run.data.params["why"] == "test"
    assert run.data.params["logisticregression__C"] == "1.0"
    stored = Path(download_artifacts(run_id=logged.run_id))
    assert "+c = 2" in (stored / "lineage" / "uncommitted.diff").read_text()
    assert Report.model_validate_json((stored / "reports" / "gate.json").read_text()) == verdict
    assert json.loads((stored / "lineage" / "data.json").read_text())["rows"] == 569
    assert f"scikit-learn=={sklearn.__version__}" in (stored / "lineage" / "packages.txt").read_text().splitlines()
    pd.testing.assert_frame_equal(pd.read_parquet(stored / "rehearsal" / "rows.parquet"), X.head())


def test_prefect_and_mlflow_link_to_each_other(
    prefect_api: None, mlflow_store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_MLFLOW_UI", "http://127.0.0.1:5000")

    @flow
    def once() -> LoggedRun:
        return log_run(train_model(estimator(1.0), *ROWS), SCORES, experiment="many")

    logged = once()
    tags = MlflowClient().get_run(logged.run_id).data.tags
    assert "/runs/flow-run/" in tags["prefect.flow_run_url"]
    assert tags["prefect.flow_run_url"] in tags["mlflow.note.content"]
    assert logged.url.startswith("http://127.0.0.1:5000/#/experiments/")
    assert logged.url.endswith(logged.run_id)
    assert f"LogisticRegression is in MLflow: {logged.url}" in caplog.text
