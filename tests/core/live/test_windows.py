from __future__ import annotations

import datetime as dt
import math
import uuid
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.evaluation.intervals import Estimate
from prefect_mlops.core.live.degradation import judge_decay, loss_of
from prefect_mlops.core.live.labels import GroundTruth, LabelColumns, match_labels
from prefect_mlops.core.live.stored_predictions import OF_CLASSES, OF_NUMBERS, OF_PROBABILITIES, RANKED, WORKING
from prefect_mlops.core.live.windows import MAX_WINDOWS, Window, follow, score_windows
from prefect_mlops.core.values import Evaluation

MONDAY = pd.Timestamp("2026-01-05", tz="UTC")
DAY = pd.Timedelta(days=1)
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.timezone.utc)


def life(weeks: int = 6, rows: int = 200, *, worse_from: int = 99, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A binary model: `rows` predictions a week, labels a day later; from a week on it only guesses."""
    chance = np.random.default_rng(seed)
    count = weeks * rows
    days = np.sort(chance.uniform(0, 7 * weeks, count))
    signal = 2 * chance.normal(size=count)
    late = (chance.random(count) < 1 / (1 + np.exp(-signal))).astype("int64")
    said = np.where(days < 7 * worse_from, signal, chance.normal(size=count))
    at = MONDAY + pd.to_timedelta(days, unit="D").astype("timedelta64[us]")
    predictions = pd.DataFrame({"id": np.arange(count), "at": at, "prediction": 1 / (1 + np.exp(-said))})
    return predictions, pd.DataFrame({"id": np.arange(count), "label": late, "at": at + DAY})


def table(rows: list[tuple[Any, ...]], columns: str) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


def day(number: float) -> pd.Timestamp:
    return MONDAY + number * DAY


def windows_of(predictions: pd.DataFrame, labels: pd.DataFrame, **options: Any) -> tuple[Window, ...]:
    return score_windows(
        match_labels(predictions, labels, now=NOW), **{"every": "week", "metrics": ["roc_auc"], **options}
    )


def found(truths: GroundTruth) -> dict[str, str]:
    return {check.name: check.observed for check in truths.findings}


def stored(predictions: Any, labels: Any) -> GroundTruth:
    at = MONDAY + pd.to_timedelta(np.linspace(0, 6.9, len(labels)), unit="D").astype("timedelta64[us]")
    return GroundTruth(pd.DataFrame({"at": at, "prediction": predictions, "label": pd.Series(labels).astype(object)}))


# --- matching predictions with their labels


def test_order_in_the_tables_does_not_matter() -> None:
    predictions, labels = life()
    shuffled = windows_of(predictions.sample(frac=1, random_state=1), labels.sample(frac=1, random_state=2))
    assert shuffled == windows_of(predictions, labels)


def test_a_label_that_comes_twice_counts_once() -> None:
    predictions, labels = life()
    twice = match_labels(predictions, pd.concat([labels, labels]), now=NOW)
    pd.testing.assert_frame_equal(twice.rows, match_labels(predictions, labels, now=NOW).rows)
    assert twice.findings == ()
    assert twice.notes == ("1,200 ids were labelled more than once with the same value: counted once.",)


def test_of_labels_that_contradict_each_other_the_one_known_last_counts_and_is_reported() -> None:
    predictions = table([(1, day(0), 0.2), (2, day(0), 0.3)], "id at prediction")
    labels = table(
        [(1, "yes", day(9)), (1, "no", day(3)), (2, "no", None), (2, "yes", day(4)), (2, "no", None)], "id label at"
    )
    truths = match_labels(predictions, labels, now=NOW)
    assert truths.rows["label"].tolist() == ["yes", "yes"]
    assert found(truths) == {
        "one truth for each id": "2 ids have labels that contradict each other; the one known last counts"
    }


def test_without_times_the_last_of_contradicting_labels_counts() -> None:
    predictions = table([(1, day(0), 0.2)], "id at prediction")
    truths = match_labels(predictions, table([(1, 0), (1, 1), (1, 0)], "id label"), now=NOW)
    assert truths.rows["label"].tolist() == [0]
    assert "one truth for each id" in found(truths)


def test_labels_of_unknown_ids_are_ignored_counted_and_shown() -> None:
    predictions = table([(1, day(0), 0.2)], "id at prediction")
    truths = match_labels(predictions, table([(1, 0), (8, 1), (9, 1)], "id label"), now=NOW)
    assert truths.rows["label"].tolist() == [0]
    assert found(truths) == {
        "labels belong to predictions": "2 of 3 labels belong to ids that were never scored, ignored"
    }
    assert truths.findings[0].examples == ("8", "9")


def test_of_an_id_scored_twice_the_last_answer_before_its_truth_counts() -> None:
    rows = [(1, day(0), 0.1), (1, day(2), 0.2), (1, day(5), 0.3), (2, day(1), 0.4), (2, day(1), 0.4)]
    truths = match_labels(table(rows, "id at prediction"), table([(1, 1, day(3))], "id label at"), now=NOW)
    assert truths.rows["prediction"].tolist() == [0.4, 0.2]
    assert set(found(truths)) == {"predictions come before their truth", "one prediction for each id"}
    assert truths.notes == ("1 predictions came twice, the same: counted once.",)


def test_a_correction_of_the_truth_does_not_let_in_what_was_predicted_before_it() -> None:
    rows = [(1, day(0), 0.1), (1, day(4), 0.9)]
    labels = table([(1, 1, day(3)), (1, 0, day(6))], "id label at")
    truths = match_labels(table(rows, "id at prediction"), labels, now=NOW)
    assert truths.rows[["prediction", "label"]].to_numpy().tolist() == [[0.1, 0]]


def test_a_prediction_made_after_its_truth_is_left_out_as_a_leak() -> None:
    predictions = table([(1, day(5), 0.9), (2, day(1), 0.2)], "id at prediction")
    truths = match_labels(predictions, table([(1, 1, day(4)), (2, 0, day(1))], "id label at"), now=NOW)
    assert truths.rows["prediction"].tolist() == [0.2]  # known in the same moment is no leak
    assert found(truths)["predictions come before their truth"].startswith("1 of 2 predictions were made after")


@pytest.mark.parametrize(
    ("ids", "label_ids"),
    [
        ([1, 2], ["1", "2"]),
        (["1", "2"], [1.0, 2.0]),
        ([1.0, 2.0], [1, 2]),
        (pd.array([1, 2], dtype="Int64"), pd.Categorical(["1", "2"])),
        ([uuid.UUID(int=1), uuid.UUID(int=2)], [str(uuid.UUID(int=1)), str(uuid.UUID(int=2))]),
    ],
)
def test_ids_of_different_types_meet(ids: Any, label_ids: Any) -> None:
    predictions = pd.DataFrame({"id": ids, "at": [day(0), day(1)], "prediction": [0.1, 0.9]})
    truths = match_labels(predictions, pd.DataFrame({"id": label_ids, "label": [0, 1]}), now=NOW)
    assert truths.rows["label"].tolist() == [0, 1]
    assert truths.findings == ()


def test_an_id_with_leading_zeros_is_another_id() -> None:
    truths = match_labels(table([(7, day(0), 0.1)], "id at prediction"), table([("007", 1)], "id label"), now=NOW)
    assert truths.rows["label"].isna().all()
    assert "labels belong to predictions" in found(truths)


def test_rows_without_id_time_or_answer_are_left_out_and_counted() -> None:
    rows = [
        (None, day(0), 0.1),
        (2, None, 0.1),
        (3, day(0), None),
        (4, day(0), np.inf),
        (5, day(900), 0.1),
        (6, day(0), 0.6),
    ]
    labels = table([(6, 1), (None, 1), (6, None)], "id label")
    truths = match_labels(table(rows, "id at prediction"), labels, now=NOW)
    assert truths.rows["prediction"].tolist() == [0.6]
    assert truths.rows["label"].tolist() == [1]
    assert found(truths) == {
        "every label has an id": "1 of 3 without an id, left out",
        "every prediction has an id": "1 of 6 without an id, left out",
        "every prediction has a time": "1 of 6 without a readable time, left out",
        "every prediction is there": "2 of 6 missing or infinite, left out",
        "predictions are not of the future": "1 of 6 dated after now, left out",
    }
    assert truths.notes == ("1 of 3 labels are missing values: their rows count as not labelled.",)


def test_times_without_a_zone_are_utc_and_others_are_turned_into_it() -> None:
    rows = [(1, "2026-01-05T23:30:00", 0.1), (2, "2026-01-06T01:30:00+02:00", 0.2), (3, dt.date(2026, 1, 6), 0.3)]
    truths = match_labels(table(rows, "id at prediction"), table([], "id label"), now=NOW)
    assert [str(at) for at in truths.rows["at"]] == ["2026-01-05 23:30:00+00:00"] * 2 + ["2026-01-06 00:00:00+00:00"]
    naive = table([(1, pd.Timestamp("2026-01-05 10:00"), 0.1)], "id at prediction")
    label = table([(1, 1, pd.Timestamp("2026-01-05 10:30", tz="Europe/Berlin"))], "id label at")
    assert "predictions come before their truth" in found(match_labels(naive, label, now=NOW))  # 9:30 UTC


def test_what_came_after_the_moment_asked_about_is_not_there_yet() -> None:
    predictions, labels = life()
    then = match_labels(predictions, labels, now=day(14.5).to_pydatetime())
    assert then.rows["at"].max() <= day(14.5)
    known = then.rows[then.rows["at"] <= day(13.5)]
    assert known["label"].notna().all()
    assert then.rows[then.rows["at"] > day(13.5)]["label"].isna().all()


def test_only_the_version_asked_for_is_read() -> None:
    predictions = table([(1, day(0), 0.1, 3), (2, day(1), 0.2, 4), (3, day(2), 0.3, None)], "id at prediction version")
    labels = table([(1, 0), (2, 1)], "id label")
    for version in (4, "4"):
        truths = match_labels(predictions, labels, version=version, now=NOW)
        assert truths.rows["prediction"].tolist() == [0.2]
        assert truths.findings == ()  # the label of version 3 is known, only not asked for
    assert len(match_labels(predictions, labels, version=9, now=NOW).rows) == 0


@pytest.mark.parametrize(
    ("predictions", "labels", "columns", "message"),
    [
        ({"ident": [1], "at": [day(0)], "prediction": [1]}, {"id": [1], "label": [1]}, {}, "no column of the predictions is called 'id': did you mean 'ident'"),
        ({"id": [1], "at": [day(0)], "prediction": [1]}, {"id": [1], "truth": [1]}, {}, "no column of the labels is called 'label'"),
        ({"id": [1], "at": [day(0)], "prediction": [1]}, {"id": [1], "label": [1]}, {"label_at": "known"}, "called 'known'"),
        ({"id": [1], "at": [17.5], "prediction": [1]}, {"id": [1], "label": [1]}, {}, "has to hold times, it holds numbers such as 17.5"),
        ({"id": [1], "at": ["noon"], "prediction": [1]}, {"id": [1], "label": [1]}, {}, "has to hold times, saw 'noon'"),
        ({"id": [1], "at": [day(0)], "prediction": [1]}, {"id": [1, 1], "label": [[1], [2]]}, {}, "cannot be compared, such as lists"),
    ],
)  # fmt: skip
def test_wrong_columns_are_refused_in_words(predictions: Any, labels: Any, columns: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        match_labels(pd.DataFrame(predictions), pd.DataFrame(labels), names=LabelColumns.of(columns), now=NOW)


def test_a_wrong_name_of_a_column_is_refused_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match="no entry of columns is called 'lable': did you mean 'label'"):
        LabelColumns.of({"lable": "y"})
    with pytest.raises(ConfigError, match="the name of 'id' is a text, got 3"):
        LabelColumns.of({"id": 3})  # type: ignore[dict-item]


# --- windows and their scores


def test_a_window_has_the_score_of_scikit_learn_an_interval_and_the_share_labelled() -> None:
    predictions, labels = life(weeks=3, rows=1000)
    window = windows_of(predictions, labels[labels["id"] % 10 > 0])[1]
    rows = predictions[(predictions["at"] >= day(7)) & (predictions["at"] < day(14)) & (predictions["id"] % 10 > 0)]
    score = sk.roc_auc_score(labels["label"][rows.index], rows["prediction"])
    assert window.scores["roc_auc"] == pytest.approx(score, abs=1e-12)
    low, high = window.intervals["roc_auc"]
    assert score - 0.06 < low < score < high < score + 0.06
    assert window.labelled == len(rows)
    assert window.share_labelled == pytest.approx(0.9, abs=0.01)
    assert (window.start, window.end) == (day(7), day(14))
    assert window.name == "2026-01-12 to 2026-01-18"


def test_a_window_goes_through_json() -> None:
    window = windows_of(*life(weeks=2))[0]
    assert Window.model_validate_json(window.model_dump_json()) == window


BINARY = {
    "roc_auc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "neg_brier_score": lambda y, p: -sk.brier_score_loss(y, p),
    "neg_log_loss": lambda y, p: -sk.log_loss(y, p),
}


@pytest.mark.parametrize("metric", WORKING)
@pytest.mark.parametrize("spelled", [("no", "yes"), (0, 1), (False, True)])
def test_every_metric_named_as_working_gives_the_score_of_scikit_learn(metric: str, spelled: tuple[Any, Any]) -> None:
    chance = np.random.default_rng(3)
    truth, said = chance.uniform(1, 9, 400), chance.uniform(1, 9, 400)
    p, y = said / 10, truth > 5
    if metric in OF_NUMBERS:
        expected = sk.get_scorer(metric)._score_func(truth, said) * sk.get_scorer(metric)._sign
        truths = stored(said, truth)
    elif metric in BINARY:
        expected, truths = BINARY[metric](y, p), stored(p, np.array(spelled, dtype=object)[y.astype(int)])
    else:
        scorer = sk.get_scorer(metric)
        expected = scorer._score_func(y, p > 0.5, **scorer._kwargs)
        truths = stored(p, np.array(spelled, dtype=object)[y.astype(int)])
    (window,) = score_windows(truths, metrics=[metric], every="week", now=NOW)
    assert window.problems == {}
    assert window.scores[metric] == pytest.approx(expected, abs=1e-12)
    assert window.intervals[metric][0] < expected < window.intervals[metric][1]


def test_every_working_metric_belongs_to_one_kind() -> None:
    assert sorted(WORKING) == sorted({*RANKED, *OF_PROBABILITIES, *OF_CLASSES, *OF_NUMBERS})


@pytest.mark.parametrize(
    "metric", ["accuracy", "f1_macro", "balanced_accuracy", "matthews_corrcoef", "recall_weighted"]
)
def test_stored_classes_are_scored_also_those_never_seen(metric: str) -> None:
    chance = np.random.default_rng(0)
    truth = chance.choice(["a", "b", "c"], 600)
    said = np.where(chance.random(600) < 0.8, truth, chance.choice(["a", "b", "c", "never seen"], 600))
    (window,) = score_windows(stored(said, truth), metrics=[metric], every="week", now=NOW)
    scorer = sk.get_scorer(metric)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the class never seen
        expected = scorer._score_func(truth, said, **scorer._kwargs)
    assert window.scores[metric] == pytest.approx(expected, abs=1e-12)


def test_the_positive_class_is_the_last_in_order_or_the_one_named() -> None:
    chance = np.random.default_rng(0)
    y = chance.random(500) < 0.5
    p = np.where(y, 0.7, 0.4) + chance.normal(0, 0.1, 500)
    truths = stored(p, np.where(y, "bad", "good"))
    (last,) = score_windows(truths, metrics=["roc_auc"], every="week", now=NOW)
    (named,) = score_windows(truths, metrics=["roc_auc"], positive="bad", every="week", now=NOW)
    assert named.scores["roc_auc"] == pytest.approx(1 - last.scores["roc_auc"])
    assert named.scores["roc_auc"] > 0.9
    courses = [follow(truths, metrics=["roc_auc"], positive=one, every="week", now=NOW) for one in (None, "bad")]
    said = "Class 'good' counts as the positive one, as the last in order; positive= can name 'bad'."
    assert [said in course.notes for course in courses] == [True, False]
    plain = [follow(stored(p, y * 1), metrics=["roc_auc"], every="week", now=NOW)]
    plain += [follow(truths, metrics=["accuracy"], every="week", now=NOW)]
    assert not any("counts as the positive one" in note for course in plain for note in course.notes)


@pytest.mark.parametrize(
    ("metric", "predictions", "labels", "message"),
    [
        ("roc_auc", [0.1, 0.2, 0.3] * 20, ["a", "b", "c"] * 20, "roc_auc needs two classes, the labels hold 3: 'a', 'b', 'c'"),
        ("f1", ["a", "b", "c"] * 20, ["a", "b", "c"] * 20, "f1_macro"),
        ("roc_auc", ["x", "y"] * 30, [0, 1] * 30, "roc_auc needs numbers, the predictions hold 'x'"),
        ("neg_log_loss", [-3.0, 2.0] * 30, [0, 1] * 30, "needs probabilities from 0 to 1, the predictions go from -3 to 2"),
        ("r2", [1.0, 2.0] * 30, ["x", "y"] * 30, "r2 needs numbers, the labels hold 'x'"),
        ("accuracy", [1, 2] * 30, ["1", "2"] * 30, "accuracy compares classes: a label is '1', a prediction '1'"),
        ("accuracy", np.arange(400) / 7, np.arange(400) / 7, "is for classes, the labels hold 400 values"),
        ("accuracy", [0, 1] * 30, [0, "one"] * 30, "the labels hold values of several kinds"),
        ("roc_auc_ovr", [0, 1] * 30, [0, 1] * 30, "computed from one stored column of predictions: roc_auc"),
        ("neg_max_error", [0, 1] * 30, [0, 1] * 30, "no metric of stored predictions is called 'neg_max_error'"),
    ],
)  # fmt: skip
def test_what_a_metric_cannot_read_is_refused_in_words(
    metric: str, predictions: Any, labels: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        score_windows(stored(predictions, labels), metrics=[metric], every="week", now=NOW)


def test_a_function_is_refused_because_it_needs_the_model() -> None:
    def cost(estimator: Any, X: Any, y: Any) -> float:
        return 0.0

    with pytest.raises(ConfigError, match="metric 'cost' is a function, and would need the model"):
        score_windows(stored([0.1], [1]), metrics=[cost])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="no metric was given"):
        score_windows(stored([0.1], [1]), metrics=[])


def test_a_positive_class_that_no_label_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="positive='maybe' is none of the labels: 'no', 'yes'"):
        score_windows(stored([0.1, 0.9] * 30, ["no", "yes"] * 30), metrics=["roc_auc"], positive="maybe")


def test_a_window_with_one_class_only_is_not_judged() -> None:
    predictions, labels = life(weeks=3)
    labels.loc[(labels["at"] >= day(8)) & (labels["at"] < day(15)), "label"] = 0
    middle = windows_of(predictions, labels, metrics=["roc_auc", "accuracy", "f1"])[1]
    assert set(middle.scores) == {"accuracy"}
    assert "one class only" in middle.problems["roc_auc"] or "rows of one class" in middle.problems["roc_auc"]
    assert "f1" in middle.problems


@pytest.mark.parametrize(("rare", "judged"), [(4, False), (5, True)])
def test_a_window_with_few_rows_of_one_class_is_not_judged(rare: int, judged: bool) -> None:
    said, truth = np.random.default_rng(0).random(400), np.zeros(400, dtype=int)
    truth[: 40 * rare : 40] = 1
    (window,) = score_windows(stored(said, truth), metrics=["roc_auc"], every="week", now=NOW)
    assert ("roc_auc" in window.scores) is judged
    assert window.problems == ({} if judged else {"roc_auc": "4 rows of one class, at least 5 are needed"})


def test_labels_of_one_unknown_class_only_are_too_little_to_judge() -> None:
    (window,) = score_windows(
        stored([0.2, 0.7] * 100, ["no"] * 200), metrics=["roc_auc", "accuracy", "f1"], every="week"
    )
    assert window.scores == {}
    assert window.problems["roc_auc"].startswith("all labels there are, are of one class")


def test_a_window_with_too_small_a_share_of_labels_is_not_judged() -> None:
    predictions, labels = life(weeks=2)
    half = labels[(labels["at"] < day(8)) | (labels["id"] % 2 == 0)]
    first, second = windows_of(predictions, half)
    assert "roc_auc" in first.scores
    assert second.problems == {"roc_auc": "80% labelled are needed"}
    assert "roc_auc" in windows_of(predictions, half, min_labelled=0.4)[1].scores


def test_a_window_with_few_labelled_rows_is_not_judged() -> None:
    (window,) = score_windows(stored([0.2, 0.7] * 24, [0, 1] * 24), metrics=["roc_auc"], every="week", now=NOW)
    assert window.problems == {"roc_auc": "at least 50 labelled rows are needed"}


def test_a_window_that_is_not_over_is_shown_and_decides_nothing() -> None:
    predictions, labels = life(weeks=5, rows=400, worse_from=4)
    truths = match_labels(predictions, labels, now=NOW)
    course = follow(truths, metrics=["roc_auc"], every="week", now=day(34).to_pydatetime())
    assert not course.windows[-1].over
    assert course.windows[-1].scores["roc_auc"] < 0.6
    decided, *_, last = judge_decay(course)
    assert decided.passed
    assert last.observed.endswith("not over yet")


def test_no_labels_at_all_and_empty_tables_are_too_little_to_judge() -> None:
    predictions, labels = life(weeks=2)
    for said, known, reason in [
        (predictions, labels[:0], "none of 400 predictions is labelled"),
        (predictions, pd.DataFrame(), "none of 400 predictions is labelled"),
        (predictions[:0], labels, "no predictions"),
        (pd.DataFrame(), pd.DataFrame(), "no predictions"),
    ]:
        course = follow(match_labels(said, known, now=NOW), metrics=["roc_auc"], now=NOW)
        (decided, *_) = judge_decay(course)
        assert (decided.passed, decided.severity) == (False, "warning")
        assert decided.observed == f"too little to judge: {reason}"


@pytest.mark.parametrize(
    ("every", "starts"),
    [
        ("day", ["2026-01-31", "2026-02-01", "2026-03-01"]),
        ("week", ["2026-01-26", "2026-02-23"]),
        ("W", ["2026-01-26", "2026-02-23"]),
        ("month", ["2026-01-01", "2026-02-01", "2026-03-01"]),
        ("ME", ["2026-01-01", "2026-02-01", "2026-03-01"]),
        ("QE", ["2026-01-01"]),
    ],
)
def test_windows_begin_where_people_expect_it(every: str, starts: list[str]) -> None:
    times = ["2026-01-31T23:59:59", "2026-02-01T00:00:00", "2026-03-01T12:00:00"]
    predictions = pd.DataFrame({"id": [1, 2, 3], "at": times, "prediction": [0.1, 0.2, 0.3]})
    windows = windows_of(predictions, pd.DataFrame(), every=every)
    assert [f"{window.start:%Y-%m-%d}" for window in windows] == starts
    assert all(window.start < window.end for window in windows)
    assert sum(window.rows for window in windows) == 3


@pytest.mark.parametrize("every", ["fortnight", "0D", "-1D", ""])
def test_a_length_that_is_none_is_refused(every: str) -> None:
    with pytest.raises(ConfigError, match="is no length of a window"):
        windows_of(*life(weeks=1), every=every)


def test_far_too_many_windows_are_refused() -> None:
    with pytest.raises(ConfigError, match=f"at most {MAX_WINDOWS:,} can be read"):
        windows_of(*life(weeks=6), every="1min")


@pytest.mark.parametrize(("rows", "days"), [(8000, 1), (1200, 7), (150, 31)])
def test_windows_are_as_short_as_the_labelled_rows_allow(rows: int, days: int) -> None:
    predictions, labels = life(weeks=8, rows=rows)
    first = windows_of(predictions, labels, every=None)[0]
    assert (first.end - first.start).days == days


def test_scores_of_one_batch_with_one_time_stamp_are_judged() -> None:
    predictions, labels = life(weeks=5, rows=400)
    predictions["at"] = predictions["at"].dt.floor("7D", ambiguous="raise")
    course = follow(
        match_labels(predictions, labels.drop(columns="at"), now=NOW), metrics=["roc_auc"], every="week", now=NOW
    )
    assert any("few times of scoring" in note for note in course.notes)
    assert all("roc_auc" in window.intervals for window in course.windows)


# --- decay


def decided(
    worse_from: int = 99, *, rows: int = 400, weeks: int = 6, metrics: Any = ("roc_auc",), **options: Any
) -> Any:
    predictions, labels = life(weeks, rows, worse_from=worse_from)
    course = follow(match_labels(predictions, labels, now=NOW), metrics=metrics, every="week", now=NOW)
    return judge_decay(course, **options)


def test_a_model_that_stays_as_it_was_passes() -> None:
    check = decided()[0]
    assert check.passed
    assert check.severity == "error"


def test_a_real_decay_alarms_and_says_from_what_to_what() -> None:
    check = decided(5)[0]
    assert not check.passed
    assert check.severity == "error"
    assert check.subject == "roc_auc"
    assert "in 2026-02-09 to 2026-02-15, baseline 0." in check.observed
    assert check.expected == "a lower bound of the loss of at most 0.02"


def test_a_decay_that_is_allowed_does_not_alarm() -> None:
    assert decided(5, may_lose=0.6)[0].passed


def test_a_trifle_does_not_alarm_on_many_rows() -> None:
    chance = np.random.default_rng(0)
    count = 200_000
    right = chance.random(count) < np.where(np.arange(count) < 150_000, 0.9, 0.89)
    truths = stored(np.ones(count), right.astype(int))
    truths.rows["at"] = MONDAY + pd.to_timedelta(np.linspace(0, 27.9, count), unit="D").astype("timedelta64[us]")
    course = follow(truths, metrics=["accuracy"], every="week", now=NOW)
    assert judge_decay(course)[0].passed
    assert not judge_decay(course, may_lose=0.0)[0].passed


def test_an_earlier_window_that_fell_is_a_warning_once_the_score_is_back() -> None:
    predictions, labels = life(6, 400)
    worse = (predictions["at"] >= day(28)) & (predictions["at"] < day(35))
    predictions.loc[worse, "prediction"] = np.random.default_rng(5).random(worse.sum())
    course = follow(match_labels(predictions, labels, now=NOW), metrics=["roc_auc"], every="week", now=NOW)
    first, *windows = judge_decay(course)
    assert first.passed
    assert [(check.subject, check.severity) for check in windows if not check.passed] == [
        ("2026-02-02 to 2026-02-08", "warning")
    ]


def test_the_newest_window_that_can_be_judged_decides_and_later_ones_are_counted() -> None:
    predictions, labels = life(6, 400, worse_from=4)
    known = labels[labels["at"] < day(35)]
    course = follow(match_labels(predictions, known, now=NOW), metrics=["roc_auc"], every="week", now=NOW)
    check = judge_decay(course)[0]
    assert not check.passed
    assert "in 2026-02-02 to 2026-02-08" in check.observed
    assert check.observed.endswith("1 later window is not judged yet")


def test_a_known_score_with_its_interval_is_a_baseline() -> None:
    above = Evaluation(metrics={"roc_auc": 0.99}, rows=5000, intervals={"roc_auc": (0.98, 1.0)})
    unsure = Evaluation(metrics={"roc_auc": 0.99}, rows=50, intervals={"roc_auc": (0.6, 1.0)})
    assert not decided(baseline=above)[0].passed
    assert decided(baseline=unsure)[0].passed
    assert not decided(baseline=Evaluation(metrics={"roc_auc": 0.99}, rows=50))[0].passed
    with pytest.raises(ConfigError, match="no metric of the baseline is called 'roc_auc'"):
        decided(baseline=Evaluation(metrics={"r2": 0.9}, rows=50))


def test_the_first_windows_are_the_baseline_and_nothing_is_claimed_before_there_are_more() -> None:
    checks = decided(weeks=3)
    assert checks[0].severity == "warning"
    assert checks[0].observed == "too little to judge: 3 of 3 windows can be judged, the first 3 are the baseline"
    assert all(check.observed.endswith("part of the baseline") for check in checks[1:])
    assert decided(weeks=2, baseline=1)[0].severity == "error"


def test_a_window_of_few_blocks_needs_more_certainty_than_the_rows_of_the_baseline_give() -> None:
    predictions, labels = life(4, 200)
    course = follow(match_labels(predictions, labels, now=NOW), metrics=["roc_auc"], every="week", now=NOW)
    window = course.measured["roc_auc"][3]
    assert window is not None
    known = Estimate(0.9, 0.01, math.inf, 5000, 5000, "known")
    for before in (course.pooled("roc_auc", [0, 1, 2]), known):
        assert loss_of(before, window).freedom <= window.units - 1 <= 19


def test_looking_at_more_metrics_and_shorter_windows_asks_for_more_certainty() -> None:
    def bound(checks: Any) -> float:
        return float(checks[0].observed.split("(lower bound ")[1].split(",")[0])

    assert bound(decided(5)) > bound(decided(5, metrics=("roc_auc", "accuracy", "f1")))
    assert bound(decided(5, confidence=0.8)) > bound(decided(5, confidence=0.99))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 1.0}, "confidence is between 0.5 and 1"),
        ({"may_lose": -0.1}, "may_lose of roc_auc is a number from 0 on"),
        ({"may_lose": float("nan")}, "may_lose of roc_auc is a number from 0 on"),
        ({"may_lose": {"auc": 0.1}}, "no metric of may_lose is called 'auc'"),
        ({"baseline": 0}, "a number of windows from 1 on, got 0"),
        ({"baseline": True}, "a number of windows from 1 on, got True"),
        ({"metrics": ("neg_mean_absolute_error",)}, "is in units of the target: say in may_lose"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decided(weeks=4, **options)


def test_a_share_of_labels_out_of_range_is_refused() -> None:
    for share in (0.0, 1.5):
        with pytest.raises(ConfigError, match="min_labelled is a share"):
            windows_of(*life(weeks=1), min_labelled=share)


@pytest.mark.slow
def test_years_without_decay_seldom_alarm() -> None:
    """40 lives of 52 weeks at the worst case, no loss allowed: 2 alarms are promised on average."""
    alarmed = 0
    for seed in range(40):
        predictions, labels = life(55, 150, seed=100 + seed)
        course = follow(
            match_labels(predictions, labels, now=NOW + dt.timedelta(days=400)),
            metrics=["roc_auc"],
            every="week",
            now=NOW + dt.timedelta(days=400),
        )
        _, *windows = judge_decay(course, may_lose=0.0)
        alarmed += any(not check.passed for check in windows)
    assert alarmed <= 6  # more than this has a chance of 0.3 % at the 5 % promised
