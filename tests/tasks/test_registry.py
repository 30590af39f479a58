from __future__ import annotations

import shutil
from pathlib import Path

import mlflow.sklearn
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.history import champion_entry, read_history
from prefect_mlops.core.values import Decision, Evaluation, LoggedRun, ModelVersion
from prefect_mlops.tasks import (
    find_decision,
    find_model,
    find_version,
    load_model,
    log_run,
    promote_model,
    record_decision,
    register_model,
    repair_alias,
    train_model,
)

X, Y = load_breast_cancer(as_frame=True, return_X_y=True)
SCORES = Evaluation(metrics={"roc_auc": 0.9}, rows=100)


def logged(estimator: object | None = None) -> LoggedRun:
    model = train_model.fn(LogisticRegression(max_iter=5000) if estimator is None else estimator, X, Y)
    return log_run.fn(model, SCORES, experiment="cancer", example=X.head())


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(n_estimators=3),
        GradientBoostingClassifier(n_estimators=3),
        HistGradientBoostingClassifier(max_iter=3),
        KNeighborsClassifier(),
        MLPClassifier(max_iter=5),
        SVC(),
        make_pipeline(
            make_column_transformer(
                (SimpleImputer(), ["mean radius"]), (OneHotEncoder(handle_unknown="ignore"), ["mean area"])
            ),
            LogisticRegression(),
        ),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_common_estimators_go_there_and_back_without_pickle(mlflow_store: str, estimator: object) -> None:
    promote_model.fn(register_model.fn(logged(estimator), "cancer"))
    live = find_model.fn("cancer")
    assert np.array_equal(live.estimator.predict(X), train_model.fn(estimator, X, Y).predict(X))


def test_champion_is_who_was_promoted_last(mlflow_store: str) -> None:
    assert find_model.fn("cancer") is None
    first = promote_model.fn(register_model.fn(logged(), "cancer"))
    second = register_model.fn(logged(LogisticRegression(C=0.1, max_iter=5000)), "cancer")
    assert find_model.fn("cancer").version == first
    promote_model.fn(second)
    assert find_model.fn("cancer").version.version == 2
    assert load_model.fn("cancer", version=1).estimator.C == 1.0
    assert first.data_digest == second.data_digest


def test_a_champion_is_in_the_history_before_it_is_live(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = promote_model.fn(register_model.fn(logged(), "cancer"))
    second = register_model.fn(logged(LogisticRegression(C=0.1, max_iter=5000)), "cancer")
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(BackendError):
            promote_model.fn(second)
    champion = champion_entry(read_history("cancer"))
    assert (champion.version, champion.replaced, champion.by) == (2, 1, "person")
    assert find_version.fn("cancer") == first
    assert repair_alias.fn("cancer") == ("Repaired: v2 was promoted, but the alias still pointed at v1; it was set.")
    assert find_version.fn("cancer").version == 2
    assert repair_alias.fn("cancer") == ""
    assert [entry.kind for entry in read_history("cancer")][-3:] == ["promoted", "leased", "repaired"]


def test_an_alias_set_by_hand_is_left_alone(mlflow_store: str) -> None:
    assert repair_alias.fn("cancer") == ""
    first = register_model.fn(logged(), "cancer")
    MlflowClient().set_registered_model_alias("cancer", "champion", "1")
    assert "the history does not know" in repair_alias.fn("cancer")
    promote_model.fn(register_model.fn(logged(LogisticRegression(C=0.1, max_iter=5000)), "cancer"))
    MlflowClient().set_registered_model_alias("cancer", "champion", "1")
    assert "the alias was moved to v1 by hand" in repair_alias.fn("cancer")
    assert find_version.fn("cancer").version == first.version == 1


def test_other_aliases_have_no_history(mlflow_store: str) -> None:
    promote_model.fn(register_model.fn(logged(), "cancer"), "shadow")
    assert find_version.fn("cancer", "shadow").version == 1
    assert find_version.fn("cancer") is None
    assert read_history("cancer") == []


def test_the_same_model_is_registered_once(mlflow_store: str) -> None:
    run = logged()
    assert register_model.fn(run, "cancer") == register_model.fn(run, "cancer")
    assert register_model.fn(logged(RandomForestClassifier(n_estimators=2)), "cancer").version == 2


def test_what_is_not_there_is_named_with_the_nearest(mlflow_store: str) -> None:
    promote_model.fn(register_model.fn(logged(), "cancer"))
    with pytest.raises(ConfigError, match="no registered model is called 'cancre': did you mean 'cancer'"):
        load_model.fn("cancre")
    with pytest.raises(ConfigError, match="has no version 7"):
        load_model.fn("cancer", version=7)
    with pytest.raises(ConfigError, match="has no alias 'challenger'"):
        load_model.fn("cancer", alias="challenger")
    with pytest.raises(ConfigError, match="alias or version, not both"):
        load_model.fn("cancer", alias="champion", version=1)
    assert find_model.fn("cancer", "challenger") is None


@pytest.mark.parametrize("name", ["a/b", "a:b", "", " a"])
def test_names_a_registry_cannot_address(mlflow_store: str, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be addressed"):
        register_model.fn(LoggedRun(run_id="r", experiment="e", model_uri="models:/m-1"), name)


def test_odd_names_do_not_reach_into_the_query(mlflow_store: str) -> None:
    name = "o'brien' or name = 'cancer"
    assert find_decision.fn(name, "x' or '1' = '1") is None
    assert register_model.fn(logged(), name).name == name


def test_a_decision_is_found_by_its_recipe(mlflow_store: str) -> None:
    version = register_model.fn(logged(), "cancer")
    decision = Decision(
        model="cancer", decision="refused", reason="roc_auc is too low " * 500, metrics={"roc_auc": 0.5}
    )
    assert find_decision.fn("cancer", "sha256:1") is None
    noted = record_decision.fn(version, decision, recipe="sha256:1")
    assert find_decision.fn("cancer", "sha256:1") == noted
    assert find_decision.fn("cancer", "sha256:2") is None
    assert noted.version == 1


def test_no_server_is_a_backend_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BackendError, match=r"looking up cancer@champion.*Is it running"):
        find_model.fn("cancer")


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (exec, (f"open({str(self.path)!r}, 'w').close()", "{}"))


@pytest.fixture
def folder(mlflow_store: str, tmp_path: Path) -> Path:
    """The files of a promoted model, to be tampered with."""
    promote_model.fn(register_model.fn(logged(), "cancer"))
    (found,) = tmp_path.rglob("MLmodel")
    return found.parent


def edit(folder: Path, **flavor: object) -> None:
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["flavors"]["sklearn"].update(flavor)
    (folder / "MLmodel").write_text(yaml.safe_dump(described))


def refused(says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        find_model.fn("cancer")


def test_a_pickled_model_is_refused_and_nothing_runs(folder: Path, tmp_path: Path) -> None:
    import cloudpickle

    canary = tmp_path / "ran"
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(Canary(canary)))
    edit(folder, serialization_format="cloudpickle", pickled_model="model.pkl")
    refused("stored as 'cloudpickle', which runs code")
    assert not canary.exists()


def test_a_pickle_that_says_it_is_skops_is_refused(folder: Path, tmp_path: Path) -> None:
    import cloudpickle

    canary = tmp_path / "ran"
    (folder / "model.skops").write_bytes(cloudpickle.dumps(Canary(canary)))
    refused("cannot be loaded from its skops file")
    assert not canary.exists()


def test_a_model_cannot_vouch_for_itself(folder: Path) -> None:
    import skops.io

    trusted = ["collections.Counter", "datetime.timedelta"]
    skops.io.dump({"a": __import__("collections").Counter("aab")}, folder / "model.skops")
    edit(folder, skops_trusted_types=trusted)
    assert mlflow.sklearn.load_model(folder), "MLflow's own loader takes the model's word"
    refused("holds types that are not trusted: collections.Counter")


def test_a_path_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "model.skops", tmp_path / "elsewhere.skops")
    edit(folder, pickled_model="../" * 12 + str(tmp_path / "elsewhere.skops").lstrip("/"))
    refused("outside of its own folder")


def test_another_flavor_is_refused(folder: Path) -> None:
    described = yaml.safe_load((folder / "MLmodel").read_text())
    del described["flavors"]["sklearn"]
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    refused("is not a scikit-learn model")


def test_the_store_the_models_are_in_is_the_ambient_one(mlflow_store: str) -> None:
    version = register_model.fn(logged(), "cancer")
    assert isinstance(version, ModelVersion)
    assert MlflowClient(mlflow_store).get_model_version("cancer", "1").source == version.model_uri
