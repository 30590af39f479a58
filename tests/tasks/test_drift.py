from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prefect_mlops.core.drift.detection import DriftReport
from prefect_mlops.core.drift.detection import detect_drift as detect
from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.reports import Report
from prefect_mlops.core.values import LoggedRun, TableRef
from prefect_mlops.tasks.drift import detect_drift, draw_drift_page


def batch(rows: int = 1000, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"a": rng.normal(size=rows), "b": rng.choice(list("xyz"), rows)})


@pytest.fixture
def logged_run(mlflow_store: str) -> LoggedRun:
    from mlflow import MlflowClient

    client = MlflowClient()
    run = client.create_run(client.create_experiment("flights"))
    return LoggedRun(run_id=run.info.run_id, experiment="flights", model_uri="models:/m-0")


def test_the_page_is_kept_with_the_run(logged_run: LoggedRun, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    report = detect(current=batch(seed=1), reference=batch())
    draw_drift_page.fn(report, run=logged_run)
    draw_drift_page.fn(report, run=logged_run, html=tmp_path / "july.html")
    client = MlflowClient()
    assert {item.path for item in client.list_artifacts(logged_run.run_id, "drift")} == {
        "drift/drift.html",
        "drift/july.html",
    }
    kept = Path(client.download_artifacts(logged_run.run_id, "drift/july.html"))
    assert kept.read_bytes() == (tmp_path / "july.html").read_bytes()
    assert client.get_run(logged_run.run_id).info.status == "RUNNING"  # whose run it is ends it


def test_the_page_is_linked_where_a_server_shows_it(
    logged_run: LoggedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = detect(current=batch(seed=1), reference=batch())
    assert draw_drift_page.fn(found, run=logged_run).links == ()
    monkeypatch.setenv("PREFECT_MLOPS_MLFLOW_UI", "http://mlflow.example")
    report = draw_drift_page.fn(found, run=logged_run, html=tmp_path / "a b.html")
    address = f"http://mlflow.example/#/experiments/1/runs/{logged_run.run_id}/artifacts/drift/a%20b.html"
    assert report.links == (("The page in MLflow", address),)
    assert f"[The page in MLflow]({address})" in report.to_markdown()


def test_failures_of_mlflow_are_named(logged_run: LoggedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    report = detect(current=batch(seed=1), reference=batch())
    with pytest.raises(ConfigError, match="refused logging the drift page"):
        draw_drift_page.fn(report, run=logged_run.model_copy(update={"run_id": "f" * 32}))

    def away(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(MlflowClient, "log_artifact", away)
    with pytest.raises(BackendError, match="disk full"):
        draw_drift_page.fn(report, run=logged_run)


@pytest.mark.slow
def test_it_runs_as_a_task_of_a_flow(prefect_api: None, tmp_path: Path) -> None:
    from prefect import flow

    @flow
    def monitor() -> Report:
        report = detect_drift(current=batch(seed=1), reference=batch(), subject="flights")
        return draw_drift_page(report, html=tmp_path)

    assert monitor().passed
    assert (tmp_path / "drift.html").exists()


def test_a_page_needs_a_place_and_the_report_as_it_was_made(tmp_path: Path) -> None:
    report = detect(current=batch(seed=1), reference=batch())
    with pytest.raises(ConfigError, match="give html, a file or folder, or run"):
        draw_drift_page.fn(report)
    stored = DriftReport.model_validate_json(report.model_dump_json())
    with pytest.raises(ConfigError, match="a stored report has no rows to draw"):
        draw_drift_page.fn(stored, html=tmp_path)


def test_a_drift_report_is_stored_as_any_report(tmp_path: Path) -> None:
    report = detect(current=batch(seed=1), reference=batch())
    drawn = draw_drift_page.fn(report, html=tmp_path)
    assert type(drawn) is Report
    assert drawn.checks == report.checks
    assert drawn.notes[: len(report.notes)] == report.notes
    assert Report.model_validate_json(report.model_dump_json()).checks == report.checks
    assert (tmp_path / "drift.html").read_text().count("</html>")


def test_the_task_run_is_named_after_the_tables() -> None:
    tables = {"current": batch(1), "reference": TableRef(uri="data/spring.parquet")}
    assert detect_drift.task_run_name(tables) == "drift-table against spring.parquet"
    assert detect_drift.task_run_name({**tables, "subject": "flights"}) == "drift-flights"
