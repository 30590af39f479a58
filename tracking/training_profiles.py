"""The training profile of a version: kept with its MLflow run, found again, read as untrusted input."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.drift import training_profile
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.tracking.client import backend, fetch_file, missing, mlflow_client, run_files

if TYPE_CHECKING:
    from prefect_mlops.core.drift.training_profile import TrainingProfile
    from prefect_mlops.core.values import LoggedRun, ModelVersion

_FILES = (mlflow_tags.TRAINING_PROFILE, mlflow_tags.TRAINING_SAMPLE)


def log_training_profile(profile: TrainingProfile, run: LoggedRun) -> None:
    """Keep a training profile with the run of its model, in the folder ``reference/``.

    Raises:
        BackendError: MLflow failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        training_profile.write_training_profile(profile, Path(scratch, mlflow_tags.TRAINING_PROFILE_FOLDER))
        client = mlflow_client()
        with backend(f"keeping the reference with run {run.run_id}"):
            client.log_artifacts(run.run_id, scratch)


def read_training_profile(version: ModelVersion) -> TrainingProfile | None:
    """Read what was kept of a version's training data; None where nothing was.

    Raises:
        ConfigError: what was kept is damaged, or too large.
        BackendError: MLflow failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = _downloaded(version, Path(scratch))
        return training_profile.read_training_profile(folder) if folder else None


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
