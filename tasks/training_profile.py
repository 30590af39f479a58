"""The training profile: a summary of the training rows, kept with the model for drift detection."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.drift import training_profile
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.tasks._step import run_logger, step
from prefect_mlops.tracking.client import backend, fetch_file, missing, mlflow_client, run_files

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.drift.training_profile import TrainingProfile
    from prefect_mlops.core.evaluation.importance import Importances
    from prefect_mlops.core.specs.model import ModelSpec
    from prefect_mlops.core.values import LoggedRun, ModelVersion, Split

_FILES = (mlflow_tags.TRAINING_PROFILE, mlflow_tags.TRAINING_SAMPLE)


@step("keep-reference-of-{spec.name}", backend=True)
def save_training_profile(
    model: Any,
    *,
    spec: ModelSpec,
    split: Split,
    table: pd.DataFrame | None = None,
    run: LoggedRun | None = None,
    importances: Importances | None = None,
) -> TrainingProfile:
    """Summarise what a model was trained on, and keep it with the model's run.

    Ten thousand of the training rows go with it, for pages and predictions: who may read the run may read them.

    Args:
        model: the fitted estimator.
        spec: its recipe.
        split: training rows; of the test rows the model's predictions are summarised, and what each feature is worth.
        table: what the split was made of, for the order in time where the spec has an ``order_by``: neighbouring rows
            give the block baseline. Without it rows are taken in their own order.
        run: MLflow run that gets the folder ``reference/``; None keeps nothing.
        importances: what each feature is worth, where that is known already, as from the model's card.

    Returns:
        The reference, for `detect_drift`.

    Raises:
        BackendError: MLflow failed; tried again.

    Source: `core.drift.training_profile`; `sklearn.inspection.permutation_importance` for the weights.
    """
    times = table[spec.order_by] if table is not None and spec.order_by else None
    unseen = _order(split.X_test, times)
    reference = training_profile.make_training_profile(
        split.X_train,
        split.y_train,
        order=_order(split.X_train, times),
        model=model,
        unseen=split.X_test if unseen is None else split.X_test.iloc[unseen],
        importances=importances or _importances(model, spec, split),
        preparation=spec.preparation,
    )
    if run is not None:
        with tempfile.TemporaryDirectory() as scratch:
            training_profile.write_training_profile(reference, Path(scratch, mlflow_tags.TRAINING_PROFILE_FOLDER))
            client = mlflow_client()
            with backend(f"keeping the reference with run {run.run_id}"):
                client.log_artifacts(run.run_id, scratch)
    return reference


def _order(rows: pd.DataFrame, times: pd.Series | None) -> NDArray[Any] | None:
    """Return the places of rows in the order of time; None where they stand in it."""
    if times is None:
        return None
    ends = (times.iloc[: len(rows)], times.iloc[-len(rows) :])  # mostly; looking up labels takes memory for all of them
    of = next((end for end in ends if end.index.equals(rows.index)), None)
    of = times.loc[rows.index] if of is None else of
    return None if of.is_monotonic_increasing else of.argsort(kind="stable").to_numpy()


def _importances(model: Any, spec: ModelSpec, split: Split) -> Importances | None:
    from prefect_mlops.core.evaluation.importance import NotMeasurableError, measure_importances

    with contextlib.suppress(NotMeasurableError, ValueError):  # without weights every column counts the same
        return measure_importances(model, split.X_test, split.y_test, metric=spec.gates[0].scorer, seed=spec.seed)
    return None


@step("find-reference-of-{version.name}-v{version.version}", backend=True)
def find_training_profile(version: ModelVersion) -> TrainingProfile | None:
    """Find what was kept of a version's training data.

    Args:
        version: which one.

    Returns:
        The reference; None where none was kept, or where it is damaged, which the log tells.

    Raises:
        BackendError: MLflow failed; tried again.
    """
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = _downloaded(version, Path(scratch))
            return training_profile.read_training_profile(folder) if folder else None
    except ConfigError as error:
        run_logger().warning("The reference of %s v%s is not used: %s", version.name, version.version, error)
        return None


def _downloaded(version: ModelVersion, scratch: Path) -> Path | None:
    """Bring the two files here; None where they are not there."""
    from mlflow.exceptions import MlflowException

    client = mlflow_client()
    with backend(f"looking for the reference of run {version.run_id}"):
        try:
            files = run_files(client, version.run_id)
            listed = files.list_artifacts(mlflow_tags.TRAINING_PROFILE_FOLDER)
        except MlflowException as error:
            if missing(error):
                return None
            raise
        sizes = {info.path: info.file_size or 0 for info in listed}
        if not set(_FILES) <= sizes.keys():
            return None
        if large := [name for name in _FILES if sizes[name] > training_profile.MAX_BYTES]:
            raise ConfigError(f"{large[0]} has {sizes[large[0]]:,} bytes, more than {training_profile.MAX_BYTES:,}")
        folder = scratch / "kept"
        folder.mkdir()
        for name in _FILES:
            fetch_file(files, name, folder)
    return folder
