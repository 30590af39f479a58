"""Shared by the commands that change the champion: the MLflow they use, arguments, history, output."""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING

import typer

from prefect_mlops.cli._terminal import escaped
from prefect_mlops.core.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from prefect_mlops.core.promotion.history import Entry


def open_registry() -> None:
    """Configure MLflow: the configured one, or that of the home.

    Raises:
        ConfigError: there is neither.
    """
    from prefect_mlops.cli._project import use_registry

    if not use_registry():
        raise ConfigError("no MLflow is configured: set MLFLOW_TRACKING_URI, or PREFECT_MLOPS_HOME to a stack's home")


def who(by: str) -> str:
    """Return the name of the person: the one given, else the login name.

    Raises:
        ConfigError: there is neither.
    """
    try:
        name = by.strip() or getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        name = ""
    if not name:
        raise ConfigError("the login here has no name: say who you are with --by NAME")
    return name


def reason(why: str) -> str:
    """Return the reason, stripped.

    Raises:
        ConfigError: it is empty.
    """
    if not why.strip():
        raise ConfigError("--why is empty: write a sentence for those who ask later")
    return why.strip()


def history_of(model_name: str) -> list[Entry]:
    """Return a model's history.

    Raises:
        ConfigError: it has none, with the nearest names that have one.
        BackendError: storage failed.
    """
    from prefect_mlops.core.lake.compaction import models_with_history
    from prefect_mlops.core.promotion.history import read_history

    entries = read_history(model_name)
    if not entries:
        raise unknown_name("model with a history", model_name, models_with_history())
    return entries


def answer(values: dict[str, object], sentence: str, *, as_json: bool) -> None:
    """Print what was done, as a sentence or as JSON."""
    typer.echo(json.dumps(values) if as_json else escaped(sentence))
