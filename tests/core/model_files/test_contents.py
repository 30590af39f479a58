"""Two dumps of one model are one content, and whatever differs between two models is named."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.model_files import contents
from prefect_mlops.core.model_files.contents import READ_FROM, differing_paths, model_content
from prefect_mlops.tasks import train_model

random = np.random.default_rng(0)
X = pd.DataFrame({"size": random.random(200), "weight": random.random(200), "kind": random.choice(["a", "b"], 200)})
y = pd.Series((X["size"] + random.random(200) > 1).astype("int64"), name="late")


def linear() -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer((OneHotEncoder(), ["kind"]), (numbers, ["size", "weight"]))
    return make_pipeline(columns, LogisticRegression())


def forest(**settings: Any) -> Any:
    columns = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    return make_pipeline(columns, RandomForestClassifier(5, **settings))


def boosted() -> Any:
    columns = make_column_transformer((OneHotEncoder(sparse_output=False), ["kind"]), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=5))


@pytest.fixture
def content(tmp_path: Path) -> Callable[[Any], dict[str, str]]:
    def of(model: Any) -> dict[str, str]:
        file = tmp_path / "model.skops"
        skops.io.dump(model, file)
        return model_content(file)

    return of


@pytest.mark.parametrize("make", [linear, forest, boosted])
def test_a_model_trained_twice_has_one_content_though_its_files_differ(
    content: Callable[[Any], dict[str, str]], make: Callable[[], Any]
) -> None:
    first, second = (train_model.fn(make(), X, y, seed=3) for _ in range(2))
    assert skops.io.dumps(first) != skops.io.dumps(second)
    assert differing_paths(content(first), content(second)) == []


def test_what_differs_is_named(content: Callable[[Any], dict[str, str]]) -> None:
    first, second = train_model.fn(linear(), X, y), train_model.fn(linear(), X, y)
    second[-1].coef_[0, 0] = np.nextafter(second[-1].coef_[0, 0], 1)
    second[-1].C = 2.0
    assert differing_paths(content(first), content(second)) == ["steps[1][1].C", "steps[1][1].coef_"]
    seeds = differing_paths(content(train_model.fn(forest(), X, y, seed=1)), content(train_model.fn(forest(), X, y)))
    assert "steps[1][1].random_state" in seeds
    assert any(path.startswith("steps[1][1].estimators_[0].tree_") for path in seeds)
    del second[-1].coef_
    assert "steps[1][1].coef_" in differing_paths(content(first), content(second))


def test_where_the_rows_were_read_from_can_be_told_from_the_rest(content: Callable[[Any], dict[str, str]]) -> None:
    first, second = train_model.fn(linear(), X, y), train_model.fn(linear(), X, y)
    first.trained_on_["source"] = {"uri": "/here/shop", "version": 3}
    second.trained_on_["source"] = {"uri": "/there/shop", "version": 3}
    paths = differing_paths(content(first), content(second))
    assert paths == [f"{READ_FROM}.uri"]


@pytest.mark.parametrize(
    ("then", "now", "alike"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a", "b", "c"}, {"c", "b", "a"}, True),
        (set([0, 8]), set([8, 0]), True),  # noqa: C405 - iterated in two orders
        ({"a", "b"}, {"a", "c"}, False),
        ({1: "a"}, {"1": "a"}, False),
        (np.array(["x", None], dtype=object), np.array(["x", None], dtype=object), True),
        (np.array(["x", None], dtype=object), np.array(["x", 1], dtype=object), False),
        (np.array([1, 2]), np.array([1.0, 2.0]), False),
        (np.array([[1, 2]]), np.array([1, 2]), False),
        (np.array([[1, 2], [3, 4]], order="C"), np.array([[1, 2], [3, 4]], order="F"), True),
        (np.float64(0.1), np.float64(0.1), True),
        (np.float64(0.0), np.float64(-0.0), False),
        (sp.csr_matrix(np.eye(3)), sp.csr_matrix(np.eye(3)), True),
        (sp.csr_matrix(np.eye(3)), sp.csr_matrix(np.diag([1, 1, 2.0])), False),
        (sp.csr_matrix(np.eye(3)), sp.csc_matrix(np.eye(3)), False),
        (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0]), False),
        (b"abc", b"abc", True),
        (b"abc", b"abd", False),
        (np.log, np.exp, False),
        (np.random.RandomState(0), np.random.RandomState(1), False),
        (slice(1, 2), slice(1, 3), False),
        ((1, 2), [1, 2], False),
    ],
)
def test_whatever_skops_writes_is_compared_by_its_meaning(
    content: Callable[[Any], dict[str, str]], then: Any, now: Any, alike: bool
) -> None:
    assert (differing_paths(content({"x": then}), content({"x": now})) == []) is alike


def test_bytes_between_the_fields_of_a_record_do_not_count(content: Callable[[Any], dict[str, str]]) -> None:
    padded = np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8], "itemsize": 16})
    one, other = (np.frombuffer(bytes([fill]) * 32, "u1").copy().view(padded) for fill in (0, 255))
    for records in (one, other):
        records["a"], records["b"] = 1, 2.5
    assert one.tobytes() != other.tobytes()
    assert differing_paths(content({"x": one}), content({"x": other})) == []
    other["b"][1] = 2.6
    assert differing_paths(content({"x": one}), content({"x": other})) == ["x"]


# Files from anybody.


def written(file: Path, tree: Any, **files: bytes) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)
        archive.writestr("schema.json", tree if isinstance(tree, str) else json.dumps(tree))
    return file


def test_nothing_is_imported_or_built_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    tree = {"__class__": "Evil", "__module__": "evil", "__loader__": "ObjectNode", "content": {"a": 1}}
    assert model_content(written(tmp_path / "m.skops", tree))
    assert "evil" not in sys.modules


def test_a_pickle_in_an_array_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    data = io.BytesIO()
    np.save(data, np.array([Evil()], dtype=object), allow_pickle=True)
    bare = pickle.dumps(Evil())
    for array in (data.getvalue(), bare):
        tree = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "file": "a.npy"}
        with pytest.raises(ConfigError, match="not a skops file that can be read"):
            model_content(written(tmp_path / "m.skops", tree, a_npy=array))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "tree", ["{", "[" * 100_000, "[" * 50_000 + "]" * 50_000, '{"__loader__": "NdArrayNode", "file": "absent.npy"}']
)
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path, tree: str) -> None:
    with pytest.raises(ConfigError, match=r"m.skops is not a skops file that can be read: \S"):
        model_content(written(tmp_path / "m.skops", tree))


def test_odd_trees_are_read_as_data(tmp_path: Path) -> None:
    for tree in (
        3,
        {"__loader__": "DictNode", "content": {"a": None}, "key_types": 7},
        {"__loader__": "DictNode", "content": {"a": None, "b": 1}, "key_types": {"content": [{"__class__": "str"}]}},
        {"__loader__": "SetNode", "content": 5},
        {"__loader__": ["x"], "file": 9},
    ):
        assert model_content(written(tmp_path / "m.skops", tree))


def test_a_file_that_is_none_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.skops").write_text("hello")
    for name in ("text.skops", "absent.skops"):
        with pytest.raises(ConfigError, match=name):
            model_content(tmp_path / name)
    file = written(tmp_path / "m.skops", {"a": "b" * 1000})
    monkeypatch.setattr(contents, "MAX_TREE_BYTES", 500)
    with pytest.raises(ConfigError, match="more than 500 bytes"):
        model_content(file)
    monkeypatch.setattr(contents, "MAX_BYTES", 800)
    with pytest.raises(ConfigError, match="more than is compared"):
        model_content(file)
