"""Which model and version a person means: MODEL, MODEL@alias or MODEL/3."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import BackendError, ConfigError, unknown_name
from prefect_mlops.core.names import named

if TYPE_CHECKING:
    from prefect_mlops.core.promotion.history import Entry
    from prefect_mlops.core.trace.traces import Trace

NO_REGISTRY = "no MLflow is configured: set MLFLOW_TRACKING_URI, or PREFECT_MLOPS_HOME to a stack's home"


def only_model(text: str) -> str:
    """Read ``MODEL`` where a version makes no sense.

    Raises:
        ConfigError: it is something else.
    """
    model, which = named(text)
    if which is not None:
        raise ConfigError(f"{text!r:.100} names a version, and a history is about all of them: write {model}")
    return model


def find_history(text: str) -> tuple[str, list[Entry]]:
    """Find a model's history by the registered name, or by the dotted name of its spec.

    Returns:
        The registered name, and the entries.

    Raises:
        ConfigError: no such model, with the nearest names.
        BackendError: storage failed, or an entry cannot be read.
    """
    from pydantic import ValidationError

    from prefect_mlops.core.promotion.history import read_history

    name, _ = find_rows(text)
    try:
        return name, read_history(name)
    except ValidationError as error:
        raise BackendError(
            f"{name}: its history holds an entry that cannot be read. See what was changed by hand: "
            f"prefect-mlops audit verify {name}"
        ) from error


def find_rows(text: str) -> tuple[str, list[dict[str, Any]]]:
    """Find a model's history as it is stored, whatever is in it.

    Returns:
        The registered name, and the rows.

    Raises:
        ConfigError: no such model, with the nearest names.
        BackendError: storage failed.
    """
    from prefect_mlops.core.lake.compaction import models_with_history
    from prefect_mlops.core.promotion.history import read_rows

    name = only_model(text)
    for candidate in _names(name):
        if rows := read_rows(candidate):
            return candidate, rows
    raise unknown_name("model with a history", name, models_with_history())


def find_trace(text: str) -> Trace:
    """Trace the version a person means; the champion where they name none.

    Raises:
        ConfigError: no MLflow is configured, or there is no such model or version; the nearest are named.
        BackendError: MLflow or storage failed.
    """
    from prefect_mlops.cli._project import quieten, use_registry

    model, which = named(text)
    quieten()
    if not use_registry():
        raise ConfigError(NO_REGISTRY)
    from prefect_mlops.core.lake.compaction import models_with_history
    from prefect_mlops.tracking.client import mlflow_client
    from prefect_mlops.tracking.registry import registered_names
    from prefect_mlops.tracking.traces import trace_version

    known = {*registered_names(mlflow_client()), *models_with_history()}
    for name in _names(model):
        if name in known:
            return trace_version(name, which)
    raise unknown_name("registered model", model, known)


def _names(name: str) -> Iterator[str]:
    """Give the name itself, then that of the spec with this dotted name: only then its module is imported."""
    yield name
    if "." not in name:
        return
    from prefect_mlops.cli._project import quieten
    from prefect_mlops.deployments.project import resolve_model

    quieten()
    with contextlib.suppress(ConfigError):  # the nearest names of models say more than a module that is not there
        yield resolve_model(name)[1].name
