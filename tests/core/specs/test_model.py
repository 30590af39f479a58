from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import FunctionType

import numpy as np
import pandas as pd
import pytest
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder, StandardScaler

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.specs.model import ModelSpec, load_spec
from prefect_mlops.core.specs.policies import Drift, Retrain, Tune
from prefect_mlops.core.values import Gate

SUITE = ExpectationSuite(name="x", expectations=[gxe.ExpectColumnToExist(column="a")])


def spec(**changed: object) -> ModelSpec:
    recipe: dict = {
        "name": "shop",
        "dataset": "shop",
        "target": "returned",
        "estimator": LogisticRegression(),
        "suite": SUITE,
        "gates": [Gate("roc_auc", at_least=0.5)],
    }
    return ModelSpec(**{**recipe, **changed})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a/b"),
        ("name", "shop\n"),
        ("name", "x" * 101),
        ("name", "X" * 100),
        ("name", None),
        ("name", 3),
        ("dataset", ""),
        ("dataset", "Shop"),
        ("dataset", "shop day"),
        ("dataset", None),
        ("dataset", Path("shop.csv")),
        ("target", ""),
        ("target", None),
        ("estimator", LogisticRegression),
        ("estimator", "LogisticRegression"),
        ("estimator", None),
        ("estimator", object()),
        ("suite", None),
        ("suite", ExpectationSuite(name="empty")),
        ("suite", "flights"),
        ("gates", []),
        ("gates", None),
        ("gates", Gate("roc_auc", at_least=0.5)),
        ("gates", ["roc_auc"]),
        ("features", []),
        ("features", "a"),
        ("features", ["a", "returned"]),
        ("features", ["a", "b", "a"]),
        ("metrics", "roc_auc"),
        ("metrics", ["roc_acu"]),
        ("metrics", None),
        ("prepare", "prepare"),
        ("reads", "a"),
        ("reads", []),
        ("reads", ["a"]),  # and no prepare
        ("reads", 3),
        ("order_by", 3),
        ("order_by", "returned"),
        ("group_by", ["day"]),
        ("group_by", "returned"),
        ("positive", ["yes"]),
        ("positive", float("nan")),
        ("positive", LogisticRegression()),
        ("stratify", "returned"),
        ("test_share", 0),
        ("test_share", 1),
        ("test_share", 20),
        ("test_share", "0.2"),
        ("test_share", True),
        ("test_share", float("nan")),
        ("seed", "a"),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", 0.5),
        ("seed", None),
        ("experiment", None),
        ("drift", 0.1),
        ("drift", Drift(min_change=1.0)),
        ("drift", Drift(max_drifted_share=-0.1)),
        ("retrain", timedelta(hours=1)),
        ("retrain", Retrain(cool_down=timedelta(seconds=-1))),
        ("retrain", Retrain(refused_in_a_row=-1)),
        ("retrain", Retrain(lease=timedelta(0))),
        ("purpose", 3),
    ],
)
def test_a_wrong_field_is_refused_and_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^ModelSpec .*: {field}: ") as refused:
        spec(**{field: value})
    assert len(str(refused.value)) < 400


def test_what_holds_trainings_back_is_no_part_of_the_recipe() -> None:
    braked = spec(retrain=Retrain(cool_down=timedelta(days=1), refused_in_a_row=1, lease=timedelta(minutes=5)))
    assert braked.digest == spec().digest


def test_an_unknown_metric_of_a_gate_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="metrics: no metric is called 'roc_acu': did you mean 'roc_auc'"):
        spec(gates=[Gate("roc_acu", at_least=0.5)])


def cost(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
    return -float((estimator.predict(X) != y).mean())


def profit(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
    return 3 * float((estimator.predict(X) == y).mean())


def roc_auc(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
    return 1.0


def test_functions_are_metrics_beside_scorer_names() -> None:
    made = spec(gates=[Gate(cost, at_least=-1.0), Gate("roc_auc", at_least=0.5)], metrics=[profit, "f1", cost])
    assert made.metrics == (cost, "roc_auc", profit, "f1")
    assert [gate.metric for gate in made.gates] == ["cost", "roc_auc"]
    assert made.gates[0].scorer is cost
    assert made.gates[1].scorer == "roc_auc"


def another(cost_of_one: int) -> FunctionType:
    def cost(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
        return -float(cost_of_one * (estimator.predict(X) != y).mean())

    return cost  # type: ignore[return-value]


def test_the_digest_changes_with_what_a_metric_computes() -> None:
    gates = [spec(gates=[Gate(another(price), at_least=-1.0)]).digest for price in (1, 2, 1)]
    recorded = [spec(metrics=[another(price)]).digest for price in (1, 2, 1)]
    for one, two, again in (gates, recorded):
        assert one != two
        assert one == again


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (lambda estimator, X, y: 1.0, "has no name to keep its values under: define it with def"),
        (functools.partial(cost, y=None), "has no name to keep its values under"),
        (roc_auc, "'roc_auc' is a function with the name of a scikit-learn scorer"),
        (roc_auc_score, r"metric 'roc_auc_score' takes \(y_true, y_score, .*: a metric takes \(estimator, X, y\)"),
        (3, "expected a scorer's name or a function of"),
        (None, "expected a scorer's name or a function of"),
        (LogisticRegression, "expected a scorer's name or a function of"),
    ],
)
def test_what_is_no_metric_is_refused_by_gate_and_spec(metric: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Gate(metric, at_least=0.5)
    with pytest.raises(ConfigError, match=f"ModelSpec 'shop': metrics: .*{says}"):
        spec(metrics=[metric])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "has no condition: give at_least, may_lose, must_gain or max_gap"),
        ({"slices": ("carrier",)}, "has no condition"),
        ({"max_gap": 0.1}, "max_gap compares groups, name their columns in slices"),
        ({"may_lose": 0.1, "slices": ("carrier", "carrier")}, "names a column twice"),
        ({"may_lose": 0.1, "slices": "carrier"}, "slices"),
        ({"may_lose": 0.1, "slices": ("",)}, "slices"),
        ({"may_lose": 0.1, "confidence": 0.5}, "confidence"),
        ({"may_lose": 0.1, "confidence": 1}, "confidence"),
        ({"may_lose": 0.1, "confidence": 95}, "confidence"),
        ({"may_lose": float("nan")}, "may_lose"),
        ({"at_least": float("nan")}, "at_least"),
        ({"must_gain": float("inf")}, "must_gain"),
        ({"max_gap": -0.1, "slices": ("carrier",)}, "max_gap"),
    ],
)
def test_a_wrong_gate_is_refused_and_the_field_named(options: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^Gate: .*{says}"):
        Gate("roc_auc", **options)


def test_gates_come_back_from_json_with_the_name_of_their_function() -> None:
    gate = Gate("roc_auc", may_lose=0.1, slices=["carrier"], max_gap=0.2, confidence=0.9)
    assert Gate.model_validate_json(gate.model_dump_json()) == gate
    assert Gate.model_validate({"metric": "roc_auc", "at_least": 0.5, "may_lose": None, "must_gain": None}).slices == ()
    own = Gate.model_validate_json(Gate(cost, at_least=-1.0).model_dump_json())
    assert (own.metric, own.scorer) == ("cost", "cost")
    with pytest.raises(ConfigError, match="metrics: no metric is called 'cost'"):
        spec(gates=[own])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"order_by": "day", "stratify": True}, "order_by"),
        ({"group_by": "shop", "stratify": True}, "group_by"),
    ],
)
def test_ways_to_split_that_exclude_each_other_are_refused(options: dict, field: str) -> None:
    with pytest.raises(ConfigError, match=f": {field}: "):
        spec(**options)


def test_a_good_spec_is_filled_in_and_frozen() -> None:
    made = spec(gates=[Gate("roc_auc", at_least=0.5)], metrics=["f1", "roc_auc"], features=["a"])
    assert made.metrics == ("roc_auc", "f1")
    assert made.features == ("a",)
    assert made.experiment == "shop"
    assert spec(experiment="trials").experiment == "trials"
    with pytest.raises(AttributeError):
        made.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("dataset", "data", "address"),
    [
        ("shop", None, "delta://{lake}/datasets/shop"),
        ("shop", "", "delta://{lake}/datasets/shop"),
        ("shop", "@3", "delta://{lake}/datasets/shop@3"),
        ("shop", "other.csv", "other.csv"),
        ("shop.parquet", "", "shop.parquet"),
        ("s3://bucket/shop", "@3", "s3://bucket/shop@3"),
        ("folder/shop", None, "folder/shop"),
    ],
)
def test_the_address_to_read_from(
    dataset: str, data: str | None, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path))
    assert spec(dataset=dataset).source(data) == address.format(lake=tmp_path)


def test_a_lake_in_the_cloud_is_named_by_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", "s3://bucket/lake/")
    assert spec().source("@3") == "s3://bucket/lake/datasets/shop@3"


def test_preparing_keeps_where_the_rows_came_from() -> None:
    rows = pd.DataFrame({"a": [1, 2]})
    rows.attrs["from"] = "a file"
    prepared = spec(prepare=lambda table: pd.DataFrame({"b": table["a"] * 2})).prepared(rows)
    assert prepared["b"].tolist() == [2, 4]
    assert prepared.attrs == {"from": "a file"}
    assert spec().prepared(rows) is rows


# What makes a recipe another one, and what does not.

LIMIT = 15


def late(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(late=lambda rows: rows["delay"].mean() > LIMIT)


def rewritten(old: str, new: str) -> FunctionType:
    """The function `late` with a piece of its code exchanged, as an edit to the user's file would."""
    body = """
def late(table):
    return table.assign(late=lambda rows: rows["delay"].mean() > LIMIT)
"""
    limit = "LIMIT = 15\n"
    source = limit + body
    assert old in source
    names: dict = {}
    exec(source.replace(old, new), names)  # noqa: S102
    return names["late"]


def prepared_by(old: str, new: str) -> str:
    return spec(prepare=rewritten(old, new)).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("table.assign", "table.dropna().assign", id="a call more"),
        pytest.param(".mean()", ".max()", id="another method, in a lambda"),
        pytest.param('"delay"', '"dep_delay"', id="another constant, in a lambda"),
        pytest.param("LIMIT = 15", "LIMIT = 30", id="another constant of the module"),
        pytest.param("(table)", "(table, least=3)", id="another default"),
    ],
)
def test_the_digest_changes_with_what_prepare_does(old: str, new: str) -> None:
    assert prepared_by(old, new) != prepared_by(old, old)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("def late", "\n\n# a remark\ndef late", id="a remark and other lines"),
        pytest.param("LIMIT = 15", "LIMIT = 15\nOTHER = 3", id="a constant it does not use"),
    ],
)
def test_the_digest_does_not_change_with_what_prepare_does_not_use(old: str, new: str) -> None:
    assert prepared_by(old, new) == prepared_by(old, old)


def threshold(table: pd.DataFrame, least: int) -> pd.DataFrame:
    return table[table["a"] > least]


def above(least: int) -> FunctionType:
    return lambda table: table[table["a"] > least]  # type: ignore[return-value]


def test_the_digest_changes_with_what_prepare_was_made_with() -> None:
    one, two = (spec(prepare=functools.partial(threshold, least=least)).digest for least in (1, 2))
    assert one != two
    assert spec(prepare=functools.partial(threshold, least=1)).digest == one
    assert spec(prepare=above(1)).digest != spec(prepare=above(2)).digest
    assert spec(prepare=above(1)).digest == spec(prepare=above(1)).digest


def log(values: np.ndarray) -> np.ndarray:
    return np.log1p(values)


def square(values: np.ndarray) -> np.ndarray:
    return np.square(values)


MANY = np.arange(5000)
SAME_RECIPE_TWICE = [
    pytest.param(LogisticRegression(C=2.0, max_iter=50), LogisticRegression(max_iter=50, C=2.0), id="order"),
    pytest.param(
        LogisticRegression(class_weight={0: 1, 1: 2}), LogisticRegression(class_weight={1: 2, 0: 1}), id="order of keys"
    ),
    pytest.param(
        make_pipeline(FunctionTransformer(lambda x: x + 1), RandomForestClassifier()),
        make_pipeline(FunctionTransformer(lambda x: x + 1), RandomForestClassifier()),
        id="addresses",
    ),
    pytest.param(
        make_column_transformer((StandardScaler(), make_column_selector("a"))),
        make_column_transformer((StandardScaler(), make_column_selector("a"))),
        id="addresses of objects",
    ),
]
OTHER_RECIPES = [
    pytest.param(LogisticRegression(C=1), LogisticRegression(C=2), id="parameter"),
    pytest.param(
        make_pipeline(StandardScaler(), LogisticRegression(C=1)),
        make_pipeline(StandardScaler(), LogisticRegression(C=2)),
        id="parameter of a step",
    ),
    pytest.param(LogisticRegression(), RandomForestClassifier(), id="class"),
    pytest.param(FunctionTransformer(log), FunctionTransformer(square), id="function"),
    pytest.param(FunctionTransformer(np.log1p), FunctionTransformer(np.sqrt), id="function of NumPy"),
    pytest.param(
        OrdinalEncoder(categories=[MANY]),
        OrdinalEncoder(categories=[np.where(MANY == 2500, -1, MANY)]),
        id="long array",
    ),
    pytest.param(
        make_column_transformer((StandardScaler(), make_column_selector("a"))),
        make_column_transformer((StandardScaler(), make_column_selector("b"))),
        id="inside an object",
    ),
    pytest.param(
        GridSearchCV(LogisticRegression(), {"C": [1]}, cv=KFold(3)),
        GridSearchCV(LogisticRegression(), {"C": [1]}, cv=KFold(4)),
        id="splitter",
    ),
]


@pytest.mark.parametrize(("one", "two"), SAME_RECIPE_TWICE)
def test_the_digest_of_the_same_estimator_is_the_same(one: object, two: object) -> None:
    assert spec(estimator=one).digest == spec(estimator=two).digest


@pytest.mark.parametrize(("one", "two"), OTHER_RECIPES)
def test_the_digest_changes_with_the_estimator(one: object, two: object) -> None:
    assert spec(estimator=one).digest != spec(estimator=two).digest


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"target": "sold"},
        {"gates": [Gate("roc_auc", at_least=0.6)]},
        {"gates": [Gate("roc_auc", at_least=0.5, may_lose=0.1)]},
        {"gates": [Gate("f1", at_least=0.5)]},
        {"gates": [Gate("roc_auc", at_least=0.5, confidence=0.9)]},
        {"gates": [Gate("roc_auc", at_least=0.5, slices=("carrier",))]},
        {"metrics": ["f1"]},
        {"features": ["a"]},
        {"prepare": late},
        {"order_by": "day"},
        {"group_by": "day"},
        {"positive": "yes"},
        {"stratify": True},
        {"test_share": 0.3},
        {"seed": 1},
    ],
    ids=lambda change: "-".join(change) if isinstance(change, dict) else str(change),
)
def test_the_digest_changes_with_the_recipe(changed: dict) -> None:
    assert spec(**changed).digest != spec().digest


def test_a_regressor_has_no_positive_class() -> None:
    with pytest.raises(ConfigError, match="positive: the estimator is a regressor, and has no classes"):
        spec(estimator=make_pipeline(StandardScaler(), Ridge()), gates=[Gate("r2", at_least=0)], positive=1)


def test_a_positive_class_is_part_of_the_decision_and_of_a_search() -> None:
    digests = {spec(positive=one).digest for one in (None, 1, "1", True, "yes")}
    assert len(digests) == 5
    assert spec(positive="yes").training_digest == spec().training_digest
    tune = Tune(space={"C": [0.1, 1.0]})
    assert spec(positive="yes", tune=tune).training_digest != spec(tune=tune).training_digest
    assert spec(positive="yes").decision_digest != spec().decision_digest


def test_how_a_challenger_is_evaluated_is_part_of_the_decision_and_not_of_the_training() -> None:
    crossed = spec(evaluation="cross_validation")
    assert crossed.training_digest == spec().training_digest
    assert crossed.digest == spec().digest
    assert crossed.decision_digest != spec().decision_digest
    assert spec(evaluation="holdout").decision_digest == spec().digest, "as it was recorded before there was a choice"
    assert crossed.decision_digest != spec(evaluation="cross_validation", refit="all").decision_digest


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"evaluation": "loo"}, "evaluation: expected 'holdout' or 'cross_validation', got 'loo'"),
        ({"tune": Tune(space={"C": [0.1, 1.0]})}, "with tune would judge on rows that the search has chosen"),
        ({"gates": [Gate("roc_auc", at_least=0.5, slices=("a",))]}, "judges no slices, and the gate on 'roc_auc' has"),
    ],
)
def test_what_cross_validation_cannot_judge_is_refused_when_the_spec_is_built(changed: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        spec(**{"evaluation": "cross_validation"} | changed)


def test_the_digest_does_not_change_with_what_a_model_is_not_made_of() -> None:
    told = spec(purpose="to know", experiment="trials", drift=Drift(min_change=0.3), dataset="elsewhere")
    assert told.digest == spec().digest


RECIPE = """
import functools

import numpy as np
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from scipy.stats import loguniform
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from prefect_mlops.core import Gate, ModelSpec

WORDS = {"a", "b", "c", "d", "e", "f"}


def prepare(table, least):
    return table[table["a"].isin(WORDS) | table["b"].map(lambda cell: cell in {"x", "y", "z", "u", "v"})]


def marked(values, names=frozenset({"one", "two", "three", "four"})):
    return values


search = RandomizedSearchCV(LogisticRegression(), {"C": loguniform(1e-3, 1.0)})
model = ModelSpec(
    name="m",
    dataset="d",
    target="t",
    estimator=make_pipeline(FunctionTransformer(marked, kw_args={"names": WORDS}), search),
    suite=ExpectationSuite(name="x", expectations=[gxe.ExpectColumnToExist(column="a")]),
    gates=[Gate("roc_auc", at_least=0.5)],
    prepare=functools.partial(prepare, least=3),
)
if __name__ != "__main__":
    print(model.digest)
"""


@pytest.mark.slow
def test_the_digest_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Sets are ordered by a seed of the process, and memory is laid out anew in each."""
    (tmp_path / "recipe.py").write_text(RECIPE)
    seen = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", "import recipe"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        seen.append(done.stdout.strip())
    assert seen[0] == seen[1]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", seen[0])


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes_of_test_specs.py").write_text(
        "from prefect_mlops.core.specs.model import ModelSpec\n"
        "model = object.__new__(ModelSpec)\nmodell = object.__new__(ModelSpec)\nnumber = 3\n"
    )
    (tmp_path / "broken_for_test_specs.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_spec_is_imported_by_its_dotted_name(recipes: None) -> None:
    import recipes_of_test_specs

    assert load_spec("recipes_of_test_specs.model") is recipes_of_test_specs.model
    assert load_spec(" recipes_of_test_specs.model ") is recipes_of_test_specs.model


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("model", "is not a dotted name"),
        ("", "is not a dotted name"),
        ("no_such_folder.model", "no module 'no_such_folder' to import"),
        ("broken_for_test_specs.model", "no module 'not_installed_anywhere' to import"),
        ("recipes_of_test_specs.modl", "did you mean 'model' or 'modell'?"),
        ("recipes_of_test_specs.xxxxxx", "there are: 'model', 'modell'"),
        ("recipes_of_test_specs.number", "is a int, not a ModelSpec"),
        ("recipes_of_test_specs.", "is not a dotted name"),
        (".model", "is not a dotted name"),
        ("..model", "is not a dotted name"),
        ("recipes_of_test_specs.py", "no ModelSpec in recipes_of_test_specs is called 'py'"),
        ("./recipes_of_test_specs.py", "is not a dotted name"),
        ("recipes_of_test_specs.py:model", "is not a dotted name"),
        ("/etc/passwd.model", "is not a dotted name"),
    ],
)
def test_a_wrong_name_of_a_spec_is_said_in_words(recipes: None, name: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_spec(name)
    assert says in str(refused.value)


def test_a_spec_tells_which_columns_a_training_needs() -> None:
    there = ["z", "returned", "a", "day", "kind", "shop", "b"]
    gates = [Gate("roc_auc", at_least=0.5, may_lose=0.1, slices=("kind", "shop"))]
    assert spec().reading(there) == there
    named = spec(features=["b", "a"], order_by="day", gates=gates)
    assert named.reading(there) == ["returned", "a", "day", "kind", "shop", "b"]
    assert spec(features=["b"], group_by="shop").reading(there) == ["returned", "shop", "b"]
    assert spec(features=["b"], prepare=pd.DataFrame.dropna).reading(there) == there
    assert spec(features=["new"], prepare=pd.DataFrame.dropna, reads=["b", "z"]).reading(there) == ["z", "b"]


def test_prepare_is_given_what_the_spec_says_it_reads_and_nothing_else() -> None:
    rows = pd.DataFrame({"a": [1, 2], "b": [3, 4], "returned": [0, 1]})
    rows.attrs["from"] = "here"
    doubled = spec(prepare=lambda table: table.assign(c=table["a"] * 2), reads=["returned", "a"])
    assert list(doubled.prepared(rows)) == ["a", "returned", "c"]
    assert doubled.prepared(rows).attrs == {"from": "here"}
    greedy = spec(prepare=lambda table: table.assign(c=table["b"]), reads=["returned", "a"])
    with pytest.raises(ConfigError, match=r"reads: prepare asks for 'b', which is none of \['returned', 'a'\]"):
        greedy.prepared(rows)
    with pytest.raises(KeyError, match="a"):
        doubled.prepared(rows.drop(columns="a"))


def test_what_prepare_reads_is_no_part_of_the_recipe() -> None:
    assert spec(prepare=pd.DataFrame.dropna, reads=["a"]).digest == spec(prepare=pd.DataFrame.dropna).digest
