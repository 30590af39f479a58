"""Classes of any kind, with a positive one, give the figures of the same data coded as 0 and 1."""

from __future__ import annotations

import copy
import functools
import inspect
import threading
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.evaluation import models
from prefect_mlops.core.evaluation.importance import measure_importances
from prefect_mlops.core.evaluation.models import evaluate_model
from prefect_mlops.core.evaluation.positive_class import OF_ONE_CLASS, BinaryView
from prefect_mlops.core.evaluation.scoring import score_model
from prefect_mlops.core.values import Gate, LoadedModel, ModelVersion
from prefect_mlops.tasks._search import Question
from prefect_mlops.tasks.tuning import tune_model

judge_model = functools.partial(models.judge_model, set_apart=True)  # these models have no lineage
ROWS = 160
NAMES = ("churned", "stayed")  # in order
KINDS: dict[str, tuple[object, object, str]] = {
    "object": (*NAMES, "object"),
    "str": (*NAMES, "str"),
    "string": (*NAMES, "string"),
    "category": (*NAMES, "category"),
    "bool": (False, True, "bool"),
    "boolean": (False, True, "boolean"),
    "int": (3, 7, "int64"),
    "Int64": (3, 7, "Int64"),
}
CLOSED_FORM = (
    *("accuracy", "balanced_accuracy", "matthews_corrcoef", "roc_auc", "roc_auc_ovr", "average_precision"),
    *("neg_log_loss", "neg_brier_score"),
    *(name + how for name in ("f1", "precision", "recall", "jaccard") for how in ("", "_macro", "_micro", "_weighted")),
)


class Says(ClassifierMixin, BaseEstimator):
    """Answers with the probability of class 1 in a column, for classes of any kind and order."""

    def __init__(self, column: str, classes: tuple[object, object] = (0, 1), positive: object = 1) -> None:
        self.column = column
        self.classes = classes
        self.positive = positive

    @property
    def classes_(self) -> np.ndarray:
        return np.array(self.classes, dtype=object if isinstance(self.classes[0], str) else None)

    def _in_order(self, other: np.ndarray, positive: np.ndarray) -> np.ndarray:
        return np.column_stack([other, positive] if self.positive == self.classes[1] else [positive, other])

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Says:
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        share = X[self.column].to_numpy()
        return self._in_order(1 - share, share)

    def predict_log_proba(self, X: pd.DataFrame) -> np.ndarray:
        return np.log(self.predict_proba(X))

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        said = (X[self.column] > 0.5).to_numpy()
        other = next(label for label in self.classes if label != self.positive)
        return np.array([self.positive if one else other for one in said], dtype=self.classes_.dtype)


class Ranks(Says):
    """Has a decision function too, which binary scorers prefer: larger for the class that is last in order."""

    def decision_function(self, X: pd.DataFrame) -> np.ndarray:
        return (1 if self.positive == self.classes[1] else -1) * (X[self.column].to_numpy() ** 3 - 0.2)


def rows(seed: int, size: int = ROWS) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    logit = 1.5 * chance.normal(size=size)
    one, two = ((1 / (1 + np.exp(-(logit + chance.normal(size=size))))).clip(0.01, 0.99) for _ in range(2))
    table = {"one": one.round(2), "two": two.round(2), "shop": np.arange(size) % 8, "region": np.arange(size) % 2}
    return pd.DataFrame({**table, "y": (chance.random(size) < 1 / (1 + np.exp(-logit))).astype("int64")})


def in_words(codes: pd.Series, kind: str, *, first: bool) -> tuple[pd.Series, tuple[object, object], object]:
    """Return the codes as classes of a kind, the classes in order, and the positive one."""
    *classes, dtype = KINDS[kind]
    positive, other = classes if first else classes[::-1]
    return pd.Series([positive if code else other for code in codes], dtype=dtype), tuple(classes), positive


def quiet(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that few rows do not have
        return function(*args, **options)


@settings(max_examples=80, deadline=None)
@given(
    metric=st.sampled_from(CLOSED_FORM),
    kind=st.sampled_from(sorted(KINDS)),
    first=st.booleans(),
    ranks=st.booleans(),
    grouped=st.booleans(),
    seed=st.integers(0, 999),
)
def test_scores_and_intervals_are_those_of_0_and_1(
    metric: str, kind: str, first: bool, ranks: bool, grouped: bool, seed: int
) -> None:
    X, model = rows(seed), Ranks if ranks else Says
    y, classes, positive = in_words(X["y"], kind, first=first)
    group = {"group_by": "shop"} if grouped else {}
    coded = quiet(evaluate_model, model("one"), X, X["y"], metrics=[metric], **group)
    seen = quiet(evaluate_model, model("one", classes, positive), X, y, metrics=[metric], positive=positive, **group)
    assert seen.metrics[metric] == pytest.approx(coded.metrics[metric], abs=1e-12)
    assert seen.intervals[metric] == pytest.approx(coded.intervals[metric], abs=1e-12)
    assert seen.notes == ()


@settings(max_examples=40, deadline=None)
@given(
    metric=st.sampled_from(CLOSED_FORM),
    kind=st.sampled_from(sorted(KINDS)),
    first=st.booleans(),
    seed=st.integers(0, 999),
)
def test_verdicts_are_those_of_0_and_1_in_groups_and_gaps_too(metric: str, kind: str, first: bool, seed: int) -> None:
    X = rows(seed, size=240)
    y, classes, positive = in_words(X["y"], kind, first=first)
    gates = [Gate(metric, at_least=-9, may_lose=0.05, must_gain=0.0, slices=("region",), max_gap=0.1)]
    coded = quiet(judge_model, Ranks("one"), Says("two"), X, X["y"], gates=gates, group_by="shop")
    ours, theirs = Ranks("one", classes, positive), Says("two", classes, positive)
    seen = quiet(judge_model, ours, theirs, X, y, gates=gates, group_by="shop", positive=positive)
    assert [check.model_copy(update={"value": None}) for check in seen.checks] == [
        check.model_copy(update={"value": None}) for check in coded.checks
    ]
    values = [[check.value for check in report.checks if check.value is not None] for report in (seen, coded)]
    assert values[0] == pytest.approx(values[1], abs=1e-12)
    assert f"Metrics by name take {positive!r} as the positive class." in seen.notes


def of_two_classes() -> list[str]:
    """Return every scorer that works on classes of 0 and 1."""
    X, found = rows(0), []
    for metric in get_scorer_names():
        try:
            quiet(get_scorer(metric), Ranks("one"), X, X["y"])
        except (ValueError, TypeError, AttributeError):
            continue
        found.append(metric)
    return found


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in ("bool", "str") else pytest.mark.slow) for kind in sorted(KINDS)]
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_every_scorer_of_scikit_learn_gives_the_score_of_0_and_1(kind: str, first: bool) -> None:
    X, metrics = rows(1), of_two_classes()
    assert set(CLOSED_FORM) < set(metrics)
    y, classes, positive = in_words(X["y"], kind, first=first)
    for model in (Says, Ranks):
        coded = quiet(score_model, model("one"), X, X["y"], metrics=metrics)
        seen = quiet(score_model, model("one", classes, positive), X, y, metrics=metrics, positive=positive)
        assert seen == pytest.approx(coded, abs=1e-12)


def test_fitted_models_give_the_scores_of_0_and_1() -> None:
    """The last class being positive, so that they learn the very same; in pipelines, and without probabilities."""
    X, metrics = rows(2), ["f1", "average_precision", "roc_auc"]
    words, features = in_words(X["y"], "object", first=False)[0], X[["one", "two"]]
    for model in (
        make_pipeline(StandardScaler(), LogisticRegression()),
        SVC(),
        RandomForestClassifier(n_estimators=9, random_state=0),
    ):
        coded = evaluate_model(copy.deepcopy(model).fit(features, X["y"]), features, X["y"], metrics=metrics)
        seen = evaluate_model(model.fit(features, words), features, words, metrics=metrics, positive="stayed")
        assert seen.metrics == pytest.approx(coded.metrics, abs=1e-12)


def test_which_scorers_need_a_positive_class_is_known_of_all() -> None:
    one_sided = {
        name
        for name in get_scorer_names()
        if "pos_label" in inspect.signature(get_scorer(name)._score_func).parameters
        and get_scorer(name)._kwargs.get("average", "binary") == "binary"
    }
    assert one_sided <= OF_ONE_CLASS
    assert OF_ONE_CLASS - one_sided == {"positive_likelihood_ratio", "neg_negative_likelihood_ratio"}


@pytest.mark.parametrize("metric", sorted(OF_ONE_CLASS))
@pytest.mark.parametrize("kind", ["object", "str", "string", "category"])
def test_without_a_positive_class_text_is_refused_in_words(metric: str, kind: str) -> None:
    X = rows(3)
    y, classes, positive = in_words(X["y"], kind, first=False)
    message = f"metric '{metric}' scores one of two classes: .* positive='churned' or positive='stayed'$"
    with pytest.raises(ConfigError, match=message):
        evaluate_model(Says("one", classes, positive), X, y, metrics=[metric])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_metrics_that_need_no_positive_class_stay_as_they_were(kind: str) -> None:
    X, metrics = rows(3), ["roc_auc", "accuracy", "neg_log_loss", "f1_macro", "balanced_accuracy"]
    y, classes, positive = in_words(X["y"], kind, first=False)
    coded = evaluate_model(Says("one"), X, X["y"], metrics=metrics)
    seen = evaluate_model(Says("one", classes, positive), X, y, metrics=metrics)
    assert seen.metrics == pytest.approx(coded.metrics, abs=1e-12)


def test_numbers_other_than_0_and_1_are_asked_for_where_scikit_learn_does() -> None:
    X = rows(3)
    y, classes, positive = in_words(X["y"], "int", first=False)
    with pytest.raises(ConfigError, match=r"metric 'f1' cannot be computed .* positive=3 or positive=7$"):
        evaluate_model(Says("one", classes, positive), X, y, metrics=["f1"])


class ThreeClasses(Says):
    classes_ = np.array(["a", "b", "c"])


def test_what_cannot_have_this_positive_class_is_refused_by_name_and_role() -> None:
    X = rows(4)
    y, classes, positive = in_words(X["y"], "object", first=False)
    fine, gates = Says("one", classes, positive), [Gate("f1", may_lose=0.1)]
    with pytest.raises(ConfigError, match=r"positive='yes' is none of the classes of the model Says: 'churned', 's"):
        evaluate_model(fine, X, y, metrics=["f1"], positive="yes")
    with pytest.raises(ConfigError, match=r"positive=1 is none of the classes of the model Says: 'churned'"):
        evaluate_model(fine, X, y, metrics=["roc_auc"], positive=1)
    with pytest.raises(ConfigError, match=r"the champion ThreeClasses has 3 classes, 'a', 'b', 'c'"):
        judge_model(fine, ThreeClasses("one"), X, y, gates=gates, positive="stayed")
    with pytest.raises(ConfigError, match=r"the model Ridge has no classes"):
        evaluate_model(Ridge().fit(X[["one"]], X["y"]), X, X["y"], metrics=["r2"], positive=1)
    with pytest.raises(ConfigError, match=r"positive='stayed': 1 of 160 rows have no class"):
        evaluate_model(fine, X, y.where(y.index > 0), metrics=["f1"], positive="stayed")
    with pytest.raises(ConfigError, match=r"positive='stayed': the target has 3 classes, .*'moved'"):
        score_model(fine, X, y.where(y.index > 0, "moved"), metrics=["f1"], positive="stayed")
    with pytest.raises(ConfigError, match=r"positive='stayed' is none of the classes of the target: 'a', 'b'"):
        score_model(fine, X, X["y"].map({0: "a", 1: "b"}), metrics=["f1"], positive="stayed")


def test_one_class_in_the_rows_is_named_as_it_is() -> None:
    X = rows(4)
    y, classes, positive = in_words(X["y"], "category", first=True)
    one = y == "stayed"
    with pytest.raises(DataCheckError, match=r"roc_auc is not defined: the target has one value only, 'stayed', in"):
        evaluate_model(Says("one", classes, positive), X[one], y[one], metrics=["roc_auc"], positive="churned")


# A class that only the judging rows have.


def champion(model: object) -> LoadedModel:
    version = ModelVersion(name="iris", version=3, run_id="r", model_uri="models:/m-1")
    return LoadedModel(version=version, estimator=model)


def three(seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    chance = np.random.default_rng(seed)
    X = pd.DataFrame({"a": chance.normal(size=300), "b": chance.normal(size=300)})
    return X, pd.Series(np.digitize(X["a"] + 0.3 * X["b"], [-0.5, 0.5])).map({0: "low", 1: "mid", 2: "high"})


def test_a_class_that_a_model_has_not_learned_is_noted_with_its_rows_and_counts_as_wrong() -> None:
    X, y = three()
    short = y != "high"
    ours, theirs = LogisticRegression().fit(X, y), LogisticRegression().fit(X[short], y[short])
    said = (
        f"iris v3 has not learned class 'high', so it cannot be right on {(~short).sum()} of the 300 test rows; "
        "it knows 'low', 'mid'."
    )
    seen = evaluate_model(champion(theirs), X, y, metrics=["accuracy"])
    assert seen.metrics["accuracy"] == (theirs.predict(X) == y).mean()
    assert seen.notes == (f"The model {said}",)
    report = judge_model(ours, champion(theirs), X, y, gates=[Gate("accuracy", must_gain=0.0)])
    assert report.passed
    assert report.notes == (f"The champion {said}",)
    both = judge_model(theirs, champion(theirs), X, y, gates=[Gate("f1_macro", may_lose=0.0)])
    assert both.notes == (f"The challenger {said}".replace("iris v3", "LogisticRegression"), f"The champion {said}")
    assert evaluate_model(ours, X, y, metrics=["accuracy"]).notes == ()


def test_a_metric_that_such_a_class_makes_impossible_names_it_and_the_model() -> None:
    X, y = three()
    short = y != "high"
    ours, theirs = LogisticRegression().fit(X, y), LogisticRegression().fit(X[short], y[short])
    with pytest.raises(ConfigError, match=r"metric 'roc_auc_ovr' cannot .*\. The champion iris v3 has not learned cla"):
        judge_model(ours, champion(theirs), X, y, gates=[Gate("roc_auc_ovr", may_lose=0.1)])
    with pytest.raises(ConfigError, match=r"The challenger LogisticRegression has not learned class 'high'"):
        judge_model(theirs, None, X, y, gates=[Gate("neg_log_loss", at_least=-1)])
    with pytest.raises(ConfigError, match=r"positive='mid' is for two classes, but the model LogisticRegression has n"):
        evaluate_model(theirs, X, y, metrics=["accuracy"], positive="mid")


# Functions, caches, and what else is measured.


def missed(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
    """Needs the classes as they are."""
    assert set(estimator.classes_) == set(NAMES)
    return -float(((y == "churned") & (estimator.predict(X) == "stayed")).mean())


def test_functions_get_the_model_and_the_target_as_they_are() -> None:
    X = rows(5)
    y, classes, positive = in_words(X["y"], "object", first=True)
    model = Says("one", classes, positive)
    seen = evaluate_model(model, X, y, metrics=[missed, "recall"], positive=positive)
    assert seen.metrics["missed"] == missed(model, X, y)
    assert evaluate_model(model, X, y, metrics=[missed], positive="unknown, and not asked for").metrics
    report = judge_model(
        model, model, X, y, gates=[Gate(missed, may_lose=0.0), Gate("f1", may_lose=0.0)], positive=positive
    )
    assert report.passed


def test_predictions_are_made_once_for_all_metrics() -> None:
    asked: Counter[str] = Counter()

    class Counting(Says):
        def predict(self, X: pd.DataFrame) -> np.ndarray:
            asked["predict"] += 1
            return super().predict(X)

        def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
            asked["predict_proba"] += 1
            return super().predict_proba(X)

    X = rows(6)
    y, classes, positive = in_words(X["y"], "str", first=True)
    metrics = ["f1", "accuracy", "roc_auc", "neg_brier_score", "average_precision"]
    evaluate_model(Counting("one", classes, positive), X, y, metrics=metrics, positive=positive)
    assert asked == {"predict": 1, "predict_proba": 1}


def test_a_view_is_copied_and_has_all_else_of_its_model() -> None:
    view = copy.copy(BinaryView(Says("one", NAMES, "churned"), "churned", name="x"))
    assert view.get_params() == {"column": "one", "classes": NAMES, "positive": "churned"}
    assert not hasattr(view, "decision_function")
    X = rows(7)
    assert (view.predict_log_proba(X)[:, 1] == np.log(X["one"])).all()


def test_importances_are_those_of_0_and_1() -> None:
    X = rows(8, size=400)
    for first in (True, False):
        y, classes, positive = in_words(X["y"], "category", first=first)
        coded = measure_importances(Says("one"), X[["one", "two"]], X["y"], metric="average_precision", seed=0)
        model = Says("one", classes, positive)
        seen = measure_importances(model, X[["one", "two"]], y, metric="average_precision", seed=0, positive=positive)
        assert [one.drop for one in seen.columns] == pytest.approx([one.drop for one in coded.columns], abs=1e-12)
        assert seen.columns[0].drop > 0


def test_a_search_scores_the_positive_class() -> None:
    X = rows(9)
    y = in_words(X["y"], "object", first=False)[0]
    places = np.arange(ROWS)
    folds = [(places[::2], places[1::2]), (places[1::2], places[::2])]
    features, stop = X[["one", "two"]], threading.Event()
    coded = Question(LogisticRegression(), features, X["y"], folds, "f1")
    seen = Question(LogisticRegression(), features, y, folds, "f1", "stayed")
    assert seen.score({"C": 0.5}, stop) == pytest.approx(coded.score({"C": 0.5}, stop), abs=1e-12)


def test_a_search_is_refused_before_its_first_trial() -> None:
    from prefect_mlops.core.specs.policies import Tune

    X = rows(9)
    y = in_words(X["y"], "object", first=False)[0]
    tune = Tune(space={"C": [0.1, 1.0]}, metric="f1")
    with pytest.raises(ConfigError, match="metric 'f1' scores one of two classes: say which is the positive one"):
        tune_model.fn(LogisticRegression(), X[["one"]], y, tune=tune, experiment="x")
    with pytest.raises(ConfigError, match="positive='yes' is none of the classes of the target: 'churned', 'stayed'"):
        tune_model.fn(LogisticRegression(), X[["one"]], y, tune=tune, experiment="x", positive="yes")
