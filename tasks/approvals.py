"""Ask a person whether a challenger may become champion, and write down what they answer."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from prefect_mlops.core.promotion import decisions, lock
from prefect_mlops.core.promotion.history import Entry, read_history
from prefect_mlops.core.settings import Settings
from prefect_mlops.tasks._events import emit
from prefect_mlops.tasks._step import step
from prefect_mlops.tasks.flow_context import flow_run_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect_mlops.core.values import Decision, ModelVersion


@step("request-approval-{version.name}-v{version.version}", backend=True)
def request_approval(
    version: ModelVersion,
    decision: Decision,
    *,
    expires: timedelta,
    approvers: Sequence[str] = (),
    recipe: str = "",
    lease: Entry | None = None,
) -> Entry:
    """Record a request for approval in the history, and emit the event ``prefect-mlops.approval.requested``.

    Nothing waits: the run ends, and the flow ``decide`` acts on the answer.

    Args:
        version: the challenger's.
        decision: what the gates said, and which champion it was judged against.
        expires: how long the request waits.
        approvers: who may answer; part of the event.
        recipe: names what the decision rests on.
        lease: from `take_training_lock`; the lock is freed by this.

    Returns:
        The request.

    Raises:
        ConflictError: another version became champion meanwhile, or the lock expired and another run took it.
        BackendError: storage failed; retried.
    """
    made = lock.conclusion_on("requested", version, decision, recipe=recipe, lease=lease, flow_run=flow_run_id())
    made = made.model_copy(update={"until": datetime.now(timezone.utc) + expires})
    request = lock.conclude(made, lease=lease)
    until = request.until.isoformat() if request.until else ""
    asked = {"model": request.model, "version": request.version, "until": until, "approvers": list(approvers)}
    emit("approval.requested", request.model, {**asked, "reason": request.reason})
    return request


@step("find-request-{name}", backend=True)
def find_request(name: str) -> Entry | None:
    """Return the request for approval that waits for an answer; one that ran out is written down as refused first.

    Args:
        name: registered model.

    Returns:
        The request; None where none waits.

    Raises:
        BackendError: storage failed; retried.
    """
    decisions.expire_request(name, datetime.now(timezone.utc))
    return decisions.open_request(read_history(name))


@step("check-approver-{request.model}-v{request.version}", backend=True)
def check_approver(request: Entry, name: str, approvers: Sequence[str]) -> bool:
    """Tell whether a person may answer a request; a refused attempt is recorded in the history.

    Args:
        request: from `find_request`.
        name: who answers.
        approvers: names, and groups as ``@group`` (`Settings.groups`); empty for every named person.

    Returns:
        True when they may.

    Raises:
        BackendError: storage failed; retried.
    """
    allowed = decisions.may_approve(name, approvers, Settings().groups)
    if not allowed:
        decisions.deny(request, name, flow_run=flow_run_id())
    return allowed
