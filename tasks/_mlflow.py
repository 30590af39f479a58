"""The one door to MLflow: a client with explicit ids, its failures in our words, and model files loaded safely."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import BackendError, ConfigError, MLOpsError
from prefect_mlops.core.settings import Settings
from prefect_mlops.core.trusted_types import trusted_types

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_REASON_LENGTH = 300  # MLflow quotes whole SQL statements and response bodies
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
    from mlflow import MlflowClient

    with backend("opening the tracking store"):
        return MlflowClient()


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


def load_model_files(folder: Path, *, subject: str) -> Any:
    """Load a scikit-learn model from a downloaded MLflow model folder, trusting only the site's own list of types.

    MLflow's loader takes the trusted types, and code to put on the import path, from the model's own file: a model
    could vouch for itself. Nothing of that is read here.

    Args:
        folder: the folder that holds ``MLmodel``.
        subject: what the model is called in errors.

    Returns:
        The fitted estimator.

    Raises:
        ConfigError: not a scikit-learn model in skops format, a path that leads outside, or a type nobody allowed.
    """
    import skops.io
    from mlflow.models import Model

    flavor = Model.load(folder / "MLmodel").flavors.get("sklearn")
    if flavor is None:
        raise ConfigError(f"{subject} is not a scikit-learn model: its MLmodel file has no sklearn flavor")
    if flavor.get("serialization_format") != "skops":
        raise ConfigError(
            f"{subject} is stored as {flavor.get('serialization_format', 'pickle')!r}, which runs code when it is "
            "loaded: log it again with log_run, which writes skops"
        )
    path = (folder / str(flavor.get("pickled_model"))).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise ConfigError(f"{subject} names a model file outside of its own folder or one that is not there")
    try:
        untrusted = sorted(set(skops.io.get_untrusted_types(file=path)) - trusted_types())
        model = None if untrusted else skops.io.load(path, trusted=sorted(trusted_types()))
    except Exception as error:
        raise ConfigError(f"{subject} cannot be loaded from its skops file: {_reason(error)}") from error
    if untrusted:
        raise untrusted_types(subject, untrusted)
    return model


def untrusted_types(subject: str, types: list[str]) -> ConfigError:
    """Name the types that nobody allowed, and how to allow them."""
    return ConfigError(
        f"{subject} holds types that are not trusted: {', '.join(types)}. When you have read what they do, allow them "
        f"for this site with PREFECT_MLOPS_TRUSTED_TYPES={','.join(types)}"
    )


def _reason(error: Exception) -> str:
    text = _CREDENTIALS.sub("://***@", " ".join(str(error).split()))
    return text if len(text) <= MAX_REASON_LENGTH else text[: MAX_REASON_LENGTH - 1] + "…"
