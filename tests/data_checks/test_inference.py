from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import great_expectations as gx
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.data_checks import check_table, infer_suite

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Check

N = 200


def reference(rows: int = N, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=rows)
    gaps = generator.random(rows) < 0.3
    return pd.DataFrame(
        {
            "int": generator.integers(0, 100, rows),
            "float": np.where(gaps, np.nan, numbers),
            "nullable_int": pd.array(np.where(gaps, None, generator.integers(-9, 9, rows)), dtype="Int64"),
            "nullable_bool": pd.array(np.where(gaps, None, numbers > 0), dtype="boolean"),
            "bool": numbers > 0,
            "kind": generator.choice(["a", "b", ""], rows),
            "category": pd.Categorical(generator.choice(["x", "y"], rows), categories=["x", "y", "never"]),
            "free_text": [f"row {n}" for n in range(rows)],
            "time": pd.date_range("2013-01-01", periods=rows, freq="h"),
            "zoned": pd.date_range("2013-01-01", periods=rows, freq="h", tz="America/New_York"),
            "date": [dt.date(2013, 1, 1)] * rows,
            "nothing": [None] * rows,
            "constant": 7,
            "infinite": np.where(gaps, np.inf, numbers),
            "big": np.arange(rows) + 2**62,
            "mixed": pd.Series([1, "x", None, [2]] * (rows // 4), dtype=object),
            "span": pd.to_timedelta(range(rows), unit="s"),
        }
    )


def failures(frame: pd.DataFrame, suite: gx.ExpectationSuite) -> list[str]:
    return [check.sentence for check in check_table(frame, suite).failures]


def test_the_reference_and_random_halves_of_it_pass() -> None:
    frame = reference()
    suite = infer_suite(frame, name="reference")
    assert suite.name == "reference"
    assert failures(frame, suite) == []
    for seed in range(3):
        assert failures(frame.sample(frac=0.5, random_state=seed), suite) == []


def asked(frame: pd.DataFrame, column: str, margin: float = 0.1) -> list[str]:
    checks = check_table(frame, infer_suite(frame, name="r", margin=margin)).checks
    return [check.name for check in checks if check.subject == column]


def test_what_is_learnt_of_each_kind() -> None:
    frame = reference()
    frame["int"] = [0, 100] * (N // 2)
    always = ["column exists", "values are present"]
    assert asked(frame, "int") == [*always, "values are numbers", "values between -10 and 110"]
    assert asked(frame, "int", margin=0.5)[-1] == "values between -50 and 150"
    assert asked(frame, "bool") == [*always, "values are true or false"]
    assert asked(frame, "kind") == [*always, "values are text", "values in '', a, b"]
    assert asked(frame, "category") == [*always, "values in x, y"]
    assert asked(frame, "free_text") == [*always, "values are text"]
    assert asked(frame, "time") == [*always, "values are times", "values at least 2013-01-01 00:00:00"]
    assert asked(frame, "zoned") == [*always, "values at least 2013-01-01 00:00:00-05:00"]
    assert asked(frame, "constant")[-1] == "values between 6 and 8"
    assert asked(frame, "nothing") == ["column exists"]
    assert asked(frame, "mixed") == always
    assert asked(frame, "infinite")[-1] == "values are numbers"


def broken(column: str, values: object) -> list[Check]:
    frame = reference()
    suite = infer_suite(frame, name="r")
    frame[column] = values
    return list(check_table(frame, suite).failures)


@pytest.mark.parametrize(
    ("column", "values", "name"),
    [
        ("int", [1000, *range(N - 1)], "values between"),
        ("int", [None, *[1] * (N - 1)], "values are present"),
        ("int", ["1"] * N, "values are numbers"),
        ("float", [None] * (N // 2) + [0.0] * (N // 2), "values are present"),
        ("bool", ["yes"] * N, "values are true or false"),
        ("kind", ["d", *["a"] * (N - 1)], "values in"),
        ("category", ["never", *["x"] * (N - 1)], "values in"),
        ("free_text", range(N), "values are text"),
        ("time", pd.date_range("2012-12-31", periods=N, freq="h"), "values at least"),
        ("time", ["2013"] * N, "values are times"),
    ],
)
def test_each_kind_of_damage_fails_the_check_about_it(column: str, values: object, name: str) -> None:
    found = [check for check in broken(column, values) if check.name.startswith(name)]
    assert [check.subject for check in found] == [column]


def test_missing_columns_and_missing_rows_fail() -> None:
    frame = reference()
    suite = infer_suite(frame, name="r")
    assert any("the table has no column 'int'" in sentence for sentence in failures(frame.drop(columns="int"), suite))
    assert failures(frame.head(0), suite)


def test_a_suite_survives_being_written_down() -> None:
    frame = reference()[["int", "kind", "time", "zoned", "nullable_int"]]
    suite = infer_suite(frame, name="r")
    kept = suite.to_json_dict()
    again = gx.ExpectationSuite(
        name=kept["name"], expectations=[{k: v for k, v in e.items() if k != "id"} for e in kept["expectations"]]
    )
    assert len(again.expectations) == len(suite.expectations)
    assert failures(frame, again) == []
    early = frame.assign(time=pd.date_range("2012-12-31", periods=N, freq="h"))
    assert [sentence[:4] for sentence in failures(early, again)] == ["time"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"name": ""}, ConfigError, "a suite needs a name"),
        ({"name": "r", "margin": -1}, ConfigError, "margin is a share of at least 0"),
        ({"name": "r", "margin": float("nan")}, ConfigError, "margin is a share of at least 0"),
        ({"name": "r", "reference": pd.DataFrame({"a": []})}, DataCheckError, "table has rows, saw 0 rows"),
        ({"name": "r", "reference": pd.DataFrame({3: [1]})}, ConfigError, "have to be text, got 3"),
        ({"name": "r", "reference": pd.DataFrame([[1, 2]], columns=["a", "a"])}, DataCheckError, "a more than once"),
    ],
)
def test_wrong_requests_are_said_in_words(call: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        infer_suite(**{"reference": pd.DataFrame({"a": [1]}), **call})  # type: ignore[arg-type]


def columns() -> st.SearchStrategy[pd.Series]:
    gaps = st.none()
    kinds = [
        (st.integers(-(2**62), 2**62), "Int64"),
        (st.integers(0, 255), "UInt8"),
        (st.floats(allow_nan=True, allow_infinity=True), "float64"),
        (st.floats(width=32, allow_nan=False), "Float32"),
        (st.booleans(), "boolean"),
        (st.text(max_size=3), "string"),
        (st.text(max_size=3), object),
        (st.sampled_from(["a", "b", ""]), "category"),
        (st.one_of(st.integers(0, 3), st.text(max_size=2), st.booleans()), object),
        (
            st.datetimes(min_value=dt.datetime(1700, 1, 1), max_value=dt.datetime(2200, 1, 1)),
            "datetime64[us]",
        ),
        (st.datetimes(min_value=dt.datetime(1, 1, 1)), "datetime64[us]"),
    ]
    return st.one_of(
        [
            st.lists(st.one_of(values, gaps), min_size=1, max_size=12).map(
                lambda found, d=dtype: pd.Series(found, dtype=d)
            )
            for values, dtype in kinds
        ]
    )


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=columns(), margin=st.sampled_from([0.0, 0.1]))
def test_whatever_the_reference_it_passes_its_own_suite(values: pd.Series, margin: float) -> None:
    frame = pd.DataFrame({"a": values})
    assert failures(frame, infer_suite(frame, name="r", margin=margin)) == []
