from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.runtime import flow_run
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
from threadpoolctl import threadpool_info

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError
from prefect_mlops.core.specs.policies import Tune
from prefect_mlops.tasks.tuning import Tuned, tune_model

FOLDS = 2
MAE = "neg_mean_absolute_error"


class Noted(RegressorMixin, BaseEstimator):
    """Is best at ``a`` = 3, and notes in a file each fit, with all rows it was ever shown.

    The file ``fuse`` beside it says at which fit it burns, and how.
    """

    def __init__(self, folder: str = "", a: float = 0, b: float = 0.0) -> None:
        self.folder = folder
        self.a = a
        self.b = b

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Noted:
        self.mean_ = float(y.mean())
        self.train_ = X.index.tolist()
        fuse = Path(self.folder, "fuse")
        if fuse.exists():
            when, how = fuse.read_text().split()
            if len(fits(self.folder)) >= int(when):
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise {"interrupt": KeyboardInterrupt(), "error": ValueError("no such luck\n| today")}[how]
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        seen = {
            "a": self.a,
            "train": self.train_,
            "test": X.index.tolist(),
            "threads": _openmp_effective_n_threads(),
            "output": sklearn.get_config()["transform_output"],
        }
        with Path(self.folder, "fits").open("a") as file:
            file.write(json.dumps(seen) + "\n")
        return np.full(len(X), self.mean_ + (self.a - 3) ** 2 + abs(self.b))


class NotedClassifier(ClassifierMixin, Noted):
    """The same, for the splitters of classifiers."""

    def fit(self, X: pd.DataFrame, y: pd.Series) -> NotedClassifier:
        super().fit(X, y)
        self.classes_ = np.unique(y)
        return self


def fits(folder: object) -> list[dict]:
    notes = Path(str(folder), "fits")
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def rows(count: int = 12) -> tuple[pd.DataFrame, pd.Series]:
    X = pd.DataFrame({"x": np.arange(count, dtype=float)}, index=range(100, 100 + count))
    return X, pd.Series(np.arange(count) % 3 * 0.1, index=X.index, name="y")


def search(folder: Path, **changed: object) -> Tuned:
    """Search outside Prefect, one trial at a time."""
    declared = {"space": {"a": (0, 20)}, "trials": 6, "folds": FOLDS}
    declared |= {name: changed.pop(name) for name in ("space", "trials", "seconds", "folds") if name in changed}
    options = {"metric": MAE, "experiment": "e", "jobs": 1}
    return tune_model.fn(Noted(str(folder)), *rows(), tune=Tune(**declared), **{**options, **changed})


def trials_of(experiment: str = "e") -> list[Run]:
    """Return the runs of trials, in the order in which they were started."""
    client = MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    trials = [run for run in runs if mlflow_tags.SEARCH in run.data.tags]
    return sorted(trials, key=lambda run: (int(run.data.tags[mlflow_tags.SEARCH_TRIAL]), run.info.start_time))


def statuses(experiment: str = "e") -> list[str]:
    return [run.info.status for run in trials_of(experiment)]


def tried(experiment: str = "e") -> list[str]:
    return [run.data.tags[mlflow_tags.SEARCH_PARAMS] for run in trials_of(experiment) if run.info.status == "FINISHED"]


# What it finds, and what it keeps.


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 3])
def test_trials_are_children_of_the_flow_run_and_the_best_one_is_found(
    prefect_api: None, mlflow_store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, jobs: int
) -> None:
    @flow
    def tuning() -> tuple[str, Tuned]:
        caplog.set_level("INFO")
        space = {"a": (0, 20), "b": FloatDistribution(1e-3, 1.0, log=True)}
        tune = Tune(space=space, trials=25, metric=MAE, folds=FOLDS)
        tuned = tune_model(Noted(str(tmp_path)), *rows(), tune=tune, experiment="e", jobs=jobs)
        return str(flow_run.id), tuned

    flow_run_id, tuned = tuning()
    client = MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    trials = trials_of()
    assert len(trials) == len(runs) - 1 == 25
    assert parent.data.tags["prefect.flow_run_id"] == flow_run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags[mlflow_tags.SEARCH_PARAMS] for run in trials}) == 25

    best = max(trials, key=lambda run: run.data.metrics[MAE])
    assert (tuned.run_id, tuned.score) == (best.info.run_id, best.data.metrics[MAE])
    assert best.data.params == {name: str(value) for name, value in tuned.params.items()}
    assert abs(tuned.params["a"] - 3) <= 1
    assert best.data.metrics["seconds"] >= 0
    scores = [point.value for point in client.get_metric_history(best.info.run_id, f"{MAE}_fold")]
    assert np.mean(scores) == pytest.approx(tuned.score)
    assert len(scores) == FOLDS
    assert not client.search_logged_models([best.info.experiment_id])
    assert (tuned.trials, tuned.failed, tuned.known, tuned.metric) == (25, 0, 0, MAE)
    assert "is the best so far: neg_mean_absolute_error" in caplog.text
    assert "A new study created" not in caplog.text

    with get_client(sync_client=True) as api:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        (artifact,) = api.read_artifacts(artifact_filter=wanted)
    assert (artifact.type, artifact.key, artifact.data) == ("progress", "tuning-e", 100.0)
    assert artifact.description.startswith("Noted: 25 of 25 trials, best neg_mean_absolute_error")


def test_the_result_is_a_value_and_gives_a_copy_of_the_estimator(mlflow_store: str, tmp_path: Path) -> None:
    space = {"a": [3, 7], "b": [0.0]}
    tuned = search(tmp_path, space=space)
    assert Tuned.model_validate_json(tuned.model_dump_json()) == tuned
    assert tuned.params == {"a": 3, "b": 0.0}
    mine = Noted("mine", a=9)
    assert tuned.applied_to(mine).get_params() == {"folder": "mine", "a": 3, "b": 0.0}
    assert mine.a == 9


def test_choices_keep_their_kind(mlflow_store: str) -> None:
    X, y = load_breast_cancer(as_frame=True, return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    space = {
        "logisticregression__class_weight": [None, "balanced"],
        "standardscaler__with_std": [True, False],
        "logisticregression__C": np.logspace(-2, 0, 3),
        "logisticregression__max_iter": [np.int64(5000)],
    }
    tune = Tune(space=space, trials=3, metric="roc_auc", folds=3)
    tuned = tune_model.fn(model, X, y, tune=tune, experiment="e")
    again = tune_model.fn(model, X, y, tune=tune, experiment="e")
    assert again.params == tuned.params
    assert again.known == 3
    assert type(tuned.params["standardscaler__with_std"]) is bool
    assert tuned.params["logisticregression__max_iter"] == 5000
    assert tuned.params["logisticregression__class_weight"] in (None, "balanced")
    assert tuned.applied_to(model).fit(X, y).score(X, y) > 0.9


def test_a_space_with_fewer_combinations_than_trials_is_tried_once_through(mlflow_store: str, tmp_path: Path) -> None:
    tuned = search(tmp_path, space={"a": [1, 3, 5], "b": IntDistribution(0, 4, step=2)}, trials=100)
    assert tuned.trials == len(set(tried())) == 9
    assert tuned.params == {"a": 3, "b": 0}


def test_a_metric_may_be_a_function(mlflow_store: str, tmp_path: Path) -> None:
    def likes_seven(model: Noted, X: pd.DataFrame, y: pd.Series) -> float:
        model.predict(X)
        return -abs(model.a - 7)

    tuned = search(tmp_path, metric=likes_seven, space={"a": [3, 7]})
    assert (tuned.params, tuned.metric, tuned.score) == ({"a": 7}, "likes_seven", 0)


def test_a_spec_declaration_is_passed_on_as_it_is(mlflow_store: str, tmp_path: Path) -> None:
    declared = Tune(space={"a": [1, 3]}, trials=2, metric=MAE, folds=FOLDS)
    tuned = tune_model.fn(Noted(str(tmp_path)), *rows(), tune=declared, experiment="e")
    assert tuned.params == {"a": 3}


# Going on where it stopped.


def test_an_interrupted_search_goes_on_as_if_nothing_had_happened(mlflow_store: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    search(whole, experiment="whole", trials=15)

    (broken / "fuse").write_text("7 interrupt")  # in the second fold of the fourth trial
    with pytest.raises(KeyboardInterrupt):
        search(broken, trials=15)
    assert statuses() == ["FINISHED"] * 3 + ["KILLED"]
    (broken / "fuse").unlink()
    tuned = search(broken, trials=15)
    assert (tuned.trials, tuned.known) == (15, 3)
    assert len(fits(broken)) == 15 * FOLDS + 1  # and the one fold of the trial that was interrupted
    assert tried() == tried("whole")


def test_the_same_search_again_trains_nothing_in_whichever_flow_run(
    prefect_api: None, mlflow_store: str, tmp_path: Path
) -> None:
    @flow
    def tuning() -> Tuned:
        return search(tmp_path)

    first, again = tuning(), tuning()
    assert len(fits(tmp_path)) == 6 * FOLDS
    assert (again.params, again.score, again.run_id) == (first.params, first.score, first.run_id)
    assert (first.known, again.known, again.trials) == (0, 6, 6)

    assert search(tmp_path, trials=8).known == 6
    for other in ({"seed": 1}, {"space": {"a": (0, 21)}}, {"folds": 3}, {"metric": "neg_mean_squared_error"}):
        assert search(tmp_path, **other).known == 0, other
    X, y = rows(13)
    assert (
        tune_model.fn(
            Noted(str(tmp_path)), X, y, tune=Tune(space={"a": (0, 20)}, trials=6, metric=MAE, folds=2), experiment="e"
        ).known
        == 0
    )


def test_what_a_kill_left_running_is_ended_and_does_not_count(
    prefect_api: None, mlflow_store: str, tmp_path: Path
) -> None:
    client = MlflowClient()

    def leave(like: Run, **tags: str) -> str:
        old = int((time.time() - 25 * 3600) * 1000) if tags else None
        copied = {**like.data.tags, mlflow_tags.SEARCH_TRIAL: "9", **tags}
        made = client.create_run(like.info.experiment_id, tags=copied, start_time=old)
        client.log_metric(made.info.run_id, MAE, 1000.0)
        return made.info.run_id

    @flow
    def tuning() -> Tuned:
        search(tmp_path, trials=2)
        left.append(leave(trials_of()[0]))
        left.append(leave(trials_of()[0], **{mlflow_tags.SEARCH_FLOW_RUN: "another"}))
        alive.append(
            client.create_run(
                trials_of()[0].info.experiment_id,
                tags={**trials_of()[0].data.tags, mlflow_tags.SEARCH_FLOW_RUN: "another"},
            ).info.run_id
        )
        return search(tmp_path, trials=3)

    left: list[str] = []
    alive: list[str] = []
    tuned = tuning()
    assert (tuned.known, tuned.trials) == (2, 3)
    assert tuned.score < 1000
    assert [client.get_run(run).info.status for run in left] == ["KILLED", "KILLED"]
    assert client.get_run(alive[0]).info.status == "RUNNING"


def test_a_failing_store_is_retried_and_the_retry_goes_on(
    prefect_api: None, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = MlflowClient.log_batch, iter(range(100))

    def unlucky(self: MlflowClient, *args: object, **kwargs: object) -> None:
        if next(calls) == 3:
            raise OSError("the disk is full")
        real(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", unlucky)

    @flow
    def tuning() -> Tuned:
        task = tune_model.with_options(retry_delay_seconds=0)
        tune = Tune(space={"a": (0, 20)}, trials=6, metric=MAE, folds=2)
        return task(Noted(str(tmp_path)), *rows(), tune=tune, experiment="e", jobs=1)

    assert tuning().known == 3
    assert len(fits(tmp_path)) == 7 * FOLDS  # the trial that could not be written was made again
    assert sorted(statuses()) == ["FINISHED"] * 6 + ["KILLED"]


def test_mlflow_out_of_reach_is_a_plain_backend_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BackendError, match="opening experiment 'e'"):
        search(tmp_path)
    assert not fits(tmp_path)


@pytest.mark.slow
def test_a_killed_process_costs_the_trial_it_was_in(mlflow_store: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import importlib.util\nspec = importlib.util.spec_from_file_location('noted', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)\n"
        f"print(module.search({str(tmp_path)!r}).model_dump_json())\n"
    )
    (tmp_path / "fuse").write_text("5 kill")
    assert subprocess.run([sys.executable, script], capture_output=True).returncode == -signal.SIGKILL
    assert statuses() == ["FINISHED", "FINISHED", "RUNNING"]
    (tmp_path / "fuse").unlink()
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    tuned = Tuned.model_validate_json(ended.stdout.splitlines()[-1])
    assert (tuned.known, tuned.trials) == (2, 6)
    assert len(fits(tmp_path)) == 6 * FOLDS + 1


# What it sees.


def test_the_search_sees_the_rows_it_was_given_and_each_of_them(mlflow_store: str, tmp_path: Path) -> None:
    X, y = rows(30)
    training = X.index[:20]
    tune = Tune(space={"a": [1, 3]}, metric=MAE)
    tune_model.fn(Noted(str(tmp_path)), X.loc[training], y.loc[training], tune=tune, experiment="e")
    for fit in fits(tmp_path):
        assert not {*fit["train"]} & {*fit["test"]}
        assert {*fit["train"], *fit["test"]} == {*training}


def test_ordered_rows_are_scored_by_models_of_earlier_rows(mlflow_store: str, tmp_path: Path) -> None:
    search(tmp_path, ordered=True)
    assert all(max(fit["train"]) < min(fit["test"]) for fit in fits(tmp_path))


@pytest.mark.parametrize("kind", [Noted, NotedClassifier])
def test_a_group_stays_in_one_fold(mlflow_store: str, tmp_path: Path, kind: type[Noted]) -> None:
    X, _ = rows()
    y, groups = pd.Series([0, 1] * 6, index=X.index), pd.Series([*"aabbccddeeff"], index=X.index)
    tune = Tune(space={"a": [1, 3]}, metric=MAE, folds=3)
    tune_model.fn(kind(str(tmp_path)), X, y, tune=tune, groups=groups, experiment="e")
    assert len(fits(tmp_path)) == 2 * 3
    for fit in fits(tmp_path):
        assert not {*groups[fit["train"]]} & {*groups[fit["test"]]}


def test_threads_share_the_cores_and_know_scikit_learns_settings(
    mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    before = [(library["filepath"], library["num_threads"]) for library in threadpool_info()]
    with sklearn.config_context(transform_output="pandas"):
        search(tmp_path, jobs=4)
    assert {fit["threads"] for fit in fits(tmp_path)} == {1}
    assert {fit["output"] for fit in fits(tmp_path)} == {"pandas"}
    assert [(library["filepath"], library["num_threads"]) for library in threadpool_info()] == before


# What goes wrong.


def test_a_failed_trial_is_kept_with_its_reason_and_does_not_stop_the_search(mlflow_store: str, tmp_path: Path) -> None:
    tuned = search(tmp_path, space={"a": [3, "three"]})
    assert (tuned.params, tuned.trials, tuned.failed) == ({"a": 3}, 1, 1)
    failed = next(run for run in trials_of() if run.info.status == "FAILED")
    assert failed.data.params == {"a": "three"}
    assert failed.data.tags[mlflow_tags.SEARCH_REASON].endswith(
        "cannot be computed for Noted: unsupported operand type(s) for -: 'str' and 'int'"
    )
    again = search(tmp_path, space={"a": [3, "three"]})
    assert (again.known, again.failed) == (2, 1)
    assert len(trials_of()) == 2


def test_when_all_trials_fail_the_first_reason_is_told_and_the_next_search_tries_again(
    mlflow_store: str, tmp_path: Path
) -> None:
    (tmp_path / "fuse").write_text("0 error")
    with pytest.raises(
        ConfigError, match=r"none of 6 trials of Noted worked. The first, with a=\d+: ValueError: no such luck \| today"
    ):
        search(tmp_path)
    assert statuses() == ["FAILED"] * 6
    (tmp_path / "fuse").unlink()
    assert search(tmp_path).trials == 6


def test_a_fold_with_one_class_only_fails_the_trial_in_words(mlflow_store: str) -> None:
    X, _ = rows(12)
    y = pd.Series([0] * 8 + [1, 0, 1, 1], index=X.index)
    tune = Tune(space={"C": [1.0]}, metric="roc_auc", folds=3)
    with pytest.raises(ConfigError, match=r"none of 1 trials of LogisticRegression worked.*at least 2 classes"):
        tune_model.fn(LogisticRegression(), X, y, tune=tune, ordered=True, experiment="e")


def test_interrupted_threads_leave_nothing_running(mlflow_store: str, tmp_path: Path) -> None:
    (tmp_path / "fuse").write_text("9 interrupt")
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, trials=20, jobs=3)
    assert set(statuses()) == {"FINISHED", "KILLED"}
    (tmp_path / "fuse").unlink()
    done = statuses().count("FINISHED")
    assert search(tmp_path, trials=20, jobs=3).known == done
    assert statuses().count("FINISHED") == 20


def test_time_stops_new_trials_but_one_is_always_made(mlflow_store: str, tmp_path: Path) -> None:
    tuned = search(tmp_path, seconds=1e-9)
    assert tuned.trials == 1
    assert len(fits(tmp_path)) == FOLDS
    assert search(tmp_path, seconds=1e-9).known == 1
    assert len(fits(tmp_path)) == FOLDS


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"aa": [1]}, "space: no parameter of Noted is called 'aa': did you mean 'a'"),
        ({}, "space: name at least one parameter"),
        ({"a": "abc"}, r"space\['a'\]: give a list of choices, a \(low, high\) pair"),
        ({"a": 5}, r"space\['a'\]: give a list"),
        ({"a": {1, 2}}, r"space\['a'\]: give a list"),
        ({"a": []}, r"space\['a'\]: there is nothing to choose from"),
        ({"a": [(1, 2)]}, r"space\['a'\]: a choice is text, a finite number, True, False or None, got \(1, 2\)"),
        ({"a": CategoricalDistribution([float("nan")])}, r"space\['a'\]: a choice is text, a finite number"),
        ({"a": [1, True]}, r"space\['a'\]: the choices 1 and True are equal"),
        ({"a": (2, 1)}, r"space\['a'\]: a range goes from a finite low to a finite high.*got \(2, 1\)"),
        ({"a": (0.0, float("inf"))}, r"space\['a'\]: a range goes from a finite low"),
        ({"a": (0, 1.5)}, r"space\['a'\]: \(0, 1.5\) is no pair .*: write \(0.0, 1.5\)"),
        ({"a": (True, False)}, r"space\['a'\]: \(True, False\) is no pair"),
        ({"a": (1, 2, 3)}, r"space\['a'\]: \(1, 2, 3\) is no pair"),
        ({"a": ("x", "y")}, r"space\['a'\]: \('x', 'y'\) is no pair"),
    ],
)
def test_a_wrong_space_is_refused_before_anything_runs(
    mlflow_store: str, tmp_path: Path, space: object, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        search(tmp_path, space=space)
    assert not fits(tmp_path)
    assert MlflowClient().get_experiment_by_name("e") is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"trials": 0}, "trials is 1 or more, got 0"),
        ({"seconds": 0}, "seconds is above 0 or None"),
        ({"folds": 1}, "folds is 2 or more"),
        ({"folds": 13}, "folds: 12 rows cannot be cut into 13 parts"),
        ({"folds": 12, "ordered": True}, "folds: 12 rows cannot be cut into 12 parts"),
        ({"metric": "mae"}, "no metric is called 'mae'"),
        ({"metric": None}, "metric: name a scorer, here or in tune"),
        ({"jobs": 0}, "jobs is 1 or more"),
        ({"seed": -1}, "seed is a whole number from 0"),
        ({"groups": pd.Series([1] * 11)}, "X has 12 rows and groups has 11"),
        ({"groups": pd.Series([1] * 12)}, "folds: 12 rows cannot be cut into 2 parts"),
        ({"groups": pd.Series([1] * 11 + [None])}, "groups: 1 of 12 rows belong to none"),
        ({"groups": pd.Series([1] * 12), "ordered": True}, "ordered and groups exclude each other"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(
    mlflow_store: str, tmp_path: Path, changed: dict, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        search(tmp_path, **changed)
    assert MlflowClient().get_experiment_by_name("e") is None


def test_wrong_estimators_and_rows_are_told_as_in_training(mlflow_store: str) -> None:
    X, y = rows()[0], pd.Series([0] * 12)
    options = {"tune": Tune(space={"C": [1.0]}, metric="accuracy"), "experiment": "e"}
    with pytest.raises(ConfigError, match=r"give an instance, LogisticRegression\(\)"):
        tune_model.fn(LogisticRegression, X, y, **options)
    with pytest.raises(ConfigError, match="X has 12 rows and y has 11"):
        tune_model.fn(LogisticRegression(), X, y.head(11), **options)
    with pytest.raises(DataCheckError, match="no rows to train on"):
        tune_model.fn(LogisticRegression(), X.head(0), y.head(0), **options)
    with pytest.raises(DataCheckError, match="one class only"):
        tune_model.fn(LogisticRegression(), X, y, **options)
