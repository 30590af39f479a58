from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.evaluation.models import evaluate_model as evaluate
from prefect_mlops.core.evaluation.models import judge_model
from prefect_mlops.core.values import Evaluation, Gate, LoadedModel, ModelVersion

judge = partial(judge_model, set_apart=True)  # the models here are fitted by scikit-learn alone, on other rows


@pytest.fixture(scope="module")
def binary():
    X, y = load_breast_cancer(as_frame=True, return_X_y=True)
    good = LogisticRegression(solver="liblinear").fit(X[:300], y[:300])
    poor = LogisticRegression(solver="liblinear").fit(X[["mean smoothness"]][:300], y[:300])
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
    assert [check.passed for check in worse.checks] == [True, False, False]
    assert "champion 0.99" in worse.checks[1].observed
    assert worse.checks[1].expected == "a lower bound above -0.01"
    better = judge(good, champion(poor), X, y, gates=gates)
    assert better.passed
    assert better.subject == "LogisticRegression against cancer v3"
    assert better.rows == len(X)


def test_the_same_model_again_is_not_worse_and_not_better(binary) -> None:
    X, y, good, _ = binary
    same = champion(good)
    assert judge(good, same, X, y, gates=[Gate("roc_auc", may_lose=0.0), Gate("accuracy", may_lose=0.0)]).passed
    assert not judge(good, same, X, y, gates=[Gate("roc_auc", must_gain=0.0)]).passed


def test_the_champion_gets_its_own_columns_in_its_own_order(binary) -> None:
    X, y, good, poor = binary
    shuffled = X[X.columns[::-1]]
    both = judge(
        LogisticRegression(solver="liblinear").fit(shuffled, y),
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


def missed_cost(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
    said = estimator.predict(X)
    return -float((5 * ((y == 0) & (said == 1)) + ((y == 1) & (said == 0))).mean())


def test_a_function_of_ones_own_is_scored_and_judged(binary) -> None:
    X, y, good, poor = binary
    scores = evaluate(good, X, y, metrics=[missed_cost, "roc_auc"])
    assert scores.metrics["missed_cost"] == missed_cost(good, X, y)
    low, high = scores.intervals["missed_cost"]
    assert low < scores.metrics["missed_cost"] < high
    gate = Gate(missed_cost, must_gain=0.0)
    report = judge(good, champion(poor), X, y, gates=[gate])
    assert report.passed
    assert report.checks[1].subject == "missed_cost"
    assert not judge(poor, champion(good), X, y, gates=[gate]).passed


def wrong_number(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
    raise KeyError("duration")


def undefined(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
    return float("nan")


def test_what_a_function_raises_is_said_in_words(binary) -> None:
    X, y, good, _ = binary
    with pytest.raises(ConfigError, match="metric 'wrong_number' cannot be computed for LogisticRegression: KeyError"):
        evaluate(good, X, y, metrics=[wrong_number])
    with pytest.raises(DataCheckError, match="undefined is not defined: its value is nan on 269 rows"):
        judge(good, None, X, y, gates=[Gate(undefined, at_least=0.0)])


def test_two_functions_of_one_name_are_refused(binary) -> None:
    X, y, good, _ = binary

    def undefined(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
        return 0.0

    with pytest.raises(ConfigError, match="two metrics are called 'undefined'"):
        judge(good, None, X, y, gates=[Gate(undefined, at_least=0.0), Gate(globals()["undefined"], at_least=0.0)])


def test_intervals_rest_on_blocks_when_the_rows_have_a_time(binary) -> None:
    X, y, good, _ = binary
    timed = X.assign(at=pd.date_range("2024", periods=len(X), freq="h"))
    flat = evaluate(good, timed, y, metrics=["roc_auc", "accuracy"])
    assert flat.metrics == evaluate(good, X, y, metrics=["roc_auc", "accuracy"]).metrics
    blocked = evaluate(good, timed, y, metrics=["roc_auc"], order_by="at")
    assert blocked.intervals["roc_auc"] != flat.intervals["roc_auc"]
    low, high = blocked.intervals["roc_auc"]
    assert low < blocked.metrics["roc_auc"] < high <= 1
    report = judge(good, champion(good), timed, y, gates=[Gate("roc_auc", may_lose=0.0)], order_by="at")
    assert report.notes[0].startswith("Rows close in at depend on each other: 13 blocks in time were compared, fewer")
    with pytest.raises(ConfigError, match=r"no column of the test rows \(order_by\) is called 'att'"):
        evaluate(good, timed, y, metrics=["roc_auc"], order_by="att")


def test_a_model_without_names_for_its_columns_is_not_given_time_or_group() -> None:
    X, y = load_diabetes(as_frame=True, return_X_y=True)
    model = Ridge().fit(X.to_numpy(), y)
    shops = X.assign(shop=np.arange(len(X)) % 40)
    report = judge(model, champion(model), shops, y, gates=[Gate("r2", may_lose=0.01)], group_by="shop")
    assert report.passed
    assert "442 rows in 40 groups" in report.checks[1].observed


def test_a_target_of_another_length_is_refused(binary) -> None:
    X, y, good, _ = binary
    with pytest.raises(ConfigError, match="269 rows but 268 values of the target"):
        evaluate(good, X, y[1:], metrics=["roc_auc"])


def test_evaluations_come_back_from_json_also_old_ones(binary) -> None:
    X, y, good, _ = binary
    scores = evaluate(good, X, y, metrics=["roc_auc"])
    assert Evaluation.model_validate_json(scores.model_dump_json()) == scores
    assert Evaluation.model_validate_json('{"metrics": {"r2": 0.5}, "rows": 3}').intervals == {}


def test_a_slice_refuses_what_is_better_overall(binary) -> None:
    """A champion, and a challenger that is better except where it matters."""
    chance = np.random.default_rng(0)
    X = pd.DataFrame({"a": chance.normal(size=3000), "b": chance.normal(size=3000)})
    X["origin"] = np.where(chance.random(3000) < 0.15, "LGA", "JFK")
    y = pd.Series((np.where(X["origin"] == "LGA", X["b"], X["a"]) + 0.5 * X["b"] + chance.normal(size=3000) > 0) * 1)
    ours = LogisticRegression().fit(X[["a"]], y)
    theirs = LogisticRegression().fit(X[["b"]], y)
    gate = Gate("roc_auc", must_gain=0.0, slices=("origin",))
    report = judge(ours, champion(theirs), X, y, gates=[gate])
    assert [(check.subject, check.passed) for check in report.checks[1:]] == [
        ("roc_auc", True),
        ("roc_auc for origin = LGA", False),
        ("roc_auc for origin = JFK", True),
    ]
    assert not report.passed


@pytest.mark.parametrize(
    ("years", "positives", "says"),
    [
        (3, 100, "which cannot be judged: 3 independent units, at least 5 are needed"),
        (300, 1, "which cannot be judged: a class has a single row, so chance cannot be estimated"),
    ],
)
def test_a_score_without_an_interval_is_no_evidence(years: int, positives: int, says: str) -> None:
    chance = np.random.default_rng(0)
    X = pd.DataFrame({"a": chance.normal(size=300), "year": 2020 + np.arange(300) % years})
    y = pd.Series((np.arange(300) < positives).astype(int))
    model = LogisticRegression().fit(X[["a"]], X["a"] > 0)
    model.classes_ = np.array([0, 1])
    report = judge(model, None, X, y, gates=[Gate("roc_auc", at_least=0.0)], order_by="year" if years == 3 else None)
    assert not report.passed
    assert says in report.checks[1].observed
