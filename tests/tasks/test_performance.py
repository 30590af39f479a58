from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from sklearn.linear_model import LogisticRegression

from prefect_mlops.core.errors import ConfigError, PerformanceError
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.specs.policies import Degradation
from prefect_mlops.core.values import Evaluation, Gate, TableRef
from prefect_mlops.tasks.performance import evaluate_live

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report

evaluate: Callable[..., Report] = evaluate_live.fn
MONDAY = pd.Timestamp("2026-01-05", tz="UTC")
DAY = pd.Timedelta(days=1)
WEEKLY = Degradation(every="week")
SCRIPT = "</td><script>alert('x')</script>"


def life(weeks: int = 6, rows: int = 300, *, worse_from: int = 99) -> dict[str, Any]:
    """A binary model: `rows` predictions a week, labels a day later; from a week on it only guesses."""
    chance = np.random.default_rng(0)
    count = weeks * rows
    days = np.sort(chance.uniform(0, 7 * weeks, count))
    signal = 2 * chance.normal(size=count)
    late = (chance.random(count) < 1 / (1 + np.exp(-signal))).astype("int64")
    said = np.where(days < 7 * worse_from, signal, chance.normal(size=count))
    at = MONDAY + pd.to_timedelta(days, unit="D").astype("timedelta64[us]")
    predictions = pd.DataFrame({"id": np.arange(count), "at": at, "prediction": 1 / (1 + np.exp(-said))})
    labels = pd.DataFrame({"id": np.arange(count), "label": late, "at": at + DAY})
    return {"predictions": predictions, "labels": labels, "metrics": ["roc_auc"], "degradation": WEEKLY}


def test_a_healthy_model_passes_with_a_line_for_each_window() -> None:
    report = evaluate(**life(), subject="delays")
    assert report.passed
    assert (report.kind, report.subject, report.rows) == ("performance", "delays", 1800)
    first, *windows = report.checks
    assert (first.name, first.subject, first.severity) == ("score has not decayed", "roc_auc", "error")
    assert [check.subject for check in windows][:2] == ["2026-01-05 to 2026-01-11", "2026-01-12 to 2026-01-18"]
    assert windows[0].observed.startswith("roc_auc 0.")
    assert windows[0].observed.endswith(" labelled; part of the baseline")
    assert "Alarms are corrected for 106 looks, which are a year's: 95% of years" in report.notes[-1]


def test_the_positive_class_is_that_of_the_spec_unless_another_is_named() -> None:
    given = life(weeks=4)
    words = {**given, "labels": given["labels"].assign(label=given["labels"]["label"].map({1: "late", 0: "on time"}))}
    recipe = ModelSpec(
        name="delays",
        dataset="delays",
        target="label",
        estimator=LogisticRegression(),
        suite=ExpectationSuite(name="x", expectations=[gxe.ExpectColumnToExist(column="label")]),
        gates=[Gate("roc_auc", at_least=0.5)],
        positive="late",
    )
    known, seen = evaluate(**given).checks, evaluate(**words, spec=recipe).checks
    assert seen == known
    named = {**words, "degradation": WEEKLY.model_copy(update={"positive": "on time"})}
    assert evaluate(**named, spec=recipe).checks != known


def test_a_decayed_model_fails_and_stops_the_flow_that_requires_it() -> None:
    report = evaluate(**life(worse_from=5), subject="delays")
    assert not report.passed
    message = r"performance of delays: failed\. roc_auc: score has not decayed, saw 0\.\d+ in 2026-02-09 to 2026-02-15"
    with pytest.raises(PerformanceError, match=message):
        report.raise_for_failure()


def test_one_of_several_metrics_that_decayed_fails_the_report() -> None:
    report = evaluate(
        **{
            **life(worse_from=5),
            "metrics": ["accuracy", "roc_auc"],
            "degradation": Degradation(every="week", may_lose={"accuracy": 0.9}),
        }
    )
    accuracy, area = report.checks[:2]
    assert (accuracy.subject, accuracy.passed) == ("accuracy", True)
    assert (area.subject, area.passed) == ("roc_auc", False)
    assert "accuracy: a prediction above 0.5 counts as class 1." in report.notes


def test_with_too_little_to_judge_nothing_is_claimed() -> None:
    given = life()
    report = evaluate(**{**given, "labels": given["labels"][:0]})
    assert report.passed
    decided = report.checks[0]
    assert (decided.passed, decided.severity) == (False, "warning")
    assert decided.observed == "too little to judge: none of 1,800 predictions is labelled"
    assert "passed 7 checks, 1 of them with a warning" in report.summary


def test_odd_rows_warn_and_do_not_decide() -> None:
    given = life()
    strangers = pd.DataFrame({"id": [-1, -2], "label": [1, 0], "at": [MONDAY, MONDAY]})
    report = evaluate(**{**given, "labels": pd.concat([given["labels"], strangers])})
    assert report.passed
    assert [(check.name, check.severity, check.examples) for check in report.failures] == [
        ("labels belong to predictions", "warning", ("-1", "-2"))
    ]


def test_columns_may_be_called_anything() -> None:
    given = life()
    renamed = {
        **given,
        "predictions": given["predictions"].rename(columns={"id": "flight", "at": "scored", "prediction": "p late"}),
        "labels": given["labels"].rename(columns={"id": "number", "at": "landed", "label": "late"}),
    }
    columns = {"id": "flight", "at": "scored", "prediction": "p late", "label_id": "number", "label": "late"}
    report = evaluate(**renamed, columns={**columns, "label_at": "landed"})
    assert report.checks == evaluate(**given).checks


def test_a_baseline_without_an_interval_is_said_to_be_taken_as_exact() -> None:
    report = evaluate(
        **{**life(), "degradation": Degradation(every="week", baseline=Evaluation(metrics={"roc_auc": 0.7}, rows=100))}
    )
    assert report.passed
    assert report.notes[-1] == "The baseline has no interval for roc_auc: it is taken as exact."


def test_it_can_be_asked_what_was_known_then() -> None:
    given = life(worse_from=5)
    assert evaluate(**given, now=(MONDAY + 35.5 * DAY).to_pydatetime()).passed
    assert not evaluate(**given, now=(MONDAY + 43 * DAY).to_pydatetime()).passed


def test_cell_values_cannot_break_out_of_the_page() -> None:
    given = life()
    given["labels"]["id"] = [SCRIPT, *given["labels"]["id"][1:]]
    page = evaluate(**given, subject=SCRIPT).to_markdown()
    assert "<script>" not in page
    assert "labels belong to predictions" in page


def test_tables_are_read_from_where_they_are(tmp_path: Path) -> None:
    given = life()
    given["predictions"].to_csv(tmp_path / "said.csv", index=False)
    given["labels"].astype({"id": str}).to_parquet(tmp_path / "truth.parquet")
    refs = {"predictions": TableRef(uri=str(tmp_path / "said.csv")), "labels": TableRef(uri=str(tmp_path / "truth.parquet"))}  # fmt: skip
    report = evaluate(**{**given, **refs}, version=None)
    assert report.subject == "said.csv"
    assert report.checks[0] == evaluate(**given).checks[0]


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="a table is a DataFrame or a TableRef, got list"):
        evaluate(**{**life(), "labels": [1, 2]})


def test_the_version_stands_in_the_title() -> None:
    given = life()
    given["predictions"]["version"] = 3
    assert evaluate(**given, version=3).subject == "table, version 3"


def test_a_regression_is_followed_in_its_own_units() -> None:
    chance = np.random.default_rng(0)
    given = life()
    delay = chance.normal(10, 20, 1800)
    worse = np.where(given["predictions"]["at"] < MONDAY + 35 * DAY, 5, 25)
    given["labels"]["label"] = delay
    given["predictions"]["prediction"] = delay + worse * chance.normal(size=1800)
    metrics = ["neg_mean_absolute_error", "r2"]
    report = evaluate(
        **{
            **given,
            "metrics": metrics,
            "degradation": Degradation(every="week", may_lose={"neg_mean_absolute_error": 3.0}),
        }
    )
    assert [(check.subject, check.passed) for check in report.checks[:2]] == [(metric, False) for metric in metrics]
    assert report.checks[0].expected == "a lower bound of the loss of at most 3"


def test_it_runs_as_a_task_of_a_flow(prefect_api: None) -> None:
    from prefect import flow

    @flow
    def watch() -> Report:
        return evaluate_live(**life(), subject="delays")

    assert watch().passed
