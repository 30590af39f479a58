"""Find, load, register and promote models in MLflow's registry."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prefect.runtime

from prefect_mlops.core import leases
from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.history import Entry, read_history, record
from prefect_mlops.core.values import Decision, LoadedModel, LoggedRun, ModelVersion
from prefect_mlops.tasks import _mlflow
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"  # the alias that serves
_DATA_TAG = "prefect_mlops.data"
_NAME = re.compile(r"[^\s/:][^/:]{0,199}")  # what a registry can address in models:/name/version


@step("find-{name}@{alias}", backend=True)
def find_model(name: str, alias: str = CHAMPION) -> LoadedModel | None:
    """Load the model an alias points at, or return None where there is none yet.

    Args:
        name: registered model.
        alias: which version of it.

    Returns:
        The model, loaded by the safe loader, or None.

    Raises:
        ConfigError: the stored model is not in skops format or holds types nobody allowed.
        BackendError: MLflow failed; retried.
    """
    client = _mlflow.mlflow_client()
    found = _by_alias(client, _checked(name), alias)
    return None if found is None else _loaded(client, found)


@step("load-{name}", backend=True)
def load_model(name: str, *, alias: str | None = None, version: int | None = None) -> LoadedModel:
    """Load a model that has to be there.

    Args:
        name: registered model.
        alias: which version, by alias; ``champion`` when neither is given.
        version: which version, by number.

    Returns:
        The model, loaded by the safe loader.

    Raises:
        ConfigError: no such model, alias or version, with the nearest names; or a model that may not be loaded.
        BackendError: MLflow failed; retried.
    """
    if alias is not None and version is not None:
        raise ConfigError(f"model {name!r}: give alias or version, not both")
    client = _mlflow.mlflow_client()
    found = _by_version(client, _checked(name), version) if version else _by_alias(client, name, alias or CHAMPION)
    if found is None:
        raise _absent(client, name, f"version {version}" if version else f"alias {alias or CHAMPION!r}")
    return _loaded(client, found)


@step("register-{name}", backend=True)
def register_model(run: LoggedRun, name: str) -> ModelVersion:
    """Make a logged model a version in the registry; the same model again gives the same version.

    Args:
        run: from `log_run`.
        name: registered model; made when it is new.

    Returns:
        The version.

    Raises:
        ConfigError: a name the registry cannot address.
        BackendError: MLflow failed; retried.
    """
    client = _mlflow.mlflow_client()
    with _mlflow.backend(f"registering {_checked(name)!r}"):
        _ensure_registered(client, name)
        for known in client.search_model_versions(f"name = '{_quoted(name)}' and run_id = '{run.run_id}'"):
            if known.source == run.model_uri:
                return _value(known)
        made = client.create_model_version(
            name,
            source=run.model_uri,
            run_id=run.run_id,
            model_id=run.model_uri.rpartition("/")[2],
            tags={_DATA_TAG: run.data_digest} if run.data_digest else None,
        )
    return _value(made)


@step("promote-{version.name}-v{version.version}", backend=True)
def promote_model(
    version: ModelVersion,
    alias: str = CHAMPION,
    *,
    decision: Decision | None = None,
    recipe: str = "",
    lease: Entry | None = None,
) -> ModelVersion:
    """Point an alias at a version; a champion is written into the model's history first.

    A crash between the two is mended by `repair_alias`, which the train and monitor flows begin with.

    Args:
        version: from `register_model`.
        alias: which role it takes; only ``champion`` has a history.
        decision: why; None where nothing was judged.
        recipe: names what the decision rests on, for `find_decision`.
        lease: from `take_lease`; the turn ends with this.

    Returns:
        The version with its alias.

    Raises:
        ConflictError: the lease ran out and another run took over, or another version became champion meanwhile.
        BackendError: MLflow or the lake failed; retried.
    """
    run = _flow_run()
    if alias == CHAMPION:
        leases.conclude("promoted", version, decision, recipe=recipe, lease=lease, flow_run=run)
    _set_alias(version.name, alias, version.version)
    if alias == CHAMPION:
        leases.give_back(version, lease, flow_run=run)
    return version.model_copy(update={"alias": alias})


@step("find-version-{name}@{alias}", backend=True)
def find_version(name: str, alias: str = CHAMPION) -> ModelVersion | None:
    """Look up which version an alias points at, without loading it.

    Args:
        name: registered model.
        alias: which version of it.

    Returns:
        The version; None where there is none.

    Raises:
        BackendError: MLflow failed; retried.
    """
    return _by_alias(_mlflow.mlflow_client(), _checked(name), alias)


@step("repair-alias-{name}", backend=True)
def repair_alias(name: str) -> str:
    """Let MLflow's alias follow the history where a crash kept it behind; one that was moved by hand is left alone.

    Args:
        name: registered model.

    Returns:
        What was repaired, or that alias and history differ, in a sentence; empty when they agree.

    Raises:
        BackendError: MLflow or the lake failed; retried.
    """
    run = _flow_run()
    promotion = leases.take_for_repair(name, run)
    found = _by_alias(_mlflow.mlflow_client(), _checked(name), CHAMPION)
    points_at = found.version if found else None
    if promotion is None or promotion.version is None:
        return leases.difference(read_history(name), points_at)
    _set_alias(name, CHAMPION, promotion.version)
    was = f"v{points_at}" if points_at else "nothing"
    done = f"v{promotion.version} was promoted, but the alias still pointed at {was}; it was set"
    record(Entry(model=name, kind="repaired", version=promotion.version, reason=done, flow_run=run))
    return "" if points_at == promotion.version else f"Repaired: {done}."


def _flow_run() -> str:
    return str(prefect.runtime.flow_run.id or "")


def _set_alias(name: str, alias: str, version: int) -> None:
    client = _mlflow.mlflow_client()
    with _mlflow.backend(f"promoting {name} v{version}"):
        client.set_registered_model_alias(name, alias, str(version))


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"model name {name!r} cannot be addressed: use 1 to 200 characters without '/' and ':'")
    return name


def _quoted(name: str) -> str:
    return name.replace("'", "''")


def _ensure_registered(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _by_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    with _mlflow.backend(f"looking up {name}@{alias}"):
        try:
            found = client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            # A model without this alias is an invalid parameter to MLflow, a model that is not there is missing.
            if _mlflow.missing(error) or error.error_code == "INVALID_PARAMETER_VALUE":
                return None
            raise
    return _value(found, alias)


def _by_version(client: MlflowClient, name: str, version: int) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    with _mlflow.backend(f"looking up {name} v{version}"):
        try:
            return _value(client.get_model_version(name, str(version)))
        except MlflowException as error:
            if _mlflow.missing(error):
                return None
            raise


def _absent(client: MlflowClient, name: str, which: str) -> ConfigError:
    with _mlflow.backend("listing registered models"):
        known = [model.name for model in client.search_registered_models(max_results=1000)]
    if name not in known:
        return unknown_name("registered model", name, known)
    return ConfigError(f"registered model {name!r} has no {which}")


def _loaded(client: MlflowClient, version: ModelVersion) -> LoadedModel:
    subject = f"model {version.name} v{version.version}"
    with _mlflow.backend(f"downloading {subject}"), tempfile.TemporaryDirectory() as scratch:
        folder = _downloaded(client, version, scratch)
        return LoadedModel(version=version, estimator=_mlflow.load_model_files(folder, subject=subject))


def _downloaded(client: MlflowClient, version: ModelVersion, scratch: str) -> Path:
    from mlflow.artifacts import download_artifacts

    location = client.get_model_version_download_uri(version.name, str(version.version))
    return Path(download_artifacts(artifact_uri=location, dst_path=scratch))


def _value(found: Any, alias: str | None = None) -> ModelVersion:
    """Translate MLflow's model version into ours."""
    return ModelVersion(
        name=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        model_uri=found.source,
        alias=alias,
        data_digest=(found.tags or {}).get(_DATA_TAG),
        url=_mlflow.page(f"models/{found.name}/versions/{found.version}"),
    )
