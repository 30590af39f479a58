from __future__ import annotations

import shutil
import sqlite3
from datetime import datetime, timezone
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

from prefect_mlops.core.errors import BackendError, ConfigError, ConflictError
from prefect_mlops.core.lineage.environment import code_state
from prefect_mlops.core.promotion.decisions import AliasRepair, Approval, sign
from prefect_mlops.core.promotion.history import Entry, champion_entry, read_history, read_rows, record
from prefect_mlops.core.promotion.tampering import audit_history
from prefect_mlops.core.training.fit import fit_estimator
from prefect_mlops.core.values import Evaluation, LoggedRun, ModelVersion
from prefect_mlops.tracking import registry
from prefect_mlops.tracking.anchors import noted
from prefect_mlops.tracking.candidates import log_candidate
from prefect_mlops.tracking.registry import (
    find_model,
    find_version,
    load_model,
    register_model,
    repair_alias,
    roll_back,
    sweep,
)
from prefect_mlops.tracking.runs import Caller

X, Y = load_breast_cancer(as_frame=True, return_X_y=True)
SCORES = Evaluation(metrics={"roc_auc": 0.9}, rows=100)


def bare(count: int) -> None:
    """Register versions without files, for what only concerns who is champion."""
    client = MlflowClient()
    client.create_registered_model("cancer")
    for number in range(1, count + 1):
        client.create_model_version("cancer", source=f"file:///nowhere/{number}")


def promote(version: int, **options: object) -> ModelVersion:
    return registry.promote(find_version("cancer", version=version), **options)


def _fail() -> None:
    raise BackendError("the registry went away")


def logged(estimator: object | None = None) -> LoggedRun:
    fitted = fit_estimator(LogisticRegression(solver="liblinear") if estimator is None else estimator, X, Y)
    return log_candidate(fitted, SCORES, experiment="cancer", caller=Caller(), code=code_state(), example=X.head())


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
    registry.promote(register_model(logged(estimator), "cancer"))
    live = find_model("cancer")
    assert np.array_equal(live.estimator.predict(X), fit_estimator(estimator, X, Y).predict(X))


def test_champion_is_who_was_promoted_last(mlflow_store: str) -> None:
    assert find_model("cancer") is None
    first = registry.promote(register_model(logged(), "cancer"))
    second = register_model(logged(LogisticRegression(C=0.1, solver="liblinear")), "cancer")
    assert find_model("cancer").version == first
    registry.promote(second)
    assert find_model("cancer").version.version == 2
    assert load_model("cancer", version=1).estimator.C == 1.0
    assert first.data_digest == second.data_digest


def test_an_alias_that_another_writer_makes_in_the_same_moment_is_set_all_the_same(mlflow_store: str) -> None:
    from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelAlias
    from sqlalchemy import event

    version = register_model(logged(), "cancer")
    made: list[str] = []

    def overtaken(_mapper: object, _connection: object, alias: SqlRegisteredModelAlias) -> None:
        if not made:
            made.append(alias.alias)
            with sqlite3.connect(mlflow_store.removeprefix("sqlite:///")) as other:
                other.execute(
                    "insert into registered_model_aliases (workspace, name, alias, version) values (?, 'cancer', ?, 7)",
                    (alias.workspace, alias.alias),
                )

    event.listen(SqlRegisteredModelAlias, "before_insert", overtaken)
    try:
        registry.promote(version)
    finally:
        event.remove(SqlRegisteredModelAlias, "before_insert", overtaken)
    assert made == ["champion"]
    assert find_version("cancer").version == 1


def test_a_champion_is_in_the_history_before_it_is_live(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = registry.promote(register_model(logged(), "cancer"))
    second = register_model(logged(LogisticRegression(C=0.1, solver="liblinear")), "cancer")
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(BackendError):
            registry.promote(second)
    champion = champion_entry(read_history("cancer"))
    assert (champion.version, champion.replaced, champion.by) == (2, 1, "person")
    assert find_version("cancer") == first
    assert repair_alias("cancer").sentence == (
        "Repaired: v2 was made champion, and the alias still points at v1: a crash came between, or it is being set. "
        "It points at v2 now."
    )
    assert find_version("cancer").version == 2
    assert repair_alias("cancer") is None
    last = read_history("cancer")[-1]
    assert (last.kind, last.version, last.by, last.details) == ("repaired", 2, "automatic", {})
    assert [entry.kind for entry in read_history("cancer")][-2:] == ["promoted", "repaired"]


def test_an_alias_moved_by_hand_is_set_back_and_called_so(mlflow_store: str) -> None:
    assert repair_alias("cancer") is None
    bare(3)
    MlflowClient().set_registered_model_alias("cancer", "champion", "1")
    assert "the history does not know" in repair_alias("cancer").sentence
    assert "prefect-mlops promote cancer 1 --why TEXT" in repair_alias("cancer").sentence
    assert find_version("cancer").version == 1
    promote(2)
    MlflowClient().set_registered_model_alias("cancer", "champion", "3")
    assert repair_alias("cancer").sentence == (
        "Repaired: The history names v2 as champion, but the alias was moved to v3 by hand. It points at v2 again; a "
        "champion is changed by prefect-mlops promote cancer 3 --why TEXT."
    )
    last = read_history("cancer")[-1]
    assert (last.kind, last.details, find_version("cancer").version) == ("repaired", {"by_hand": True}, 2)
    MlflowClient().delete_registered_model_alias("cancer", "champion")
    assert repair_alias("cancer") == AliasRepair(
        model_name="cancer",
        champion=2,
        points_at=None,
        wrong="The history names v2 as champion, but the alias was removed by hand.",
        repaired=True,
        by_hand=True,
    )
    assert find_version("cancer").version == 2
    assert repair_alias("cancer") is None


def test_a_promotion_between_two_looks_is_no_hand(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bare(2)
    promote(1)
    real = registry.read_history

    def late(name: str) -> list[Entry]:
        entries = real(name)
        monkeypatch.setattr(registry, "read_history", real)
        promote(2)
        return entries

    monkeypatch.setattr(registry, "read_history", late)
    assert repair_alias("cancer") is None
    assert [entry.kind for entry in read_history("cancer")] == ["promoted", "released"] * 2


def test_a_champion_the_registry_has_no_more_is_said_and_stops_nobody(mlflow_store: str) -> None:
    bare(3)
    promote(1)
    promote(2)
    MlflowClient().delete_model_version("cancer", "2")
    assert (
        "It cannot be set: the registry has v2 no more. Roll back, or promote another."
        in repair_alias("cancer").sentence
    )
    assert roll_back("cancer", why="v2 was deleted").version == 1
    assert find_version("cancer").version == 1


def test_a_promotion_names_the_champion_it_was_judged_against(mlflow_store: str) -> None:
    bare(3)
    first = promote(1)
    promote(2, replaces=first)
    with pytest.raises(ConflictError, match=r"cancer: v2 became champion meanwhile .* v3 was judged against v1"):
        promote(3, replaces=first)
    with pytest.raises(ConflictError, match="v3 was judged against no champion"):
        promote(3, replaces=None)
    assert find_version("cancer").version == 2
    assert promote(3).version == 3
    assert champion_entry(read_history("cancer")).replaced == 2


def test_an_alias_set_late_by_an_overtaken_promotion_follows_the_history(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare(3)
    promote(1)
    real = registry._set_alias

    def overtaken(name: str, alias: str, version: int) -> None:
        monkeypatch.setattr(registry, "_set_alias", real)
        promote(3)
        real(name, alias, version)

    monkeypatch.setattr(registry, "_set_alias", overtaken)
    promote(2)
    assert find_version("cancer").version == champion_entry(read_history("cancer")).version == 3


def test_a_rollback_goes_back_and_further_back_and_is_noted_in_the_registry(mlflow_store: str) -> None:
    bare(3)
    for version in (1, 2, 3):
        promote(version)
    entry = roll_back("cancer", why="bad", by="anna")
    assert (entry.version, entry.replaced, entry.by, find_version("cancer").version) == (2, 3, "anna", 2)
    assert MlflowClient().get_model_version("cancer", "2").tags[f"prefect_mlops.history.{entry.sequence}"] == entry.hash
    assert roll_back("cancer", why="bad", by="anna") == entry
    assert roll_back("cancer", why="still bad", by="anna").version == 1
    assert roll_back("cancer", to=3, why="it was the data", by="anna").version == 3
    assert find_version("cancer").version == 3
    with pytest.raises(ConfigError, match="a rollback needs a reason"):
        roll_back("cancer", why="  ")
    assert audit_history("cancer", read_rows("cancer"), noted(MlflowClient(), "cancer")).passed


def test_a_rollback_retried_after_its_alias_was_set_does_not_go_further_back(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare(3)
    for version in (1, 2, 3):
        promote(version)
    with monkeypatch.context() as broken:
        broken.setattr(registry.anchors, "note", lambda client, entry: _fail())
        with pytest.raises(BackendError):
            roll_back("cancer", why="bad")
    assert roll_back("cancer", why="bad").version == 2
    assert find_version("cancer").version == 2


def test_nothing_is_written_when_there_is_nothing_to_go_back_to(mlflow_store: str) -> None:
    bare(2)
    promote(1)
    promote(2)
    MlflowClient().delete_model_version("cancer", "1")
    before = read_history("cancer")
    with pytest.raises(ConfigError, match="v1 was champion once, but the registry has it no more"):
        roll_back("cancer", why="bad")
    with pytest.raises(ConfigError, match="cannot be addressed"):
        roll_back("../cancer", why="bad")
    assert read_history("cancer") == before


def test_the_sweep_looks_after_every_model_whatever_is_wrong_with_one(mlflow_store: str) -> None:
    bare(2)
    promote(1)
    record(Entry(model="nowhere", kind="promoted", version=4))
    past = datetime(2020, 1, 1, tzinfo=timezone.utc)
    record(Entry(model="cancer", kind="requested", version=2, replaced=1, until=past))
    MlflowClient().set_registered_model_alias("cancer", "champion", "2")
    cancer, nowhere = sweep()
    assert cancer.sentence.startswith("cancer: v2 counts as refused: the request of")
    assert "was moved to v2 by hand" in cancer.sentence
    assert nowhere.sentence.startswith("nowhere: ")
    assert "the registry has v4 no more" in nowhere.sentence
    assert find_version("cancer").version == 1
    assert [one.model_name for one in sweep()] == ["nowhere"]


def test_other_aliases_have_no_history(mlflow_store: str) -> None:
    registry.promote(register_model(logged(), "cancer"), "shadow")
    assert find_version("cancer", "shadow").version == 1
    assert find_version("cancer") is None
    assert read_history("cancer") == []


def test_the_same_model_is_registered_once(mlflow_store: str) -> None:
    run = logged()
    assert register_model(run, "cancer") == register_model(run, "cancer")
    assert register_model(logged(RandomForestClassifier(n_estimators=2)), "cancer").version == 2


def test_tags_are_written_on_a_new_version_beside_the_digest_of_its_data(mlflow_store: str) -> None:
    run = logged()
    version = register_model(run, "cancer", tags={"team": "risk"})
    assert register_model(run, "cancer", tags={"team": "another"}) == version
    tags = MlflowClient().get_model_version("cancer", "1").tags
    assert tags == {"team": "risk", "prefect_mlops.data": run.data_digest}


def test_a_promotion_by_a_person_needs_an_approval_that_was_checked(mlflow_store: str) -> None:
    bare(1)
    with pytest.raises(ConfigError, match="whether 'eve' may decide on v1 was not checked"):
        promote(1, approval=Approval(by="eve"))
    assert (read_history("cancer"), find_version("cancer")) == ([], None)
    promote(1, approval=sign("cancer", by="anna", approvers=["anna"]))
    assert champion_entry(read_history("cancer")).by == "anna"


def test_what_is_not_there_is_named_with_the_nearest(mlflow_store: str) -> None:
    registry.promote(register_model(logged(), "cancer"))
    with pytest.raises(ConfigError, match="no registered model is called 'cancre': did you mean 'cancer'"):
        load_model("cancre")
    with pytest.raises(ConfigError, match="has no version 7"):
        load_model("cancer", version=7)
    with pytest.raises(ConfigError, match="has no alias 'challenger'"):
        load_model("cancer", alias="challenger")
    with pytest.raises(ConfigError, match="alias or version, not both"):
        load_model("cancer", alias="champion", version=1)
    assert find_model("cancer", "challenger") is None


@pytest.mark.parametrize("name", ["a/b", "a:b", "", " a"])
def test_names_a_registry_cannot_address(mlflow_store: str, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be addressed"):
        register_model(LoggedRun(run_id="r", experiment="e", model_uri="models:/m-1"), name)


def test_odd_names_do_not_reach_into_the_query(mlflow_store: str) -> None:
    name = "o'brien' or name = 'cancer"
    assert register_model(logged(), name).name == name


def test_no_server_is_a_backend_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BackendError, match=r"looking up cancer@champion.*Is it running"):
        find_model("cancer")


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (exec, (f"open({str(self.path)!r}, 'w').close()", "{}"))


@pytest.fixture
def folder(mlflow_store: str, tmp_path: Path) -> Path:
    """The files of a promoted model, to be tampered with."""
    registry.promote(register_model(logged(), "cancer"))
    (found,) = tmp_path.rglob("MLmodel")
    return found.parent


def edit(folder: Path, **flavor: object) -> None:
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["flavors"]["sklearn"].update(flavor)
    (folder / "MLmodel").write_text(yaml.safe_dump(described))


def refused(says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        find_model("cancer")


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
    version = register_model(logged(), "cancer")
    assert isinstance(version, ModelVersion)
    assert MlflowClient(mlflow_store).get_model_version("cancer", "1").source == version.model_uri
