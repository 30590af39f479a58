"""A client of MLflow with explicit ids, its failures as errors of ours, and the files of versions and runs."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from prefect_mlops.core.errors import BackendError, ConfigError, MLOpsError
from prefect_mlops.core.imports import uncollected
from prefect_mlops.core.settings import Settings
from prefect_mlops.core.text import one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    from prefect_mlops.core.values import ModelVersion

# Said at each saved model where a virtual environment has no pip to name, and at each version that is there at once.
logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
logging.getLogger("mlflow.store.model_registry.abstract_store").setLevel(logging.WARNING)
_CREDENTIALS = re.compile(r"://[^/@\s]+@")  # MLflow quotes the address it could not reach, password and all
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


def mlflow_client() -> MlflowClient:
    """Return a client for the ambient tracking URI.

    MLflow's own retries wait for minutes before they say that a server is away; Prefect retries our tasks anyway and
    shows that it does, so the default is cut short. Its progress bars and links would end up between the lines of the
    run's log, which has its own. A site's own settings win.
    """
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    with uncollected():
        from mlflow import MlflowClient

    with backend("opening the tracking store"):
        return MlflowClient()


def quoted(text: str) -> str:
    """Write a text as a literal of MLflow's filter language."""
    return "'{}'".format(text.replace("'", "''"))


@contextlib.contextmanager
def backend(doing: str) -> Iterator[None]:
    """Turn failures of MLflow and what is behind it into `BackendError`, and wrong requests into `ConfigError`."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MLOpsError:
        raise
    except MlflowException as error:
        if error.error_code in {"INVALID_PARAMETER_VALUE", *_MISSING, "PERMISSION_DENIED", "INVALID_STATE"}:
            raise ConfigError(f"MLflow at {tracking_uri()} refused {doing}: {_reason(error)}") from error
        raise _failed(doing, error) from error
    except (requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        raise _failed(doing, error) from error


def _failed(doing: str, error: Exception) -> BackendError:
    return BackendError(
        f"MLflow at {tracking_uri()} failed while {doing}: {_reason(error)}. Is it running, and is "
        "MLFLOW_TRACKING_URI right?"
    )


def missing(error: Exception) -> bool:
    """Tell whether MLflow says that a thing is not there."""
    return getattr(error, "error_code", None) in _MISSING


def tracking_uri() -> str:
    """Return where MLflow keeps its records, without the password that may be in it."""
    import mlflow

    return _CREDENTIALS.sub("://***@", mlflow.get_tracking_uri())


def page(path: str) -> str | None:
    """Return the address of an MLflow page, or None where no server shows it."""
    import mlflow

    base = Settings().mlflow_ui or mlflow.get_tracking_uri()
    return f"{base.rstrip('/')}/#/{path}" if base.startswith(("http://", "https://")) else None


def download_model(client: MlflowClient, version: ModelVersion, folder: Path) -> Path:
    """Bring the files of a version here, as they are in the registry.

    Args:
        client: from `mlflow_client`.
        version: which one.
        folder: where to put them; made when it is not there.

    Returns:
        The folder that holds ``MLmodel``.

    Raises:
        ConfigError: the registry does not know the version, or gives an address with ``..`` in it.
        BackendError: MLflow or its storage failed.
    """
    from mlflow.artifacts import download_artifacts

    subject = f"model {version.name} v{version.version}"
    with backend(f"downloading {subject}"):
        folder.mkdir(parents=True, exist_ok=True)
        location = client.get_model_version_download_uri(version.name, str(version.version))
        for address in (version.model_uri, location):
            if ".." in re.split(r"[/\\]", unquote(address)):
                raise ConfigError(f"{subject} is refused: its address {one_line(address)!r} holds '..'")
        return Path(download_artifacts(artifact_uri=location, dst_path=str(folder)))


def run_files(client: MlflowClient, run_id: str) -> ArtifactRepository:
    """Open the artifacts of a run; the client would look the run up again for every file.

    Raises:
        MlflowException: there is no such run.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(client.get_run(run_id).info.artifact_uri)


def fetch_file(files: ArtifactRepository, name: str, folder: Path) -> None:
    """Bring one file of `run_files` into a folder; a store brings it with its folder or without, as it likes."""
    brought = Path(files.download_artifacts(name, str(folder)))  # type: ignore[no-untyped-call]
    brought.replace(folder / brought.name)


def _reason(error: Exception) -> str:
    return one_line(_CREDENTIALS.sub("://***@", str(error)))
