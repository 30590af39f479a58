from __future__ import annotations

import pickle

import cloudpickle
import pytest
from prefect.serializers import JSONSerializer

from prefect_mlops.core import errors
from prefect_mlops.core.reports import Check, Report

ALL = [
    errors.MLOpsError,
    errors.ConfigError,
    errors.CheckError,
    errors.DataCheckError,
    errors.GateError,
    errors.DriftError,
    errors.PerformanceError,
    errors.ConflictError,
    errors.BackendError,
]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "there_and_back",
    [
        lambda error: pickle.loads(pickle.dumps(error)),
        lambda error: cloudpickle.loads(cloudpickle.dumps(error)),
        lambda error: JSONSerializer().loads(JSONSerializer().dumps(error)),
    ],
    ids=["pickle", "cloudpickle", "prefect-json"],
)
def test_every_error_comes_back_from_its_message(kind, there_and_back) -> None:
    back = there_and_back(kind("late.csv: 3 rows are bad"))
    assert type(back) is kind
    assert str(back) == "late.csv: 3 rows are bad"


def test_pickle_keeps_the_report() -> None:
    report = Report(kind="data", subject="t", checks=(Check(name="has rows", passed=False),))
    back = pickle.loads(pickle.dumps(errors.DataCheckError("no rows", report)))
    assert back.report == report


def test_wrong_names_get_the_nearest_right_ones() -> None:
    error = errors.unknown_name("column of a.csv", "carier", ["carrier", "origin", "dest"])
    assert str(error) == "no column of a.csv is called 'carier': did you mean 'carrier'?"


def test_nothing_near_lists_what_there_is() -> None:
    message = str(errors.unknown_name("metric", "zzz", [f"m{i}" for i in range(20)]))
    assert "there are: 'm0'" in message
    assert "and 12 more" in message
    assert "there are none" in str(errors.unknown_name("model", "zzz", []))


def test_a_wrong_request_is_also_a_value_error() -> None:
    assert issubclass(errors.ConfigError, ValueError)
