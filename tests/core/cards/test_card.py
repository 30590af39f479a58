from __future__ import annotations

import re
from datetime import datetime, timezone
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from prefect_mlops.core.cards.card import (
    Calibration,
    CalibrationBin,
    Card,
    ColumnBaseline,
    Confusion,
    Fact,
    ResidualBin,
    Residuals,
    Score,
    Share,
    Target,
    TargetLine,
)
from prefect_mlops.core.cards.data import describe_columns, describe_target, find_limits, percent
from prefect_mlops.core.cards.measures import measure_behaviour
from prefect_mlops.core.cards.page import render_page
from prefect_mlops.core.cards.sections import number, render_markdown
from prefect_mlops.core.evaluation.importance import (
    IMPORTANCE_ROWS,
    Importance,
    Importances,
    NotMeasurableError,
    measure_importances,
    sample,
)
from prefect_mlops.core.reports import Check
from prefect_mlops.core.text import plain

NASTY = ["</script><script>alert(1)</script>", "a|b`c`", "$x$ -->", '" onload="x', "font-family: x", "名前"]
WHEN = datetime(2026, 11, 21, tzinfo=timezone.utc)


def importances(names: list[str]) -> Importances:
    columns = tuple(Importance(column=name, drop=1 / (place + 1), spread=0.01) for place, name in enumerate(names))
    return Importances(metric=names[0], rows=9, repeats=5, columns=columns, negligible=0, largest_share=0.4)


def card(text: str = "late", **parts: object) -> Card:
    """A card with every part, and the text in each place that a value from data can reach."""
    full = {
        "model": text,
        "version": 3,
        "estimator": text,
        "purpose": text,
        "written": WHEN,
        "rows_tested": 100,
        "columns": 2,
        "data": (Fact(name="Dataset", value=text),),
        "scores": (Score(metric=text, value=0.7, low=0.6, high=0.8),),
        "checks": (Check(name=text, passed=False, subject=text, observed=text, expected=text, examples=(text,)),),
        "notes": (text,),
        "verdicts": (text,),
        "importances": importances([text, f"{text}2"]),
        "calibration": Calibration(
            positive=text,
            bins=(
                CalibrationBin(predicted=0.1, observed=0.2, low=0.1, high=0.3, rows=50),
                CalibrationBin(predicted=0.6, observed=0.5, low=0.4, high=0.6, rows=50),
            ),
        ),
        "residuals": Residuals(bins=(ResidualBin(predicted=1, low=-1, median=0, high=1, rows=9),)),
        "confusion": Confusion(labels=(text, "b"), counts=((3, 1), (0, 5)), note=text),
        "target": Target(name=text, classes=True, lines=(TargetLine(name=text, train=0.4, test=0.5),), distinct=1),
        "baseline": (
            ColumnBaseline(column=text, kind="numeric", missing=0.1, numbers={"mean": 1.5}),
            ColumnBaseline(column=text, kind="categorical", missing=0, distinct=2, top=(Share(value=text, share=0.5),)),
        ),
        "limits": (text,),
        "rollback": "prefect-mlops rollback late",
        "history": text,
        "provenance": (Fact(name="Run", value=text),),
        "links": (Fact(name="Run in MLflow", value="https://mlflow.example/#/runs/1?a=1&b=2"),),
        "left_out": (Fact(name="x", value=text),),
    }
    return Card.model_validate(full | parts)


class Page(HTMLParser):
    """What a browser would see: elements, their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "use", "path", "rect"} or not self.get_starttag_text().endswith("/>"):
            self.open += [tag] if tag != "meta" else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", NASTY)
def test_text_from_data_stays_text_on_the_page(text: str) -> None:
    plain_page, nasty = Page(render_page(card("late"))), Page(render_page(card(text)))
    count = {name: sum(tag == name for tag, _ in plain_page.tags) for name, _ in plain_page.tags}
    assert {name: sum(tag == name for tag, _ in nasty.tags) for name, _ in nasty.tags} == count
    assert nasty.open == []
    assert not any(name.startswith("on") for _, attributes in nasty.tags for name in attributes)
    assert text in nasty.text


@pytest.mark.parametrize("text", NASTY)
def test_text_from_data_stays_text_in_markdown(text: str) -> None:
    def rendered(value: str) -> list[str]:
        reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
        return re.findall(r"<[^>]*>", reader.render(render_markdown(card(value))))

    assert rendered(text) == rendered("late")


def test_long_text_is_cut_and_control_characters_are_removed() -> None:
    page = Page(render_page(card("y" * 3000, purpose="late\u202e\x00on", history="")))
    assert max(len(word) for word in page.text.split()) == 1_000
    assert "y" * 999 + "…" in page.text
    assert "late on" in page.text


def test_the_page_needs_no_network_and_runs_no_script() -> None:
    links = (Fact(name="a", value="https://a.example/?a=1&b=2"), Fact(name="b", value="javascript:x()"))
    page = render_page(card(links=links))
    assert re.findall(r"(?:https?|ftp|data|javascript):[^\"'<> ]*", page) == ["https://a.example/?a=1&amp;b=2"]
    tags = Page(page).tags
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in tags}
    assert all("src" not in attributes for _, attributes in tags)
    (policy,) = [attributes["content"] for _, attributes in tags if "http-equiv" in attributes]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "@import" not in page


def test_links_lead_to_the_web_only() -> None:
    links = (Fact(name="a", value="https://a.example/x(1)|y"), Fact(name="b", value="javascript:x()"))
    text = render_markdown(card(links=links))
    assert "[a](https://a.example/x%281%29%7Cy)" in text
    assert "javascript" not in text


def test_pictures_have_a_text_alternative_and_take_their_colors_from_the_page() -> None:
    page = render_page(card())
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(pictures) == 3
    assert all('role="img" aria-label="' in picture for picture in pictures)
    assert all("var(--accent)" in picture for picture in pictures)
    assert not re.search(r"(fill|stroke): #", "".join(pictures))
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r"(?:url\(|href=\")#([\w-]+)", page)) <= set(names)


def test_the_same_card_is_the_same_page_and_comes_back_from_json() -> None:
    made = card()
    assert render_page(made) == render_page(made)
    assert Card.model_validate_json(made.model_dump_json()) == made


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    render_page(card())
    assert dict(mpl.rcParams) == before


def test_parts_that_are_not_there_are_not_on_the_page() -> None:
    bare = Card(model="m", version=1, estimator="E", written=WHEN, rows_tested=1, columns=1)
    assert "<h2>" not in render_page(bare)
    assert "## " not in render_markdown(bare)


def test_a_score_without_interval_has_an_empty_cell_and_none_at_all_no_column() -> None:
    one = Score(metric="r2", value=0.5)
    assert "interval" not in render_markdown(card(scores=(one,), calibration=None))
    assert "| r2 | 0.5000 |  |" in render_markdown(card(scores=(one, Score(metric="f1", value=1, low=0, high=1))))


def test_importances_are_those_of_scikit_learn() -> None:
    X, y = load_breast_cancer(as_frame=True, return_X_y=True)
    X = X.iloc[:, :6]
    model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, y)
    found = measure_importances(model, X, y, metric="roc_auc", seed=3)
    own = permutation_importance(model, X, y, scoring="roc_auc", n_repeats=5, random_state=3)
    order = np.argsort(-own.importances_mean, kind="stable")
    assert [each.column for each in found.columns] == [X.columns[place] for place in order]
    assert [each.drop for each in found.columns] == pytest.approx(own.importances_mean[order].tolist())
    assert [each.spread for each in found.columns] == pytest.approx(own.importances_std[order].tolist())
    gains = own.importances_mean.clip(0)
    assert found.largest_share == pytest.approx(gains.max() / gains.sum())
    assert found.negligible == (own.importances_mean <= 2 * own.importances_std / 5**0.5).sum()


def accuracy_of_mine(estimator: LogisticRegression, X: pd.DataFrame, y: pd.Series) -> float:
    return float((estimator.predict(X) == y).mean())


def test_importances_take_a_function_for_a_metric() -> None:
    X, y = load_iris(as_frame=True, return_X_y=True)
    model = LogisticRegression(max_iter=5000).fit(X, y)
    own = measure_importances(model, X, y, metric=accuracy_of_mine, seed=0)
    named = measure_importances(model, X, y, metric="accuracy", seed=0)
    assert own.metric == "accuracy_of_mine"
    assert own.columns == named.columns


def test_importances_are_measured_on_a_seeded_sample() -> None:
    random = np.random.default_rng(0)
    X = pd.DataFrame({"signal": random.normal(size=9_000), "noise": random.normal(size=9_000)})
    y = (X["signal"] > 0).astype(int)
    model = LogisticRegression().fit(X, y)
    found = [measure_importances(model, X, y, metric="roc_auc", seed=seed) for seed in (0, 0, 1)]
    assert found[0].rows == IMPORTANCE_ROWS
    assert found[0] == found[1] != found[2]
    assert found[0].columns[0].column == "signal"
    assert found[0].largest_share > 0.8


def test_a_metric_without_a_value_on_the_sample_is_not_measurable() -> None:
    X, y = load_breast_cancer(as_frame=True, return_X_y=True)
    model = DecisionTreeClassifier(max_depth=4).fit(X, y)
    one_class = y[y == 1].index
    with pytest.raises(NotMeasurableError, match="roc_auc is not defined on a sample of 357 test rows"):
        measure_importances(model, X.loc[one_class], y.loc[one_class], metric="roc_auc", seed=0)


def test_a_table_too_wide_to_shuffle_is_not_measurable() -> None:
    with pytest.raises(NotMeasurableError, match="each of 501 columns would take too long"):
        measure_importances(None, pd.DataFrame(np.zeros((2, 501))), pd.Series([0, 1]), metric="r2", seed=0)


@pytest.mark.parametrize("labels", [(0, 1), ("no", "yes"), (False, True)])
def test_calibration_is_that_of_scikit_learn_and_counts_every_row(labels: tuple[object, object]) -> None:
    X, y = load_breast_cancer(as_frame=True, return_X_y=True)
    model = LogisticRegression(max_iter=5000).fit(X.iloc[:, :3], y.map(dict(enumerate(labels))))
    found = measure_behaviour(model, X.iloc[:, :3], y.map(dict(enumerate(labels))), seed=0)
    assert isinstance(found, Calibration)
    observed, predicted = calibration_curve(y, model.predict_proba(X.iloc[:, :3])[:, 1], n_bins=10, strategy="quantile")
    assert [each.observed for each in found.bins] == pytest.approx(observed.tolist())
    assert [each.predicted for each in found.bins] == pytest.approx(predicted.tolist())
    assert sum(each.rows for each in found.bins) == len(y)
    # the counts belong to their bins: together they give back the share of all rows
    assert sum(each.rows * each.observed for each in found.bins) == pytest.approx(y.sum())
    assert all(each.low <= each.observed <= each.high for each in found.bins)
    assert found.positive == str(labels[1])
    turned = measure_behaviour(model, X.iloc[:, :3], y.map(dict(enumerate(labels))), seed=0, positive=labels[0])
    assert isinstance(turned, Calibration)
    assert turned.positive == str(labels[0])
    assert [each.observed for each in turned.bins] == pytest.approx(
        calibration_curve(1 - y, model.predict_proba(X.iloc[:, :3])[:, 0], n_bins=10, strategy="quantile")[0].tolist()
    )


def test_tied_probabilities_leave_fewer_bins_and_lose_no_row() -> None:
    X = pd.DataFrame({"a": [0.0] * 90 + [1.0] * 10})
    y = pd.Series([0] * 80 + [1] * 20)
    found = measure_behaviour(LogisticRegression().fit(X, y), X, y, seed=0)
    assert isinstance(found, Calibration)
    assert [each.rows for each in found.bins] == [90, 10]
    assert [each.observed for each in found.bins] == pytest.approx([10 / 90, 1.0])


def test_several_classes_give_a_confusion_table() -> None:
    X, y = load_iris(as_frame=True, return_X_y=True)
    y = y.map({0: "setosa", 1: "versicolor", 2: "virginica"})
    model = LogisticRegression(max_iter=5000).fit(X.iloc[:, :2], y)
    found = measure_behaviour(model, X.iloc[:, :2], y, seed=0)
    assert isinstance(found, Confusion)
    assert found.labels == ("setosa", "versicolor", "virginica")
    assert np.array(found.counts).tolist() == confusion_matrix(y, model.predict(X.iloc[:, :2])).tolist()
    assert found.note == ""


def test_many_classes_and_one_that_training_did_not_have_are_counted_together() -> None:
    y = pd.Series([str(number) for number in np.repeat(np.arange(20), np.arange(2, 22))])
    X = pd.get_dummies(y).astype(float)
    model = LogisticRegression(max_iter=500).fit(X, y)
    found = measure_behaviour(model, X, y.where(y.index > 0, "new"), seed=0)
    assert isinstance(found, Confusion)
    assert len(found.labels) == 13
    assert found.labels[-1] == "(other)"
    assert np.sum(found.counts) == len(y)


def test_two_classes_without_probabilities_give_a_confusion_table_and_the_reason() -> None:
    X, y = load_breast_cancer(as_frame=True, return_X_y=True)
    found = measure_behaviour(LinearSVC().fit(X, y), X, y, seed=0)
    assert isinstance(found, Confusion)
    assert found.note == "LinearSVC has no predict_proba, so there is no calibration curve."
    assert np.sum(found.counts) == len(y)


def test_residuals_of_a_regressor_in_bins_of_its_prediction() -> None:
    X, y = load_diabetes(as_frame=True, return_X_y=True)
    model = LinearRegression().fit(X, y)
    found = measure_behaviour(model, X, y, seed=0)
    assert isinstance(found, Residuals)
    predicted = pd.Series(model.predict(X))
    groups = pd.DataFrame({"p": predicted, "r": y - predicted}).groupby(pd.qcut(predicted, 10), observed=True)
    assert [each.rows for each in found.bins] == groups.size().tolist()
    assert [each.predicted for each in found.bins] == pytest.approx(groups["p"].mean().tolist())
    assert [each.median for each in found.bins] == pytest.approx(groups["r"].median().tolist())
    assert [each.low for each in found.bins] == pytest.approx(groups["r"].quantile(0.1).tolist())


def test_what_is_neither_classifier_nor_regressor_is_not_measurable() -> None:
    from sklearn.cluster import KMeans

    X, y = load_iris(as_frame=True, return_X_y=True)
    with pytest.raises(NotMeasurableError, match="KMeans is neither"):
        measure_behaviour(KMeans(3).fit(X), X, y, seed=0)


def test_columns_of_every_kind_are_described() -> None:
    frame = pd.DataFrame(
        {
            "n": [1.0, 2.0, np.nan, 5.0],
            "odd": [np.inf, -np.inf, 1.0, 3.0],
            "c": pd.Categorical(["x", "x", None, "y"]),
            "b": [True, True, False, True],
            "t": pd.to_datetime(["2013-01-01 05:00", None, "2013-03-31 00:00", "2013-02-01 00:00"]),
            "free": ["one thing", "another", "a third", "fourth"],
            "none": [None, None, None, None],
        }
    )
    found = {each.column: each for each in describe_columns(frame)}
    assert found["n"].numbers["mean"] == pytest.approx(8 / 3)
    assert (found["n"].numbers["min"], found["n"].numbers["max"], found["n"].missing) == (1, 5, 0.25)
    assert found["odd"].numbers["mean"] == 2
    assert found["c"].top == (Share(value="x", share=2 / 3), Share(value="y", share=1 / 3))
    assert (found["b"].kind, found["b"].distinct) == ("boolean", 2)
    assert (found["t"].first, found["t"].last) == ("2013-01-01 05:00:00", "2013-03-31 00:00:00")
    assert (found["free"].kind, found["free"].numbers["max"]) == ("text", 9)
    assert (found["none"].kind, found["none"].missing) == ("empty", 1.0)


def test_the_most_important_columns_are_described_first() -> None:
    frame = pd.DataFrame({f"c{number}": [1.0, 2.0] for number in range(500)})
    found = describe_columns(frame, first=["c7", "c499"])
    assert len(found) == 50
    assert [each.column for each in found[:3]] == ["c7", "c499", "c0"]


def test_the_target_is_compared_on_both_sides() -> None:
    shares = describe_target(pd.Series(["a", "a", "b"], name="y"), pd.Series(["b"]), classes=True)
    assert shares.lines == (TargetLine(name="a", train=2 / 3, test=0), TargetLine(name="b", train=1 / 3, test=1))
    quantiles = describe_target(pd.Series([0.0, 10.0], name="y"), pd.Series([1.0, 3.0]), classes=False)
    assert [(line.train, line.test) for line in quantiles.lines if line.name == "median"] == [(5, 2)]


def limits(**known: object) -> str:
    none = {"lineage": None, "ordered": True, "rows_tested": 5000, "target": None, "baseline": ()}
    return "\n".join(find_limits(**(none | {"importances": None, "calibration": None, "checks": ()} | known)))


def test_limits_name_the_facts_they_come_from() -> None:
    assert "not trained by train_model" in limits()
    assert "rest on 20 rows only" in limits(rows_tested=20)
    rare = Target(name="y", classes=True, lines=(TargetLine(name="fraud", train=0.004, test=0.01),), distinct=1)
    assert "Rare in training: fraud (0.4%)" in limits(target=rare)
    gap = ColumnBaseline(column="temp", kind="numeric", missing=0.117)
    assert "temp (11.7%)" in limits(baseline=(gap,))
    leak = importances(["arr_time"]).model_copy(update={"largest_share": 0.93, "metric": "roc_auc", "negligible": 0})
    assert "arr_time carries 93% of all importance" in limits(importances=leak)
    assert "carries" not in limits(importances=leak.model_copy(update={"largest_share": 0.8}))
    off = Calibration(positive="1", bins=(CalibrationBin(predicted=0.9, observed=0.5, low=0.4, high=0.6, rows=10),))
    assert "40.0 percentage points off" in limits(calibration=off)
    small = Check(name="n", passed=True, subject="roc_auc for carrier = HA", observed="too few rows to judge (12)")
    assert "too few for the gate to judge roc_auc for carrier = HA" in limits(checks=(small,))
    warned = Check(name="latency", passed=False, severity="warning", observed="80 ms", expected="50 ms")
    assert "latency, saw 80 ms, expected 50 ms." in limits(checks=(warned,))
    until = SimpleNamespace(until="2013-03-31")
    assert "nothing after 2013-03-31" in limits(lineage=until)
    assert "how it degrades over time" in limits(lineage=SimpleNamespace(until=None), ordered=False)


def test_a_share_is_never_rounded_to_none_or_all() -> None:
    assert [percent(part) for part in (0, 0.0001, 0.5, 0.9999, 1)] == ["0%", "< 0.1%", "50.0%", "> 99.9%", "100%"]


def test_numbers_are_written_for_reading() -> None:
    assert [number(value) for value in (0, 0.0036881, 12.345, 62314.2, 1e20)] == [
        "0",
        "0.003688",
        "12.35",
        "62,314",
        "1e+20",
    ]


def test_names_from_data_become_one_printable_line() -> None:
    assert plain("a\nb\u202ec\ud800") == "a b c"
    assert plain("  ") == "(blank)"
    assert len(plain("x" * 5000)) == 60


def test_a_sample_is_everything_where_that_is_few() -> None:
    assert sample(3, 5, seed=0).tolist() == [0, 1, 2]
    assert len(set(sample(100, 5, seed=0).tolist())) == 5
