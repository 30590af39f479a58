"""Look up versions in MLflow's registry, and name what is not there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.values import ModelVersion
from prefect_mlops.tracking.client import backend, missing, page

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_MODELS = 1000  # named at once
_NAME = re.compile(r"[^\s/:][^/:]{0,199}")  # what a registry can address in models:/name/version


def checked_name(name: str) -> str:
    """Return the name of a registered model as it is.

    Raises:
        ConfigError: a name the registry cannot address.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"model name {name!r} cannot be addressed: use 1 to 200 characters without '/' and ':'")
    return name


def quoted(text: str) -> str:
    """Write a text as a literal of MLflow's filter language."""
    return "'{}'".format(text.replace("'", "''"))


def registered_names(client: MlflowClient) -> list[str]:
    """List the names of all registered models.

    Raises:
        BackendError: MLflow failed.
    """
    with backend("listing registered models"):
        return [str(model.name) for model in client.search_registered_models(max_results=MAX_MODELS)]


def version_by_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Look up the version an alias points at; None where the model or the alias is not there.

    Raises:
        BackendError: MLflow failed.
    """
    from mlflow.exceptions import MlflowException

    with backend(f"looking up {name}@{alias}"):
        try:
            found = client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            # A model without this alias is an invalid parameter to MLflow, a model that is not there is missing.
            if missing(error) or error.error_code == "INVALID_PARAMETER_VALUE":
                return None
            raise
    return version_value(found, alias)


def version_by_number(client: MlflowClient, name: str, version: int) -> ModelVersion | None:
    """Look up a version by its number; None where it is not there.

    Raises:
        BackendError: MLflow failed.
    """
    from mlflow.exceptions import MlflowException

    with backend(f"looking up {name} v{version}"):
        try:
            return version_value(client.get_model_version(name, str(version)))
        except MlflowException as error:
            if missing(error):
                return None
            raise


def absent(client: MlflowClient, name: str, which: str) -> ConfigError:
    """Make the error for a version that is not there; the nearest names where the model is not there either.

    Raises:
        BackendError: MLflow failed.
    """
    known = registered_names(client)
    if name not in known:
        return unknown_name("registered model", name, known)
    return ConfigError(f"registered model {name!r} has no {which}")


def version_value(found: Any, alias: str | None = None) -> ModelVersion:
    """Translate MLflow's model version into ours."""
    return ModelVersion(
        name=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        model_uri=found.source,
        alias=alias,
        data_digest=(found.tags or {}).get(mlflow_tags.DATA),
        url=page(f"models/{found.name}/versions/{found.version}"),
    )
