"""Find, load, register, promote and roll back models in MLflow's registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from prefect_mlops.core.promotion.history import PERSON
from prefect_mlops.tasks._step import step
from prefect_mlops.tasks.flow_context import flow_run_id
from prefect_mlops.tracking import registry
from prefect_mlops.tracking.registry import CHAMPION

if TYPE_CHECKING:
    from prefect_mlops.core.promotion.decisions import Approval
    from prefect_mlops.core.promotion.history import Entry
    from prefect_mlops.core.values import Decision, LoadedModel, LoggedRun, ModelVersion


@step("find-{model_name}@{alias}", backend=True)
def find_model(model_name: str, alias: str = CHAMPION) -> LoadedModel | None:
    """Load the model an alias points at, or return None where there is none yet.

    Args:
        model_name: registered model.
        alias: which version of it.

    Returns:
        The model, loaded by the safe loader, or None.

    Raises:
        ConfigError: the stored model is not in skops format or holds types that are not trusted.
        BackendError: MLflow failed; retried.
    """
    return registry.find_model(model_name, alias)


@step("load-{model_name}", backend=True)
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
        BackendError: MLflow failed; retried.
    """
    return registry.load_model(model_name, alias=alias, version=version)


@step("find-version-{model_name}@{alias}", backend=True)
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
        BackendError: MLflow failed; retried.
    """
    return registry.find_version(model_name, alias, version=version)


@step("register-{model_name}", backend=True)
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
        BackendError: MLflow failed; retried.
    """
    return registry.register(run, model_name, tags=tags)


@step("promote-{version.name}-v{version.version}", backend=True)
def promote_model(
    version: ModelVersion,
    alias: str = CHAMPION,
    *,
    decision: Decision | None = None,
    recipe: str = "",
    lease: Entry | None = None,
    replaces: LoadedModel | ModelVersion | Literal["any"] | None = "any",
    approval: Approval | None = None,
) -> ModelVersion:
    """Point an alias at a version; a champion is written into the model's history first.

    Of two concurrent promotions that were judged against the same champion one wins; the other one has to be judged
    again. A crash between history and alias is mended by `loop.repair_alias`, or by calling this again.

    Args:
        version: from `register_model`.
        alias: which role it takes; only ``champion`` has a history.
        decision: why; None where nothing was judged.
        recipe: fingerprint of what the decision rests on, for `loop.find_decision`.
        lease: entry of the lock, from `loop.take_training_lock`; the lock is freed by this.
        replaces: champion it was judged against, None for none; by default any champion is replaced.
        approval: from `loop.sign_approval`, which checks the person against the spec's approvers; an Approval that was
            made without it is refused, so that the check cannot be left out.

    Returns:
        The version with its alias.

    Raises:
        ConfigError: the approval was not made by `loop.sign_approval`, or for another model.
        ConflictError: another version became champion meanwhile, which is named; the lock expired and another run
            took it; or another person answered the request.
        BackendError: MLflow or the lake failed; retried.
    """
    return registry.promote(
        version,
        alias,
        decision=decision,
        recipe=recipe,
        lease=lease,
        replaces=replaces,
        approval=approval,
        flow_run=flow_run_id(),
    )


@step("roll-back-{model_name}", backend=True)
def roll_back_model(model_name: str, *, to: int | None = None, why: str, by: str = PERSON) -> Entry:
    """Make an earlier champion champion again; a rollback that a crash left half done is finished.

    The same rollback again, for the same reason by the same person, changes nothing; another one goes further back. The
    version passed its smoke test when it was promoted, so nothing is loaded: it takes as long as two writes.

    Args:
        model_name: registered model.
        to: version that was champion before; None for the last one before the present one.
        why: the reason, one sentence.
        by: name of the person.

    Returns:
        The entry in the history.

    Raises:
        ConfigError: there is nothing to go back to, `to` was never champion, or the registry has it no more.
        ConflictError: the champion changed at the same time.
        BackendError: MLflow or the lake failed; retried.
    """
    return registry.roll_back(model_name, to=to, why=why, by=by, flow_run=flow_run_id())
