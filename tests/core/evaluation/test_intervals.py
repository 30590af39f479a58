from __future__ import annotations

import itertools
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression, Ridge

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.evaluation.estimates import DRAWS, Rows, ScoreEstimate, measure, measure_both
from prefect_mlops.core.evaluation.influence_functions import influence
from prefect_mlops.core.evaluation.intervals import MIN_UNITS, _newcombe, alone, difference, gap, shown
from prefect_mlops.core.evaluation.predictions import CachedPredictions
from prefect_mlops.core.evaluation.resampling_units import MAX_BLOCKS, MIN_BLOCKS, ResamplingUnits, resampling_units
from prefect_mlops.core.evaluation.scoring import score_model

ROWS = 240


class Says(ClassifierMixin, BaseEstimator):
    """Answers with the probabilities in a column."""

    classes_ = np.array([0, 1])

    def __init__(self, column: str) -> None:
        self.column = column

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        share = X[self.column].to_numpy()
        return np.column_stack([1 - share, share])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return (X[self.column].to_numpy() > 0.5).astype(int)


class Tells(RegressorMixin, BaseEstimator):
    """Answers with the numbers in a column."""

    def __init__(self, column: str) -> None:
        self.column = column

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return X[self.column].to_numpy()


def table(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    logit = chance.normal(size=rows) * 1.5
    one, two = (1 / (1 + np.exp(-(logit + chance.normal(size=rows)))) for _ in range(2))
    return pd.DataFrame(
        {
            "one": one.round(2),  # with ties
            "two": two.round(2),
            "late": (chance.random(rows) < 1 / (1 + np.exp(-logit))).astype(int),
            "delay": np.abs(logit + 6),
            "group": np.arange(rows) // 4,
        }
    )


def independent(y: pd.Series) -> Rows:
    return Rows(y.reset_index(drop=True), ResamplingUnits("rows", np.arange(len(y))))


def compared(
    metric: object, rows: pd.DataFrame, one: str = "one", two: str = "two", units: ResamplingUnits | None = None
):
    kind, target = (Tells, "delay") if "error" in str(metric) or metric == "r2" else (Says, "late")
    judged = Rows(rows[target], units) if units else independent(rows[target])
    return difference(*measure_both(metric, *(CachedPredictions(kind(name), rows) for name in (one, two)), judged))


X = pd.DataFrame(np.random.default_rng(1).normal(size=(ROWS, 3)), columns=list("abc"))
NOISE = np.random.default_rng(2).normal(size=ROWS)
BINARY = pd.Series((X["a"] + NOISE > 0.3).astype(int))
MANY = pd.Series(np.digitize(X["a"] + NOISE, [-0.5, 0.5])).map({0: "early", 1: "in time", 2: "late"})
NUMBER = pd.Series(np.abs(2 * X["a"] + NOISE + 9))
FITTED = {
    "binary": (LogisticRegression().fit(X.round(1), BINARY), BINARY),
    "many": (LogisticRegression().fit(X, MANY), MANY),
    "number": (Ridge().fit(X, NUMBER), NUMBER),
}
LABELS = ["balanced_accuracy", "matthews_corrcoef", "accuracy"]
LABELS += [
    f"{name}_{how}" for name in ("f1", "precision", "recall", "jaccard") for how in ("macro", "micro", "weighted")
]
OF = {
    "binary": [*LABELS, "f1", "precision", "recall", "jaccard", "roc_auc", "average_precision", "neg_log_loss", "neg_brier_score"],
    "many": [*LABELS, "roc_auc_ovr", "neg_log_loss", "neg_brier_score"],
    "number": [
        *("r2", "explained_variance", "neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error"),
        *("neg_mean_squared_log_error", "neg_root_mean_squared_log_error", "neg_mean_absolute_percentage_error"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "metric"), [(kind, metric) for kind, names in OF.items() for metric in names])
def test_a_rows_influence_is_what_scikit_learns_score_does_when_the_row_counts_more(kind: str, metric: str) -> None:
    model, y = FITTED[kind]
    answers = CachedPredictions(model, X)
    found = influence(metric, answers, y.to_numpy(), np.arange(ROWS))
    assert found is not None, "it would be scored on resamples, which takes long"
    _, (score, moved) = found
    assert score == pytest.approx(score_model(model, X, y, metrics=[metric])[metric], abs=1e-12)
    assert moved.sum() == pytest.approx(0, abs=1e-9)
    copies = 400  # every row so often, and one row once more: its weight is up by 1/400
    for row in (3, int(np.argmax(np.abs(moved)))):
        many = np.append(np.tile(np.arange(ROWS), copies), row)
        heavier = score_model(answers, pd.DataFrame(index=many), y.iloc[many], metrics=[metric])[metric]
        assert (heavier - score) * copies == pytest.approx(moved[row], rel=0.03, abs=2e-6)


def delong(y: np.ndarray, one: np.ndarray, two: np.ndarray) -> float:
    """The standard error of DeLong, DeLong and Clarke-Pearson 1988, by its definition: over all pairs of rows."""
    parts = []
    for scores in (one, two):
        late, early = scores[y == 1][:, None], scores[y == 0][None, :]
        psi = (late > early) + 0.5 * (late == early)
        parts.append((psi.mean(axis=1), psi.mean(axis=0)))
    (late_one, early_one), (late_two, early_two) = parts
    late, early = np.cov(late_one, late_two), np.cov(early_one, early_two)
    both = late / len(late_one) + early / len(early_one)
    return float(np.sqrt(both[0, 0] + both[1, 1] - 2 * both[0, 1]))


@pytest.mark.parametrize("rows", [40, ROWS])
def test_the_area_under_the_curve_is_compared_as_delong_does(rows: int) -> None:
    data = table(rows)
    found = compared("roc_auc", data)
    assert found.method == "DeLong"
    assert found.error == pytest.approx(delong(data["late"].to_numpy(), data["one"].to_numpy(), data["two"].to_numpy()))


def test_a_mean_is_compared_by_the_paired_t_interval() -> None:
    data = table()
    losses = [np.abs(data["delay"] - data[name]) for name in ("one", "two")]
    by_row = losses[1] - losses[0]
    found = compared("neg_mean_absolute_error", data)
    assert found.value == pytest.approx(by_row.mean())
    assert found.error == pytest.approx(by_row.sem())


def test_accuracy_is_compared_as_newcombe_does() -> None:
    """The table of 50 pairs in his paper, where the plain interval leaves the range."""
    low, high = _newcombe((36, 12, 2, 0), float(ndtri(0.975)))
    assert (round(low, 4), round(high, 4)) == (0.0569, 0.3404)
    y = pd.Series([1] * 50)
    data = pd.DataFrame({"one": [1.0] * 48 + [0.0] * 2, "two": [1.0] * 36 + [0.0] * 12 + [1.0] * 2})
    found = difference(
        *measure_both("accuracy", *(CachedPredictions(Says(name), data) for name in ("one", "two")), independent(y))
    )
    assert (found.method, found.pairs) == ("Newcombe", (36, 12, 2, 0))
    assert (found.lower(0.975), found.upper(0.975)) == (low, high)


def test_three_rows_that_differ_are_no_proof() -> None:
    """Every third challenger of equal skill wins each of so few rows; the t interval alone would take it for better."""
    data = pd.DataFrame({"one": [1.0] * 500, "two": [0.0] * 3 + [1.0] * 497})
    y = pd.Series([1] * 499 + [0])
    answers = [CachedPredictions(Says(name), data) for name in ("one", "two")]
    for metric in ("accuracy", "f1", "neg_brier_score"):
        found = difference(*measure_both(metric, *answers, independent(y)))
        assert found.value > 0
        assert found.lower(0.975) < 0, metric


@pytest.mark.parametrize("metric", ["roc_auc", "neg_log_loss", "f1", "accuracy", "r2"])
def test_rows_told_twice_count_once_when_grouped(metric: str) -> None:
    once = table()
    twice = pd.concat([once, once], ignore_index=True)
    of = np.tile(np.arange(ROWS), 2)
    grouped, single = compared(metric, twice, units=ResamplingUnits("groups", of)), compared(metric, once)
    assert grouped.value == pytest.approx(single.value)
    assert grouped.units == ROWS
    if metric != "accuracy":  # which has an interval of its own for independent rows
        assert grouped.error == pytest.approx(single.error, rel=0.01)
    assert compared(metric, twice).error < 0.8 * grouped.error


def own_f1(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
    said = estimator.predict(X)
    return 2 * (said * y).sum() / (said.sum() + y.sum())


@pytest.mark.parametrize(
    ("units", "method", "within"),
    [
        (None, f"bootstrap, {DRAWS} draws", 0.25),
        (ResamplingUnits("groups", np.arange(ROWS) // 4), f"bootstrap, {DRAWS} draws", 0.25),
        (ResamplingUnits("blocks", np.arange(ROWS) // 12), "jackknife", 0.03),
    ],
)
def test_a_function_finds_about_the_error_that_is_known(
    units: ResamplingUnits | None, method: str, within: float
) -> None:
    data = table()
    known, found = compared("f1", data, units=units), compared(own_f1, data, units=units)
    assert known.value == pytest.approx(found.value)
    assert found.error == pytest.approx(known.error, rel=within)
    assert found.method == method


def test_what_rests_on_one_block_or_row_alone_cannot_be_judged() -> None:
    """All positive rows are in one block: it would be the only evidence, and agrees with itself."""
    data = table().assign(late=lambda table: (table.index < 12).astype(int))
    blocks = ResamplingUnits("blocks", np.arange(ROWS) // 12)

    def share_found(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
        return float(estimator.predict(X)[y == 1].mean()) if (y == 1).any() else float("nan")

    for metric in (share_found, "recall"):
        found = compared(metric, data, units=blocks)
        assert found.value != 0
        assert found.problem == "all units agree, so chance cannot be estimated"
    one_row = table().assign(late=0, one=0.9, two=0.1)
    one_row.loc[5, "late"] = 1
    assert compared("recall", one_row).problem


@pytest.mark.parametrize("many", [0, 1])
def test_a_class_with_a_single_row_leaves_the_area_under_the_curve_without_an_interval(many: int) -> None:
    data = table().assign(late=many)
    data.loc[7, "late"] = 1 - many
    assert compared("roc_auc", data).problem == "a class has a single row, so chance cannot be estimated"
    measured = measure("roc_auc", CachedPredictions(Says("one"), data), independent(data["late"]))
    assert shown(measured) is None
    data.loc[8, "late"] = 1 - many
    assert not compared("roc_auc", data).problem


def test_a_function_may_change_the_features_before_it_asks() -> None:
    """Kept answers are of no use to it, so the model itself answers; a shuffled index would show."""
    data = table().set_index(pd.Index(range(1000, 1000 + ROWS)))

    def under_noise(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
        return float((estimator.predict(X.assign(one=1 - X["one"])) == y).mean())

    measured = measure(under_noise, CachedPredictions(Says("one"), data), independent(data["late"]))
    expected = ((1 - data["one"] > 0.5).astype(int) == data["late"]).mean()
    assert measured.score == expected
    assert np.nanmean(measured.spread) == pytest.approx(expected, abs=0.02)


def test_a_metric_undefined_on_most_resamples_cannot_be_judged() -> None:
    data = table(60)

    def brittle(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
        if X.index.has_duplicates:
            raise ValueError("only once")
        return float(estimator.predict(X).mean())

    found = compared(brittle, data)
    assert found.problem == f"the metric is undefined on {DRAWS} of {DRAWS} resamples"
    assert found.lower(0.95) == -np.inf
    with pytest.raises(ConfigError, match="metric 'brittle' cannot be computed for Says: only once"):
        measure(brittle, CachedPredictions(Says("one"), pd.concat([data, data])), Rows(data["late"], ResamplingUnits("rows", np.arange(60))), np.array([1, 1, 2, 5]))  # fmt: skip


def test_too_few_groups_cannot_be_judged() -> None:
    data = table()
    few = ResamplingUnits("groups", np.arange(ROWS) % (MIN_UNITS - 1))
    assert compared("roc_auc", data, units=few).problem == "4 independent units, at least 5 are needed"
    enough = ResamplingUnits("groups", np.arange(ROWS) % MIN_UNITS)
    assert not compared("roc_auc", data, units=enough).problem


def test_the_same_answers_differ_by_nothing_on_however_few_rows() -> None:
    for metric, rows in itertools.product(["roc_auc", "accuracy", "neg_log_loss", "f1", own_f1, "r2"], [12, ROWS]):
        found = compared(metric, table(rows), "one", "one")
        assert (found.none, found.lower(0.99), found.upper(0.99)) == (True, 0.0, 0.0), metric


def test_models_of_two_kinds_are_still_compared_on_the_same_resamples() -> None:
    """One answers with labels our formula cannot read; then both are scored on resamples."""

    class Odd(Says):
        classes_ = np.array([0, 1, 2])

        def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
            share = super().predict_proba(X)
            return np.column_stack([share, np.zeros(len(X))])

    data = table()
    one, two = measure_both(
        "accuracy", CachedPredictions(Says("one"), data), CachedPredictions(Odd("two"), data), independent(data["late"])
    )
    assert not one.resampled
    assert not two.resampled
    forced = measure("accuracy", CachedPredictions(Says("one"), data), independent(data["late"]), resample=True)
    assert forced.score == one.score
    assert alone(forced).error == pytest.approx(alone(one).error, rel=0.25)


def test_blocks_do_not_cut_a_time_stamp_and_are_about_equal() -> None:
    at = pd.Series(np.repeat(pd.date_range("2024", periods=400, freq="h"), 5)).sample(frac=1, random_state=0)
    units = resampling_units(pd.DataFrame({"at": at}), order_by="at", group_by=None)
    blocks = pd.Series(units.of, index=at.index)
    assert blocks.groupby(at).nunique().max() == 1
    assert blocks.nunique() == MAX_BLOCKS
    assert blocks.value_counts().min() == blocks.value_counts().max() == 40
    assert (blocks.groupby(blocks).apply(lambda part: at[part.index].min()).diff().dropna() > pd.Timedelta(0)).all()
    assert "50 blocks in time were compared." in units.note


def test_blocks_whose_neighbours_go_together_are_less_certain() -> None:
    weeks = np.repeat(np.random.default_rng(0).normal(size=10), 200)  # one lasts for ten blocks
    data = pd.DataFrame({"one": weeks, "delay": np.zeros(2000), "two": np.zeros(2000)})
    of = np.arange(2000) // 20
    in_time, apart = (
        compared("neg_mean_absolute_error", data, units=ResamplingUnits(kind, of)) for kind in ("blocks", "groups")
    )
    assert in_time.error > 1.5 * apart.error


def test_few_units_that_matter_count_as_few() -> None:
    """Three rows that differ among 500, and one group with half of the rows."""
    data = pd.DataFrame({"one": [1.0] * 500, "two": [0.0] * 3 + [1.0] * 497, "late": 1})
    answers = [CachedPredictions(Says(name), data) for name in ("one", "two")]
    few = difference(*measure_both("f1", *answers, independent(data["late"])))
    assert few.freedom < 10
    lopsided = ResamplingUnits("groups", np.where(np.arange(ROWS) % 2, 0, np.arange(ROWS) // 8))
    assert compared("roc_auc", table(), units=lopsided).freedom < 3
    assert compared("roc_auc", table()).freedom > 50


def test_few_rows_make_fewer_blocks_and_say_so() -> None:
    units = resampling_units(pd.DataFrame({"at": range(100)}), order_by="at", group_by=None)
    assert len(np.unique(units.of)) == MIN_BLOCKS
    assert "10 blocks in time were compared, fewer than 50 because" in units.note
    one_stamp = resampling_units(pd.DataFrame({"at": [1] * 100}), order_by="at", group_by=None)
    assert len(np.unique(one_stamp.of)) == 1
    with_gaps = resampling_units(pd.DataFrame({"at": [None, *range(99)]}), order_by="at", group_by=None)
    assert with_gaps.of[0] == with_gaps.of[-1], "rows without time come last"


def test_columns_that_cannot_put_rows_together_are_refused() -> None:
    rows = pd.DataFrame({"at": [1, 2], "mixed": [1, "a"], "lists": [[1], [2]]})
    with pytest.raises(
        ConfigError, match=r"no column of the test rows \(order_by\) is called 'att': did you mean 'at'"
    ):
        resampling_units(rows, order_by="att", group_by=None)
    with pytest.raises(ConfigError, match="column 'mixed' cannot be used"):
        resampling_units(rows, order_by="mixed", group_by=None)
    with pytest.raises(ConfigError, match="column 'lists' cannot be used"):
        resampling_units(rows, order_by=None, group_by="lists")
    with pytest.raises(ConfigError, match="2 columns called 'at'"):
        resampling_units(rows.rename(columns={"mixed": "at"}), order_by="at", group_by=None)


def test_a_gap_counts_what_both_groups_share() -> None:
    """Two groups that feel the same weather: their difference is surer than that of groups on other days."""
    chance = np.random.default_rng(0)
    weather = np.repeat(chance.normal(size=100), 10)
    data = pd.DataFrame({"one": weather + 0.1 * chance.normal(size=1000)})
    days, answers = np.repeat(np.arange(100), 10), CachedPredictions(Tells("one"), data)
    rows = Rows(pd.Series(np.zeros(1000)), ResamplingUnits("groups", days))
    by_turns = [np.arange(0, 1000, 2), np.arange(1, 1000, 2)]
    apart = [np.flatnonzero(days % 2 == 0), np.flatnonzero(days % 2 == 1)]
    paired, other = (
        gap(*(measure("neg_mean_squared_error", answers, rows, half) for half in halves))
        for halves in (by_turns, apart)
    )
    assert (paired.units, other.units) == (100, 100)
    assert paired.error < other.error / 4
    flat = Rows(rows.y, ResamplingUnits("rows", np.arange(1000)))
    one, two = (measure("neg_mean_squared_error", answers, flat, half) for half in apart)
    assert gap(one, two).error == pytest.approx(np.hypot(alone(one).error, alone(two).error))


answers_of_a_model = st.lists(st.integers(0, 100).map(lambda share: share / 100), min_size=40, max_size=40)


@settings(max_examples=40, deadline=None)
@given(one=answers_of_a_model, two=answers_of_a_model, metric=st.sampled_from(["roc_auc", "accuracy", "neg_brier_score", "f1_macro", "average_precision", "neg_root_mean_squared_error"]), grouped=st.booleans())  # fmt: skip
def test_swapping_the_models_flips_the_interval(one: list[float], two: list[float], metric: str, grouped: bool) -> None:
    data = pd.DataFrame({"one": one, "two": two, "late": [0, 1] * 20, "delay": np.linspace(0, 1, 40)})
    units = ResamplingUnits("groups", np.arange(40) // 4) if grouped else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there, back = compared(metric, data, units=units), compared(metric, data, "two", "one", units=units)
    assert there.value == pytest.approx(-back.value, abs=1e-12)
    assert there.lower(0.9) == pytest.approx(-back.upper(0.9), abs=1e-9)
    assert there.upper(0.9) == pytest.approx(-back.lower(0.9), abs=1e-9)
    assert there.lower(0.99) <= there.lower(0.9) <= there.value + 1e-12 <= there.upper(0.9) + 2e-12


@settings(max_examples=30, deadline=None)
@given(one=answers_of_a_model, two=answers_of_a_model, shift=st.integers(-50, 50), seed=st.integers(0, 99))
def test_moving_all_numbers_or_shuffling_the_rows_changes_nothing(
    one: list[float], two: list[float], shift: int, seed: int
) -> None:
    data = pd.DataFrame({"one": one, "two": two, "delay": np.linspace(0, 1, 40)})
    moved = data.sample(frac=1, random_state=seed) + shift
    for metric in ("neg_mean_absolute_error", "neg_root_mean_squared_error", "r2"):
        before, after = compared(metric, data), compared(metric, moved)
        assert after.value == pytest.approx(before.value, abs=1e-7)
        assert after.error == pytest.approx(before.error, abs=1e-7)


SCRIPT = """
import pandas as pd, numpy as np
from sklearn.linear_model import LogisticRegression
from prefect_mlops.core.evaluation.predictions import CachedPredictions
from prefect_mlops.core.evaluation.intervals import difference
from prefect_mlops.core.evaluation.estimates import Rows, measure_both
from prefect_mlops.core.evaluation.resampling_units import ResamplingUnits

def share(estimator, X, y):
    return float((estimator.predict(X) == y).mean())

X = pd.DataFrame({"a": np.arange(200) % 17, "b": np.arange(200) % 13})
y = pd.Series((X["a"] + 3 * (np.arange(200) % 7) > 17).astype(int))
models = [LogisticRegression(C=C).fit(X[[c]], y) for C, c in ((1, "a"), (0.01, "b"))]
rows = Rows(y, ResamplingUnits("rows", np.arange(200)), seed=SEED)
print(difference(*measure_both(share, *(CachedPredictions(m, X[list(m.feature_names_in_)]) for m in models), rows)).lower(0.9).hex())
"""


def test_the_seed_gives_the_same_bound_in_another_process() -> None:
    def here(seed: int) -> str:
        said: list[str] = []
        exec(SCRIPT.replace("SEED", str(seed)), {"print": said.append})  # noqa: S102
        return said[0]

    there = subprocess.run([sys.executable, "-c", SCRIPT.replace("SEED", "0")], capture_output=True, text=True)
    assert there.returncode == 0, there.stderr
    assert there.stdout.strip() == here(0)
    assert here(1) != here(0)


@pytest.mark.slow
def test_an_equal_challenger_is_rarely_surely_better() -> None:
    """The full study is benchmarks/gate_calibration.py; here are 300 trials of three metrics."""
    better = dict.fromkeys(["roc_auc", "average_precision", "accuracy"], 0)
    for trial in range(300):
        data = table(seed=trial)
        for metric in better:
            better[metric] += compared(metric, data).lower(0.95) > 0
    assert all(count <= 25 for count in better.values()), better  # 15 are expected; 26 or more in one of 200 runs


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "f1", "neg_brier_score"])
def test_the_interval_beside_a_score_ends_at_the_best_there_is(metric: str) -> None:
    data = table(60)
    data["one"] = np.where(data.index < 3, 1 - data["late"], data["late"]) * 0.98 + 0.01
    low, high = shown(measure(metric, CachedPredictions(Says("one"), data), independent(data["late"])))
    assert 0.7 < high - (1.0 if metric[0] != "n" else 0.0) + 1 <= 1
    assert low < high


def test_an_accuracy_without_a_mistake_is_not_taken_for_certain() -> None:
    data = table(60).assign(one=lambda table: table["late"])
    low, high = shown(measure("accuracy", CachedPredictions(Says("one"), data), independent(data["late"])))
    assert (round(low, 3), high) == (0.94, 1.0), "Wilson's interval of 60 of 60"


def test_rows_of_one_class_have_no_score() -> None:
    data = table().assign(late=1)
    with pytest.raises(DataCheckError, match="roc_auc is not defined: the target has one value only"):
        compared("roc_auc", data)


def test_equal_units_that_differ_alike_leave_one_degree_of_freedom_less_than_there_are_units() -> None:
    found = ScoreEstimate(
        score=0.5,
        spread=np.tile([1.0, -1.0], 10) / 20,
        used=np.arange(20),
        sizes=np.ones(20),
        rows=20,
        resampled=False,
        method="paired t",
    )
    assert alone(found).freedom == 19
