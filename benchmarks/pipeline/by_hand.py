"""Contestant b: the best script by hand, with the public ways of the libraries that save time.

    python by_hand.py FOLDER MODEL PAGE

Columns nobody asks for stay on the disk; requirements, signature and trusted types are given, not inferred; each model
answers once and all scores come from that; one request to MLflow carries all metrics and parameters; Evidently gets
samples and the metrics that are looked at, not its whole preset.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from importlib.metadata import version
from typing import Any

import great_expectations as gx
import mlflow.sklearn
import numpy as np
import pandas as pd
import recipe
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import DriftedColumnsCount, ValueDrift
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

TRUSTED = [
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
]
PACKAGES = ("mlflow", "scikit-learn", "skops", "numpy", "pandas", "scipy")
COLUMNS = sorted({*recipe.REQUIRED, *recipe.RANGES, *recipe.FEATURES, "arr_delay"} - {"hour", "weekday"})
SAMPLE = 5_000  # rows of each side; what Evidently draws looks the same
Sides = tuple[pd.DataFrame, pd.DataFrame]


def read(folder: str) -> pd.DataFrame:
    """Read the columns that are used."""
    return pd.read_parquet(folder, columns=COLUMNS)


def validate(rows: pd.DataFrame) -> None:
    """Check the columns the suite names, without progress bars and without an account of every value."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    source = context.data_sources.add_pandas("pandas")
    batch = source.add_dataframe_asset("flights").add_batch_definition_whole_dataframe("all")
    suite = gx.ExpectationSuite(name="flights", expectations=recipe.expectations())
    named = rows[sorted({*recipe.REQUIRED, *recipe.RANGES})]
    result = batch.get_batch({"dataframe": named}).validate(suite, result_format="BOOLEAN_ONLY")
    if not result.success:
        raise SystemExit(str(result))


def split(table: pd.DataFrame) -> Sides:
    """Hold back the last rows in time; the rows are in order."""
    moments = table["scheduled_departure"]
    boundary = moments.searchsorted(moments.iloc[round(len(table) * (1 - recipe.TEST_SHARE))])
    return table[:boundary], table[boundary:]


def train(rows: pd.DataFrame) -> Any:
    """Fit the estimator."""
    return recipe.estimator().fit(rows[recipe.FEATURES], rows[recipe.TARGET])


def evaluate(model: Any, test: pd.DataFrame) -> dict[str, float]:
    """Let the model answer once and compute every score of that."""
    truth, answers = test[recipe.TARGET].to_numpy(), model.predict_proba(test[recipe.FEATURES])
    return {
        "roc_auc": float(roc_auc_score(truth, answers[:, 1])),
        "average_precision": float(average_precision_score(truth, answers[:, 1])),
        "neg_log_loss": -float(log_loss(truth, answers)),
    }


def find_champion(name: str) -> Any | None:
    """Load who is champion."""
    try:
        found = MlflowClient().get_model_version_by_alias(name, "champion")
    except MlflowException:
        return None
    return mlflow.sklearn.load_model(f"models:/{name}/{found.version}")  # noqa: TID251 - a script trusts its own models


def passes(scores: dict[str, float], champion: Any | None, test: pd.DataFrame) -> bool:
    """Compare with the champion on the same rows, by the one score that decides."""
    if scores["roc_auc"] < recipe.FLOOR or champion is None:
        return scores["roc_auc"] >= recipe.FLOOR
    held = roc_auc_score(test[recipe.TARGET], champion.predict_proba(test[recipe.FEATURES])[:, 1])
    return bool(scores["roc_auc"] >= held - recipe.MAY_LOSE)


def log(model: Any, scores: dict[str, float], test: pd.DataFrame, name: str) -> str:
    """Write everything in one batch, and the model with what is known about it; return the new version's number."""
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else client.create_experiment(name)
    run = client.create_run(experiment).info.run_id
    now = int(time.time() * 1000)
    client.log_batch(
        run,
        metrics=[Metric(key, value, now, 0) for key, value in scores.items()],
        params=[Param(key, str(value)[:500]) for key, value in model.get_params().items()],
    )
    made = client.create_logged_model(experiment, name="model", source_run_id=run, model_type="sklearn")
    example = test[recipe.FEATURES].head(100)
    with tempfile.TemporaryDirectory() as scratch:
        mlflow.sklearn.save_model(
            model,
            f"{scratch}/model",
            signature=infer_signature(example, model.predict(example)),
            pip_requirements=[f"{package}=={version(package)}" for package in PACKAGES],
            skops_trusted_types=TRUSTED,
        )
        client.log_model_artifacts(made.model_id, f"{scratch}/model")
    client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(made.model_id, 0)])
    client.set_terminated(run)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.create_model_version(name, made.artifact_location, run, model_id=made.model_id).version)


def draw_drift(table: pd.DataFrame, page: str) -> None:
    """Write Evidently's page from a sample of the last third of the rows and one of the others."""
    columns = [*recipe.FEATURES, recipe.TARGET]
    third = len(table) // 3
    kinds = DataDefinition(
        categorical_columns=[*recipe.CATEGORIES, recipe.TARGET],
        numerical_columns=[column for column in recipe.FEATURES if column not in recipe.CATEGORIES],
    )
    current, reference = (
        Dataset.from_pandas(side[columns].sample(SAMPLE, random_state=0), kinds)
        for side in (table[-third:], table[:-third])
    )
    metrics = [DriftedColumnsCount(), *(ValueDrift(column=column) for column in columns)]
    with np.errstate(all="ignore"):
        Report(metrics).run(current, reference).save_html(page)


def main(folder: str, name: str, page: str) -> None:
    """Do it all, in order."""
    rows = read(folder)
    validate(rows)
    table = recipe.prepare(rows)
    train_rows, test = split(table)
    model = train(train_rows)
    scores = evaluate(model, test)
    promoted = passes(scores, find_champion(name), test)
    number = log(model, scores, test, name)
    draw_drift(table, page)
    if promoted:
        MlflowClient().set_registered_model_alias(name, "champion", number)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # everything is written, and taking millions of objects apart takes time
