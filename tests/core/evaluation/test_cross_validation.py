"""Two recipes compared on the same folds: what is trained on what, and how often chance decides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.evaluation import cross_validation
from prefect_mlops.core.evaluation.cross_validation import Folds, judge_recipes, mean_over_folds
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.training.fit import fit_estimator
from prefect_mlops.core.training.split import split_table
from prefect_mlops.core.values import Gate

R2 = Gate("r2", at_least=0.1, may_lose=0.01, must_gain=0.0)


@pytest.fixture(autouse=True)
def cut_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two times ten folds show the same as ten times, in a fifth of the time."""
    monkeypatch.setattr(cross_validation, "REPEATS", 2)


def table(rows: int = 80, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    chance = np.random.default_rng(seed)
    X = pd.DataFrame(chance.normal(size=(rows, 3)), columns=["a", "b", "c"])
    return X, (X["a"] + 0.3 * X["b"] + chance.normal(0, 0.7, rows)).rename("target")


def fitted(columns: list[str], X: pd.DataFrame, y: pd.Series) -> LinearRegression:
    return fit_estimator(LinearRegression(), X[columns], y)


def by_id(report: Report) -> dict[str, Check]:
    return {check.id: check for check in report.checks}


# The statistic.


def folds(count: int, *, rows: int = 100, test: int = 10, in_time: bool = False) -> Folds:
    return Folds([(np.arange(rows - test), np.arange(test))] * count, rows, rows, in_time)


def test_the_corrected_resampled_t_of_nadeau_and_bengio() -> None:
    scores = np.random.default_rng(0).normal(0.02, 0.05, 100)
    found = mean_over_folds(scores, folds(100))
    error = np.sqrt((1 / 100 + 10 / 90) * scores.var(ddof=1))
    assert found.value == pytest.approx(scores.mean())
    assert found.error == pytest.approx(error)
    assert found.lower(0.95) == pytest.approx(scores.mean() - stats.t.ppf(0.95, 99) * error)
    assert (found.rows, found.units, found.pieces, found.method) == (100, 100, "folds", "corrected resampled t")
    few = mean_over_folds(scores, Folds(folds(100).cuts, 100, 15))
    assert few.lower(0.95) == pytest.approx(scores.mean() - stats.t.ppf(0.95, 14) * error), "15 groups, cut often"


def test_folds_in_time_count_the_correlation_of_neighbours() -> None:
    apart = np.array([0.1, 0.2, 0.3, 0.2, 0.1, 0.0, -0.1, -0.2, -0.1, 0.0])
    found = mean_over_folds(apart, folds(10, in_time=True))
    centred = apart - apart.mean()
    together = (centred[1:] * centred[:-1]).sum() / 9
    assert together > 0
    assert found.error == pytest.approx(np.sqrt((apart.var(ddof=1) + 2 * together) / 10))
    alternating = mean_over_folds(np.array([0.1, -0.1] * 5), folds(10, in_time=True))
    assert alternating.error == pytest.approx(np.sqrt(np.var([0.1, -0.1] * 5, ddof=1) / 10)), "never less than that"


def test_scores_that_are_undefined_are_counted_and_too_many_are_a_problem() -> None:
    scores = np.array([0.5, 0.6, np.nan, 0.7, 0.5, 0.6, 0.4, np.nan, 0.5, 0.6])
    found = mean_over_folds(scores, folds(10), why="one class")
    assert (found.units, found.value) == (8, pytest.approx(np.nanmean(scores)))
    assert "undefined on 2 of 10 folds" in found.method
    scores[:6] = np.nan
    assert mean_over_folds(scores, folds(10), why="one class").problem == (
        "the metric is undefined on 7 of 10 folds: one class"
    )


def test_scores_are_compared_on_the_folds_where_both_are_defined() -> None:
    ours = cross_validation._Scores({"r2": np.array([0.9, 0.1] + [0.9, 0.8] * 4)}, {})
    theirs = cross_validation._Scores({"r2": np.array([0.8, np.nan] + [0.8, 0.6] * 4)}, {"r2": "one class"})
    (check,) = cross_validation._conditions(Gate("r2", may_lose=0.0), ours, theirs, folds(10))
    assert check.observed.startswith("0.8556, champion 0.7111, difference +0.1444 (95 % from")
    assert "undefined on 1 of 10 folds" in check.observed


def test_differences_that_are_all_equal_are_none_or_no_evidence() -> None:
    assert mean_over_folds(np.zeros(10), folds(10), paired=True).none
    assert "all folds agree" in mean_over_folds(np.full(10, 0.1), folds(10), paired=True).problem
    perfect = mean_over_folds(np.ones(10), folds(10))
    assert (perfect.value, perfect.error, perfect.problem) == (1.0, 0.0, "")


def differences(rows: int, chance: np.random.Generator, *, better: float = 1.0) -> tuple[np.ndarray, Folds]:
    """Differences of two least squares with two of four columns each, on ten times ten folds."""
    X = np.column_stack([np.ones(rows), chance.normal(size=(rows, 4))])
    y = X @ np.array([0.0, 0.5 * better, 0.5 * better, 0.5, 0.5]) + chance.normal(size=rows)
    found, cuts = [], []
    for _ in range(10):
        parts = np.array_split(chance.permutation(rows), 10)
        for part in parts:
            train = np.setdiff1d(np.arange(rows), part)
            errors = []
            for columns in ([0, 1, 2], [0, 3, 4]):
                known = X[np.ix_(train, columns)]
                weights = np.linalg.solve(known.T @ known, known.T @ y[train])
                errors.append(np.sqrt(np.mean((y[part] - X[np.ix_(part, columns)] @ weights) ** 2)))
            found.append(errors[1] - errors[0])
            cuts.append((train, part))
    return np.array(found), Folds(cuts, rows, rows)


def test_equal_recipes_pass_for_better_as_often_as_stated_and_better_ones_mostly() -> None:
    """Columns 1 and 2 tell as much as 3 and 4. Without the correction every third would pass."""
    chance = np.random.default_rng(0)
    drawn = [differences(60, chance) for _ in range(150)]
    promoted = np.mean([mean_over_folds(apart, cut, paired=True).lower(0.95) > 0 for apart, cut in drawn])
    naive = [apart.mean() > stats.t.ppf(0.95, 99) * apart.std(ddof=1) / 10 for apart, _ in drawn]
    assert promoted <= 0.09, "5 % are stated; of 150 trials at 5 %, 99 % have at most 14"
    assert np.mean(naive) > 0.2
    better = [differences(60, chance, better=2.0) for _ in range(30)]
    assert np.mean([mean_over_folds(apart, cut, paired=True).lower(0.95) > 0 for apart, cut in better]) > 0.7


# The verdict.


def test_a_better_recipe_passes_a_worse_one_does_not_and_the_same_one_is_no_different() -> None:
    X, y = table()
    good, bad = fitted(["a", "b"], X, y), fitted(["c"], X, y)
    better = judge_recipes(good, bad, X, y, gates=[R2])
    assert better.passed
    assert [check.id for check in better.checks] == [
        "unseen-rows",
        "minimum-score",
        "non-inferiority",
        "minimum-improvement",
    ]
    gain = by_id(better)["minimum-improvement"]
    assert "80 rows in 20 folds, corrected resampled t" in gain.observed
    assert gain.value > 0.3
    assert by_id(better)["unseen-rows"].observed == (
        "80 rows in 20 folds: both recipes were trained anew for each, without the rows that judge"
    )
    worse = by_id(judge_recipes(bad, good, X, y, gates=[R2]))
    assert not any(worse[name].passed for name in ("minimum-score", "non-inferiority", "minimum-improvement"))
    same = by_id(judge_recipes(good, good, X, y, gates=[R2]))
    assert same["non-inferiority"].passed
    assert not same["minimum-improvement"].passed
    assert "none (80 rows in 20 folds)" in same["non-inferiority"].observed
    first = judge_recipes(good, None, X, y, gates=[R2])
    assert [check.id for check in first.checks] == ["unseen-rows", "minimum-score"]
    assert "the recipe was trained anew" in first.checks[0].observed


def test_what_a_model_has_learned_before_does_not_count() -> None:
    """The champion was trained on all rows, in a comparison of fitted models a leak."""
    X, y = table()
    report = judge_recipes(fitted(["a", "b"], X[:60], y[:60]), fitted(["a", "b"], X, y), X, y, gates=[R2])
    assert by_id(report)["non-inferiority"].passed
    assert "difference +0.0000" in by_id(report)["non-inferiority"].observed


def test_the_same_folds_again_give_the_same_verdict_and_another_seed_others() -> None:
    X, y = table()
    models = fitted(["a", "b"], X, y), fitted(["a"], X, y)
    once, again = (judge_recipes(*models, X, y, gates=[R2], seed=1) for _ in range(2))
    assert once == again
    assert once != judge_recipes(*models, X, y, gates=[R2], seed=2)


class Noted(RegressorMixin, BaseEstimator):
    """Notes which rows it is trained and asked on."""

    trained: tuple[int, ...] = ()
    asked: list[tuple[str, set[int], set[int]]] = []  # noqa: RUF012 - filled by all copies

    def __init__(self, name: str = "") -> None:
        self.name = name

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Noted:
        assert X.index.equals(y.index)
        self.rows_ = set(X.index)
        self.mean_ = float(y.mean())
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        Noted.asked.append((self.name, self.rows_, set(X.index)))
        return np.full(len(X), self.mean_)


@pytest.fixture
def asked() -> list[tuple[str, set[int], set[int]]]:
    Noted.asked = []
    return Noted.asked


def test_both_recipes_learn_from_the_same_rows_and_are_asked_on_the_others(asked: list) -> None:
    X, y = table(60)
    X.index = y.index = X.index + 1000
    ours, theirs = (fit_estimator(Noted(name), X[["a"]], y) for name in ("ours", "theirs"))
    judge_recipes(ours, theirs, X, y, gates=[Gate("neg_root_mean_squared_error", may_lose=0.1)])
    sides = {name: [(train, test) for who, train, test in asked if who == name] for name in ("ours", "theirs")}
    assert sides["ours"] == sides["theirs"]
    assert len(sides["ours"]) == 20
    assert all(train | test == set(X.index) and not train & test for train, test in sides["ours"])
    assert ours.rows_ == set(X.index), "the models themselves are left alone"


def test_a_champion_of_the_same_recipe_is_not_trained_twice(asked: list) -> None:
    X, y = table(60)
    model = fit_estimator(Noted("ours"), X[["a"]], y)
    judge_recipes(model, fit_estimator(Noted("ours"), X[["a"]], y), X, y, gates=[Gate("r2", may_lose=0.1)])
    assert len(asked) == 20
    judge_recipes(model, fit_estimator(Noted("ours"), X[["b"]], y), X, y, gates=[Gate("r2", may_lose=0.1)])
    assert len(asked) == 60


@given(st.integers(20, 60), st.integers(1, 4), st.integers(0, 5), st.booleans())
@settings(max_examples=25, deadline=None)
def test_rows_of_one_group_or_key_stay_in_one_fold(rows: int, size: int, seed: int, by_key: bool) -> None:
    """Also where the key says so by the lineage of the challenger, which the split has left there."""
    Noted.asked = asked = []
    X, y = table(rows, seed)
    X["who"] = np.random.default_rng(seed).permutation(rows) // size
    if by_key:
        try:
            split = split_table(X.assign(target=y), "target", key="who", seed=seed)
        except DataCheckError:  # no key of so few is on the test side
            assume(False)
        model = fit_estimator(Noted(), split.X_train, split.y_train)
    else:
        model = fit_estimator(Noted(), X[["a"]], y)
    gates = [Gate("neg_root_mean_squared_error", at_least=-9)]
    report = judge_recipes(model, None, X, y, gates=gates, group_by=None if by_key else "who", seed=seed)
    if X["who"].nunique() < 15:
        assert [(check.id, check.passed) for check in report.checks] == [("enough-rows", False)]
        return
    assert asked
    for _, train, test in asked:
        assert not set(X["who"].loc[list(train)]) & set(X["who"].loc[list(test)])
        assert X["who"].loc[list(test)].nunique() >= 2, "one group is no fold"


def test_with_a_time_each_fold_is_later_than_what_was_learned_from(asked: list) -> None:
    X, y = table(64)
    X["when"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.random.default_rng(0).permutation(64), unit="D")
    model = fit_estimator(Noted(), X[["a"]], y)
    report = judge_recipes(model, None, X, y, gates=[Gate("neg_root_mean_squared_error", at_least=-9)], order_by="when")
    assert len(asked) == 10
    for _, train, test in asked:
        assert X["when"].loc[list(train)].max() < X["when"].loc[list(test)].min()
        assert len(train) >= 64 / 3, "a recipe trained on a few of the rows says little of the whole"
    assert by_id(report)["unseen-rows"].observed.startswith("40 rows in 10 folds in time: the recipe was trained anew")


def test_groups_of_a_regression_are_cut_once_and_not_counted_twice() -> None:
    X, y = table(80)
    X["who"] = np.arange(80) // 4
    report = judge_recipes(fitted(["a"], X, y), fitted(["c"], X, y), X, y, gates=[R2], group_by="who")
    assert "in 10 folds" in report.checks[0].observed


# Rows that are too few, and what cannot be computed.


def classes(rows: int, positive: int) -> tuple[pd.DataFrame, pd.Series]:
    X, _ = table(rows)
    return X, pd.Series(["yes"] * positive + ["no"] * (rows - positive), name="target")


def test_too_few_rows_or_rows_of_a_class_fail_in_words() -> None:
    X, y = table(14)
    (check,) = judge_recipes(fitted(["a"], X, y), None, X, y, gates=[R2]).checks
    assert (check.id, check.passed, check.observed) == ("enough-rows", False, "14 rows")
    assert check.expected.startswith("at least 15: wait for more")
    X, y = classes(60, 4)
    (check,) = judge_recipes(fit_estimator(GaussianNB(), X, y), None, X, y, gates=[Gate("roc_auc", at_least=0)]).checks
    assert check.observed == "56 rows of 'no', 4 rows of 'yes'"
    assert "at least 5 rows of each of two classes" in check.expected
    X, y = table(29)
    X["when"] = np.arange(29)
    (check,) = judge_recipes(fitted(["a"], X, y), None, X, y, gates=[R2], order_by="when").checks
    assert check.observed == "29 values of when"


def test_five_rows_of_a_class_make_five_folds_with_one_each() -> None:
    X, y = classes(60, 5)
    model = fit_estimator(GaussianNB(), X, y)
    report = judge_recipes(model, None, X, y, gates=[Gate("roc_auc", at_least=0.0)])
    assert "in 10 folds" in report.checks[0].observed
    assert report.passed


def test_a_metric_that_is_undefined_on_most_folds_fails_in_words() -> None:
    """In time, the last folds have one class only."""
    X, _ = table(96)
    y = pd.Series(["yes", "no"] * 24 + ["no"] * 48, name="target")
    X["when"] = np.arange(96)
    model = fit_estimator(GaussianNB(), X[["a", "b"]], y)
    report = judge_recipes(model, None, X, y, gates=[Gate("roc_auc", at_least=0.0)], order_by="when")
    check = by_id(report)["minimum-score"]
    assert not check.passed
    assert "the metric is undefined on 8 of 10 folds" in check.observed
    assert "the target has one value only, 'no'" in check.observed


def test_a_metric_that_fits_no_fold_and_slices_are_refused() -> None:
    X, y = table(40)
    model = fitted(["a"], X, y)
    with pytest.raises(ConfigError, match="metric 'roc_auc' cannot be computed for LinearRegression"):
        judge_recipes(model, None, X, y, gates=[Gate("roc_auc", at_least=0.5)])
    with pytest.raises(ConfigError, match="gate on 'r2': slices are judged on a holdout"):
        judge_recipes(model, None, X, y, gates=[Gate("r2", at_least=0.5, slices=("a",))])
    with pytest.raises(ConfigError, match="no gate was given"):
        judge_recipes(model, None, X, y, gates=[])
    with pytest.raises(ConfigError, match="40 rows but 39 values of the target"):
        judge_recipes(model, None, X, y[:39], gates=[R2])
    with pytest.raises(ConfigError, match="the champion LinearRegression needs column 'c'"):
        judge_recipes(model, fitted(["c"], X, y), X[["a"]], y, gates=[R2])


def test_a_recipe_that_cannot_learn_from_these_rows_is_named_by_its_role() -> None:
    X, y = table(40)
    ours, theirs = fitted(["a"], X, y), fitted(["b"], X, y)
    with pytest.raises(ConfigError, match="the champion's recipe cannot be trained on a part of the rows: training"):
        judge_recipes(ours, theirs, X.assign(b=np.nan), y, gates=[R2])


def own_score(estimator, X: pd.DataFrame, y: pd.Series) -> float:
    return -float(np.abs(estimator.predict(X) - y).mean())


def test_classes_that_are_text_and_custom_metrics() -> None:
    X, y = table()
    late = pd.Series(np.where(y > 0, "yes", "no"), name="late")
    ours, theirs = (fit_estimator(LogisticRegression(), X[columns], late) for columns in (["a", "b"], ["c"]))
    gates = [Gate("f1", may_lose=0.0), Gate("average_precision", must_gain=0.0)]
    assert judge_recipes(ours, theirs, X, late, gates=gates, positive="yes").passed
    assert judge_recipes(fitted(["a"], X, y), fitted(["c"], X, y), X, y, gates=[Gate(own_score, must_gain=0.0)]).passed


def test_many_rows_are_cut_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_validation, "REPEATS", 10)
    monkeypatch.setattr(cross_validation, "MOST_ROWS_FITTED", 240)
    X, y = table(80)
    assert "in 30 folds" in judge_recipes(fitted(["a"], X, y), None, X, y, gates=[R2]).checks[0].observed
