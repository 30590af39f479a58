from __future__ import annotations

import json
from pathlib import Path

import great_expectations as gx
import numpy as np
import pandas as pd
import pytest
from great_expectations import expectations as expect
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from prefect_mlops.core import Evaluation, Gate, LoggedRun, ModelSpec, ModelVersion, Split
from prefect_mlops.core.cards.card import Card, Fact, Measurements
from prefect_mlops.core.cards.page import render_page
from prefect_mlops.core.cards.sections import render_markdown
from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.tasks import evaluate_model, split_table, train_model
from prefect_mlops.tasks.cards import write_card

SUITE = gx.ExpectationSuite(name="any", expectations=[expect.ExpectColumnToExist(column="a")])


def rows(size: int = 600) -> pd.DataFrame:
    random = np.random.default_rng(0)
    a, b = random.normal(size=size), random.normal(size=size)
    table = pd.DataFrame({"a": a, "b": b, "kind": pd.Categorical(random.choice(["x", "y"], size))})
    table.loc[::7, "b"] = np.nan
    return table.assign(late=(a + random.normal(size=size) > 0).astype(int), minutes=30 * a + random.normal(size=size))


def spec(**parts: object) -> ModelSpec:
    defaults = {
        "name": "Flights.late",
        "dataset": "flights",
        "target": "late",
        "estimator": HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype"),
        "features": ["a", "b", "kind"],
        "suite": SUITE,
        "gates": [Gate("roc_auc", at_least=0.5)],
        "purpose": "Tell who is late.",
    }
    return ModelSpec(**(defaults | parts))


def version(name: str = "Flights.late") -> ModelVersion:
    return ModelVersion(name=name, version=3, run_id="r", model_uri="models:/m-1", url="https://mlflow.example/#/3")


def new_run() -> LoggedRun:
    client = MlflowClient()
    found = client.get_experiment_by_name("cards")
    run = client.create_run(found.experiment_id if found else client.create_experiment("cards"))
    return LoggedRun(run_id=run.info.run_id, experiment="cards", model_uri="models:/m-1")


def written(recipe: ModelSpec, *, estimator: object = None, table: pd.DataFrame | None = None, **parts: object) -> Card:
    """Train on the table in a flow and write the card there, as the ready flows do."""
    table = rows() if table is None else table

    @flow
    def carded() -> Card:
        split = split_table(table, recipe.target, **recipe.split_options)
        model = estimator or train_model(recipe.estimator, split.X_train, split.y_train)
        if estimator:
            scores = Evaluation(metrics={"accuracy": 0.5}, rows=len(split.X_test))
        else:
            scores = evaluate_model(model, split.X_test, split.y_test, metrics=recipe.metrics)
        given = {"spec": recipe, "split": split, "scores": scores, "reports": [], "version": version(recipe.name)}
        return write_card(model, **(given | {"run": new_run()} | parts))

    return carded()


def test_the_card_is_in_mlflow_and_in_prefect(prefect_api: None, mlflow_store: str) -> None:
    run = new_run()
    checks = [
        Check(name="minimum score", passed=True, subject="roc_auc"),
        Check(name="gap", passed=False, subject="kind"),
    ]
    reports = [
        Report(kind="data", subject="flights", checks=(checks[0],)),
        Report(kind="gate", subject="Flights.late", checks=(checks[1],)),
        Report(kind="gate", subject="Flights.late", checks=tuple(checks), notes=("Judged again.",)),
    ]
    card = written(spec(), run=run, reports=reports)
    folder = Path(download_artifacts(run_id=run.run_id))
    assert {path.name for path in folder.iterdir()} == {"card.md", "card.html", "card.json"}
    assert Card.model_validate_json((folder / "card.json").read_text()) == card
    assert (folder / "card.html").read_text() == render_page(card)
    with get_client(sync_client=True) as client:
        key = ArtifactFilterKey(any_=["card-flights-late"])
        artifact = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))[-1]
    assert artifact.data == render_markdown(card) == (folder / "card.md").read_text()
    assert artifact.flow_run_id is not None
    assert "[Version in MLflow](https://mlflow.example/#/3)" in render_markdown(card)
    assert [check.subject for check in card.checks] == ["kind", "roc_auc"]
    assert card.verdicts == ("data of flights: passed 1 check",)
    assert card.notes == ("Judged again.",)
    assert card.left_out == ()


def test_what_was_measured_before_is_shown_and_not_measured_again(prefect_api: None, mlflow_store: str) -> None:
    measured = Measurements(left_out=(Fact(name="Importances", value="not measured"),))
    card = written(spec(), measured=measured)
    assert Measurements.model_validate({name: getattr(card, name) for name in Measurements.model_fields}) == measured


def test_the_card_shows_what_the_pipeline_found(prefect_api: None, mlflow_store: str) -> None:
    card = written(spec())
    table = rows()
    split = split_table.fn(table, "late", **spec().split_options)
    model = train_model.fn(spec().estimator, split.X_train, split.y_train)
    scores = evaluate_model.fn(model, split.X_test, split.y_test, metrics=["roc_auc"])
    assert {each.metric: each.value for each in card.scores} == scores.metrics
    assert [(each.low, each.high) for each in card.scores] == [scores.intervals["roc_auc"]]
    assert card.purpose == "Tell who is late."
    assert card.rows_tested == len(split.X_test)
    assert card.importances is not None
    assert card.importances.columns[0].column == "a"
    assert card.baseline[0].column == "a"
    described = {each.column: each for each in card.baseline}
    assert described["b"].missing == pytest.approx(split.X_train["b"].isna().mean())
    assert described["a"].numbers["median"] == pytest.approx(split.X_train["a"].median())
    assert {top.value: top.share for top in described["kind"].top} == pytest.approx(
        split.X_train["kind"].value_counts(normalize=True).to_dict()
    )
    assert card.target is not None
    assert card.target.lines[0].train == pytest.approx(split.y_train.value_counts(normalize=True).iloc[0])
    facts = {fact.name: fact.value for fact in card.data}
    assert facts["Digest of the training rows"] == model.trained_on_["digest"]
    assert facts["Training rows"] == f"{len(split.X_train):,}"
    assert facts["Holdout, not learned from"] == "0.2 of the rows, by a hash of their features"
    assert any("b (1" in line for line in card.limits)
    assert card.rollback == 'prefect-mlops rollback Flights.late --why "..."'
    assert card.history == "prefect-mlops history Flights.late"


def test_a_regressor_gets_residuals_and_quantiles(prefect_api: None, mlflow_store: str) -> None:
    recipe = spec(
        target="minutes",
        features=["a"],
        estimator=LinearRegression(),
        gates=[Gate("neg_root_mean_squared_error", at_least=-9)],
    )
    card = written(recipe)
    assert card.residuals is not None
    assert card.calibration is card.confusion is None
    assert sum(each.rows for each in card.residuals.bins) == card.rows_tested
    assert card.target is not None
    assert [line.name for line in card.target.lines][3] == "median"
    assert any("a carries 100% of all importance" in line for line in card.limits)


def test_several_classes_with_names_get_a_confusion_table(prefect_api: None, mlflow_store: str) -> None:
    table = rows().assign(
        late=lambda found: pd.cut(found["a"], [-9, -0.5, 0.5, 9], labels=["early", "on time", "late"])
    )
    recipe = spec(features=["a"], estimator=LogisticRegression(), gates=[Gate("accuracy", at_least=0.1)])
    card = written(recipe, table=table.assign(late=table["late"].astype(str)))
    assert card.confusion is not None
    assert card.confusion.labels == ("early", "late", "on time")
    assert np.sum(card.confusion.counts) == card.rows_tested


class Broken(ClassifierMixin, BaseEstimator):
    """Fails on every prediction."""

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Broken:
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, X: pd.DataFrame) -> None:
        raise RuntimeError("the <b>licence</b> server is away")

    predict_proba = predict


@pytest.mark.parametrize(
    "odd", [Broken().fit(rows(), rows()["late"]), Broken(), object()], ids=["broken", "unfitted", "no estimator"]
)
def test_parts_that_a_model_cannot_give_are_left_out_with_the_reason(
    prefect_api: None, mlflow_store: str, odd: object
) -> None:
    card = written(spec(), estimator=odd)
    assert {fact.name for fact in card.left_out} >= {"Importances", "Calibration, confusion or residuals"}
    assert card.importances is card.calibration is None
    assert len(card.baseline) == 3
    assert any("not trained by train_model" in line for line in card.limits)
    assert "<b>" not in render_page(card)
    assert "Left out of this card" in render_markdown(card)


def needs_more(estimator: object, X: pd.DataFrame, y: pd.Series) -> float:
    return float(X["not there"].sum())


def test_a_metric_that_fails_costs_the_importances_only(prefect_api: None, mlflow_store: str) -> None:
    recipe = spec(gates=[Gate(needs_more, at_least=0.1)])
    split = split_table.fn(rows(), "late", **recipe.split_options)
    model = train_model.fn(recipe.estimator, split.X_train, split.y_train)
    card = written(recipe, estimator=model)
    assert [fact.name for fact in card.left_out] == ["Importances"]
    assert "KeyError: 'not there'" in card.left_out[0].value
    assert card.calibration is not None


@pytest.mark.slow
def test_five_hundred_columns_make_a_small_card(prefect_api: None, mlflow_store: str) -> None:
    random = np.random.default_rng(0)
    numbers = pd.DataFrame(random.normal(size=(400, 300)), columns=[f"{place} {'column ' * 9}" for place in range(300)])
    values = [f"{place}{'<b>' * 60}" for place in range(40)]
    words = pd.DataFrame(random.choice(values, size=(400, 200)), columns=[f"{place} <i>" for place in range(200)])
    wide, target = pd.concat([words, numbers], axis=1), (numbers.iloc[:, 7] > 0).astype(int)
    recipe = spec(features=None, gates=[Gate("accuracy", at_least=0.1)])
    split = Split(wide.iloc[:300], wide.iloc[300:], target[:300], target[300:])
    only_numbers = make_column_transformer(("passthrough", list(numbers.columns)), remainder="drop")
    model = make_pipeline(only_numbers, DecisionTreeClassifier(max_depth=2)).fit(split.X_train, split.y_train)
    scores = Evaluation(metrics={"accuracy": 0.5}, rows=100)
    many = tuple(Check(name="x" * 500, passed=False, subject=f"slice {place}") for place in range(900))
    card = written(
        recipe, estimator=model, split=split, scores=scores, reports=[Report(kind="gate", subject="g", checks=many)]
    )
    assert card.importances is not None
    assert card.importances.columns[0].column.startswith("7 column")
    assert card.baseline[0].column == card.importances.columns[0].column
    page, text = render_page(card), render_markdown(card)
    assert len(page.encode()) < 500_000
    assert len(text.encode()) < 200_000
    assert len(card.model_dump_json()) < 200_000
    assert "450 more are not shown" in page
    assert "800 more checks are in the gate report" in page


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("spec", "flights.model"), ("split", rows()), ("scores", {"f1": 1}), ("reports", "x"), ("reports", ["x"]),
     ("run", "abc"), ("version", 3)],
)  # fmt: skip
def test_an_argument_of_the_wrong_kind_is_refused_by_name(
    prefect_api: None, mlflow_store: str, name: str, wrong: object
) -> None:
    with pytest.raises(ConfigError, match=f"model card: {name}: expected"):
        written(spec(), estimator=LogisticRegression(), **{name: wrong})


def test_a_run_that_mlflow_does_not_have_is_a_config_error(prefect_api: None, mlflow_store: str) -> None:
    run = LoggedRun(run_id="0" * 32, experiment="cards", model_uri="models:/m-1")
    with pytest.raises(ConfigError, match="refused writing the model card to run 0000"):
        written(spec(), run=run)


@pytest.mark.slow
def test_a_store_that_cannot_be_written_is_a_backend_error(
    prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()
    where = Path(MlflowClient().get_run(run.run_id).info.artifact_uri.removeprefix("file://"))
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text("a file where the folder should be")
    with pytest.raises(BackendError, match="writing the model card"):
        written(spec(), estimator=LogisticRegression(), run=run)


def test_the_json_is_small_and_plain(prefect_api: None, mlflow_store: str) -> None:
    card = written(spec())
    written_json = json.loads(card.model_dump_json())
    assert written_json["model"] == "Flights.late"
    assert written_json["importances"]["metric"] == "roc_auc"
    assert len(card.model_dump_json()) < 10_000
