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
from prefect_mlops.core.promotion.lock import LockAttempt, decision_of, freed_sentence
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
from prefect_mlops.tasks import emit_event, find_model, promote_model, smoke_test_model
from prefect_mlops.tasks.flow_context import code_of_run
from prefect_mlops.tasks.loop import (
    emit_stop_event,
    find_decision,
    free_training_lock,
    note_entry,
    open_breaker,
    record_decision,
    refuse_model,
    repair_alias,
    request_approval,
    take_training_lock,
)

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
        The decision; the run is completed whether the challenger was promoted or refused. When another version
        becomes champion meanwhile, the challenger is judged again, against that one.

    Raises:
        ConfigError: the spec or the request is wrong.
        DataCheckError: the data does not meet the spec's suite.
        ConflictError: the run held the lock for too long and another run took it. Nothing was decided.
        BackendError: MLflow or storage failed.
    """
    spec = load_spec(model)
    with summarise_run("train", spec.name) as summary:
        if dry_run:
            training = prepare_training_data(model, spec, data, summary)
            judged = judge_challenger(training, train_challenger(training), find_model(spec.name), summary)
            return _describe(summary, judged.decision.model_copy(update={"dry_run": True}))
        entries = _history(spec, summary)
        if automatic and (held := _held_back(spec, data, entries, summary)):
            return held
        if repair := repair_alias(spec.name):
            summary.say(repair.sentence)
        known = fingerprint_of(spec, data, code_of_run())
        if known and not force and (decided := decision_of(decided_before(entries, known))):
            return _again(summary, spec, decided, entries, automatic=automatic)
        training = prepare_training_data(model, spec, f"@{known.version}" if known else data, summary)
        taken = _taken(training, known, force=force, automatic=automatic)
        if taken.decided:
            return _again(summary, spec, taken.decided, read_history(spec.name), automatic=automatic)
        if taken.lock is None:
            assert taken.guard is not None  # noqa: S101 - one of the three is set
            return _braked(summary, spec, taken.guard)
        with training_lock(taken.lock) as lease:
            return _describe(summary, _decide(training, lease, summary))


def _taken(training: TrainingData, known: RunFingerprint | None, *, force: bool, automatic: bool) -> LockAttempt:
    """Take the training lock, unless the same recipe was decided on the same rows."""
    spec, recipe = training.spec, training.recipe
    decision: Decision | None = None if force else find_decision(spec.name, recipe)
    if decision:
        return LockAttempt(decided=decision)
    details = noted(known, recipe) if known and covers_loaded_code() else None
    return take_training_lock(
        spec.name, spec.retrain, automatic=automatic, recipe="" if force else recipe, details=details
    )


def _decide(training: TrainingData, lease: Entry, summary: RunSummary) -> Decision:
    """Compare with the champion while holding the lock, write the decision, emit events."""
    name = training.spec.name
    challenger = train_challenger(training)
    judged = judge_challenger(training, challenger, find_model(name), summary)
    registering = register_challenger(training, challenger, summary)
    measured: Measurements | None = None
    rehearsing: PrefectFuture[Report] | None = None
    rehearsed: tuple[Check, ...] = ()
    while True:
        to_rehearse = judged.gate.passed and not rehearsing
        if to_rehearse:  # in a process of its own, which takes as long as what is done here meanwhile
            rehearsing = smoke_test_model.submit(registering.version, training.spec.limits, return_state=False)
        measured = measured or measure_challenger(training, challenger)
        run, version = registering.result()
        if to_rehearse and rehearsing:
            save_profile_of(training, challenger, measured, run)
            rehearsed = rehearsing.result().checks
            judged = with_checks(judged, rehearsed, summary)
        summary.cards.append(card_of(training, challenger, measured, summary, (run, version)))
        try:
            concluded = _conclude(training, judged, version, lease)
            break
        except ConflictError as lost:  # a rollback, an approval or a manual change came first; the lock is still ours
            if not _still_ours(lease):
                raise
            summary.say(f"Judged again: {lost}.")
            judged = judge_challenger(training, challenger, find_model(name), summary, extra=rehearsed)
    decision: Decision = record_decision(version, concluded, recipe=training.recipe, reports=summary.reports)
    emit_event(judged.gate, about=name)
    if decision.decision == "refused" and (opened := open_breaker(name, training.spec.retrain)):
        summary.say(f"Automatic training of {name} is stopped: {opened.reason}.", opened.advice)
        emit_stop_event(name, opened.reason)
    return decision


def _conclude(training: TrainingData, judged: Judged, version: ModelVersion, lease: Entry) -> Decision:
    """Promote, ask for approval, or refuse."""
    spec, decision, recipe = training.spec, judged.decision, training.recipe
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


def _history(spec: ModelSpec, summary: RunSummary) -> list[Entry]:
    """Read the history, and free the lock where the run that holds it has ended."""
    entries = read_history(spec.name)
    held = held_lock(entries)
    freed = free_training_lock(spec.name) if held and held.flow_run != str(prefect.runtime.flow_run.id or "") else None
    if freed is None:
        return entries
    summary.say(freed_sentence(freed))
    return read_history(spec.name)


def _held_back(spec: ModelSpec, data: str, entries: Sequence[Entry], summary: RunSummary) -> Decision | None:
    """Check, before anything is read, whether an automatic run has data and no guard holds it back."""
    run, now = str(prefect.runtime.flow_run.id or ""), datetime.now(timezone.utc)
    guard = find_guard(entries, spec.retrain, now, automatic=True, flow_run=run)
    if guard is not None:
        return _braked(summary, spec, guard)
    if data or is_address(spec.dataset) or open_table(table_uri("datasets", spec.dataset)) is not None:
        return None
    summary.title = "nothing to learn from yet"
    summary.say(f"Nothing has arrived in dataset {spec.dataset!r}.")
    return Decision(model=spec.name, decision="waiting", reason=f"nothing has arrived in dataset {spec.dataset!r} yet")


def _braked(summary: RunSummary, spec: ModelSpec, guard: Guard) -> Decision:
    summary.title = f"braked ({guard.kind})"
    summary.say("Nothing was trained, and nothing changed.", guard.advice)
    summary.say(f"What holds it: {guard.reason}.")
    return Decision(model=spec.name, decision="braked", reason=f"{guard.kind}: {guard.reason}. {guard.advice}")


def _again(
    summary: RunSummary, spec: ModelSpec, decision: Decision, entries: Sequence[Entry], *, automatic: bool
) -> Decision:
    """Say what was decided before, and by which run.

    A person who starts the flow has seen the refusals, so the circuit breaker is closed.
    """
    if not automatic and breaker(entries, spec.retrain):
        note_entry(spec.name, "closed", reason="a person started train, and what it decided was known")
    first = next((one for one in reversed(entries) if one.kind in DECISIONS and one.version == decision.version), None)
    if first and first.flow_run and (page := url_for("flow-run", first.flow_run)):
        summary.links.append(("The run that decided it", page))
    return _describe(summary, decision.model_copy(update={"again": True}), champion_entry(entries))


def _describe(summary: RunSummary, decision: Decision, now: Entry | None = None) -> Decision:
    """Describe the decision in the summary; for an earlier decision, also who is champion now."""
    summary.title, outcome = _words(decision, now)
    if decision.dry_run:
        summary.title += " (dry run: nothing was written)"
    if decision.again:
        summary.title += " (decided before)"
        summary.say(
            "The same recipe was decided on the same rows before; nothing was done. Start with force to decide again."
        )
    scores = ", ".join(f"{name} {value:.4f}" for name, value in decision.metrics.items())
    summary.say(outcome, f"Why: {decision.reason}.", f"Scores on rows it had not seen: {scores}.")
    summary.say(f"Trained on {decision.rows:,} rows, digest {decision.data_digest}.")
    summary.say(*(report.summary for report in summary.reports if report.kind == "data"))
    summary.say(*(note for report in summary.reports for note in report.notes))
    if decision.url:
        summary.links.append(("Model version in MLflow", decision.url))
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
