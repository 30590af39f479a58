"""The drift page of a verdict, as an artifact of an MLflow run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.tracking.client import backend, mlflow_client, page

if TYPE_CHECKING:
    from prefect_mlops.core.values import LoggedRun


def log_drift_page(file: Path, run: LoggedRun) -> str | None:
    """Keep a page with a run, in the folder ``drift/``; return its address, or None where no server shows it.

    Raises:
        ConfigError: MLflow has no such run.
        BackendError: MLflow failed.
    """
    client = mlflow_client()
    with backend(f"logging the drift page to run {run.run_id}"):
        client.log_artifact(run.run_id, str(file), mlflow_tags.DRIFT_FOLDER)
        experiment = client.get_run(run.run_id).info.experiment_id
    return page(f"experiments/{experiment}/runs/{run.run_id}/artifacts/{mlflow_tags.DRIFT_FOLDER}/{quote(file.name)}")
