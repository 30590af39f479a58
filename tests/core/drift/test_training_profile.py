"""What is kept of a model's training data: it comes back as it was, and nothing in it is believed blindly."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from prefect_mlops.core.drift import training_profile
from prefect_mlops.core.drift.column_profile import MAX_COUNTED
from prefect_mlops.core.drift.quantiles import PIECE
from prefect_mlops.core.drift.table_drift import compare_profiles
from prefect_mlops.core.drift.table_profile import profile_chunks
from prefect_mlops.core.drift.training_profile import (
    PREDICTION,
    PROFILE_FILE,
    SAMPLE_FILE,
    make_training_profile,
    profile_digest,
    read_training_profile,
    scores_of,
    weights_of,
    write_training_profile,
)
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.evaluation.importance import Importance, Importances


def awkward(rows: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "n": random.normal(size=rows),
            "infinite": np.where(random.random(rows) < 0.01, np.inf, random.normal(size=rows)),
            "whole": pd.array(random.integers(0, 9, rows), dtype="Int64"),
            "gaps": np.where(random.random(rows) < 0.1, np.nan, 1.0),
            "c": pd.Series(random.choice(["a", "é", "\ud800"], rows).tolist(), dtype=object),
            "k": pd.Categorical(random.integers(0, 3, rows)),
            "b": random.random(rows) < 0.3,
            "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(rows), unit="min"),
            "id": [f"order {n}" for n in range(rows)],
            "mixed": pd.Series([[1], "x", 2.5, None] * (rows // 4), dtype=object),
            "nothing": None,
        }
    )


def test_a_reference_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = MAX_COUNTED + 4_000
    reference = make_training_profile(awkward(rows).drop(columns="b"), awkward(rows)["b"], preparation="sha256:1")
    write_training_profile(reference, tmp_path)
    back = read_training_profile(tmp_path)
    assert (back.features, back.target, back.preparation) == (reference.features, "b", "sha256:1")
    now = profile_chunks([awkward(5_000, seed=1)])
    before, after = (compare_profiles(current=now, reference=one.profile) for one in (reference, back))
    assert after.kinds == before.kinds
    assert after.findings == before.findings
    for old, new in zip(before.changes, after.changes, strict=True):
        assert new.measure.size == pytest.approx(old.measure.size, abs=2e-4)
        assert (new.column, new.aspect, new.drifted) == (old.column, old.aspect, old.drifted)
    assert list(back.profile.sample.columns) == list(reference.profile.sample.columns)
    assert len(back.profile.sample) == len(reference.profile.sample)
    assert (tmp_path / PROFILE_FILE).stat().st_size < 1_000_000


def test_the_same_rows_are_kept_in_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_training_profile(make_training_profile(awkward(400)), tmp_path / name)
    assert (tmp_path / "one" / PROFILE_FILE).read_bytes() == (tmp_path / "two" / PROFILE_FILE).read_bytes()


def test_a_long_column_is_kept_short_and_says_how_exactly(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": np.random.default_rng(0).normal(size=PIECE + 5)})
    write_training_profile(make_training_profile(frame), tmp_path)
    kept = read_training_profile(tmp_path).profile
    assert len(kept.columns["n"].numbers.distribution().points) == 10_000
    assert 0 < kept.error < 1e-3


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept | {"format": 2},
        lambda kept: kept | {"columns": {"n": {"kind": "numeric"}}},
        lambda kept: kept | {"columns": []},
        lambda kept: kept | {"weights": {"n": "heavy"}},
        lambda kept: {},
        lambda kept: [],
    ],
)
def test_a_damaged_reference_is_refused_in_words(tmp_path: Path, damage: Any) -> None:
    write_training_profile(make_training_profile(awkward(100)), tmp_path)
    kept = json.loads(gzip.decompress((tmp_path / PROFILE_FILE).read_bytes()))
    (tmp_path / PROFILE_FILE).write_bytes(gzip.compress(json.dumps(damage(kept)).encode()))
    with pytest.raises(ConfigError, match=PROFILE_FILE):
        read_training_profile(tmp_path)


@pytest.mark.parametrize("name", [PROFILE_FILE, SAMPLE_FILE])
@pytest.mark.parametrize(
    "content", [b"", b"PAR1", gzip.compress(b"{")[:-4], b"\x80\x04."], ids=["empty", "magic", "cut", "pickle"]
)
def test_files_that_are_no_reference_are_refused_in_words(tmp_path: Path, name: str, content: bytes) -> None:
    write_training_profile(make_training_profile(awkward(100)), tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_training_profile(tmp_path)


def test_a_file_that_unpacks_to_more_than_is_kept_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_training_profile(make_training_profile(awkward(100)), tmp_path)
    monkeypatch.setattr("prefect_mlops.core.drift.training_profile.MAX_BYTES", 1_000)
    with pytest.raises(ConfigError, match="unpacks to more than 1,000 bytes"):
        read_training_profile(tmp_path)


def test_a_digest_names_the_rows() -> None:
    assert profile_digest(profile_chunks([awkward(400)])) == profile_digest(profile_chunks([awkward(400)]))
    other = awkward(400)
    other.loc[7, "n"] += 1e-9
    assert profile_digest(profile_chunks([other])) != profile_digest(profile_chunks([awkward(400)]))


def importances(**drops: float) -> Importances:
    columns = tuple(Importance(column=name, drop=drop, spread=0.01) for name, drop in drops.items())
    return Importances(metric="r2", rows=100, repeats=5, columns=columns, negligible=0, largest_share=0.5)


def test_what_shuffling_alone_can_cost_weighs_nothing() -> None:
    found = weights_of(importances(a=0.3, b=0.1, c=0.005, d=-0.02), ("a", "b", "c", "d"))
    assert found == pytest.approx({"a": 0.75, "b": 0.25, "c": 0, "d": 0})
    assert weights_of(importances(a=0.005), ("a",)) == {}, "a model that uses nothing tells nothing"
    assert weights_of(importances(other=0.3), ("a",)) == {}


X = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 3)), columns=list("abc"))
Y = X["a"] + X["b"] > 0


@pytest.mark.parametrize(
    ("model", "target", "kind"),
    [
        (LogisticRegression(), Y, "numeric"),
        (LinearRegression(), X["a"], "numeric"),
        (LogisticRegression(), pd.Series(np.where(Y, "x", np.where(X["c"] > 0, "y", "z"))), "string"),
    ],
)
def test_predictions_are_probabilities_numbers_or_names(model: Any, target: pd.Series, kind: str) -> None:
    reference = make_training_profile(X, estimator=model.fit(X, target), unseen=X)
    assert reference.profile.columns[PREDICTION].kind == kind
    assert reference.profile.columns[PREDICTION].rows == 300
    assert PREDICTION in reference.profile.sample


def test_predictions_are_taken_from_rows_the_model_has_not_seen() -> None:
    forest = RandomForestClassifier(20, random_state=0).fit(X[:200], Y[:200])
    reference = make_training_profile(X[:200], Y[:200].rename("y"), estimator=forest, unseen=X[200:])
    said = np.sort(scores_of(forest, X[200:]))
    assert (reference.profile.columns[PREDICTION].numbers.distribution().points == said).all()
    assert (reference.features, reference.target) == (("a", "b", "c"), "y")


def test_rows_in_another_order_with_the_order_they_came_in_are_the_same_rows() -> None:
    table = awkward(3_000)
    shuffled = table.sample(frac=1, random_state=0)
    place = np.argsort(shuffled.index.to_numpy(), kind="stable")
    one, other = make_training_profile(table), make_training_profile(shuffled, order=place)
    assert profile_digest(one.profile) == profile_digest(other.profile)
    assert one.usual == other.usual


def test_a_long_table_is_summarised_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    table = awkward(3_000)
    whole = make_training_profile(table)
    monkeypatch.setattr(training_profile, "CHUNK_ROWS", 700)
    parts = make_training_profile(table)
    assert parts.usual.of(1_000) == pytest.approx(whole.usual.of(1_000), rel=1e-9)
    for name, one in whole.profile.columns.items():
        now = parts.profile.columns[name]
        assert (now.rows, now.nulls, now.kind, now.counts) == (one.rows, one.nulls, one.kind, one.counts)
        np.testing.assert_array_equal(
            now.numbers.distribution().points, one.numbers.distribution().points, err_msg=name
        )
