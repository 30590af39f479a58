"""Decisions in the history of a model: find, record, refuse; the circuit breaker, and notes beside the decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.promotion import history, lock
from prefect_mlops.core.promotion.guards import Guard, breaker, opened
from prefect_mlops.core.promotion.history import AUTOMATIC, Entry, NoteKind
from prefect_mlops.tasks._step import step
from prefect_mlops.tasks.flow_context import flow_run_id
from prefect_mlops.tracking import decisions

if TYPE_CHECKING:
    from prefect_mlops.core.promotion.decisions import Approval
    from prefect_mlops.core.specs.policies import Retrain
    from prefect_mlops.core.values import Decision, ModelVersion


find_decision = step("find-decision-{model_name}", backend=True)(decisions.find_decision)


record_decision = step("record-{version.name}-v{version.version}", backend=True)(decisions.record_decision)


@step("refuse-{version.name}-v{version.version}", backend=True)
def refuse_model(
    version: ModelVersion,
    decision: Decision,
    *,
    recipe: str = "",
    lease: Entry | None = None,
    approval: Approval | None = None,
) -> Entry:
    """Write into the history that a challenger was refused.

    Args:
        version: from `register_model`.
        decision: why.
        recipe: names what the decision rests on, for `find_decision`.
        lease: entry of the lock, from `take_training_lock`; the lock is freed by this.
        approval: from `sign_approval`, where a person refused it.

    Returns:
        The entry.

    Raises:
        ConfigError: the approval was not made by `sign_approval`, or for another model.
        ConflictError: the lock expired and another run took it.
        BackendError: storage failed; retried.
    """
    made = lock.conclusion_on("refused", version, decision, recipe=recipe, lease=lease, flow_run=flow_run_id())
    return lock.conclude(approval.on(made) if approval else made, lease=lease)


@step("open-breaker-{model_name}", backend=True)
def open_breaker(model_name: str, retrain: Retrain) -> Guard | None:
    """Write into the history that too many challengers in a row were refused; once, until it is closed again.

    Args:
        model_name: registered model.
        retrain: how many are too many.

    Returns:
        The breaker when this call opened it, to be announced; None when there are not so many, or it was open before.

    Raises:
        BackendError: storage failed; retried.
    """
    found: list[Guard] = []

    def opening(entries: Sequence[Entry]) -> Entry | None:
        guard = breaker(entries, retrain)
        if guard is None or opened(entries):
            return None
        found.append(guard)
        return Entry(model=model_name, kind="opened", by=AUTOMATIC, reason=guard.reason, flow_run=flow_run_id())

    return found[-1] if history.decide(model_name, opening) else None


@step("note-{kind}-{model_name}", backend=True)
def note_entry(
    model_name: str,
    kind: NoteKind,
    *,
    version: int | None = None,
    reason: str = "",
    recipe: str = "",
    details: dict[str, Any] | None = None,
) -> Entry:
    """Write into a model's history what happened beside its decisions; it cannot make a champion.

    Args:
        model_name: registered model.
        kind: ``drifted``, ``backfilled``, or ``closed`` for the circuit breaker.
        version: version it is about.
        reason: what was seen, in a sentence.
        recipe: names what it rests on.
        details: more of it; plain JSON.

    Returns:
        The entry as it was written.

    Raises:
        ConfigError: another kind, such as ``promoted``, which only a decision writes.
        BackendError: storage failed; retried.
    """
    if kind not in get_args(NoteKind):
        raise ConfigError(
            f"{model_name}: {kind!r} is not noted but decided; notes are {', '.join(get_args(NoteKind))}. "
            "To promote use promote_model, to refuse use refuse_model"
        )
    return history.record(
        Entry(
            model=model_name,
            kind=kind,
            version=version,
            reason=reason,
            recipe=recipe,
            flow_run=flow_run_id(),
            details=details or {},
        )
    )
