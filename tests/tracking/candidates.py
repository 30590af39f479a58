"""Candidates to log, and how MLflow kept them."""

from __future__ import annotations

from mlflow import MlflowClient
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prefect_mlops.core.values import Evaluation

ROWS = load_breast_cancer(as_frame=True, return_X_y=True)
SCORES = Evaluation(metrics={"roc_auc": 0.9, "f1": 0.8}, rows=100)


def estimator(c: float) -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(C=c))


def runs_of(experiment: str) -> tuple[list, list]:
    """Return the parents and the children of an experiment, deleted ones left out."""
    client = MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return [run for run in runs if run not in children], children
