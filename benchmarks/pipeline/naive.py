"""Contestant a: straight from the quickstarts of the libraries, everything they infer left on.

python naive.py FOLDER MODEL PAGE
"""

# ruff: noqa: TID251 - what this project avoids is what a quickstart shows

from __future__ import annotations

import sys

import great_expectations as gx
import mlflow
import pandas as pd
import recipe
from evidently import Dataset, Report
from evidently.presets import DataDriftPreset
from mlflow.exceptions import MlflowException
from sklearn.metrics import get_scorer

TRUSTED = [  # as MLflow's error message asks
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
]


def validate(rows: pd.DataFrame) -> None:
    """Check the whole frame as the quickstart of Great Expectations does."""
    context = gx.get_context(mode="ephemeral")
    source = context.data_sources.add_pandas("pandas")
    batch = source.add_dataframe_asset("flights").add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name="flights", expectations=recipe.expectations()))
    result = batch.get_batch({"dataframe": rows}).validate(suite)
    if not result.success:
        raise SystemExit(str(result))


def split(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold back the last rows in time."""
    boundary = table["scheduled_departure"].iloc[round(len(table) * (1 - recipe.TEST_SHARE))]
    return table[table["scheduled_departure"] < boundary], table[table["scheduled_departure"] >= boundary]


def score(model: object, test: pd.DataFrame) -> dict[str, float]:
    """Evaluate with scikit-learn's scorers, one after the other."""
    return {name: float(get_scorer(name)(model, test[recipe.FEATURES], test[recipe.TARGET])) for name in recipe.METRICS}


def find_champion(name: str) -> object | None:
    """Load who is champion."""
    try:
        return mlflow.sklearn.load_model(f"models:/{name}@champion")
    except MlflowException:
        return None


def passes(scores: dict[str, float], champion: object | None, test: pd.DataFrame) -> bool:
    """Compare with the champion on the same rows."""
    held = score(champion, test)["roc_auc"] if champion else 0.0
    return scores["roc_auc"] >= recipe.FLOOR and scores["roc_auc"] >= held - recipe.MAY_LOSE


def log(model: object, scores: dict[str, float], test: pd.DataFrame, name: str) -> str:
    """Write model, metrics and parameters to MLflow and register the model."""
    mlflow.set_experiment(name)
    with mlflow.start_run():
        mlflow.log_params(model.get_params())
        mlflow.log_metrics(scores)
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            input_example=test[recipe.FEATURES].head(),
            registered_model_name=name,
            skops_trusted_types=TRUSTED,
        )
    return str(logged.registered_model_version)


def draw_drift(table: pd.DataFrame, page: str) -> None:
    """Write Evidently's page: the last third of the rows against the others."""
    features = table[[*recipe.FEATURES, recipe.TARGET]]
    third = len(features) // 3
    report = Report([DataDriftPreset()])
    seen = report.run(Dataset.from_pandas(features[-third:]), Dataset.from_pandas(features[:-third]))
    seen.save_html(page)


def main(folder: str, name: str, page: str) -> None:
    """Do it all, in order."""
    rows = pd.read_parquet(folder)
    validate(rows)
    table = recipe.prepare(rows)
    train, test = split(table)
    model = recipe.estimator().fit(train[recipe.FEATURES], train[recipe.TARGET])
    scores = score(model, test)
    champion = find_champion(name)
    promoted = passes(scores, champion, test)
    version = log(model, scores, test, name)
    draw_drift(table, page)
    if promoted:
        mlflow.MlflowClient().set_registered_model_alias(name, "champion", version)


if __name__ == "__main__":
    main(*sys.argv[1:])
