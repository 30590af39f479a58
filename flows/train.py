"""Train a challenger, judge it against the champion on rows neither has seen, promote or refuse it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import prefect.runtime
from prefect import flow
from prefect.utilities.urls import url_for

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import ConflictError
from prefect_mlops.core.lake.commits import open_table
from prefect_mlops.core.lineage.environment import covers_loaded_code
from prefect_mlops.core.promotion.guards import Guard, breaker, find_guard, held_lock
from prefect_mlops.core.promotion.history import DECISIONS, Entry, champion_entry, read_history
from prefect_mlops.core.promotion.lock import decision_of
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.model import ModelSpec, is_address, load_spec
from prefect_mlops.core.values import Decision, ModelVersion
from prefect_mlops.flows.challenger import (
    Judged,
    card_of,
    judge_challenger,
    measure_challenger,
    register_challenger,
    save_profile_of,
    train_challenger,
    training_lock,
    with_checks,
)
from prefect_mlops.flows.run_fingerprint import RunFingerprint, decided_before, fingerprint_of, noted
from prefect_mlops.flows.run_summary import RunSummary, summarise_run
from prefect_mlops.flows.training_data import TrainingData, prepare_training_data
from prefect_mlops.flows.ui_labels import label
from prefect_mlops.tasks import (
    emit_event,
    emit_stop_event,
    find_decision,
    find_model,
    free_training_lock,
    note_entry,
    open_breaker,
    promote_model,
    record_decision,
    refuse_model,
    repair_alias,
    request_approval,
    smoke_test_model,
    take_training_lock,
)
from prefect_mlops.tasks._runs import code_of_run

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture

    from prefect_mlops.core.cards.card import Measurements


@flow(name="train", flow_run_name="train-{model}")
def train(
    model: Annotated[str, label("Model")],
    data: Annotated[str, label("Data")] = "",
    dry_run: Annotated[bool, label("Dry run")] = False,
    force: Annotated[bool, label("Decide again")] = False,
    automatic: Annotated[bool, label("Started by a trigger or schedule")] = False,
) -> Decision:
    """Train a challenger and let it replace the champion if it passes every gate.

    The same recipe on the same rows is decided once: started again, the flow says what was decided and by which run,
    and changes nothing. Where the dataset is one of the lake and all code is in a git repository, no row is read for
    that; a ``prepare`` that reads more than its rows, such as another file, then needs ``force`` when that changed.
    A refused challenger is registered all the same, without the alias, so that the refusal can be looked up.
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
    with summarise_run("train", spec.name) as told:
        if dry_run:
            trial = prepare_training_data(model, spec, data, told)
            judged = judge_challenger(trial, train_challenger(trial), find_model(spec.name), told)
            return _tell(told, judged.decision.model_copy(update={"dry_run": True}))
        entries = _history(spec, told)
        if automatic and (held := _held_back(spec, data, entries, told)):
            return held
        told.say(*filter(None, [repair_alias(spec.name)]))
        known = fingerprint_of(spec, data, code_of_run())
        if known and not force and (decided := decision_of(decided_before(entries, known))):
            return _again(told, spec, decided, entries, automatic=automatic)
        trial = prepare_training_data(model, spec, f"@{known.version}" if known else data, told)
        taken = _taken(trial, known, force=force, automatic=automatic)
        if isinstance(taken, Guard):
            return _braked(told, spec, taken)
        if isinstance(taken, Decision):
            return _again(told, spec, taken, read_history(spec.name), automatic=automatic)
        with training_lock(taken) as lease:
            return _tell(told, _decide(trial, lease, told))


def _taken(
    trial: TrainingData, known: RunFingerprint | None, *, force: bool, automatic: bool
) -> Entry | Guard | Decision:
    """Take the turn at the model, unless the same recipe was decided on the same rows."""
    spec, recipe = trial.spec, trial.recipe
    decision: Decision | None = None if force else find_decision(spec.name, recipe)
    if decision:
        return decision
    details = noted(known, recipe) if known and covers_loaded_code() else None
    taken: Entry | Guard | Decision = take_training_lock(
        spec.name, spec.retrain, automatic=automatic, recipe="" if force else recipe, details=details
    )
    return taken


def _decide(trial: TrainingData, lease: Entry, told: RunSummary) -> Decision:
    """Judge against the champion as it is in our training_lock, write the decision, tell others."""
    name = trial.spec.name
    challenger = train_challenger(trial)
    judged = judge_challenger(trial, challenger, find_model(name), told)
    registering = register_challenger(trial, challenger, told)
    measured: Measurements | None = None
    rehearsing: PrefectFuture[Report] | None = None
    rehearsed: tuple[Check, ...] = ()
    while True:
        to_rehearse = judged.gate.passed and not rehearsing
        if to_rehearse:  # in a process of its own, which takes as long as what is done here meanwhile
            rehearsing = smoke_test_model.submit(registering.version, trial.spec.limits, return_state=False)
        measured = measured or measure_challenger(trial, challenger)
        run, version = registering.result()
        if to_rehearse and rehearsing:
            save_profile_of(trial, challenger, measured, run)
            rehearsed = rehearsing.result().checks
            judged = with_checks(judged, rehearsed, told)
        told.cards.append(card_of(trial, challenger, measured, told, (run, version)))
        try:
            concluded = _conclude(trial, judged, version, lease)
            break
        except ConflictError as lost:  # a rollback, an approval or a hand came between: the turn is ours still
            if not _still_ours(lease):
                raise
            told.say(f"Judged again: {lost}.")
            judged = judge_challenger(trial, challenger, find_model(name), told, extra=rehearsed)
    decision: Decision = record_decision(version, concluded, recipe=trial.recipe, reports=told.reports)
    emit_event(judged.gate, about=name)
    if decision.decision == "refused" and (opened := open_breaker(name, trial.spec.retrain)):
        told.say(f"Automatic training of {name} is stopped: {opened.reason}.", opened.advice)
        emit_stop_event(name, opened.reason)
    return decision


def _conclude(trial: TrainingData, judged: Judged, version: ModelVersion, lease: Entry) -> Decision:
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
    held = held_lock(read_history(lease.model))
    return held is not None and held.sequence == lease.sequence


def _history(spec: ModelSpec, told: RunSummary) -> list[Entry]:
    """Read the history, and ask whether the run that has the turn is alive, where there is one."""
    entries = read_history(spec.name)
    held = held_lock(entries)
    freed = free_training_lock(spec.name) if held and held.flow_run != str(prefect.runtime.flow_run.id or "") else ""
    told.say(*filter(None, [freed]))
    return read_history(spec.name) if freed else entries


def _held_back(spec: ModelSpec, data: str, entries: Sequence[Entry], told: RunSummary) -> Decision | None:
    """Look, before anything is read, whether an automatic run has something to do and may do it."""
    run, now = str(prefect.runtime.flow_run.id or ""), datetime.now(timezone.utc)
    brake = find_guard(entries, spec.retrain, now, automatic=True, flow_run=run)
    if brake is not None:
        return _braked(told, spec, brake)
    if data or is_address(spec.dataset) or open_table(table_uri("datasets", spec.dataset)) is not None:
        return None
    told.title = "nothing to learn from yet"
    told.say(f"Nothing has arrived in dataset {spec.dataset!r}.")
    return Decision(model=spec.name, decision="waiting", reason=f"nothing has arrived in dataset {spec.dataset!r} yet")


def _braked(told: RunSummary, spec: ModelSpec, brake: Guard) -> Decision:
    told.title = f"braked ({brake.kind})"
    told.say("Nothing was trained, and nothing changed.", brake.advice)
    told.say(f"What holds it: {brake.reason}.")
    return Decision(model=spec.name, decision="braked", reason=f"{brake.kind}: {brake.reason}. {brake.advice}")


def _again(
    told: RunSummary, spec: ModelSpec, decision: Decision, entries: Sequence[Entry], *, automatic: bool
) -> Decision:
    """Say what was decided before, and by which run.

    A person who asks has looked, which is what the breaker waits for.
    """
    if not automatic and breaker(entries, spec.retrain):
        note_entry(spec.name, "closed", reason="a person started train, and what it decided was known")
    first = next((one for one in reversed(entries) if one.kind in DECISIONS and one.version == decision.version), None)
    if first and first.flow_run and (page := url_for("flow-run", first.flow_run)):
        told.links.append(("The run that decided it", page))
    return _tell(told, decision.model_copy(update={"again": True}), champion_entry(entries))


def _tell(told: RunSummary, decision: Decision, now: Entry | None = None) -> Decision:
    """Put the decision into plain words; of one made before, also who is champion now."""
    told.title, outcome = _words(decision, now)
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


def _words(decision: Decision, now: Entry | None) -> tuple[str, str]:
    """Return the title, and what it means for who is champion."""
    version = f"v{decision.version}" if decision.version else "the challenger"
    old = f"v{decision.replaced}" if decision.replaced else ""
    stays = f"{old} stays champion." if old else "There is no champion."
    if decision.decision == "requested":
        return f"{version} passed, and waits for approval", f"{stays} To answer, start the flow decide."
    if decision.decision == "refused":
        return f"{version} refused", stays
    if now is not None and now.version != decision.version:
        return f"{version} promoted", f"v{now.version} is the champion now: {now.what}."
    return f"{version} promoted", f"{version} is the champion; it {f'replaced {old}' if old else 'is the first one'}."
