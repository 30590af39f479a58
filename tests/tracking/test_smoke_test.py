from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from mlflow import MlflowClient
from sklearn.datasets import load_breast_cancer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from prefect_mlops.core.errors import BackendError, ConfigError, GateError
from prefect_mlops.core.lineage.environment import code_state
from prefect_mlops.core.model_files import isolated, smoke_test
from prefect_mlops.core.model_files.smoke_test import SmokeTest, keep_rows, run_smoke_test
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.policies import Limits
from prefect_mlops.core.training.fit import fit_estimator
from prefect_mlops.core.values import Evaluation, ModelVersion
from prefect_mlops.tracking import registry
from prefect_mlops.tracking.candidates import log_candidate
from prefect_mlops.tracking.runs import Caller
from prefect_mlops.tracking.smoke_test import smoke_test_model

X, Y = load_breast_cancer(as_frame=True, return_X_y=True)
SCORES = Evaluation(metrics={"roc_auc": 0.9}, rows=100)


def registered(estimator: object | None = None, rows: pd.DataFrame | None = X) -> ModelVersion:
    estimator = make_pipeline(StandardScaler(), LogisticRegression()) if estimator is None else estimator
    model = fit_estimator(estimator, X, Y)
    return registry.register_model(
        log_candidate(model, SCORES, experiment="cancer", caller=Caller(), code=code_state(), smoke_test_rows=rows),
        "cancer",
    )


def only_failure(report: Report) -> Check:
    (failure,) = report.failures
    assert not report.passed
    return failure


# What is kept, and asked again.

MIXED = pd.DataFrame(
    {
        "number": [0.1, np.nan, -0.0, 4.0] * 20,
        "gaps": pd.array([1, None, 3, 4] * 20, dtype="Int64"),
        "flag": pd.array([True, None, False, True] * 20, dtype="boolean"),
        "kind": pd.Categorical(["a", "b", None, "a"] * 20),
    },
    index=range(100, 180),
)
MIXED.attrs["prefect_mlops.until"] = object()
TEXT = pd.Series(["yes", "no", "perhaps", "no"] * 20)


@pytest.mark.parametrize(
    ("model", "rows", "named"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y), X, {"predict", "predict_proba"}),
        (LinearSVC().fit(X, Y), X, {"predict", "decision_function"}),
        (Ridge().fit(X, Y), X, {"predict"}),
        (HistGradientBoostingClassifier(max_iter=3).fit(MIXED, TEXT), MIXED, {"predict", "predict_proba"}),
        (
            RandomForestClassifier(3).fit(X, np.column_stack([Y, np.arange(len(X)) % 3])),
            X,
            {"predict", "predict_proba"},
        ),
        (DummyClassifier().fit(X, Y == 1), X, {"predict", "predict_proba"}),
    ],
    ids=["numbers", "decisions", "regression", "mixed columns and text labels", "two targets", "boolean"],
)
def test_what_was_kept_is_predicted_again(tmp_path: Path, model: object, rows: pd.DataFrame, named: set[str]) -> None:
    assert keep_rows(model, rows, tmp_path / "kept") == ""
    with np.load(tmp_path / "kept" / "predictions.npz", allow_pickle=False) as kept:
        assert set(kept.files) == named
        assert len(kept["predict"]) == min(len(rows), 200)
    again = pd.read_parquet(tmp_path / "kept" / "rows.parquet")
    assert (again.dtypes == rows.dtypes).all()
    seen = run_smoke_test(model=skops_folder(model, tmp_path), kept=tmp_path / "kept", subject="it")
    assert (seen.stage, seen.problem, seen.difference, seen.different) == ("done", "", "", 0)
    assert seen.predictions >= seen.rows == min(len(rows), 200)
    assert seen.seconds_per_1000_rows > 0


def skops_folder(model: object, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    skops.io.dump(model, folder / "model.skops")
    flavor = {"pickled_model": "model.skops", "serialization_format": "skops"}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": flavor}}))
    return folder


class Odd:
    """Predicts what it is told to."""

    def __init__(self, said: object) -> None:
        self.said = said

    def predict(self, rows: pd.DataFrame) -> object:
        rows.drop(columns=list(rows), inplace=True)  # a careless model must not spoil the next question
        return self.said


@pytest.mark.parametrize(
    ("rows", "said", "why"),
    [
        (X.head(0), [1], "there are no rows"),
        (pd.DataFrame({"a": [1, "x", b"y"]}), [1, 2, 3], "a"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), [1], "[Dd]uplicate"),
        (X.head(2), np.array([1, "x"], dtype=object), "predict gave objects that are not all text: int, str"),
        (X.head(2), np.array([None, "x"], dtype=object), "NoneType, str"),
        (X.head(2), {"a": 1}, "not all text: dict"),
    ],
    ids=["no rows", "mixed objects", "two of a name", "mixed labels", "missing label", "no array"],
)
def test_rows_that_cannot_be_kept_are_left_out_and_leave_nothing(
    tmp_path: Path, rows: pd.DataFrame, said: object, why: str
) -> None:
    assert pd.Series([keep_rows(Odd(said), rows, tmp_path / "kept")]).str.contains(why).all()
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("then", "now", "count", "words"),
    [
        ([1.0, np.nan], [1.0, np.nan], 0, ""),
        ([1.0, 2.0], [1.0, np.nextafter(2.0, 3)], 1, "predict: 1 of 2 differ, the largest difference is 4.44e-16"),
        ([1.0, np.nan], [1.0, 2.0], 1, "predict: 1 of 2 differ"),
        ([1.0, np.inf], [1.0, -np.inf], 1, "predict: 1 of 2 differ"),
        ([1, 2], [1.0, 2.0], 2, "predict: shape (2,) of float64, at training (2,) of int64"),
        ([1, 2], [1, 2, 3], 2, "predict: shape (3,) of int64, at training (2,) of int64"),
        (["no", "yes"], ["no", "perhaps"], 1, "predict: 1 of 2 differ"),
        ([True, False], [True, True], 1, "predict: 1 of 2 differ, the largest difference is 1"),
        (np.array(["2013-01-01", "NaT"], "M8[s]"), np.array(["2013-01-01", "NaT"], "M8[s]"), 0, ""),
    ],
    ids=range(9),
)
def test_predictions_are_compared_bit_for_bit(then: object, now: object, count: int, words: str) -> None:
    assert smoke_test._compared({"predict": np.array(then)}, {"predict": np.array(now)}) == (count, words)


def test_an_answer_more_or_less_is_a_difference() -> None:
    one, two = {"predict": np.zeros(3)}, {"predict": np.zeros(3), "predict_proba": np.zeros((3, 2))}
    assert smoke_test._compared(two, one) == (6, "predict_proba: not given any more")
    assert smoke_test._compared(one, two) == (0, "predict_proba: not kept at training")


# A model that may be promoted, and what it costs.


def test_a_model_that_predicts_as_at_training_passes_and_tells_its_costs(mlflow_store: str) -> None:
    report = smoke_test_model(registered())
    assert report.passed
    assert (report.kind, report.subject, report.rows) == ("smoke-test", "cancer v1", 200)
    assert [(check.name, check.observed) for check in report.checks] == [
        ("loads in a clean process", ""),
        ("predicts the same as at training", "600 predictions, bit for bit"),
    ]
    starts = ["Size on disk: ", "Seconds per 1,000 rows: ", "Memory on top of the imports: "]
    assert [note.startswith(start) for note, start in zip(report.notes, starts, strict=True)] == [True] * 3
    assert all(note.endswith("no limit is set.") for note in report.notes)


def test_each_limit_is_a_check(mlflow_store: str) -> None:
    version = registered()
    generous = smoke_test_model(version, Limits(size_mb=100, seconds_per_1000_rows=60, memory_mb=1000))
    assert generous.passed
    assert (len(generous.checks), generous.notes) == (5, ())
    strict = smoke_test_model(version, Limits(size_mb=1e-6, seconds_per_1000_rows=1e-9, memory_mb=1e-6))
    assert [check.name for check in strict.failures] == [
        "size on disk",
        "seconds per 1,000 rows",
        "memory on top of the imports",
    ]
    assert [check.expected for check in strict.failures] == ["at most 1e-06 MB", "at most 1e-09 s", "at most 1e-06 MB"]
    with pytest.raises(GateError, match="size on disk, saw 0"):
        strict.raise_for_failure()


def test_a_limit_that_cannot_be_measured_is_not_kept() -> None:
    from prefect_mlops.tracking.smoke_test import _costs

    (check,), _ = _costs(SmokeTest(stage="done", seconds_per_1000_rows=1.0), 1.0, Limits(memory_mb=10))
    assert (check.passed, check.observed) == (False, "not measured")


# Files in the store that are not what they were.


def store_of(version: ModelVersion, name: str) -> Path:
    """Find a file of the version's run or model in the store."""
    (found,) = [path for path in Path("mlruns").rglob(name) if version.run_id in str(path) or "models" in str(path)]
    return found


def test_a_model_that_predicts_otherwise_is_told_with_how_much(mlflow_store: str) -> None:
    version = registered()
    path = store_of(version, "predictions.npz")
    with np.load(path) as kept:
        arrays = {name: kept[name] for name in kept.files}
    arrays["predict_proba"][5, 0] = np.nextafter(arrays["predict_proba"][5, 0], 1)
    np.savez(path, **arrays)
    failure = only_failure(smoke_test_model(version))
    assert failure.name == "predicts the same as at training"
    assert failure.observed.startswith("1 of 600 predictions differ (predict_proba: 1 of 400 differ, the largest")


def test_a_model_without_stored_rows_says_what_to_do(mlflow_store: str) -> None:
    failure = only_failure(smoke_test_model(registered(rows=None)))
    assert failure.name == "has stored rows to rehearse"
    assert "has no rehearsal/rows.parquet and no rehearsal/predictions.npz" in failure.observed
    assert "train and log it again, with example= or smoke_test_rows=" in failure.expected


def test_a_version_of_no_run_or_of_one_that_is_gone_has_no_rows(mlflow_store: str) -> None:
    version = registered()
    assert "has no run" in only_failure(smoke_test_model(version.model_copy(update={"run_id": ""}))).observed
    gone = version.model_copy(update={"run_id": "f" * 32})
    assert f"its run {'f' * 32} is not there" in only_failure(smoke_test_model(gone)).observed


def pickled_array(path: Path) -> None:
    np.savez(path, predict=np.array([{"a": 1}], dtype=object))


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("predict.npy", "w") as member:
        for _ in range(101):
            member.write(bytes(1_000_000))


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("predictions.npz", pickled_array, "allow_pickle=False"),
        ("predictions.npz", bomb, "unpacks to 101,000,000 bytes"),
        ("predictions.npz", lambda path: np.savez(path, other=np.zeros(3)), "holds no predictions"),
        ("predictions.npz", lambda path: path.write_bytes(b"PK"), "not a zip file"),
        ("rows.parquet", lambda path: path.write_bytes(path.read_bytes()[:-9]), "Parquet"),
        ("rows.parquet", lambda path: pd.concat([X] * 9).to_parquet(path), "holds 5,121 rows"),
    ],
    ids=["objects", "bomb", "no predictions", "no zip", "cut", "many rows"],
)
def test_damaged_rows_are_a_failed_check(tmp_path: Path, name: str, damage: Callable[[Path], None], says: str) -> None:
    model = Ridge().fit(X, Y)
    assert keep_rows(model, X, tmp_path / "kept") == ""
    damage(tmp_path / "kept" / name)
    seen = run_smoke_test(model=skops_folder(model, tmp_path), kept=tmp_path / "kept", subject="it")
    assert seen.stage == "rows"
    assert says in seen.problem


def test_rows_too_large_are_not_even_brought(mlflow_store: str) -> None:
    version = registered()
    with store_of(version, "rows.parquet").open("r+b") as file:
        file.truncate(101_000_000)
    assert "rows.parquet has 101,000,000 bytes" in only_failure(smoke_test_model(version)).observed


def test_files_that_are_gone_from_the_store_are_a_failed_check(mlflow_store: str) -> None:
    version = registered()
    shutil.move("mlruns", "away")
    failure = only_failure(smoke_test_model(version))
    assert failure.name == "loads in a clean process"
    assert "refused downloading model cancer v1" in failure.observed


def test_a_server_that_is_away_is_a_backend_error(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    version = registered()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BackendError, match="Is it running"):
        smoke_test_model(version)


# Models that somebody put into the registry by hand.


def vouching(folder: Path, canary: Path) -> None:
    """A skops file that runs code for whoever trusts `builtins.exec`, which its description does."""
    path = folder / "model.skops"
    skops.io.dump((f"open({str(canary)!r}, 'w').close()",), path)
    with zipfile.ZipFile(path) as archive:
        schema = json.loads(archive.read("schema.json"))
    about = {key: schema.pop(key) for key in ("protocol", "_skops_version")}
    loader = {"__class__": "exec", "__module__": "builtins", "__loader__": "ConstructorFromReduceNode"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", json.dumps({**loader, "content": schema, **about}))
    edit(folder, skops_trusted_types=["builtins.exec"])


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (exec, (f"open({str(self.path)!r}, 'w').close()", "{}"))


def pickled(folder: Path, canary: Path) -> None:
    import cloudpickle

    (folder / "model.pkl").write_bytes(cloudpickle.dumps(Canary(canary)))
    edit(folder, serialization_format="cloudpickle", pickled_model="model.pkl")


def code_beside_it(folder: Path, canary: Path) -> None:
    """Modules that MLflow's loader would put first on the import path."""
    (folder / "code").mkdir()
    for name in ("sklearn", "skops", "numpy", "model", "prefect_mlops"):
        (folder / "code" / f"{name}.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
        (folder / f"{name}.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    edit(folder, code="code", pickled_model="../../../../../../elsewhere.skops")


def python_object(folder: Path, canary: Path) -> None:
    (folder / "MLmodel").write_text(f"flavors: !!python/object/apply:os.mknod [{str(canary)!r}]\n")


def edit(folder: Path, **flavor: object) -> None:
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["flavors"]["sklearn"].update(flavor)
    (folder / "MLmodel").write_text(yaml.safe_dump(described))


@pytest.mark.parametrize(
    ("hostile", "says"),
    [
        (vouching, "not trusted: builtins.exec"),
        (pickled, "is stored as 'cloudpickle', which runs code"),
        (code_beside_it, "outside of its own folder"),
        (python_object, "names a type .*os.mknod"),
    ],
)
def test_a_hostile_model_is_refused_by_name_and_nothing_runs(
    mlflow_store: str, tmp_path: Path, hostile: Callable[[Path, Path], None], says: str
) -> None:
    champion = registry.promote(registered())
    (described,) = Path("mlruns").rglob("MLmodel")
    folder = tmp_path / "brought"
    shutil.copytree(described.parent, folder)
    canary = tmp_path / "ran"
    hostile(folder, canary)
    made = MlflowClient().create_model_version("cancer", source=folder.as_uri(), run_id=champion.run_id)
    report = smoke_test_model(
        champion.model_copy(update={"version": int(made.version), "model_uri": made.source, "alias": None})
    )
    failure = only_failure(report)
    assert failure.name == "loads in a clean process"
    assert pd.Series([failure.observed]).str.contains(says).all()
    with pytest.raises(GateError):
        report.raise_for_failure()
    with pytest.raises(ConfigError, match=says):
        registry.load_model("cancer", version=2)
    assert not canary.exists()
    assert registry.find_model("cancer").version == champion


@pytest.mark.parametrize("dots", ["..", "%2e%2e", "%2E."])
def test_an_address_that_climbs_is_refused_by_name(mlflow_store: str, tmp_path: Path, dots: str) -> None:
    version = registered()
    (described,) = Path("mlruns").rglob("MLmodel")
    source = f"{described.parent.absolute().as_uri()}/{dots}/artifacts"
    made = MlflowClient().create_model_version("cancer", source=source, run_id=version.run_id)
    climbing = version.model_copy(update={"version": int(made.version), "model_uri": made.source})
    failure = only_failure(smoke_test_model(climbing))
    assert failure.name == "loads in a clean process"
    assert "model cancer v2 is refused: its address" in failure.observed
    assert "holds '..'" in failure.observed


# A process that does not answer as it should.

MOODY = """
import os, sys, time
from pathlib import Path
from sklearn.base import BaseEstimator, ClassifierMixin

class Moody(ClassifierMixin, BaseEstimator):
    def __init__(self, mood=""):
        self.mood = mood
    def fit(self, X, y):
        self.classes_ = [0, 1]
        return self
    def predict(self, X):
        mood = Path(self.mood).read_text()
        exec(mood)
        return X.iloc[:, 0].to_numpy() > 10
"""


@pytest.fixture
def moody(mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Report]:
    """Rehearse an estimator of the project's own, which was well at training and is in another mood now."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "moodiness.py").write_text(MOODY)
    (tmp_path / "mood").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "project")
    monkeypatch.setenv("PREFECT_MLOPS_TRUSTED_TYPES", "moodiness.Moody")
    from moodiness import Moody

    version = registered(Moody(str(tmp_path / "mood")))

    def in_mood(mood: str) -> Report:
        (tmp_path / "mood").write_text(mood)
        return smoke_test_model(version)

    return in_mood


def test_a_projects_own_class_is_found_and_what_it_prints_does_no_harm(moody: Callable[[str], Report]) -> None:
    assert moody("print('{}')\nos.write(1, b'rubbish')").passed


def test_no_secret_and_no_tracking_address_reaches_the_model(
    moody: Callable[[str], Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("PREFECT_API_KEY", "s3cret")
    names = "{name for name in os.environ if name.startswith(('AWS', 'PREFECT_API', 'MLFLOW', 'PYTEST'))}"
    loaded = "{'mlflow', 'prefect'} & set(sys.modules)"
    assert moody(f"assert not {names}, {names}\nassert not {loaded}, {loaded}").passed


@pytest.mark.parametrize(
    ("mood", "name", "says"),
    [
        ("raise KeyError('tea')", "predicts the same as at training", "'tea'"),
        ("os._exit(3)", "loads in a clean process", "exit code 3"),
        (
            "print('no memory left', file=sys.stderr); os.kill(os.getpid(), 9)",
            "loads in a clean process",
            "ended by SIGKILL, as a system does that runs out of memory; its last output: no memory left",
        ),
        ("for fd in range(3, 50):\n try: os.write(fd, b'rubbish')\n except OSError: pass", "loads", "'rubbish"),
    ],
    ids=["raises", "ends", "killed", "rubbish"],
)
def test_a_process_that_breaks_is_a_failed_check(
    moody: Callable[[str], Report], mood: str, name: str, says: str
) -> None:
    failure = only_failure(moody(mood))
    assert failure.name.startswith(name)
    assert says in failure.observed
    assert "Traceback" not in failure.observed


@pytest.mark.slow
def test_a_process_that_hangs_is_ended_with_all_it_started(
    moody: Callable[[str], Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "TIMEOUT_S", 20.0)
    note = tmp_path / "pids"
    mood = "import subprocess\nother = subprocess.Popen(['sleep', '600'])\n"
    mood += f"Path({str(note)!r}).write_text(f'{{os.getpid()}} {{other.pid}}')\ntime.sleep(600)"
    failure = only_failure(moody(mood))
    assert failure.observed == "it gave no answer within 20 seconds and was ended"
    for pid in note.read_text().split():
        status = Path(f"/proc/{pid}/status")
        assert not status.exists() or "State:\tZ" in status.read_text()
    assert os.getpid() not in map(int, note.read_text().split())
