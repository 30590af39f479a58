"""Approval by a person: request it, find the open request, sign the answer of a person who may give it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from prefect_mlops.core.promotion import decisions, lock
from prefect_mlops.core.promotion.history import Entry, read_history
from prefect_mlops.tasks._events import emit
from prefect_mlops.tasks._step import step
from prefect_mlops.tasks.flow_context import flow_run_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect_mlops.core.promotion.decisions import Approval
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
        lease: entry of the lock, from `take_training_lock`; the lock is freed by this.

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


@step("find-request-{model_name}", backend=True)
def find_request(model_name: str) -> Entry | None:
    """Return the request for approval that waits for an answer; one that ran out is written down as refused first.

    Args:
        model_name: registered model.

    Returns:
        The request; None where none waits.

    Raises:
        BackendError: storage failed; retried.
    """
    decisions.expire_request(model_name, datetime.now(timezone.utc))
    return decisions.open_request(read_history(model_name))


@step("sign-approval-{model_name}", backend=True)
def sign_approval(
    model_name: str,
    *,
    by: str,
    approvers: Sequence[str],
    comment: str = "",
    request: Entry | None = None,
    typed: str | None = None,
) -> Approval:
    """Sign the answer of a person who may give it; a refused attempt to answer a request is recorded in the history.

    The same check as in ``prefect-mlops promote``: `core.promotion.decisions.sign`.

    Args:
        model_name: registered model.
        by: name of the person.
        approvers: names, and groups as ``@group`` (`Settings.groups`), from the model's spec; empty for every named
            person.
        comment: why.
        request: from `find_request`; None for a promotion that was not requested.
        typed: the name they typed, where Prefect authenticated another; None for `by`.

    Returns:
        The approval, for `promote_model` or `refuse_model`.

    Raises:
        ConfigError: there is no name, or the person is not among the approvers, who are named.
        BackendError: storage failed; retried.
    """
    return decisions.sign(
        model_name, by=by, approvers=approvers, comment=comment, request=request, typed=typed, flow_run=flow_run_id()
    )
