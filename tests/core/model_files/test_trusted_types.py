from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy
import skops.io
from packaging.version import Version
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - brings the halving searches
from sklearn.feature_selection import (
    SelectKBest,
    chi2,
    f_classif,
    f_regression,
    mutual_info_classif,
    mutual_info_regression,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, TweedieRegressor
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    StratifiedKFold,
    TimeSeriesSplit,
    TunedThresholdClassifierCV,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from skops.io.exceptions import UntrustedTypesFoundException

from prefect_mlops.core.model_files.trusted_types import REVIEWED, trusted_types
from prefect_mlops.core.settings import Settings

# What one release of scipy needs and another has not, or does not put in a file.
ONLY_WITH = {
    "scipy._lib.array_api_compat.numpy._aliases.asarray": ("1.17", "1.18"),
    "scipy.interpolate._bsplines._BSpline": ("1.18", "2"),
}
ROWS = 120
_random = np.random.default_rng(0)
X = pd.DataFrame(np.abs(_random.normal(size=(ROWS, 3))), columns=list("abc"))
X["d"] = pd.Categorical(["u", "v"] * (ROWS // 2))
y = (X["a"] > X["a"].median()).astype(int)


def search(kind: Any = GridSearchCV, **options: Any) -> Any:
    return kind(LogisticRegression(), {"C": [0.1, 1.0]}, **{"cv": 2, **options})


# What users have that skops asks about; between them they need every reviewed type, and nothing else.
ON_NUMBERS = [
    *(KNeighborsClassifier(metric=m, algorithm="kd_tree") for m in ("euclidean", "manhattan", "chebyshev")),
    KNeighborsClassifier(metric="minkowski", p=3, algorithm="ball_tree"),
    DecisionTreeClassifier(),
    TweedieRegressor(power=1.5),
    TweedieRegressor(power=1.5, link="identity"),
    MLPClassifier((2,), max_iter=2),
    MLPClassifier((2,), max_iter=2, solver="sgd"),
    make_pipeline(SplineTransformer(), LogisticRegression()),
    make_pipeline(SimpleImputer(), LogisticRegression()),
    CalibratedClassifierCV(LogisticRegression(), cv=2),
    VotingClassifier([("a", LogisticRegression())]),
    TunedThresholdClassifierCV(LogisticRegression(), cv=2),
    TunedThresholdClassifierCV(LogisticRegression(), cv=2, scoring="f1"),
    search(),
    search(scoring="roc_auc", cv=KFold(2)),
    search(scoring="accuracy", cv=StratifiedKFold(2)),
    search(scoring="f1", cv=TimeSeriesSplit(2)),
    search(HalvingGridSearchCV, min_resources=60, random_state=0),  # its draws of few rows can miss a class
    search(HalvingRandomSearchCV, min_resources=60, random_state=0),
    *(
        make_pipeline(SelectKBest(function, k=2), LogisticRegression())
        for function in (chi2, f_classif, f_regression, mutual_info_classif, mutual_info_regression)
    ),
]
ON_TABLES = [
    HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype"),
    make_pipeline(
        make_column_transformer((StandardScaler(), make_column_selector(dtype_include="number"))), LogisticRegression()
    ),
]


def own_function(values: Any) -> Any:
    return values


@pytest.fixture(scope="module")
def fitted() -> list[tuple[Any, pd.DataFrame, bytes]]:
    """Each estimator fitted, the rows it takes, and its skops file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two iterations and two folds are enough to see the types
        models = [(model.fit(X[list("abc")], y), X[list("abc")]) for model in ON_NUMBERS]
        models += [(model.fit(X, y), X) for model in ON_TABLES]
    return [(model, rows, skops.io.dumps(model)) for model, rows in models]


@pytest.fixture(scope="module")
def asked_for(fitted: list[tuple[Any, pd.DataFrame, bytes]]) -> set[str]:
    """The types skops asks a person about before it loads these models."""
    return {name for *_, stored in fitted for name in skops.io.get_untrusted_types(data=stored)}


@pytest.mark.parametrize("name", sorted(REVIEWED))
def test_each_reviewed_type_is_needed_by_an_estimator(asked_for: set[str], name: str) -> None:
    """A name nobody needs, or that no release has any more, is trust given away for nothing."""
    since, before = ONLY_WITH.get(name, ("0", "999"))
    if not Version(since) <= Version(scipy.__version__) < Version(before):
        pytest.skip(f"scipy {scipy.__version__} does without it")
    assert name in asked_for
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


def test_these_models_need_no_other_type(asked_for: set[str]) -> None:
    assert asked_for <= REVIEWED


def test_these_models_load_with_the_list_and_predict_the_same(fitted: list[tuple[Any, pd.DataFrame, bytes]]) -> None:
    for model, rows, stored in fitted:
        loaded = skops.io.loads(stored, trusted=sorted(trusted_types()))
        np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows), err_msg=repr(model))


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "operator.methodcaller", f"{__name__}.own_function"])
def test_nothing_that_could_run_a_file_of_its_own_is_trusted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("PREFECT_MLOPS_TRUSTED_TYPES", raising=False)
    assert name not in trusted_types()


def test_a_partial_adds_no_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """`functools.partial` is on the list: it must not bring in a function that is not."""
    import functools
    import operator

    stored = skops.io.dumps(FunctionTransformer(functools.partial(operator.add, 1)))
    assert set(skops.io.get_untrusted_types(data=stored)) - trusted_types()
    with pytest.raises(UntrustedTypesFoundException):
        skops.io.loads(stored, trusted=sorted(trusted_types()))


@pytest.mark.parametrize(
    ("setting", "added"),
    [
        ("", set()),
        ("mine.Encoder", {"mine.Encoder"}),
        (" mine.Encoder , mine.Scaler,, ", {"mine.Encoder", "mine.Scaler"}),
    ],
)
def test_a_site_adds_types_by_environment(monkeypatch: pytest.MonkeyPatch, setting: str, added: set[str]) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_TRUSTED_TYPES", setting)
    assert set(Settings().trusted_types) == added
    assert trusted_types() == REVIEWED | added


def test_a_type_of_ones_own_loads_when_the_site_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_MLOPS_TRUSTED_TYPES", raising=False)
    stored = skops.io.dumps(FunctionTransformer(np.log1p))
    needed = set(skops.io.get_untrusted_types(data=stored))
    assert not needed - trusted_types(), "functions of NumPy are among skops' defaults"
    own = skops.io.dumps(FunctionTransformer(importlib.import_module("colorsys").rgb_to_hsv))
    assert set(skops.io.get_untrusted_types(data=own)) - trusted_types() == {"colorsys.rgb_to_hsv"}
    monkeypatch.setenv("PREFECT_MLOPS_TRUSTED_TYPES", "colorsys.rgb_to_hsv")
    assert skops.io.loads(own, trusted=sorted(trusted_types())).func is importlib.import_module("colorsys").rgb_to_hsv
