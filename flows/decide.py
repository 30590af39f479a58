"""A person answers whether a challenger that passed its gates becomes champion."""

from __future__ import annotations

from typing import Annotated, Literal

from prefect import flow
from prefect.context import FlowRunContext

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.promotion.decisions import Approval
from prefect_mlops.core.promotion.history import Entry, last_decision, read_history
from prefect_mlops.core.promotion.lock import decision_of
from prefect_mlops.core.reports import Report
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.values import Decision, LoadedModel, ModelVersion
from prefect_mlops.flows.judging import judge_on, reason_of
from prefect_mlops.flows.training_run import TrainingRun
from prefect_mlops.flows.ui_labels import label
from prefect_mlops.tasks import find_model, find_version, load_model, promote_model, smoke_test_model
from prefect_mlops.tasks.loop import find_request, record_decision, refuse_model, repair_alias, sign_approval


@flow(name="decide", flow_run_name="decide-{model}-{answer}")
def decide(
    model: Annotated[str, label("Model")],
    answer: Annotated[Literal["approve", "refuse"], label("Answer")],
    name: Annotated[str, label("Your name")],
    comment: Annotated[str, label("Comment")] = "",
    version: Annotated[int, label("Version")] = 0,
) -> Decision:
    """Approve or refuse the challenger that waits for an answer.

    Before it is promoted it is loaded in a clean process and rehearsed again. When another version became champion
    since it was judged, it is judged against that one first, on rows neither has seen.

    Args:
        model: Dotted name of the ModelSpec, e.g. prefect_mlops.examples.flights.model
        answer: Approve makes it champion, refuse does not.
        name: Who answers; has to be among the spec's approvers. Where Prefect knows who started the run, that counts.
        comment: Why; kept in the history.
        version: The version you have looked at; 0 answers whichever waits.

    Returns:
        The decision.

    Raises:
        ConfigError: nothing waits, another version than the named one does, or you may not answer.
        ConflictError: another version became champion at the same time. Answer again.
        BackendError: MLflow or storage failed.
    """
    with TrainingRun(model, trial=True) as run:
        spec, summary = run.spec, run.summary
        if repair := repair_alias(spec.name):
            summary.say(repair.sentence)
        request = _request(spec, version)
        approval = _approval(spec, request, name.strip(), comment)
        if answer == "approve":
            challenger, champion = load_model(spec.name, version=request.version), find_model(spec.name)
            chosen = challenger.version
            report = summary.show(_examined(run, challenger, champion, request))
            decision = _decision(request, report, champion)
        else:
            champion, chosen = None, _looked_up(spec, request)  # a denied version need not be loadable
            decision = _refusal(request, approval)
        if decision.decision == "promoted":
            promote_model(chosen, decision=decision, recipe=request.recipe, replaces=champion, approval=approval)
        else:
            refuse_model(chosen, decision, recipe=request.recipe, approval=approval)
        done = record_decision(chosen, decision, recipe=request.recipe, reports=summary.reports)
        summary.title = f"v{done.version} {done.decision}, {approval.by} said {answer}"
        summary.say(f"Comment: {comment}" if comment else "There was no comment.", f"Why: {done.reason}.")
        return done


def _request(spec: ModelSpec, version: int) -> Entry:
    """Return the request that waits, and make sure that it is the one the person has looked at."""
    request = find_request(spec.name)
    if request is None:
        last = last_decision(read_history(spec.name))
        seen = f"the last decision is: {last.what}" if last else "nothing was decided yet"
        raise ConfigError(f"{spec.name}: no version waits for approval; {seen}")
    if version and version != request.version:
        raise ConfigError(
            f"{spec.name}: v{request.version} waits for approval, not v{version}. Look at it, then answer"
        )
    return request


def _approval(spec: ModelSpec, request: Entry, name: str, comment: str) -> Approval:
    """Sign with the person's name, when they may answer."""
    by = _authenticated() or name
    return sign_approval(spec.name, by=by, approvers=spec.approvers, comment=comment, request=request, typed=name)


def _looked_up(spec: ModelSpec, request: Entry) -> ModelVersion:
    found = find_version(spec.name, version=request.version)
    if found is None:
        raise ConfigError(f"{spec.name}: v{request.version} is not in the registry any more; its request runs out")
    return found


def _authenticated() -> str:
    """Return who Prefect says started the run; a server without accounts says nothing."""
    context = FlowRunContext.get()
    creator = context.flow_run.created_by if context and context.flow_run else None
    return str(creator.display_value or "") if creator and creator.type == "USER" else ""


def _examined(run: TrainingRun, challenger: LoadedModel, champion: LoadedModel | None, request: Entry) -> Report:
    """Try the challenger again, and judge it again where the champion has changed since."""
    tried = smoke_test_model(challenger.version, run.spec.limits)
    now = champion.version.version if champion else None
    if now == request.replaced:
        return tried
    run.summary.say(f"v{now} became champion since v{request.version} was judged: it was judged against that one.")
    run.challenger = challenger.estimator
    run.load()
    gate = run.judge(_by_all_rows, against=champion)
    run.summary.reports.remove(gate)
    return gate.model_copy(update={"checks": (*gate.checks, *tried.checks)})


def _by_all_rows(run: TrainingRun) -> Report:
    """Judge on all rows there are now that neither has learned from, not only on the test side of today's split."""
    return judge_on(run.spec, run.table, run.challenger, run.champion)


def _decision(request: Entry, report: Report, champion: LoadedModel | None) -> Decision:
    asked = decision_of(request)
    failed = [check for check in report.failures if check.severity == "error"]
    update = {
        "decision": "promoted" if report.passed else "refused",
        "reason": f"{request.reason}; {reason_of(report.checks)}" if report.passed else reason_of(failed),
        "replaced": champion.version.version if champion else None,
    }
    kept = asked or Decision(model=request.model, version=request.version, decision="refused", reason="")
    return kept.model_copy(update=update)


def _refusal(request: Entry, approval: Approval) -> Decision:
    kept = decision_of(request) or Decision(model=request.model, version=request.version, decision="refused", reason="")
    reason = f"refused by {approval.by}" + (f": {approval.comment}" if approval.comment else "")
    return kept.model_copy(update={"decision": "refused", "reason": reason})
