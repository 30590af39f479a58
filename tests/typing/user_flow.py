"""A flow as a user would write it, of public tasks and of `TrainingRun`: no cast, no annotation of a result.

Checked by `test_user_flow.py` with mypy and pyright; it is never run.
"""

from __future__ import annotations

from pathlib import Path

import great_expectations as gx
import pandas as pd
from great_expectations import expectations as gxe
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from sklearn.ensemble import RandomForestClassifier
from typing_extensions import assert_type

from prefect_mlops.core import (
    Check,
    Decision,
    Degradation,
    Drift,
    Evaluation,
    Gate,
    LoggedRun,
    ModelSpec,
    ModelVersion,
    Report,
    Split,
    TableRef,
    Tune,
)
from prefect_mlops.core.drift.detection import DriftReport
from prefect_mlops.flows.training_run import TrainingRun
from prefect_mlops.tasks import (
    check_leakage,
    detect_drift,
    draw_drift_page,
    evaluate_live,
    evaluate_model,
    find_model,
    judge_model,
    judge_recipes,
    load_table,
    log_run,
    promote_model,
    register_model,
    require,
    smoke_test_model,
    split_bad_rows,
    split_table,
    train_model,
    tune_model,
    validate_table,
)
from prefect_mlops.tasks.tuning import Tuned

suite = gx.ExpectationSuite(name="rides", expectations=[gxe.ExpectColumnValuesToNotBeNull(column="km")])
gates = [Gate("roc_auc", at_least=0.8, may_lose=0.01)]


@flow
def train_and_promote(uri: str) -> ModelVersion | None:
    """Each result has the type of the task's function, also where an estimator of type Any is an argument."""
    rows = load_table(uri)
    assert_type(rows, pd.DataFrame)
    report = validate_table(rows, suite)
    assert_type(report, Report)
    require(report)
    assert_type(split_bad_rows(rows, suite).accepted, pd.DataFrame)

    split = split_table(rows, "late", test_share=0.25, stratify=True)
    assert_type(split, Split)
    assert_type(check_leakage(split.X_train, split.y_train, order=rows["day"]), Report)
    tune = Tune(space={"max_depth": (2, 12)}, metric="roc_auc")
    tuned = tune_model(RandomForestClassifier(), split.X_train, split.y_train, tune=tune, experiment="rides")
    assert_type(tuned, Tuned)
    estimator = train_model(tuned.applied_to(RandomForestClassifier()), split.X_train, split.y_train)
    scores = evaluate_model(estimator, split.X_test, split.y_test, metrics=["roc_auc"])
    assert_type(scores, Evaluation)

    champion = find_model("rides")
    assert_type(champion.version if champion else None, "ModelVersion | None")
    verdict = judge_model(estimator, champion, split.X_test, split.y_test, gates=gates)
    assert_type(verdict, Report)
    assert_type(judge_recipes(estimator, champion, rows.drop(columns="late"), rows["late"], gates=gates), Report)
    run = log_run.submit(estimator, scores, experiment="rides", example=split.X_test.head(), reports=[verdict])
    assert_type(run, PrefectFuture[LoggedRun])
    registered = register_model.submit(run, "rides")  # a task waits for the futures among its arguments
    assert_type(registered.result(), ModelVersion)
    smoke_test = smoke_test_model(registered.result(), wait_for=[registered])
    assert_type(smoke_test, Report)
    if not (verdict.passed and smoke_test.passed):
        return None
    return promote_model.with_options(retries=5)(registered.result(), replaces=champion)


@flow
def watch(current: TableRef, reference: TableRef, labels: pd.DataFrame, page: Path) -> Report:
    """Policies are values with names, states and maps keep the result's type."""
    found = detect_drift(current=current, reference=reference, drift=Drift(min_change=0.2), level=0.05)
    assert_type(found, DriftReport)
    assert_type(draw_drift_page(found, html=page), Report)
    live = evaluate_live(
        predictions=current, labels=labels, metrics=["roc_auc"], degradation=Degradation(every="week", may_lose=0.02)
    )
    assert_type(live, Report)
    state = load_table(current.uri, return_state=True)
    assert_type(state, State[pd.DataFrame])
    tables = load_table.map([current.uri, reference.uri]).result()
    assert_type(tables, list[pd.DataFrame])
    return found


def same_recall(run: TrainingRun) -> Report:
    """A check of one's own sees the run with its types."""
    assert_type(run.split, Split)
    return evaluate_fairness(run.challenger, run.split)


def evaluate_fairness(estimator: object, split: Split) -> Report:
    check = Check(name="recall is alike", passed=estimator is not None, observed=f"{len(split.y_test)} rows")
    return Report(kind="fairness", subject="rides", checks=(check,))


@flow
def train_mine(spec: ModelSpec) -> Decision:
    """The stages of the ready flow with a step of one's own."""
    with TrainingRun(spec) as run:
        if run.load():
            split = split_table(run.table, spec.target, **spec.split_options)
            assert_type(split, Split)
            run.train()
            assert_type(run.judge(), Report)
            assert_type(run.check(same_recall), Report)
            run.register()
            run.smoke_test()
        return run.conclude()
