"""The flights as Dagster assets, kept between steps by the default IO manager.

dagster job execute -f definitions.py -j release                     a process for each asset, as is the default
dagster job execute -f definitions.py -j release -c in_process.yaml  all in one process
"""

# ruff: noqa: TID251 - MLflow as its documentation shows it

from typing import Any

import dagster as dg
import mlflow
import pandas as pd
import work


@dg.multi_asset(outs={"prepared_flights": dg.AssetOut(), "mlflow_run": dg.AssetOut()})
def prepared() -> tuple[pd.DataFrame, str]:
    """Return rows that passed their checks, with target and features, and the run that all assets log to."""
    mlflow.set_experiment(work.EXPERIMENT)
    with mlflow.start_run() as run:
        mlflow.log_params(work.SETTINGS)
    rows = pd.read_parquet(work.TABLE)
    work.check_rows(rows)
    return work.prepare_rows(rows), run.info.run_id


@dg.multi_asset(outs={"model": dg.AssetOut(), "held_back": dg.AssetOut(), "version": dg.AssetOut()})
def trained(prepared_flights: pd.DataFrame, mlflow_run: str) -> tuple[Any, pd.DataFrame, str]:
    """Fit and register the model; return it with the rows held back and its version."""
    train, held_back = work.split_rows(prepared_flights)
    model = work.fit_model(train, work.SETTINGS)
    with mlflow.start_run(run_id=mlflow_run):
        version = work.log_model(model, train)
    return model, held_back, version


@dg.asset
def promoted_version(model: Any, held_back: pd.DataFrame, version: str, mlflow_run: str) -> dg.MaterializeResult:
    """Measure the model, and make it the champion where it may be."""
    scores = work.score_model(model, held_back)
    with mlflow.start_run(run_id=mlflow_run):
        mlflow.log_metrics(scores)
    if not work.judge(scores, work.score_model(work.load_champion(), held_back)):
        raise dg.Failure("refused: worse than the champion")
    work.promote(version)
    return dg.MaterializeResult(metadata={**scores})


@dg.asset
def drift_page(prepared_flights: pd.DataFrame, mlflow_run: str) -> dg.MaterializeResult:
    """Draw Evidently's page and keep it with the run."""
    work.compare_rows(prepared_flights).save_html(work.PAGE)
    with mlflow.start_run(run_id=mlflow_run):
        mlflow.log_artifact(work.PAGE)
    return dg.MaterializeResult(metadata={"page": dg.MetadataValue.path(work.PAGE)})


defs = dg.Definitions(
    assets=[prepared, trained, promoted_version, drift_page],
    jobs=[dg.define_asset_job("release")],
)
