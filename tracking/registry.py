"""Find, load, register, promote and roll back model versions in MLflow's registry; let its alias follow the history."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.errors import BackendError, ConfigError, unknown_name
from prefect_mlops.core.lake.compaction import models_with_history
from prefect_mlops.core.model_files.loading import load_model_files
from prefect_mlops.core.promotion import decisions, lock
from prefect_mlops.core.promotion.decisions import AliasRepair, ModelSweep
from prefect_mlops.core.promotion.history import PERSON, Entry, carried_out, champion_entry, read_history
from prefect_mlops.core.values import Decision, LoadedModel, LoggedRun, ModelVersion
from prefect_mlops.tracking import anchors
from prefect_mlops.tracking.client import backend, download_model, missing, mlflow_client, page, quoted

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from prefect_mlops.core.promotion.decisions import Approval

CHAMPION = "champion"  # the alias that serves
MAX_MODELS = 1000  # named at once
_NAME = re.compile(r"[^\s/:][^/:]{0,199}")  # what a registry can address in models:/name/version


def checked_name(model_name: str) -> str:
    """Return the name of a registered model as it is.

    Raises:
        ConfigError: a name the registry cannot address.
    """
    if not _NAME.fullmatch(model_name):
        raise ConfigError(f"model name {model_name!r} cannot be addressed: use 1 to 200 characters without '/' and ':'")
    return model_name


def registered_names(client: MlflowClient) -> list[str]:
    """List the names of all registered models.

    Raises:
        BackendError: MLflow failed.
    """
    with backend("listing registered models"):
        return [str(model.name) for model in client.search_registered_models(max_results=MAX_MODELS)]


def version_by_alias(client: MlflowClient, model_name: str, alias: str) -> ModelVersion | None:
    """Look up the version an alias points at; None where the model or the alias is not there.

    Raises:
        BackendError: MLflow failed.
    """
    from mlflow.exceptions import MlflowException

    with backend(f"looking up {model_name}@{alias}"):
        try:
            found = client.get_model_version_by_alias(model_name, alias)
        except MlflowException as error:
            # A model without this alias is an invalid parameter to MLflow, a model that is not there is missing.
            if missing(error) or error.error_code == "INVALID_PARAMETER_VALUE":
                return None
            raise
    return version_value(found, alias)


def version_by_number(client: MlflowClient, model_name: str, version: int) -> ModelVersion | None:
    """Look up a version by its number; None where it is not there.

    Raises:
        BackendError: MLflow failed.
    """
    from mlflow.exceptions import MlflowException

    with backend(f"looking up {model_name} v{version}"):
        try:
            return version_value(client.get_model_version(model_name, str(version)))
        except MlflowException as error:
            if missing(error):
                return None
            raise


def absent(client: MlflowClient, model_name: str, which: str) -> ConfigError:
    """Make the error for a version that is not there; the nearest names where the model is not there either.

    Raises:
        BackendError: MLflow failed.
    """
    known = registered_names(client)
    if model_name not in known:
        return unknown_name("registered model", model_name, known)
    return ConfigError(f"registered model {model_name!r} has no {which}")


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


def find_version(model_name: str, alias: str = CHAMPION, *, version: int | None = None) -> ModelVersion | None:
    """Look up a version, the one an alias points at by default, without loading it.

    Args:
        model_name: registered model.
        alias: which version of it.
        version: which version, by number; the alias does not count then.

    Returns:
        The version; None where there is none.

    Raises:
        ConfigError: a name the registry cannot address.
        BackendError: MLflow failed.
    """
    client, model_name = mlflow_client(), checked_name(model_name)
    return version_by_number(client, model_name, version) if version else version_by_alias(client, model_name, alias)


def require_version(model_name: str, version: int) -> ModelVersion:
    """Look up a version that has to be there, without loading it.

    Raises:
        ConfigError: it is not there, with the nearest names.
        BackendError: MLflow failed.
    """
    found = find_version(model_name, version=version)
    if found is None:
        raise absent(mlflow_client(), model_name, f"version {version}")
    return found


def find_model(model_name: str, alias: str = CHAMPION) -> LoadedModel | None:
    """Load the model an alias points at; None where there is none yet.

    Args:
        model_name: registered model.
        alias: which version of it.

    Returns:
        The model, loaded by the safe loader, or None.

    Raises:
        ConfigError: the stored model is not in skops format or holds types that are not trusted.
        BackendError: MLflow failed.
    """
    found = find_version(model_name, alias)
    return None if found is None else _loaded(found)


def load_model(model_name: str, *, alias: str | None = None, version: int | None = None) -> LoadedModel:
    """Load a model that has to be there.

    Args:
        model_name: registered model.
        alias: which version, by alias; ``champion`` when neither is given.
        version: which version, by number.

    Returns:
        The model, loaded by the safe loader.

    Raises:
        ConfigError: no such model, alias or version, with the nearest names; or a model that may not be loaded.
        BackendError: MLflow failed.
    """
    if alias is not None and version is not None:
        raise ConfigError(f"model {model_name!r}: give alias or version, not both")
    found = find_version(model_name, alias or CHAMPION, version=version)
    if found is None:
        which = f"version {version}" if version else f"alias {alias or CHAMPION!r}"
        raise absent(mlflow_client(), model_name, which)
    return _loaded(found)


def register_model(run: LoggedRun, model_name: str, *, tags: Mapping[str, str] = {}) -> ModelVersion:
    """Make a logged model a version in the registry; the same model again gives the same version, unchanged.

    Args:
        run: from `log_run`.
        model_name: registered model; made when it is new.
        tags: written on a new version beside the digest of its data.

    Returns:
        The version.

    Raises:
        ConfigError: a name the registry cannot address.
        BackendError: MLflow failed.
    """
    client = mlflow_client()
    with backend(f"registering {checked_name(model_name)!r}"):
        for known in client.search_model_versions(f"name = {quoted(model_name)} and run_id = '{run.run_id}'"):
            if known.source == run.model_uri:
                return version_value(known)
        return version_value(_new_version(client, run, model_name, tags))


def promote(
    version: ModelVersion,
    alias: str = CHAMPION,
    *,
    decision: Decision | None = None,
    recipe: str = "",
    lease: Entry | None = None,
    replaces: LoadedModel | ModelVersion | Literal["any"] | None = "any",
    approval: Approval | None = None,
    flow_run: str = "",
) -> ModelVersion:
    """Point an alias at a version; a champion is written into the model's history first.

    Of two concurrent promotions that were judged against the same champion one wins; the other one has to be judged
    again. A crash between history and alias is mended by `repair_alias`, or by calling this again.

    Args:
        version: from `register_model`.
        alias: which role it takes; only ``champion`` has a history.
        decision: why; None where nothing was judged.
        recipe: fingerprint of what the decision rests on, for `tracking.decisions.find_decision`.
        lease: entry of the training lock; the lock is freed by this.
        replaces: champion it was judged against, None for none; by default any champion is replaced.
        approval: from `decisions.sign`, which checks that the person may promote the model.
        flow_run: id of the calling flow run.

    Returns:
        The version with its alias.

    Raises:
        ConfigError: the approval was not made by `decisions.sign`, or for another model.
        ConflictError: another version became champion meanwhile, which is named; the lock expired and another run
            took it; or another person answered the request.
        BackendError: MLflow or the lake failed.
    """
    if alias != CHAMPION:
        _set_alias(version.name, alias, version.version)
        return version.model_copy(update={"alias": alias})
    made = lock.conclusion_on("promoted", version, decision, recipe=recipe, lease=lease, flow_run=flow_run)
    if approval is not None:
        made = approval.on(made)
    written = lock.conclude(made, lease=lease, replaces=_number(replaces))
    # One that was found again, as in a retry, may have been overtaken since: then the history is asked first.
    carry_out(version.name, champion=written if written.at == made.at else None)
    return version.model_copy(update={"alias": alias})


def carry_out(model_name: str, *, champion: Entry | None = None, repaired: str = "", by_hand: bool = False) -> None:
    """Point the alias at the champion that the history names, until both agree.

    Idempotent: a run that sets the alias late, after another promotion, reads that one and sets the alias again.

    Args:
        model_name: registered model.
        champion: entry that was written a moment ago; None reads it from the history.
        repaired: what was wrong, in a sentence, where this is a repair.
        by_hand: the alias had been moved in MLflow.

    Raises:
        BackendError: MLflow or the lake failed.
    """
    while (champion := champion or champion_entry(read_history(model_name))) and champion.version is not None:
        _set_alias(model_name, CHAMPION, champion.version)
        if decisions.note_carried_out(champion, repaired=repaired, by_hand=by_hand):
            return
        champion = None


def roll_back(model_name: str, *, to: int | None = None, why: str, by: str = PERSON, flow_run: str = "") -> Entry:
    """Make an earlier champion champion again; a rollback that a crash left half done is finished.

    The same rollback again, for the same reason by the same person, changes nothing; another one goes further back. The
    version passed its smoke test when it was promoted, so nothing is loaded: it takes as long as two writes.

    Args:
        model_name: registered model.
        to: version that was champion before; None for the last one before the present one.
        why: the reason, one sentence.
        by: name of the person.
        flow_run: id of the calling flow run.

    Returns:
        The entry in the history.

    Raises:
        ConfigError: there is nothing to go back to, `to` was never champion, or the registry has it no more.
        ConflictError: the champion changed at the same time.
        BackendError: MLflow or the lake failed.
    """
    if not why.strip():
        raise ConfigError(f"{model_name}: a rollback needs a reason, for those who ask later")
    client = mlflow_client()

    def check(version: int) -> None:
        if version_by_number(client, model_name, version) is None:
            raise ConfigError(f"{model_name}: v{version} was champion once, but the registry has it no more")

    entry = decisions.roll_back(checked_name(model_name), to=to, why=why, by=by, flow_run=flow_run, check=check)
    carry_out(model_name)
    anchors.note(client, entry)
    return entry


def repair_alias(model_name: str, *, flow_run: str = "") -> AliasRepair | None:
    """Let MLflow's alias follow the history, where a crash left it behind or it was moved in MLflow.

    Args:
        model_name: registered model.
        flow_run: id of the calling flow run.

    Returns:
        What was wrong, and whether it was repaired; None where alias and history agree, or a promotion is under way.

    Raises:
        ConfigError: a name the registry cannot address.
        BackendError: MLflow or the lake failed.
    """
    client = mlflow_client()
    entries, points_at = _history_and_alias(client, checked_name(model_name))
    champion, wrong = champion_entry(entries), decisions.difference(entries, points_at)
    found = AliasRepair(
        model_name=model_name,
        champion=champion.version if champion else None,
        points_at=points_at,
        wrong=wrong.replace("MODEL", model_name),
    )
    if champion is None:
        return found if wrong else None
    if decisions.under_way(entries, datetime.now(timezone.utc), flow_run=flow_run):
        return None
    if wrong and not version_by_number(client, model_name, champion.version or 0):
        return found
    by_hand = bool(wrong) and decisions.moved_by_hand(entries, points_at)
    if not wrong and carried_out(entries, champion):
        return None
    repaired = wrong or "The alias had been set; a crash came before that was noted."
    carry_out(model_name, repaired=repaired, by_hand=by_hand)
    return found.model_copy(update={"repaired": True, "by_hand": by_hand}) if wrong else None


def sweep(*, flow_run: str = "") -> tuple[ModelSweep, ...]:
    """Repair the alias of every model that has a history, and record requests that expired as refused.

    Args:
        flow_run: id of the calling flow run.

    Returns:
        What was done, for each model with which there was something to do; what failed does not stop the others.

    Raises:
        BackendError: the lake failed.
    """
    swept = (_swept(model_name, flow_run) for model_name in sorted(models_with_history()))
    return tuple(one for one in swept if one.sentence)


def _swept(model_name: str, flow_run: str) -> ModelSweep:
    expired = repair = None
    try:
        expired = decisions.expire_request(model_name, datetime.now(timezone.utc))
        repair = repair_alias(model_name, flow_run=flow_run)
    except (BackendError, ConfigError) as error:
        return ModelSweep(model_name=model_name, expired=expired, problem=str(error))
    return ModelSweep(model_name=model_name, expired=expired, repair=repair)


def _history_and_alias(client: MlflowClient, model_name: str) -> tuple[list[Entry], int | None]:
    """Read both as of one moment: nothing was written into the history between them."""
    while True:
        entries, found = read_history(model_name), version_by_alias(client, model_name, CHAMPION)
        points_at = found.version if found else None
        if not decisions.difference(entries, points_at) or len(read_history(model_name)) == len(entries):
            return entries, points_at


def _number(replaces: LoadedModel | ModelVersion | Literal["any"] | None) -> int | None:
    if isinstance(replaces, str):
        return lock.ANY_CHAMPION
    version = replaces.version if isinstance(replaces, LoadedModel) else replaces
    return version.version if version else None


def _set_alias(model_name: str, alias: str, version: int) -> None:
    from mlflow.exceptions import MlflowException

    client = mlflow_client()
    with backend(f"promoting {model_name} v{version}"):
        try:
            client.set_registered_model_alias(model_name, alias, str(version))
        except MlflowException as error:
            if missing(error):
                raise
            # A new alias that two set at the same time is inserted twice, and one is refused: now it is there.
            client.set_registered_model_alias(model_name, alias, str(version))


def _new_version(client: MlflowClient, run: LoggedRun, model_name: str, tags: Mapping[str, str]) -> Any:
    """Make a version; a model that is new is made first, which need not be asked of the others."""
    from mlflow.exceptions import MlflowException

    make = functools.partial(
        client.create_model_version,
        model_name,
        source=run.model_uri,
        run_id=run.run_id,
        model_id=run.model_uri.rpartition("/")[2],
        tags={**tags, **({mlflow_tags.DATA: run.data_digest} if run.data_digest else {})} or None,
    )
    try:
        return make()
    except MlflowException as error:
        if not missing(error):
            raise
    _ensure_registered(client, model_name)
    return make()


def _ensure_registered(client: MlflowClient, model_name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _loaded(version: ModelVersion) -> LoadedModel:
    subject = f"model {version.name} v{version.version}"
    with backend(f"downloading {subject}"), tempfile.TemporaryDirectory() as scratch:
        folder = download_model(mlflow_client(), version, Path(scratch))
        return LoadedModel(version=version, estimator=load_model_files(folder, subject=subject))
