"""Contestant c: the naive script with the decorators of Prefect's documentation, for a worker."""

from __future__ import annotations

import time
from pathlib import Path

import naive
import pandas as pd
import recipe
from prefect import flow, task

read = task(pd.read_parquet)
validate = task(naive.validate)
prepare = task(recipe.prepare)
split = task(naive.split)
score = task(naive.score)
find_champion = task(naive.find_champion)
passes = task(naive.passes)
log = task(naive.log)
draw_drift = task(naive.draw_drift)


@task
def train(rows: pd.DataFrame) -> object:
    """Fit the estimator."""
    return recipe.estimator().fit(rows[recipe.FEATURES], rows[recipe.TARGET])


@task
def promote(name: str, version: str) -> None:
    """Make a version champion."""
    naive.mlflow.MlflowClient().set_registered_model_alias(name, "champion", version)


@flow
def pipeline(folder: str, name: str, page: str, stamp: str = "") -> None:
    """Do it all, in order."""
    if stamp:
        Path(stamp).write_text(str(time.time()))
    rows = read(folder)
    validate(rows)
    table = prepare(rows)
    train_rows, test = split(table)
    model = train(train_rows)
    scores = score(model, test)
    promoted = passes(scores, find_champion(name), test)
    version = log(model, scores, test, name)
    draw_drift(table, page)
    if promoted:
        promote(name, version)
