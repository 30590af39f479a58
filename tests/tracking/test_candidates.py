from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.models import Model
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.lineage.environment import CodeState
from prefect_mlops.core.training.fit import fit_estimator
from prefect_mlops.tracking.candidates import log_candidate
from prefect_mlops.tracking.runs import Caller
from tests.tracking.candidates import ROWS, SCORES, estimator, runs_of

log = partial(log_candidate, caller=Caller(), code=CodeState())


def test_outside_a_flow_there_is_no_parent(mlflow_store: str) -> None:
    run = log(fit_estimator(estimator(1.0), *ROWS), SCORES, experiment="many")
    assert run.parent_run_id is None
    (only,), none = runs_of("many")
    assert (only.info.run_id, none) == (run.run_id, [])


def test_a_failure_in_the_middle_leaves_no_run_running(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: object, **_kwargs: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", unreachable)
    with pytest.raises(BackendError, match="failed while logging to experiment 'many': the disk is full"):
        log(fit_estimator(estimator(1.0), *ROWS), SCORES, experiment="many")
    (run,), _ = runs_of("many")
    assert run.info.status == "FAILED"


def test_rows_to_rehearse_on_are_kept_with_what_was_predicted(mlflow_store: str) -> None:
    X, y = ROWS
    model = fit_estimator(estimator(1.0), X, y)
    run = log(model, SCORES, experiment="many", example=X.head(), smoke_test_rows=X.tail(300))
    stored = Path(download_artifacts(run_id=run.run_id)) / "rehearsal"
    kept = pd.read_parquet(stored / "rows.parquet")
    pd.testing.assert_frame_equal(kept, X.tail(300).head(200).reset_index(drop=True))
    with np.load(stored / "predictions.npz", allow_pickle=False) as said:
        assert np.array_equal(said["predict"], model.predict(kept))
        assert np.array_equal(said["predict_proba"], model.predict_proba(kept))


@pytest.mark.parametrize(
    ("options", "why"),
    [({}, "no example was given"), ({"smoke_test_rows": ROWS[0].assign(odd=[1, "x"] + [b"y"] * 567)}, "odd")],
    ids=["none given", "mixed objects"],
)
def test_rows_that_cannot_be_kept_are_told_and_the_run_is_logged(
    mlflow_store: str, options: dict[str, pd.DataFrame], why: str
) -> None:
    said: list[str] = []
    run = log(fit_estimator(estimator(1.0), *ROWS), SCORES, experiment="many", warn=said.append, **options)
    (told,) = said
    assert "No rows were kept to rehearse LogisticRegression on, so it cannot be rehearsed before promotion: " in told
    assert why in told
    assert not MlflowClient().list_artifacts(run.run_id, "rehearsal")


def test_requirements_are_pinned_and_the_format_is_skops(mlflow_store: str) -> None:
    run = log(fit_estimator(estimator(1.0), *ROWS), SCORES, experiment="many", example=ROWS[0].head())
    folder = Path(download_artifacts(run.model_uri))
    pinned = (folder / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in pinned} >= {"scikit-learn", "skops", "mlflow", "pandas", "numpy"}
    assert all("==" in line for line in pinned)
    flavor = Model.load(folder / "MLmodel").flavors["sklearn"]
    assert flavor["serialization_format"] == "skops"
    assert not list(folder.glob("*.pkl"))


def test_nullable_columns_keep_their_signature(mlflow_store: str) -> None:
    X = pd.DataFrame(
        {
            "gaps": pd.array([1, None, 3, 4], dtype="Int64"),
            "whole": pd.array([1, 2, 3, 4], dtype="Int64"),
            "flag": pd.array([True, None, False, True], dtype="boolean"),
            "number": [0.1, np.nan, 0.3, 0.4],
        }
    )
    model = fit_estimator(
        HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=1), X, pd.Series([0, 1, 0, 1], name="y")
    )
    run = log(model, SCORES, experiment="many", example=X)
    signature = Model.load(Path(download_artifacts(run.model_uri)) / "MLmodel").signature
    kinds = {column.name: column.type.name for column in signature.inputs}
    assert kinds == {"gaps": "double", "whole": "long", "flag": "boolean", "number": "double"}
    assert signature.outputs is not None


class Homemade(ClassifierMixin, BaseEstimator):
    """An estimator nobody reviewed."""

    def fit(self, X: object, y: object) -> Homemade:
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return np.zeros(len(X), dtype=int)


def test_an_untrusted_type_is_named_with_the_way_to_allow_it(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fit_estimator(Homemade(), *ROWS)
    with pytest.raises(ConfigError, match=r"not trusted: .*Homemade.*PREFECT_MLOPS_TRUSTED_TYPES=") as refused:
        log(model, SCORES, experiment="many")
    allowed = str(refused.value).rpartition("=")[2]
    monkeypatch.setenv("PREFECT_MLOPS_TRUSTED_TYPES", allowed)
    assert log(model, SCORES, experiment="many").model_uri.startswith("models:/m-")


def test_a_lambda_cannot_be_stored_and_says_so(mlflow_store: str) -> None:
    model = fit_estimator(make_pipeline(FunctionTransformer(lambda x: x), LogisticRegression(max_iter=5000)), *ROWS)
    with pytest.raises(ConfigError, match="importable from a module"):
        log(model, SCORES, experiment="many")


def test_mlflow_out_of_reach_is_a_plain_backend_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BackendError, match="Is it running, and is MLFLOW_TRACKING_URI right") as failed:
        log(fit_estimator(estimator(1.0), *ROWS), SCORES, experiment="many")
    assert "secret" not in str(failed.value)
    assert failed.value.__cause__ is not None


def test_a_deleted_experiment_is_named(mlflow_store: str) -> None:
    client = MlflowClient()
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(ConfigError, match="experiment 'gone' is deleted"):
        log(fit_estimator(estimator(1.0), *ROWS), SCORES, experiment="gone")
