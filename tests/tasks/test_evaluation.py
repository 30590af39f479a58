from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.values import Gate, LoadedModel, ModelVersion
from prefect_mlops.tasks import evaluate_model, judge_model

evaluate, judge = evaluate_model.fn, judge_model.fn


@pytest.fixture(scope="module")
def binary():
    X, y = load_breast_cancer(as_frame=True, return_X_y=True)
    good = LogisticRegression(max_iter=5000).fit(X[:300], y[:300])
    poor = LogisticRegression(max_iter=5000).fit(X[["mean smoothness"]][:300], y[:300])
    return X[300:], y[300:], good, poor


def champion(model) -> LoadedModel:
    version = ModelVersion(name="cancer", version=3, run_id="r", model_uri="models:/m-1")
    return LoadedModel(version=version, estimator=model)


def test_scores_are_scikit_learns(binary) -> None:
    X, y, good, _ = binary
    scores = evaluate(good, X, y, metrics=["roc_auc", "neg_log_loss", "roc_auc"])
    assert list(scores.metrics) == ["roc_auc", "neg_log_loss"]
    assert scores.metrics["roc_auc"] == roc_auc_score(y, good.predict_proba(X)[:, 1])
    assert scores.metrics["neg_log_loss"] < 0, "larger is better, so a loss is negative"
    assert scores.rows == len(X)


def test_regression_and_many_classes() -> None:
    X, y = load_diabetes(as_frame=True, return_X_y=True)
    assert 0 < evaluate(Ridge().fit(X, y), X, y, metrics=["r2", "neg_root_mean_squared_error"]).metrics["r2"] < 1
    X, y = load_iris(as_frame=True, return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    assert evaluate(model, X, y, metrics=["roc_auc_ovr", "f1_macro"]).metrics["f1_macro"] > 0.9
    with pytest.raises(ConfigError, match="The target has 3 classes: use 'roc_auc_ovr'"):
        evaluate(model, X, y, metrics=["roc_auc"])
    with pytest.raises(ConfigError, match="use 'f1_macro'"):
        evaluate(model, X, y, metrics=["f1"])


def test_unknown_and_missing_metrics(binary) -> None:
    X, y, good, _ = binary
    with pytest.raises(ConfigError, match="no metric is called 'roc_acu': did you mean 'roc_auc'"):
        evaluate(good, X, y, metrics=["roc_acu"])
    with pytest.raises(ConfigError, match="no metric was given"):
        evaluate(good, X, y, metrics=[])


def test_one_class_and_no_rows_have_no_score(binary) -> None:
    X, y, good, _ = binary
    ones = y == 1
    with pytest.raises(DataCheckError, match="roc_auc is not defined: the target has one value only, 1, in"):
        evaluate(good, X[ones], y[ones], metrics=["roc_auc"])
    with pytest.raises(DataCheckError, match="no rows to score"):
        evaluate(good, X[:0], y[:0], metrics=["accuracy"])


def test_a_metric_the_model_cannot_give(binary) -> None:
    X, y, *_ = binary
    with pytest.raises(ConfigError, match="metric 'neg_log_loss' cannot be computed for Ridge"):
        evaluate(Ridge().fit(X, y), X, y, metrics=["neg_log_loss"])


def test_the_first_model_needs_only_the_minimum(binary) -> None:
    X, y, good, poor = binary
    gates = [Gate("roc_auc", at_least=0.9, may_lose=0.01)]
    assert judge(good, None, X, y, gates=gates).passed
    refused = judge(poor, None, X, y, gates=gates)
    assert not refused.passed
    assert refused.failures[0].name == "minimum score"
    assert judge(poor, None, X, y, gates=[Gate("roc_auc", must_gain=0.1)]).passed


def test_a_worse_challenger_is_refused_and_a_better_one_passes(binary) -> None:
    X, y, good, poor = binary
    gates = [Gate("roc_auc", may_lose=0.01), Gate("accuracy", must_gain=0.0)]
    worse = judge(poor, champion(good), X, y, gates=gates)
    assert [check.passed for check in worse.checks] == [False, False]
    assert "champion 0.99" in worse.checks[0].expected
    better = judge(good, champion(poor), X, y, gates=gates)
    assert better.passed
    assert better.subject == "LogisticRegression against cancer v3"
    assert better.rows == len(X)


def test_margins_are_exact(binary) -> None:
    X, y, good, _ = binary
    same = champion(good)
    assert judge(good, same, X, y, gates=[Gate("roc_auc", may_lose=0.0, must_gain=0.0)]).passed
    assert not judge(good, same, X, y, gates=[Gate("roc_auc", must_gain=1e-9)]).passed


def test_the_champion_gets_its_own_columns_in_its_own_order(binary) -> None:
    X, y, good, poor = binary
    shuffled = X[X.columns[::-1]]
    both = judge(
        LogisticRegression(max_iter=5000).fit(shuffled, y),
        champion(poor),
        shuffled,
        y,
        gates=[Gate("roc_auc", may_lose=0)],
    )
    assert both.passed
    with pytest.raises(ConfigError, match="champion cancer v3 needs column 'mean radius'"):
        judge(poor, champion(good), X.drop(columns="mean radius"), y, gates=[Gate("roc_auc", may_lose=0)])


def test_no_gates_is_no_gate(binary) -> None:
    X, y, good, _ = binary
    with pytest.raises(ConfigError, match="no gate was given"):
        judge(good, None, X, y, gates=[])


def test_text_labels_and_nullable_targets() -> None:
    X = pd.DataFrame({"a": np.arange(40.0)})
    words = pd.Series(np.where(X["a"] > 20, "late", "on time"))
    assert evaluate(DummyClassifier().fit(X, words), X, words, metrics=["accuracy"]).metrics["accuracy"] == 21 / 40
    numbers = pd.Series(np.where(X["a"] > 20, 1, 0)).astype("Int64")
    assert evaluate(LogisticRegression().fit(X, numbers), X, numbers, metrics=["roc_auc"]).metrics["roc_auc"] == 1.0
