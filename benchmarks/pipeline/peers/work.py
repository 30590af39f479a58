"""The work every contestant does on the flights, as plain functions of the libraries; a contestant adds the rest.

Beside a project it is what its user would have written in any case: checks, features, estimator, measures, page.
What a flight is stands in `recipe.py`. `champion` and `outcome` are called by `run.py` outside of the clock.
"""

# ruff: noqa: TID251 - MLflow as its documentation shows it

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
import recipe
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.metrics import get_scorer

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

TABLE = "flights.parquet"
PAGE = "drift.html"
MODEL = "flights-late"
EXPERIMENT = "flights"
ALIAS = "champion"
SETTINGS = {"max_iter": 150, "learning_rate": 0.05, "random_state": 0}
PINNED = [f"{name}=={version(name)}" for name in ("mlflow", "scikit-learn", "pandas", "numpy", "skops")]
TRUSTED = [  # as MLflow's error message asks
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
]


def check_rows(rows: pd.DataFrame) -> int:
    """Check the rows as they arrived and return how many there are; raises ValueError where they fail."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("flights")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": rows})
    result = batch.validate(gx.ExpectationSuite(name="flights", expectations=recipe.expectations()))
    if not result.success:
        raise ValueError(f"the flights failed their checks: {result.describe()}")
    return len(rows)


def prepare_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the target and what repeats in time, in the order of departure."""
    return recipe.prepare(rows)


def split_rows(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold the last rows in time back; no moment stands on both sides."""
    departure = rows["scheduled_departure"]
    boundary = departure.iloc[round(len(rows) * (1 - recipe.TEST_SHARE))]
    return rows[departure < boundary], rows[departure >= boundary]


def fit_model(rows: pd.DataFrame, settings: dict[str, Any]) -> Any:
    """Fit the example's estimator."""
    estimator = recipe.estimator()
    estimator[-1].set_params(**settings)
    return estimator.fit(rows[recipe.FEATURES], rows[recipe.TARGET])


def score_model(model: Any, rows: pd.DataFrame) -> dict[str, float]:
    """Measure a model on held back rows."""
    X, y = rows[recipe.FEATURES], rows[recipe.TARGET]
    return {name: float(get_scorer(name)(model, X, y)) for name in recipe.METRICS}


def log_model(model: Any, rows: pd.DataFrame) -> str:
    """Log and register a model in the active run and return its version; requirements are given, not inferred."""
    few = rows[recipe.FEATURES].head(100)
    info = mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(few, model.predict(few)),
        pip_requirements=PINNED,
        skops_trusted_types=TRUSTED,
        registered_model_name=MODEL,
    )
    return str(info.registered_model_version)


def load_champion() -> Any:
    """Load the model that is live."""
    return mlflow.sklearn.load_model(f"models:/{MODEL}@{ALIAS}")


def judge(scores: dict[str, float], champion: dict[str, float]) -> bool:
    """Say whether a model may replace the live one."""
    return scores["roc_auc"] >= max(recipe.FLOOR, champion["roc_auc"] - recipe.MAY_LOSE)


def promote(version_number: str) -> None:
    """Make a version the live one."""
    MlflowClient().set_registered_model_alias(MODEL, ALIAS, version_number)


def compare_rows(rows: pd.DataFrame) -> Snapshot:
    """Compare the last third of the rows with the first two, as Evidently's documentation does."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    cut = len(rows) * 2 // 3
    features = rows[recipe.FEATURES]
    return Report([DataDriftPreset()]).run(features.iloc[cut:], features.iloc[:cut])


def champion() -> None:
    """Register the model to be beaten: it learned little, from the same rows."""
    mlflow.create_experiment(EXPERIMENT, artifact_location="artifacts")
    mlflow.set_experiment(EXPERIMENT)
    train, _ = split_rows(prepare_rows(pd.read_parquet(TABLE)))
    with mlflow.start_run(run_name=ALIAS):
        promote(log_model(fit_model(train, {**SETTINGS, "max_iter": 20}), train))


def outcome() -> dict[str, Any]:
    """Tell what a run has left in the registry: the new champion's area under the curve, or what is missing."""
    client = MlflowClient()
    try:
        live = client.get_model_version_by_alias(MODEL, ALIAS)
        measured = client.get_run(live.run_id).data.metrics
    except MlflowException as problem:
        return {"missing": str(problem)}
    if str(live.version) == "1":
        return {"missing": "a new version as champion"}
    # kedro-mlflow writes the name of the catalog's entry before each metric.
    found = {name.rpartition(".")[2]: value for name, value in measured.items()}
    absent = [name for name in recipe.METRICS if name not in found]
    return {"missing": f"the metric {absent[0]}"} if absent else {"auc": found["roc_auc"]}


if __name__ == "__main__":
    print(json.dumps({"champion": champion, "outcome": outcome}[sys.argv[1]]()))
