from __future__ import annotations

import pickle

import cloudpickle
import joblib
import pytest
import skops.io
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prefect_mlops.core.lineage.sides import SideRule
from prefect_mlops.core.lineage.training_data import ATTRIBUTE, Lineage, attach, estimator_name, lineage_of
from prefect_mlops.core.model_files.trusted_types import trusted_types
from prefect_mlops.core.values import TableRef

LEARNED = Lineage(
    digest="sha256:1",
    rows=4,
    columns={"a": "integer", "b": "string"},
    gaps=("b",),
    target="y",
    source=TableRef(uri="/lake/datasets/shop", version=3, rows=5, columns={"a": "integer"}),
    seed=7,
    until="2024-01-03T00:00:00",
)


def fitted() -> LogisticRegression:
    return LogisticRegression().fit([[0], [1], [2], [3]], [0, 0, 1, 1])


def test_what_is_attached_is_read_back() -> None:
    model = fitted()
    attach(model, LEARNED)
    assert lineage_of(model) == LEARNED


@pytest.mark.parametrize("until", [None, "2024-01-03T00:00:00+00:00", 3.5, 0.0])
def test_the_end_of_the_training_rows_keeps_its_kind(until: str | float | None) -> None:
    model = fitted()
    attach(model, LEARNED.model_copy(update={"until": until}))
    found = lineage_of(model)
    assert found is not None
    assert (found.until, type(found.until)) == (until, type(until))


def by_skops(model: object) -> object:
    return skops.io.loads(skops.io.dumps(model), trusted=sorted(trusted_types()))


def by_joblib(model: object, path) -> object:
    joblib.dump(model, path)
    return joblib.load(path)


def test_it_travels_with_the_model_by_any_serializer(tmp_path) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit([[0], [1], [2], [3]], [0, 0, 1, 1])
    attach(model, LEARNED)
    assert lineage_of(pickle.loads(pickle.dumps(model))) == LEARNED
    assert lineage_of(cloudpickle.loads(cloudpickle.dumps(model))) == LEARNED
    assert lineage_of(by_joblib(model, tmp_path / "model")) == LEARNED
    assert lineage_of(by_skops(model)) == LEARNED


def test_a_clone_has_learned_nothing_yet() -> None:
    model = fitted()
    attach(model, LEARNED)
    assert lineage_of(clone(model)) is None


@pytest.mark.parametrize(
    "found",
    [None, "sha256:1", 3, [], {}, {"digest": "sha256:1"}, {"digest": 1, "rows": 1}, {"digest": "a", "rows": 1, "x": 2}],
)
def test_an_attribute_of_somebody_elses_is_no_lineage(found: object) -> None:
    model = fitted()
    setattr(model, ATTRIBUTE, found)
    assert lineage_of(model) is None


def test_a_model_trained_elsewhere_has_none() -> None:
    assert lineage_of(fitted()) is None
    assert lineage_of(None) is None


def test_a_model_is_named_after_the_estimator_that_decides() -> None:
    assert estimator_name(LogisticRegression()) == "LogisticRegression"
    assert estimator_name(make_pipeline(StandardScaler(), LogisticRegression())) == "LogisticRegression"
    assert estimator_name(make_pipeline(make_pipeline(LogisticRegression()))) == "Pipeline"


def test_what_it_has_not_learned_from_is_said_in_words() -> None:
    rule = SideRule(by="key", columns=("shop", "day"), share=0.25)
    kept = Lineage(digest="sha256:0", rows=1)
    cases = [
        (kept, ""),
        (kept.model_copy(update={"until": "2013-03-31", "order_by": "day"}), "rows after 2013-03-31 by day"),
        (kept.model_copy(update={"until": 7}), "rows after 7"),
        (kept.model_copy(update={"rule": rule}), "0.25 of the rows, by a hash of their key (shop, day)"),
        (
            kept.model_copy(update={"rule": rule, "refit_of": 3}),
            "none: it was trained on all rows after v3 was judged",
        ),
    ]
    assert [lineage.holdout for lineage, _ in cases] == [words for _, words in cases]
    assert Lineage.model_validate_json(cases[-1][0].model_dump_json()) == cases[-1][0]
