"""Train a challenger, judge it against the champion on rows neither has seen, promote or refuse it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import prefect.runtime
from prefect import flow

from prefect_mlops.core.brakes import Brake, breaker, find_brake, held_lease
from prefect_mlops.core.delta import open_table, table_uri
from prefect_mlops.core.errors import ConflictError
from prefect_mlops.core.history import Entry, champion_entry, read_history
from prefect_mlops.core.reports import Check
from prefect_mlops.core.specs import ModelSpec, is_address, load_spec
from prefect_mlops.core.values import Decision, ModelVersion
from prefect_mlops.flows.challengers import (
    Judged,
    Trial,
    card_of,
    judge_challenger,
    keep_reference_of,
    prepare_trial,
    register_challenger,
    train_challenger,
    turn,
    with_checks,
)
from prefect_mlops.flows.forms import label
from prefect_mlops.flows.verdicts import Verdict, verdict
from prefect_mlops.tasks import (
    announce,
    announce_stop,
    find_decision,
    find_model,
    free_turn,
    note_entry,
    open_breaker,
    promote_model,
    record_decision,
    refuse_model,
    rehearse_model,
    repair_alias,
    request_approval,
    take_lease,
)

if TYPE_CHECKING:
    from prefect_mlops.core.references import Reference


@flow(name="train", flow_run_name="train-{model}")
def train(
    model: Annotated[str, label("Model")],
    data: Annotated[str, label("Data")] = "",
    dry_run: Annotated[bool, label("Dry run")] = False,
    force: Annotated[bool, label("Decide again")] = False,
    automatic: Annotated[bool, label("Started by a trigger or schedule")] = False,
) -> Decision:
    """Train a challenger and let it replace the champion if it passes every gate.

    The same recipe on the same rows is decided once: started again, the flow says what was decided and changes
    nothing. A refused challenger is registered all the same, without the alias, so that the refusal can be looked up.
    One training of a model runs at a time; a run that is held back is completed and says what holds it.

    Args:
        model: Dotted name of the ModelSpec, e.g. prefect_mlops.examples.flights.model
        data: Empty takes the spec's dataset as it is now, @3 its version 3; or the address of any table like it.
        dry_run: Train and judge, but log, register and promote nothing. Trials of a search for parameters are kept in
            MLflow all the same: the run that follows goes on from them.
        force: Train and judge again, although the same recipe was decided on the same rows before.
        automatic: Honour the cool-down and the breaker of the spec's retrain. A person is not held back by them, and
            a decision on a person's request closes the breaker.

    Returns:
        The decision; the run is completed whether the challenger was promoted or refused. When somebody makes another
        version champion meanwhile, the challenger is judged again, against that one.

    Raises:
        ConfigError: the spec or the request is wrong.
        DataCheckError: the data does not meet the spec's suite.
        ConflictError: the run worked past its lease and another one took over. Nothing was decided.
        BackendError: MLflow or storage failed.
    """
    spec = load_spec(model)
    with verdict("train", spec.name) as told:
        told.say(*filter(None, [_freed(spec, dry_run=dry_run)]))
        if automatic and not dry_run and (held := _held_back(spec, data, told)):
            return held
        told.say(*([] if dry_run else filter(None, [repair_alias(spec.name)])))
        trial = prepare_trial(model, spec, data, told)
        if dry_run:
            judged = judge_challenger(trial, train_challenger(trial), find_model(spec.name), told)
            return _tell(told, judged.decision.model_copy(update={"dry_run": True}))
        known = None if force else find_decision(spec.name, trial.recipe)
        taken = known or take_lease(spec.name, spec.retrain, automatic=automatic, recipe="" if force else trial.recipe)
        if isinstance(taken, Brake):
            return _braked(told, spec, taken)
        if isinstance(taken, Decision):
            if not automatic:
                _close_breaker(spec)
            return _tell(told, taken.model_copy(update={"again": True}))
        with turn(taken) as lease:
            return _tell(told, _decide(trial, lease, told))


def _decide(trial: Trial, lease: Entry, told: Verdict) -> Decision:
    """Judge against the champion as it is in our turn, write the decision, tell others."""
    name = trial.spec.name
    challenger = train_challenger(trial)
    judged = judge_challenger(trial, challenger, find_model(name), told)
    run, version = register_challenger(trial, challenger, told)
    rehearsed: tuple[Check, ...] = ()
    kept: Reference | None = None
    while True:
        if judged.gate.passed and not rehearsed:
            rehearsed = rehearse_model(version, trial.spec.limits).checks
            judged = with_checks(judged, rehearsed, told)
        told.cards.append(card_of(trial, challenger, told, run, version))
        if judged.gate.passed and not kept:
            kept = keep_reference_of(trial, challenger, told.cards[-1], run)
        try:
            concluded = _conclude(trial, judged, version, lease)
            break
        except ConflictError as lost:  # a rollback, an approval or a hand came between: the turn is ours still
            if not _still_ours(lease):
                raise
            told.say(f"Judged again: {lost}.")
            judged = judge_challenger(trial, challenger, find_model(name), told, extra=rehearsed)
    decision: Decision = record_decision(version, concluded, recipe=trial.recipe, reports=told.reports)
    announce(judged.gate, about=name)
    if decision.decision == "refused" and (opened := open_breaker(name, trial.spec.retrain)):
        told.say(f"Automatic training of {name} is stopped: {opened.reason}.", opened.advice)
        announce_stop(name, opened.reason)
    return decision


def _conclude(trial: Trial, judged: Judged, version: ModelVersion, lease: Entry) -> Decision:
    """Promote, ask for approval, or refuse."""
    spec, decision, recipe = trial.spec, judged.decision, trial.recipe
    if not judged.gate.passed:
        refuse_model(version, decision, recipe=recipe, lease=lease)
        return decision
    if spec.approval == "none":
        promote_model(version, decision=decision, recipe=recipe, lease=lease)
        return decision
    asked = decision.model_copy(update={"decision": "requested"})
    request_approval(
        version, asked, expires=spec.approval_expires, approvers=spec.approvers, recipe=recipe, lease=lease
    )
    return asked


def _still_ours(lease: Entry) -> bool:
    held = held_lease(read_history(lease.model))
    return held is not None and held.sequence == lease.sequence


def _freed(spec: ModelSpec, *, dry_run: bool) -> str:
    """Ask whether the run that has the turn is alive, where there is one; most of the time there is none."""
    held = None if dry_run else held_lease(read_history(spec.name))
    return free_turn(spec.name) if held and held.flow_run != str(prefect.runtime.flow_run.id or "") else ""


def _held_back(spec: ModelSpec, data: str, told: Verdict) -> Decision | None:
    """Look, before anything is read, whether an automatic run has something to do and may do it."""
    run, now = str(prefect.runtime.flow_run.id or ""), datetime.now(timezone.utc)
    brake = find_brake(read_history(spec.name), spec.retrain, now, automatic=True, flow_run=run)
    if brake is not None:
        return _braked(told, spec, brake)
    if data or is_address(spec.dataset) or open_table(table_uri("datasets", spec.dataset)) is not None:
        return None
    told.title = "nothing to learn from yet"
    told.say(f"Nothing has arrived in dataset {spec.dataset!r}.")
    return Decision(model=spec.name, decision="waiting", reason=f"nothing has arrived in dataset {spec.dataset!r} yet")


def _braked(told: Verdict, spec: ModelSpec, brake: Brake) -> Decision:
    told.title = f"braked ({brake.kind})"
    told.say("Nothing was trained, and nothing changed.", brake.advice)
    told.say(f"What holds it: {brake.reason}.")
    return Decision(model=spec.name, decision="braked", reason=f"{brake.kind}: {brake.reason}. {brake.advice}")


def _close_breaker(spec: ModelSpec) -> None:
    """A person asked, and the answer was known: they have looked, which is what the breaker waits for."""
    if breaker(read_history(spec.name), spec.retrain):
        note_entry(spec.name, "closed", reason="a person started train, and what it decided was known")


def _tell(told: Verdict, decision: Decision) -> Decision:
    """Put the decision into plain words."""
    told.title, outcome = _words(decision)
    if decision.dry_run:
        told.title += " (dry run: nothing was written)"
    if decision.again:
        told.title += " (decided before)"
        told.say(
            "The same recipe was decided on the same rows before; nothing was done. Start with force to decide again."
        )
    scores = ", ".join(f"{name} {value:.4f}" for name, value in decision.metrics.items())
    told.say(outcome, f"Why: {decision.reason}.", f"Scores on rows it had not seen: {scores}.")
    told.say(f"Trained on {decision.rows:,} rows, digest {decision.data_digest}.")
    told.say(*(report.summary for report in told.reports if report.kind == "data"))
    told.say(*(note for report in told.reports for note in report.notes))
    if decision.url:
        told.links.append(("Model version in MLflow", decision.url))
    return decision


def _words(decision: Decision) -> tuple[str, str]:
    """Return the title, and what it means for who is champion."""
    version = f"v{decision.version}" if decision.version else "the challenger"
    old = f"v{decision.replaced}" if decision.replaced else ""
    stays = f"{old} stays champion." if old else "There is no champion."
    if decision.decision == "requested":
        return f"{version} passed, and waits for approval", f"{stays} To answer, start the flow decide."
    if decision.decision == "refused":
        return f"{version} refused", stays
    now = champion_entry(read_history(decision.model)) if decision.again else None
    if now is not None and now.version != decision.version:
        return f"{version} promoted", f"v{now.version} is the champion now: {now.what}."
    return f"{version} promoted", f"{version} is the champion; it {f'replaced {old}' if old else 'is the first one'}."
