"""Contestants d and e: our tasks in a flow of one's own, started as a program or by a worker.

python our_flow.py FOLDER MODEL PAGE
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import great_expectations as gx
import recipe
from prefect import flow

from prefect_mlops.core import Gate
from prefect_mlops.tasks import (
    detect_drift,
    draw_drift_page,
    evaluate_model,
    find_model,
    judge_model,
    load_table,
    log_run,
    promote_model,
    register_model,
    require,
    split_table,
    train_model,
    validate_table,
)

suite = gx.ExpectationSuite(name="flights", expectations=recipe.expectations())
gate = Gate("roc_auc", at_least=recipe.FLOOR, may_lose=recipe.MAY_LOSE)


@flow
def pipeline(folder: str, name: str, page: str, stamp: str = "") -> None:
    """Do it all, in order."""
    if stamp:
        Path(stamp).write_text(str(time.time()))
    rows = load_table(folder)
    require(validate_table(rows, suite))
    table = recipe.prepare(rows)
    split = split_table(
        table, recipe.TARGET, features=recipe.FEATURES, test_share=recipe.TEST_SHARE, order_by="scheduled_departure"
    )
    model = train_model(recipe.estimator(), split.X_train, split.y_train)
    scores = evaluate_model(model, split.X_test, split.y_test, metrics=recipe.METRICS)
    run = log_run(model, scores, experiment=name, example=split.X_test.head())
    champion = find_model(name)
    require(judge_model(model, champion, split.X_test, split.y_test, gates=[gate]))
    third = len(table) // 3
    columns = [*recipe.FEATURES, recipe.TARGET]
    drift = detect_drift(current=table[-third:], reference=table[:-third], columns=columns, subject=name)
    draw_drift_page(drift, html=page)
    promote_model(register_model(run, name), replaces=champion)


if __name__ == "__main__":
    pipeline(*sys.argv[1:])
