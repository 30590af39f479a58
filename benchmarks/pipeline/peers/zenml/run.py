"""The flights as a ZenML pipeline on the local stack, with MLflow as its experiment tracker."""

# ruff: noqa: TID251 - MLflow as its documentation shows it

from typing import Annotated, Any

import mlflow
import pandas as pd
import work
from sklearn.pipeline import Pipeline
from zenml import pipeline, step


@step
def prepare() -> pd.DataFrame:
    """Read and check the rows, add target and features."""
    rows = pd.read_parquet(work.TABLE)
    work.check_rows(rows)
    return work.prepare_rows(rows)


@step(experiment_tracker="mlflow", settings={"experiment_tracker": {"experiment_name": work.EXPERIMENT}})
def train(
    prepared: pd.DataFrame,
) -> tuple[Annotated[Pipeline, "model"], Annotated[pd.DataFrame, "held_back"], Annotated[str, "version"]]:
    """Fit and register."""
    rows, held_back = work.split_rows(prepared)
    mlflow.log_params(work.SETTINGS)
    model = work.fit_model(rows, work.SETTINGS)
    return model, held_back, work.log_model(model, rows)


@step(experiment_tracker="mlflow", settings={"experiment_tracker": {"experiment_name": work.EXPERIMENT}})
def promote(model: Pipeline, held_back: pd.DataFrame, version: str) -> dict[str, Any]:
    """Measure the model, and make it the champion where it may be."""
    scores = work.score_model(model, held_back)
    mlflow.log_metrics(scores)
    if not work.judge(scores, work.score_model(work.load_champion(), held_back)):
        raise ValueError("refused: worse than the champion")
    work.promote(version)
    return scores


@step(experiment_tracker="mlflow", settings={"experiment_tracker": {"experiment_name": work.EXPERIMENT}})
def compare(prepared: pd.DataFrame) -> None:
    """Draw Evidently's page and keep it with the run."""
    work.compare_rows(prepared).save_html(work.PAGE)
    mlflow.log_artifact(work.PAGE)


@pipeline(enable_cache=False)
def release() -> None:
    """Join the steps by their data."""
    prepared = prepare()
    model, held_back, version = train(prepared)
    promote(model, held_back, version)
    compare(prepared)


if __name__ == "__main__":
    release()
