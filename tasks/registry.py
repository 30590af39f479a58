"""Find, load, register, promote and roll back models in MLflow's registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from prefect_mlops.core.promotion.history import PERSON
from prefect_mlops.tasks._step import step
from prefect_mlops.tasks.flow_context import flow_run_id
from prefect_mlops.tracking import registry
from prefect_mlops.tracking.registry import CHAMPION

if TYPE_CHECKING:
    from prefect_mlops.core.promotion.decisions import Approval
    from prefect_mlops.core.promotion.history import Entry
    from prefect_mlops.core.values import Decision, LoadedModel, ModelVersion


find_model = step("find-{model_name}@{alias}", backend=True)(registry.find_model)


load_model = step("load-{model_name}", backend=True)(registry.load_model)


find_version = step("find-version-{model_name}@{alias}", backend=True)(registry.find_version)


register_model = step("register-{model_name}", backend=True)(registry.register_model)


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
