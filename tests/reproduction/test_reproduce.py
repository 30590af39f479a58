"""Model versions made again from their records: real repositories, a real lake, a real MLflow store."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable, write_deltalake
from mlflow import MlflowClient

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.lineage.sides import SideRule
from prefect_mlops.core.lineage.training_data import attach, lineage_of
from prefect_mlops.core.training.split import both_sides
from prefect_mlops.core.values import Evaluation, ModelVersion
from prefect_mlops.reproduction import _retrain
from prefect_mlops.reproduction.reproduce import Reproduced, named_version, reproduce_model
from prefect_mlops.tasks import load_table, log_run, register_model, split_table, train_model

PROJECT = '''
import os
from types import SimpleNamespace

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from prefect_mlops.core import Gate, ModelSpec

DEAR = 40


class Careless(ClassifierMixin, BaseEstimator):
    """Ignores its seed."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.factor_ = np.frombuffer(os.urandom(4), "u4").astype("int64") | 1
        return self

    def predict(self, X):  # a coin for each row, so that two fits never agree on all of them
        cents = (X["price"].to_numpy() * 100).round().astype("int64")
        return self.classes_[(cents * self.factor_[0] >> 7) & 1]


def prepare(rows):
    return rows.assign(dear=(rows["price"] > DEAR).astype("int64"))


def spec(estimator, dataset="parcels"):
    return ModelSpec(
        name="parcels", dataset=dataset, target="returned", prepare=prepare, estimator=estimator,
        suite=SimpleNamespace(expectations=["not asked here"]), gates=[Gate("accuracy", at_least=0.1)], seed=1,
    )


columns = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["price", "dear"]))
linear = spec(make_pipeline(columns, LogisticRegression()))
forest = spec(make_pipeline(columns, RandomForestClassifier(10, n_jobs=2)))
careless = spec(Careless())
file = spec(linear.estimator, "parcels.csv")
'''
COMMITTED = ("git", "-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-qam", "more")


def parcels(seed: int, rows: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"kind": random.choice(["shoes", "hat"], rows), "price": random.normal(40, 10, rows)})
    chance = 1 / (1 + np.exp(-(2.0 * (table["kind"] == "shoes") + (table["price"] - 40) / 8 - 1)))
    return table.assign(returned=np.where(random.random(rows) < chance, "yes", "no"))


@pytest.fixture
def project(mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project in a repository, as current folder, and a dataset with one version in the lake beside it."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("PREFECT_MLOPS_TRUSTED_TYPES", "parcels.Careless")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "parcels.py").write_text(PROJECT)
    parcels(5).to_csv(folder / "parcels.csv", index=False)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    subprocess.run(COMMITTED, cwd=folder, check=True)
    write_deltalake(table_uri("datasets", "parcels"), parcels(0))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "parcels", raising=False)
    yield folder
    sys.modules.pop("parcels", None)


def trained(
    name: str, *, packages: str | None = None, sides: SideRule | None = None, refit_of: int | None = None, **tags: str
) -> ModelVersion:
    """Train and register as the train flow does, with all that is kept for a reproduction."""
    importlib.invalidate_caches()
    sys.modules.pop("parcels", None)
    spec = getattr(importlib.import_module("parcels"), name)
    table = spec.prepared(load_table.fn(spec.source()))
    split = split_table.fn(table, spec.target, **spec.split_options, sides=sides, in_place=True)
    model = train_model.fn(spec.estimator, split.X_train, split.y_train, seed=spec.seed)
    if refit_of:
        rule = lineage_of(model).rule
        model = train_model.fn(spec.estimator, *both_sides(table, split, order_by=None), seed=spec.seed)
        attach(model, lineage_of(model).model_copy(update={"rule": rule, "refit_of": refit_of}))
    kept = {"prefect_mlops.spec": f"parcels.{name}", "prefect_mlops.spec.digest": spec.digest, **tags}
    scores = Evaluation(metrics={"accuracy": 0.9}, rows=len(split.X_test))
    run = log_run.fn(model, scores, experiment="parcels", example=split.X_test.head(), tags=kept)
    client, rows = MlflowClient(), split.X_test.head(20)
    if packages is None:
        here = importlib.metadata.distributions()
        packages = "\n".join(sorted({f"{one.metadata['Name']}=={one.version}" for one in here}))
    client.log_text(run.run_id, packages, "lineage/packages.txt")
    folder = Path(os.environ["TMPDIR"]).parent / "evidence"
    folder.mkdir(exist_ok=True)
    rows.to_parquet(folder / "rows.parquet")
    np.savez(folder / "predictions.npz", predict=model.predict(rows).astype(str))
    client.log_artifacts(run.run_id, str(folder), "rehearsal")
    return register_model.fn(run, "parcels")


def states(made: Reproduced) -> dict[str, str]:
    return {name: part["state"] for name, part in made.model_dump().items() if isinstance(part, dict)}


def nothing_is_left(project: Path) -> bool:
    listed = subprocess.run(["git", "worktree", "list"], cwd=project, capture_output=True, text=True, check=True)
    left = [path.name for path in (project.parent / "temporary").iterdir() if path.name.startswith("prefect-mlops-")]
    return not left and len(listed.stdout.splitlines()) == 1


EVERYTHING_SAME = dict.fromkeys(("data", "code", "environment", "seed", "hardware", "predictions", "content"), "same")


@pytest.mark.slow
@pytest.mark.parametrize("refit_of", [None, 1])
def test_sides_of_an_earlier_champion_and_a_refit_are_repeated(project: Path, refit_of: int | None) -> None:
    rule = SideRule(by="features", columns=("kind", "price"), share=0.3, seed=5)
    trained("linear", sides=rule, refit_of=refit_of)
    made = reproduce_model("parcels", 1)
    assert states(made) == EVERYTHING_SAME, made
    rows = 300 if refit_of else 300 - int(rule.on_test_side(parcels(0)).sum())
    assert made.data.sentence.startswith(f"{rows} training rows, every cell the same")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "forest"])
def test_a_version_is_identical_whatever_became_of_code_and_data_since(project: Path, name: str) -> None:
    trained(name)
    write_deltalake(table_uri("datasets", "parcels"), parcels(1), mode="append")
    (project / "parcels.py").write_text("raise RuntimeError('everything is being rewritten')\n")
    subprocess.run(COMMITTED, cwd=project, check=True)
    said: list[str] = []
    made = reproduce_model("parcels", 1, progress=said.append)
    assert states(made) == EVERYTHING_SAME, made
    assert made.identical
    assert made.sentence == "parcels v1 is identical to the model trained again."
    assert made.data.sentence.startswith("247 training rows, every cell the same, from ")
    assert made.predictions.sentence.endswith("of 20 stored rows and 53 test rows, bit for bit")
    assert said[0] == "fetching parcels v1 and what is known about it"
    assert nothing_is_left(project)


@pytest.mark.slow
def test_what_was_not_committed_is_part_of_the_code(project: Path) -> None:
    code = project / "parcels.py"
    code.write_text(PROJECT.replace("DEAR = 40", "DEAR = 45"))
    trained("linear")
    code.write_text(PROJECT)
    made = reproduce_model("parcels", 1)
    assert states(made) == EVERYTHING_SAME, made
    assert "with what was not committed" in made.code.sentence


@pytest.mark.slow
def test_a_hostile_diff_is_refused_and_the_rest_is_told(project: Path) -> None:
    version = trained("linear")
    diff = "diff --git a/../../x b/../../x\nnew file mode 100644\n--- /dev/null\n+++ b/../../x\n@@ -0,0 +1 @@\n+x\n"
    MlflowClient().log_text(version.run_id, diff, "lineage/uncommitted.diff")
    made = reproduce_model("parcels", 1)
    assert made.code.state == "differs"
    assert "could not be applied" in made.code.sentence
    assert made.identical, "the diff had not been part of it"
    assert not list(project.parent.rglob("x"))


@pytest.mark.slow
def test_other_data_is_named(project: Path) -> None:
    version = trained("linear")
    MlflowClient().set_tag(version.run_id, "prefect_mlops.data", "sha256:" + "0" * 64)
    made = reproduce_model("parcels", 1)
    assert (made.data.state, "with other cells" in made.data.sentence) == ("differs", True)
    assert made.identical, "only the tag was wrong"


@pytest.mark.slow
def test_a_data_version_that_was_vacuumed_cannot_be_had_again(project: Path) -> None:
    trained("linear")
    write_deltalake(table_uri("datasets", "parcels"), parcels(1), mode="overwrite")
    table = DeltaTable(table_uri("datasets", "parcels"))
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    made = reproduce_model("parcels", 1)
    assert not made.identical
    assert made.data.state == "differs"
    assert made.data.sentence.startswith("the training rows cannot be had again: ")
    assert (made.predictions.state, made.content.state, made.code.state) == ("unknown", "unknown", "same")
    assert made.sentence.startswith("parcels v1 could not be made again; what differs: data")
    assert nothing_is_left(project)


@pytest.mark.slow
def test_another_seed_is_named(project: Path) -> None:
    version = trained("forest", **{"prefect_mlops.seed": "7"})
    made = reproduce_model("parcels", version.version)
    assert made.seed.sentence == "the spec says 1, the model was trained with 7"
    assert states(made)["seed"] == "differs"


@pytest.mark.slow
def test_packages_that_differ_are_named_those_that_compute_first(project: Path) -> None:
    here = {name: importlib.metadata.version(name) for name in ("scikit-learn", "rich", "numpy")}
    lines = f"aaa==1.0\nrich==0.1\nscikit-learn==0.1\nnumpy=={here['numpy']}\n"
    trained("linear", packages=lines, **{"prefect_mlops.lock": "sha256:1"})
    made = reproduce_model("parcels", 1)
    assert made.environment.state == "differs"
    assert made.environment.sentence == (
        f"scikit-learn 0.1 then, {here['scikit-learn']} now, aaa 1.0 then, not there now, rich 0.1 then, "
        f"{here['rich']} now; the lock file is not in the commit"
    )


@pytest.mark.slow
def test_an_estimator_that_ignores_its_seed_differs_although_everything_recorded_is_the_same(project: Path) -> None:
    trained("careless")
    made = reproduce_model("parcels", 1)
    assert not made.identical
    assert states(made) == {**EVERYTHING_SAME, "predictions": "differs", "content": "differs"}
    assert made.sentence == (
        "parcels v1 differs from the model trained again although everything recorded is the same: the estimator has "
        "randomness or parallel sums that no seed covers."
    )
    assert made.content.sentence.endswith(" parts: factor_")


@pytest.mark.slow
def test_a_file_of_the_repository_is_read_as_it_was_in_the_commit(project: Path) -> None:
    trained("file")
    parcels(6).to_csv(project / "parcels.csv", index=False)
    made = reproduce_model("parcels", 1)
    assert states(made) == EVERYTHING_SAME, made
    assert made.content.sentence.endswith("only the place the rows were read from is another one")


@pytest.mark.slow
def test_a_lake_that_has_moved_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained("linear")
    (project.parent / "lake").rename(project.parent / "moved")
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(project.parent / "moved"))
    made = reproduce_model("parcels", 1)
    assert made.identical, made


@pytest.mark.slow
def test_without_the_commit_the_present_code_is_used_and_said_so(project: Path) -> None:
    trained("linear", **{"mlflow.source.git.commit": "0" * 40})
    made = reproduce_model("parcels", 1)
    assert made.identical
    assert made.code.state == "unknown"
    assert "is not in the repository" in made.code.sentence


@pytest.mark.slow
def test_tuned_parameters_are_set_and_not_looked_for_again(project: Path) -> None:
    code = PROJECT.replace("RandomForestClassifier(10, ", "RandomForestClassifier(10, max_depth=3, ")
    (project / "parcels.py").write_text(code)
    subprocess.run(COMMITTED, cwd=project, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD~"], capture_output=True, text=True, check=True).stdout.strip()
    tuned = json.dumps({"randomforestclassifier__max_depth": 3})
    trained("forest", **{"mlflow.source.git.commit": commit, "prefect_mlops.tuned": tuned})
    MlflowClient().delete_tag(MlflowClient().get_model_version("parcels", "1").run_id, "prefect_mlops.spec.digest")
    made = reproduce_model("parcels", 1)
    assert made.identical, made


@pytest.mark.slow
def test_code_that_cannot_be_imported_or_is_of_another_spec_is_named(project: Path) -> None:
    version = trained("linear")
    made = reproduce_model("parcels", 1, spec="parcel.linear")
    assert made.code.state == "differs"
    assert "there is no module 'parcel'" in made.code.sentence
    assert made.sentence.startswith("parcels v1 could not be made again; what differs: code")
    other = reproduce_model("parcels", version.version, spec="parcels.forest")
    assert not other.identical
    assert other.code.sentence.endswith("has a spec of that name, but it is not the one that made the model")
    assert other.predictions.state == "differs"
    assert nothing_is_left(project)


@pytest.mark.slow
def test_a_child_that_dies_or_takes_too_long_is_told_in_a_sentence(project: Path) -> None:
    (project / "parcels.py").write_text(PROJECT + "\nif 'PARCELS' in os.environ: os.abort()\n")
    subprocess.run(COMMITTED, cwd=project, check=True)
    trained("linear")
    os.environ["PARCELS"] = "die"
    try:
        with pytest.raises(BackendError, match=r"parcels v1: training again ended with exit code -6; it said last: \S"):
            reproduce_model("parcels", 1)
    finally:
        del os.environ["PARCELS"]
    with pytest.raises(BackendError, match="training again was stopped after 1 s"):
        reproduce_model("parcels", 1, timeout=1)
    assert nothing_is_left(project)


@pytest.mark.slow
def test_as_many_threads_as_there_were_are_used(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"openmp_threads": "1", "blas_threads": "1", "omp_num_threads": "7"}
    trained("linear", **{f"prefect_mlops.environment.{name}": count for name, count in counts.items()})
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    made = reproduce_model("parcels", 1)
    assert made.hardware.state == "same", made.hardware
    assert "openmp_threads 1" in made.hardware.sentence


def test_a_version_that_is_not_there_or_says_too_little_is_a_wrong_request(project: Path) -> None:
    version = trained("linear")
    MlflowClient().delete_tag(version.run_id, "prefect_mlops.spec")
    for name, which, says in [
        ("parcels", 1, "does not say which spec made it: give --spec"),
        ("parcels", 9, "registered model 'parcels' has no version 9"),
        ("parcels", "champion", "has no alias 'champion'"),
        ("parsels", 1, "did you mean 'parcels'"),
    ]:
        with pytest.raises(ConfigError, match=says):
            reproduce_model(name, which)
    assert nothing_is_left(project)


@pytest.mark.slow
def test_training_that_fails_and_predictions_that_are_damaged_are_told(project: Path) -> None:
    failing = PROJECT.replace("self.classes_ = np", 'assert "PARCELS" not in os.environ, "no luck"; self.classes_ = np')
    (project / "parcels.py").write_text(failing)
    subprocess.run(COMMITTED, cwd=project, check=True)
    trained("careless")
    os.environ["PARCELS"] = "fail"
    try:
        made = reproduce_model("parcels", 1)
    finally:
        del os.environ["PARCELS"]
    assert (made.data.state, made.code.state, made.content.state) == ("same", "same", "unknown")
    assert "not trained again: AssertionError: no luck" in made.predictions.sentence

    version = trained("linear")
    MlflowClient().log_text(version.run_id, "PK no zip", "rehearsal/predictions.npz")
    damaged = reproduce_model("parcels", 2)
    assert not damaged.identical
    assert damaged.content.state == "same"
    assert damaged.sentence.startswith("parcels v2 could not be compared in full: the predictions made at training")


def test_how_a_version_is_named() -> None:
    assert named_version("flights-late/3") == ("flights-late", 3)
    assert named_version(" flights-late/v12 ") == ("flights-late", 12)
    assert named_version("a@b@champion") == ("a@b", "champion")
    for wrong in (
        "flights",
        "flights/",
        "flights/0",
        "flights/-1",
        "flights/three",
        "@champion",
        "flights@",
        "a/1/2/x",
    ):
        with pytest.raises(ConfigError, match="write MODEL/VERSION"):
            named_version(wrong)


def test_a_library_from_before_core_training_trains_by_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect_mlops import tasks
    from prefect_mlops.core.training.fit import fit_estimator

    assert _retrain._steps()[1] is fit_estimator
    monkeypatch.setitem(sys.modules, "prefect_mlops.core.training.fit", None)
    assert _retrain._steps() == (tasks.split_table.fn, tasks.train_model.fn, tasks.load_table.fn)
