"""Turns at a model: one run at a time decides who is champion, and what it decided is written while its turn lasts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from prefect_mlops.core.brakes import Brake, busy, find_brake, held_lease
from prefect_mlops.core.errors import ConflictError
from prefect_mlops.core.history import (
    AUTOMATIC,
    PERSON,
    Entry,
    Kind,
    carried_out,
    champion_entry,
    decide,
    decided,
    record,
)
from prefect_mlops.core.values import Decision, ModelVersion

if TYPE_CHECKING:
    from prefect_mlops.core.policies import Retrain

MAX_REASON_LENGTH = 2000  # what went wrong is said at the beginning
REPAIR = timedelta(minutes=10)  # setting an alias is one call; longer than MLflow's retries take


def take(
    model: str, retrain: Retrain, *, automatic: bool = False, recipe: str = "", flow_run: str = ""
) -> Entry | Brake | Decision:
    """Take the turn at a model.

    Args:
        model: registered model.
        retrain: what holds trainings back, and how long a lease lasts.
        automatic: started by a trigger or schedule, which cool-down and breaker hold back.
        recipe: what is going to be decided on; empty takes the turn whether it was decided before or not.
        flow_run: the run whose turn it is; a retry of it takes its own turn again.

    Returns:
        The lease; or what holds the training back; or what another run decided on this recipe meanwhile.

    Raises:
        BackendError: storage failed.
    """
    now = datetime.now(timezone.utc)
    answers: list[Brake | Decision] = []

    def lease(entries: Sequence[Entry]) -> Entry | None:
        known = decided(entries, recipe) if recipe else None
        answer = decision_of(known) or find_brake(entries, retrain, now, automatic=automatic, flow_run=flow_run)
        if answer is not None:
            answers.append(answer)
            return None
        by, until = AUTOMATIC if automatic else PERSON, now + retrain.lease
        return Entry(model=model, kind="leased", by=by, flow_run=flow_run, recipe=recipe, at=now, until=until)

    return decide(model, lease) or answers[-1]


def take_for_repair(model: str, flow_run: str) -> Entry | None:
    """Take the turn to carry out a promotion that a crash left half done.

    Returns:
        The promotion, now this run's to carry out; None when nothing is left half done or a run is still at it.

    Raises:
        BackendError: storage failed.
    """
    now = datetime.now(timezone.utc)
    promotions: list[Entry] = []

    def lease(entries: Sequence[Entry]) -> Entry | None:
        champion = champion_entry(entries)
        if champion is None or carried_out(entries, champion) or busy(entries, now, flow_run=flow_run):
            return None
        promotions.append(champion)
        reason = f"to set the alias to v{champion.version}"
        return Entry(model=model, kind="leased", reason=reason, flow_run=flow_run, at=now, until=now + REPAIR)

    return promotions[-1] if decide(model, lease) else None


def conclude(
    kind: Kind,
    version: ModelVersion,
    decision: Decision | None = None,
    *,
    recipe: str = "",
    lease: Entry | None = None,
    flow_run: str = "",
) -> Entry:
    """Write what became of a challenger; the same conclusion again, as in a retried task, changes nothing.

    Args:
        kind: ``promoted`` or ``refused``.
        version: the challenger's.
        decision: why; None where somebody promotes a version without judging it.
        recipe: names what the decision rests on.
        lease: whose turn it is; None for a step outside of the train flow.
        flow_run: the run that does it.

    Returns:
        The entry.

    Raises:
        ConflictError: the turn was lost to another run, or another version became champion meanwhile.
        BackendError: storage failed.
    """
    made = _conclusion(kind, version, decision, recipe=recipe, lease=lease, flow_run=flow_run)
    done: list[Entry] = []

    def conclusion(entries: Sequence[Entry]) -> Entry | None:
        done.extend(entry for entry in entries if _same(entry, made, lease, entries))
        if done:
            return None
        if lease is not None:
            require_turn(entries, lease)
        before = champion_entry(entries)
        return made if made.replaced or not before else made.model_copy(update={"replaced": before.version})

    return decide(version.name, conclusion) or done[-1]


def give_back(version: ModelVersion, lease: Entry | None = None, *, flow_run: str = "") -> Entry:
    """Write that a promotion was carried out: the alias points at the version, and the turn is over."""
    by, run = (lease.by, lease.flow_run) if lease else (PERSON, flow_run)
    return record(Entry(model=version.name, kind="released", version=version.version, by=by, flow_run=run))


def give_up(lease: Entry, reason: str) -> Entry | None:
    """Write that a turn ended without a decision, unless it had ended, or another run has it by now."""

    def failure(entries: Sequence[Entry]) -> Entry | None:
        held = held_lease(entries)
        if held is None or held.sequence != lease.sequence:
            return None
        return Entry(
            model=lease.model,
            kind="failed",
            reason=reason[:MAX_REASON_LENGTH],
            by=lease.by,
            flow_run=lease.flow_run,
            recipe=lease.recipe,
        )

    return decide(lease.model, failure)


def require_turn(entries: Sequence[Entry], lease: Entry) -> None:
    """Make sure that what was decided under a lease still holds.

    Raises:
        ConflictError: the lease ran out and another run took it, or another champion was made meanwhile.
    """
    later = [entry for entry in entries if entry.sequence > lease.sequence]
    taken = next((entry for entry in later if entry.kind == "leased"), None)
    if taken is not None:
        raise ConflictError(
            f"{lease.model}: flow run {lease.flow_run} worked past its lease, and flow run {taken.flow_run} took over "
            f"({taken.what}); nothing was decided. Give Retrain a longer lease, then start train again"
        )
    champion = champion_entry(later)
    if champion is not None:
        raise ConflictError(
            f"{lease.model}: v{champion.version} became champion meanwhile ({champion.what}), which the challenger was "
            "not judged against. Start train again"
        )


def difference(entries: Sequence[Entry], points_at: int | None) -> str:
    """Say in a sentence where MLflow's alias and the history name different champions; empty when they agree.

    Args:
        entries: the model's history.
        points_at: version the alias points at; None where there is no alias.
    """
    champion = champion_entry(entries)
    named = champion.version if champion else None
    if named == points_at:
        return ""
    if champion is None:
        return f"The alias points at v{points_at}, which the history does not know: it was set by hand, or before."
    if not carried_out(entries, champion):
        return f"v{named} has just been promoted; the alias is about to follow."
    moved = f"was moved to v{points_at}" if points_at else "was removed"
    return f"The history names v{named} as champion, but the alias {moved} by hand. It is left alone."


def decision_of(entry: Entry | None) -> Decision | None:
    """Return the decision an entry holds."""
    kept = entry.details.get("decision") if entry else None
    return Decision.model_validate(kept) if kept else None


def _conclusion(
    kind: Kind, version: ModelVersion, decision: Decision | None, *, recipe: str, lease: Entry | None, flow_run: str
) -> Entry:
    reason = decision.reason[:MAX_REASON_LENGTH] if decision else ""
    known = {"version": version.version, "url": version.url, "reason": reason}
    return Entry(
        model=version.name,
        kind=kind,
        version=version.version,
        replaced=decision.replaced if decision else None,
        reason=reason,
        by=lease.by if lease else PERSON,
        flow_run=lease.flow_run if lease else flow_run,
        recipe=recipe,
        details={"decision": decision.model_copy(update=known).model_dump(mode="json")} if decision else {},
    )


def _same(entry: Entry, made: Entry, lease: Entry | None, entries: Sequence[Entry]) -> bool:
    """Tell a conclusion that was written before by the same run in the same turn."""
    if (entry.kind, entry.version, entry.flow_run) != (made.kind, made.version, made.flow_run):
        return False
    if lease is not None:
        return entry.sequence > lease.sequence
    return bool(made.flow_run) and entry == champion_entry(entries)
