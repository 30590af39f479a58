from __future__ import annotations

import pytest
from mlflow import MlflowClient

from prefect_mlops.core.promotion.history import Entry, record
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.values import Decision, ModelVersion
from prefect_mlops.tracking.anchors import noted
from prefect_mlops.tracking.decisions import find_decision, record_decision
from prefect_mlops.tracking.registry import require_version

REFUSED = Decision(model="cancer", decision="refused", reason="roc_auc is too low " * 500, metrics={"roc_auc": 0.5})


@pytest.fixture
def version(mlflow_store: str) -> ModelVersion:
    """A version of a real run, without files of a model."""
    client = MlflowClient()
    run = client.create_run(client.create_experiment("cancer"))
    client.create_registered_model("cancer")
    client.create_model_version("cancer", source="file:///nowhere", run_id=run.info.run_id)
    return require_version("cancer", 1)


def test_a_decision_is_found_by_its_recipe(version: ModelVersion) -> None:
    assert find_decision("cancer", "sha256:1") is None
    done = record_decision(version, REFUSED, recipe="sha256:1")
    assert find_decision("cancer", "sha256:1") == done
    assert find_decision("cancer", "sha256:2") is None
    assert (done.version, len(done.reason)) == (1, 2000)


def test_a_decision_of_the_history_counts_before_the_tags(version: ModelVersion) -> None:
    record_decision(version, REFUSED, recipe="sha256:1")
    newer = Decision(model="cancer", version=1, decision="promoted", reason="judged again")
    details = {"decision": newer.model_dump(mode="json")}
    record(Entry(model="cancer", kind="promoted", version=1, recipe="sha256:1", details=details))
    assert find_decision("cancer", "sha256:1") == newer


def test_a_recorded_decision_has_its_reports_and_the_anchor_of_its_entry(version: ModelVersion) -> None:
    entry = record(Entry(model="cancer", kind="refused", version=1))
    record(Entry(model="cancer", kind="drifted", version=1))
    report = Report(kind="gate", subject="cancer", checks=(Check(name="roc_auc", passed=False),))
    record_decision(version, REFUSED, recipe="sha256:1", reports=[report])
    assert noted(MlflowClient(), "cancer") == {entry.sequence: entry.hash}
    files = {file.path for file in MlflowClient().list_artifacts(version.run_id, "reports")}
    assert files == {"reports/gate.json", "reports/gate.md"}


def test_odd_names_do_not_reach_into_the_query(mlflow_store: str) -> None:
    assert find_decision("o'brien' or name = 'cancer", "x' or '1' = '1") is None
