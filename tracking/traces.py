"""The trace of a model version, read from MLflow and the lake; nothing is loaded, nothing is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.promotion.decisions import Approval
from prefect_mlops.core.promotion.history import DECISIONS, PROMOTING, Entry, champion_entry, read_history
from prefect_mlops.core.promotion.periods import champion_periods
from prefect_mlops.core.trace.traces import Trace
from prefect_mlops.tracking.client import backend, missing, mlflow_client, page, quoted
from prefect_mlops.tracking.records import RunRecord, describe_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
MAX_NAMED = 8  # versions in a message


def trace_version(model_name: str, which: int | str | None = None) -> Trace:
    """Find out where a model version comes from.

    What is gone, such as a deleted run, or a version the history knows and the registry no more, is listed as unknown.

    Args:
        model_name: registered model.
        which: number of the version, or an alias; None takes the champion by the history, else by the alias.

    Raises:
        ConfigError: there is no such version; the message names those there are.
        BackendError: MLflow or the lake failed.
    """
    client = mlflow_client()
    entries, problem = _history(model_name)
    versions, aliases = _versions(client, model_name), _aliases(client, model_name)
    number = _number(model_name, which, aliases=aliases, known=set(versions), entries=entries)
    found = versions.get(number)
    traced = RunRecord(client, (found.run_id or "") if found else "")
    if found is None:
        traced.unknown.append(f"the registry has v{number} no more: all but its history is unknown")
    about = [entry for entry in entries if entry.version == number and entry.kind in DECISIONS]
    champion = champion_entry(entries)
    return Trace(
        model=model_name,
        version=number,
        aliases=tuple(sorted(alias for alias, points_at in aliases.items() if points_at == number)),
        registered=datetime.fromtimestamp(found.creation_timestamp / 1000, timezone.utc) if found else None,
        url=page(f"models/{model_name}/versions/{number}") if found else None,
        **describe_run(traced, found.tags or {} if found else {}),
        decisions=tuple(about),
        champion=champion is not None and champion.version == number,
        reigns=tuple(period for period in champion_periods(entries) if period.version == number),
        **_decided(about),
        unknown=(*traced.unknown, *(problem or _undecided(about, champion))),
    )


def _history(name: str) -> tuple[list[Entry], list[str]]:
    """Return the entries, or why they cannot be read."""
    try:
        return read_history(name), []
    except ValidationError:
        return [], [f"who decided on it: its history was changed, see prefect-mlops audit verify {name}"]


def _versions(client: MlflowClient, name: str) -> dict[int, Any]:
    with backend(f"listing the versions of {name!r}"):
        found = client.search_model_versions(f"name = {quoted(name)}", max_results=10_000)
    return {int(version.version): version for version in found}


def _aliases(client: MlflowClient, name: str) -> dict[str, int]:
    """Return the version each alias points at; a search for versions leaves them out."""
    from mlflow.exceptions import MlflowException

    with backend(f"looking up {name!r}"):
        try:
            found = client.get_registered_model(name).aliases
        except MlflowException as error:
            if missing(error):
                return {}
            raise
    return {alias: int(version) for alias, version in found.items()}


def _number(
    name: str, which: int | str | None, *, aliases: Mapping[str, int], known: set[int], entries: list[Entry]
) -> int:
    """Return the number of a version that the registry or the history knows."""
    newest = ", ".join(f"{name}/{number}" for number in sorted(known)[-MAX_NAMED:]) or "none"
    if isinstance(which, int):
        if which in known | {entry.version for entry in entries}:
            return which
        raise ConfigError(f"{name} has no version {which}; the newest are: {newest}")
    champion = champion_entry(entries)
    if which is None and champion is not None and champion.version is not None:
        return champion.version
    if (which or CHAMPION) in aliases:
        return aliases[which or CHAMPION]
    if which is None:
        raise ConfigError(f"{name} has no champion yet: name a version, the newest are: {newest}")
    named = f"there are: {', '.join(f'@{alias}' for alias in sorted(aliases))}; " if aliases else ""
    raise ConfigError(f"{name} has no alias {which!r}; {named}the newest versions are: {newest}")


def _decided(about: list[Entry]) -> dict[str, Any]:
    """Return the fields of a trace that the history tells: the last decision, and the last answer of a person."""
    decision = about[-1] if about else None
    answers = [entry.details["approval"] for entry in about if isinstance(entry.details.get("approval"), dict)]
    promotion = next((entry for entry in reversed(about) if entry.kind in PROMOTING), None)
    try:
        approval = Approval.model_validate(answers[-1]) if answers else None
    except ValidationError:  # of a newer version of this library
        approval = Approval(by=str(answers[-1].get("by", "")), comment=json.dumps(answers[-1]))
    return {"decision": decision, "approval": approval, "replaced": promotion.replaced if promotion else None}


def _undecided(about: list[Entry], champion: Entry | None) -> Iterator[str]:
    if not about:
        start = "the history says nothing about it" if champion else "nothing was ever decided"
        yield f"who decided on it: {start}; it was registered outside of the flows, in a backfill, or a run was stopped"
