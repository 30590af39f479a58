"""The training lock of a model, and its history: decisions, the circuit breaker, notes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.errors import BackendError
from prefect_mlops.core.promotion import history, lock
from prefect_mlops.core.promotion.guards import Guard, breaker, held_lock, opened
from prefect_mlops.core.promotion.history import AUTOMATIC, Entry
from prefect_mlops.core.reports import save_reports
from prefect_mlops.core.values import Decision, ModelVersion
from prefect_mlops.tasks._step import step
from prefect_mlops.tasks.flow_context import flow_run_id
from prefect_mlops.tracking import anchors
from prefect_mlops.tracking.client import backend, mlflow_client
from prefect_mlops.tracking.registry import quoted

if TYPE_CHECKING:
    from prefect_mlops.core.promotion.decisions import Approval
    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.specs.policies import Retrain

MAX_DECISION_REASON = 2000  # a tag on a model version holds 5,000 characters


@step("take-lease-{model}", backend=True)
def take_training_lock(
    model: str,
    retrain: Retrain,
    *,
    automatic: bool = False,
    recipe: str = "",
    details: dict[str, Any] | None = None,
) -> Entry | Guard | Decision:
    """Take the training lock of a model: until it is freed or expires, no other run trains the model.

    Args:
        model: registered model.
        retrain: the guards that hold trainings back, and how long the lock is held.
        automatic: started by a trigger or schedule, which cool-down and breaker hold back.
        recipe: run fingerprint; empty takes the lock whether or not it was decided on before.
        details: kept with the lock's entry; plain JSON.

    Returns:
        The lock's entry, for `promote_model` and `refuse_model`; or the guard that holds the training back; or what
        another run decided on this recipe meanwhile.

    Raises:
        BackendError: storage failed; retried.
    """
    return lock.take(model, retrain, automatic=automatic, recipe=recipe, flow_run=flow_run_id(), details=details)


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
        lease: from `take_training_lock`; the lock is freed by this.
        approval: who refused it, where a person did.

    Returns:
        The entry.

    Raises:
        ConflictError: the lock expired and another run took it.
        BackendError: storage failed; retried.
    """
    made = lock.conclusion_on("refused", version, decision, recipe=recipe, lease=lease, flow_run=flow_run_id())
    return lock.conclude(approval.on(made) if approval else made, lease=lease)


@step("find-decision-{name}", backend=True)
def find_decision(name: str, recipe: str) -> Decision | None:
    """Return what was decided on a recipe before, or None where it was not.

    Args:
        name: registered model.
        recipe: what `record_decision` was given.

    Returns:
        The newest decision.

    Raises:
        BackendError: MLflow or the lake failed; retried.
    """
    known = lock.decision_of(history.decided(history.read_history(name), recipe))
    if known is not None:
        return known
    client = mlflow_client()  # of models older than their history
    with backend(f"looking up decisions on {name!r}"):
        wanted = f"name = {quoted(name)} and tags.`{mlflow_tags.RECIPE}` = {quoted(recipe)}"
        found = client.search_model_versions(wanted, order_by=["version_number DESC"], max_results=1)
    return Decision.model_validate_json(found[0].tags[mlflow_tags.DECISION]) if found else None


@step("record-{version.name}-v{version.version}", backend=True)
def record_decision(
    version: ModelVersion, decision: Decision, *, recipe: str, reports: Sequence[Report] = ()
) -> Decision:
    """Note on a version what was decided and why; the last step, so that an interrupted decision is made again.

    Args:
        version: the challenger's.
        decision: without version and address, which are filled in.
        recipe: names what the decision rests on, for `find_decision`.
        reports: what it rests on; kept with the version's run, in place of earlier ones of the same kind.

    Returns:
        The decision with version and address.

    Raises:
        BackendError: MLflow failed; retried.
    """
    reason = decision.reason[:MAX_DECISION_REASON]
    done = decision.model_copy(update={"version": version.version, "url": version.url, "reason": reason})
    client = mlflow_client()
    with backend(f"noting the decision on {version.name} v{version.version}"):
        if reports:
            with tempfile.TemporaryDirectory() as scratch:
                save_reports(reports, Path(scratch, mlflow_tags.REPORTS_FOLDER))
                client.log_artifacts(version.run_id, scratch)
        for tag, value in ((mlflow_tags.DECISION, done.model_dump_json()), (mlflow_tags.RECIPE, recipe)):
            client.set_model_version_tag(version.name, str(version.version), tag, value)
    anchors.note_decision(client, version.name, version.version)
    return done


@step("open-breaker-{model}", backend=True)
def open_breaker(model: str, retrain: Retrain) -> Guard | None:
    """Write into the history that too many challengers in a row were refused; once, until it is closed again.

    Args:
        model: registered model.
        retrain: how many are too many.

    Returns:
        The breaker when this call opened it, to be announced; None when there are not so many, or it was open before.

    Raises:
        BackendError: storage failed; retried.
    """
    found: list[Guard] = []

    def opening(entries: Sequence[Entry]) -> Entry | None:
        brake = breaker(entries, retrain)
        if brake is None or opened(entries):
            return None
        found.append(brake)
        return Entry(model=model, kind="opened", by=AUTOMATIC, reason=brake.reason, flow_run=flow_run_id())

    return found[-1] if history.decide(model, opening) else None


@step("note-{kind}-{model}", backend=True)
def note_entry(
    model: str,
    kind: history.EntryKind,
    *,
    version: int | None = None,
    reason: str = "",
    recipe: str = "",
    details: dict[str, Any] | None = None,
) -> Entry:
    """Write into a model's history what happened beside its decisions.

    Args:
        model: registered model.
        kind: e.g. ``drifted``.
        version: version it is about.
        reason: what was seen, in a sentence.
        recipe: names what it rests on.
        details: more of it; plain JSON.

    Returns:
        The entry as it was written.

    Raises:
        BackendError: storage failed; retried.
    """
    return history.record(
        Entry(
            model=model,
            kind=kind,
            version=version,
            reason=reason,
            recipe=recipe,
            flow_run=flow_run_id(),
            details=details or {},
        )
    )


@step("free-{model}", backend=True)
def free_training_lock(model: str) -> str:
    """Free the training lock of a run that has ended without freeing it, as one that was killed.

    Without it the model would wait until the lock expires. That a killed run has ended is noticed by its worker, or
    by the flow ``maintenance``.

    Args:
        model: registered model.

    Returns:
        What was done, in a sentence; empty where the lock is free, or its run is still running.

    Raises:
        BackendError: storage or Prefect's API failed; retried.
    """
    lease = held_lock(history.read_history(model))
    if lease is None or not lease.flow_run or lease.flow_run == flow_run_id():
        return ""
    ended = _ended(lease.flow_run)
    reason = f"flow run {lease.flow_run} {ended} without giving its turn back"
    return f"{reason[0].upper()}{reason[1:]}: it was taken from it." if ended and lock.give_up(lease, reason) else ""


def _ended(flow_run: str) -> str:
    """Say how a flow run ended; empty while it has not, or where another server than ours knows it."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(flow_run)).state
    except (ObjectNotFound, ValueError):
        return ""
    except httpx.HTTPError as error:
        raise BackendError(f"Prefect's API does not tell how flow run {flow_run} ended: {error}") from error
    return f"ended as {state.name}" if state is not None and state.is_final() else ""
