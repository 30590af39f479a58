"""Find, load, register and promote models in MLflow's registry."""

from __future__ import annotations

import functools
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.lake.compaction import models_with_history
from prefect_mlops.core.model_files.loading import load_model_files
from prefect_mlops.core.promotion import decisions, lock
from prefect_mlops.core.promotion.history import PERSON, Entry, carried_out, champion_entry, read_history
from prefect_mlops.core.values import Decision, LoadedModel, LoggedRun, ModelVersion
from prefect_mlops.tasks._step import step
from prefect_mlops.tasks.flow_context import flow_run_id
from prefect_mlops.tracking import anchors
from prefect_mlops.tracking.client import backend, download_model, missing, mlflow_client
from prefect_mlops.tracking.registry import (
    absent,
    checked_name,
    quoted,
    version_by_alias,
    version_by_number,
    version_value,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from prefect_mlops.core.promotion.decisions import Approval

CHAMPION = "champion"  # the alias that serves


@step("find-{name}@{alias}", backend=True)
def find_model(name: str, alias: str = CHAMPION) -> LoadedModel | None:
    """Load the model an alias points at, or return None where there is none yet.

    Args:
        name: registered model.
        alias: which version of it.

    Returns:
        The model, loaded by the safe loader, or None.

    Raises:
        ConfigError: the stored model is not in skops format or holds types that are not trusted.
        BackendError: MLflow failed; retried.
    """
    client = mlflow_client()
    found = version_by_alias(client, checked_name(name), alias)
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
    client = mlflow_client()
    found = (
        version_by_number(client, checked_name(name), version)
        if version
        else version_by_alias(client, name, alias or CHAMPION)
    )
    if found is None:
        raise absent(client, name, f"version {version}" if version else f"alias {alias or CHAMPION!r}")
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
    client = mlflow_client()
    with backend(f"registering {checked_name(name)!r}"):
        for known in client.search_model_versions(f"name = {quoted(name)} and run_id = '{run.run_id}'"):
            if known.source == run.model_uri:
                return version_value(known)
        return version_value(_new_version(client, run, name))


@step("promote-{version.name}-v{version.version}", backend=True)
def promote_model(
    version: ModelVersion,
    alias: str = CHAMPION,
    *,
    decision: Decision | None = None,
    recipe: str = "",
    lease: Entry | None = None,
    replaces: LoadedModel | ModelVersion | Literal["whoever"] | None = "whoever",
    approval: Approval | None = None,
) -> ModelVersion:
    """Point an alias at a version; a champion is written into the model's history first.

    Of two promotions in the same moment that were judged against the same champion one wins; the other one has to be
    judged again. A crash between history and alias is mended by `repair_alias`, or by calling this again.

    Args:
        version: from `register_model`.
        alias: which role it takes; only ``champion`` has a history.
        decision: why; None where nothing was judged.
        recipe: names what the decision rests on, for `find_decision`.
        lease: from `take_training_lock`; the lock is freed by this.
        replaces: champion it was judged against, None for none; by default the present champion is replaced.
        approval: who agreed, and to which request.

    Returns:
        The version with its alias.

    Raises:
        ConflictError: another version became champion meanwhile, which is named; the lock expired and another run
            took it; or another person answered the request.
        BackendError: MLflow or the lake failed; retried.
    """
    if alias != CHAMPION:
        _set_alias(version.name, alias, version.version)
        return version.model_copy(update={"alias": alias})
    made = lock.conclusion_on("promoted", version, decision, recipe=recipe, lease=lease, flow_run=flow_run_id())
    if approval is not None:
        made = approval.on(made)
    written = lock.conclude(made, lease=lease, replaces=_number(replaces))
    # One that was found again, as in a retry, may have been overtaken since: then the history is asked first.
    carry_out(version.name, champion=written if written.at == made.at else None)
    return version.model_copy(update={"alias": alias})


def carry_out(name: str, *, champion: Entry | None = None, repaired: str = "", by_hand: bool = False) -> Entry | None:
    """Point the alias at whom the history names as champion, until both agree.

    Idempotent: a run that sets the alias late, after another promotion, reads that one and sets the alias again.

    Args:
        name: registered model.
        champion: entry that was written a moment ago; None reads it from the history.
        repaired: what was wrong, in a sentence, where this is a repair.
        by_hand: the alias had been moved in MLflow.

    Returns:
        The entry of the champion; None where there is none.

    Raises:
        BackendError: MLflow or the lake failed.
    """
    while (champion := champion or champion_entry(read_history(name))) is not None and champion.version is not None:
        _set_alias(name, CHAMPION, champion.version)
        if decisions.note_carried_out(champion, repaired=repaired, by_hand=by_hand):
            return champion
        champion = None
    return None


@step("find-version-{name}@{alias}", backend=True)
def find_version(name: str, alias: str = CHAMPION, *, version: int | None = None) -> ModelVersion | None:
    """Look up a version, the one an alias points at by default, without loading it.

    Args:
        name: registered model.
        alias: which version of it.
        version: which version, by number; the alias does not count then.

    Returns:
        The version; None where there is none.

    Raises:
        BackendError: MLflow failed; retried.
    """
    client = mlflow_client()
    return (
        version_by_number(client, checked_name(name), version)
        if version
        else version_by_alias(client, checked_name(name), alias)
    )


def require_version(name: str, version: int) -> ModelVersion:
    """Look up a version that has to be there, without loading it.

    Raises:
        ConfigError: it is not there, with the nearest names.
        BackendError: MLflow failed.
    """
    client = mlflow_client()
    found = version_by_number(client, checked_name(name), version)
    if found is None:
        raise absent(client, name, f"version {version}")
    return found


@step("roll-back-{name}", backend=True)
def roll_back_model(name: str, *, to: int | None = None, why: str, by: str = PERSON) -> Entry:
    """Make an earlier champion champion again; a rollback that a crash left half done is finished.

    The same rollback again, for the same reason by the same person, changes nothing; another one goes further back. The
    version was rehearsed when it was promoted, so nothing is loaded: it takes as long as two writes.

    Args:
        name: registered model.
        to: version that was champion before; None for the last one before the present one.
        why: a sentence for those who ask later.
        by: who wants it.

    Returns:
        The entry in the history.

    Raises:
        ConfigError: there is nothing to go back to, `to` was never champion, or the registry has it no more.
        ConflictError: the champion changed in the same moment.
        BackendError: MLflow or the lake failed; retried.
    """
    if not why.strip():
        raise ConfigError(f"{name}: a rollback needs a reason, for those who ask later")
    client = mlflow_client()

    def check(version: int) -> None:
        if version_by_number(client, name, version) is None:
            raise ConfigError(f"{name}: v{version} was champion once, but the registry has it no more")

    entry = decisions.roll_back(checked_name(name), to=to, why=why, by=by, flow_run=flow_run_id(), check=check)
    carry_out(name)
    anchors.note(client, entry)
    return entry


@step("repair-alias-{name}", backend=True)
def repair_alias(name: str) -> str:
    """Let MLflow's alias follow the history, where a crash left it behind or it was moved in MLflow.

    Args:
        name: registered model.

    Returns:
        What was repaired, in a sentence, or what is unknown to the history; empty when they agree.

    Raises:
        BackendError: MLflow or the lake failed; retried.
    """
    client = mlflow_client()
    entries, points_at = _champion_and_alias(client, checked_name(name))
    champion, wrong = champion_entry(entries), decisions.difference(entries, points_at)
    if champion is None:
        return wrong.replace("MODEL", name)
    if decisions.under_way(entries, datetime.now(timezone.utc), flow_run=flow_run_id()):
        return ""
    if wrong and not version_by_number(client, name, champion.version or 0):
        return f"{wrong} It cannot be set: the registry has v{champion.version} no more. Roll back, or promote another."
    by_hand = bool(wrong) and decisions.moved_by_hand(entries, points_at)
    if not wrong and carried_out(entries, champion):
        return ""
    carry_out(name, repaired=wrong or "The alias had been set; a crash came before that was noted.", by_hand=by_hand)
    if by_hand:
        keep = f"prefect-mlops promote {name} {points_at} --why TEXT" if points_at else "a rollback"
        return f"Repaired: {wrong} It points at v{champion.version} again; a champion is changed by {keep}."
    return f"Repaired: {wrong} It points at v{champion.version} now." if wrong else ""


@step("sweep-models", backend=True)
def sweep_models() -> list[str]:
    """Repair the alias of every model that has a history, and record requests that expired as refused.

    Returns:
        What was done, a sentence for each model; also what failed, which does not stop the others.

    Raises:
        BackendError: the lake failed; retried.
    """
    return [sentence for name in sorted(models_with_history()) if (sentence := _swept(name))]


def _swept(name: str) -> str:
    done = []
    try:
        if (expired := decisions.expire_request(name, datetime.now(timezone.utc))) is not None:
            done.append(f"v{expired.version} counts as refused: {expired.reason}.")
        done += filter(None, [repair_alias.fn(name)])
    except (BackendError, ConfigError) as error:
        done.append(f"could not be looked after: {error}")
    return f"{name}: {' '.join(done)}" if done else ""


def _champion_and_alias(client: MlflowClient, name: str) -> tuple[list[Entry], int | None]:
    """Read both as of one moment: nothing was written into the history between them."""
    while True:
        entries, found = read_history(name), version_by_alias(client, name, CHAMPION)
        points_at = found.version if found else None
        if not decisions.difference(entries, points_at) or len(read_history(name)) == len(entries):
            return entries, points_at


def _number(replaces: LoadedModel | ModelVersion | Literal["whoever"] | None) -> int | None:
    if isinstance(replaces, str):
        return lock.WHOEVER
    version = replaces.version if isinstance(replaces, LoadedModel) else replaces
    return version.version if version else None


def _set_alias(name: str, alias: str, version: int) -> None:
    from mlflow.exceptions import MlflowException

    client = mlflow_client()
    with backend(f"promoting {name} v{version}"):
        try:
            client.set_registered_model_alias(name, alias, str(version))
        except MlflowException as error:
            if missing(error):
                raise
            # A new alias that two set in the same moment is inserted twice, and one is refused: now it is there.
            client.set_registered_model_alias(name, alias, str(version))


def _new_version(client: MlflowClient, run: LoggedRun, name: str) -> Any:
    """Make a version; a model that is new is made first, which need not be asked of the others."""
    from mlflow.exceptions import MlflowException

    tags = {mlflow_tags.DATA: run.data_digest} if run.data_digest else None
    make = functools.partial(
        client.create_model_version,
        name,
        source=run.model_uri,
        run_id=run.run_id,
        model_id=run.model_uri.rpartition("/")[2],
        tags=tags,
    )
    try:
        return make()
    except MlflowException as error:
        if not missing(error):
            raise
    _ensure_registered(client, name)
    return make()


def _ensure_registered(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _loaded(client: MlflowClient, version: ModelVersion) -> LoadedModel:
    subject = f"model {version.name} v{version.version}"
    with backend(f"downloading {subject}"), tempfile.TemporaryDirectory() as scratch:
        folder = download_model(client, version, Path(scratch))
        return LoadedModel(version=version, estimator=load_model_files(folder, subject=subject))
