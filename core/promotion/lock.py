"""Turns at a model: one run at a time decides who is champion, and what it decided is written while its turn lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConflictError
from prefect_mlops.core.promotion.decisions import open_request
from prefect_mlops.core.promotion.guards import Guard, find_guard, held_lock
from prefect_mlops.core.promotion.history import (
    AUTOMATIC,
    DECISIONS,
    PERSON,
    PROMOTING,
    Entry,
    EntryKind,
    carried_out,
    champion_entry,
    decide,
    decided,
)
from prefect_mlops.core.values import Decision, ModelVersion

if TYPE_CHECKING:
    from prefect_mlops.core.specs.policies import Retrain

MAX_REASON_LENGTH = 2000  # what went wrong is said at the beginning
WHOEVER = -1  # in place of a version: replace whoever is champion


def take(
    model: str,
    retrain: Retrain,
    *,
    automatic: bool = False,
    recipe: str = "",
    flow_run: str = "",
    details: Mapping[str, Any] | None = None,
) -> Entry | Guard | Decision:
    """Take the turn at a model.

    Args:
        model: registered model.
        retrain: what holds trainings back, and how long a lease lasts.
        automatic: started by a trigger or schedule, which cool-down and breaker hold back.
        recipe: what is going to be decided on; empty takes the turn whether it was decided before or not.
        flow_run: the run whose turn it is; a retry of it takes its own turn again.
        details: what the lease notes; plain JSON.

    Returns:
        The lease; or what holds the training back; or what another run decided on this recipe meanwhile.

    Raises:
        BackendError: storage failed.
    """
    now = datetime.now(timezone.utc)
    answers: list[Guard | Decision] = []

    def lease(entries: Sequence[Entry]) -> Entry | None:
        known = decided(entries, recipe) if recipe else None
        answer = decision_of(known) or find_guard(entries, retrain, now, automatic=automatic, flow_run=flow_run)
        if answer is not None:
            answers.append(answer)
            return None
        by, until = AUTOMATIC if automatic else PERSON, now + retrain.lease
        return Entry(
            model=model,
            kind="leased",
            by=by,
            flow_run=flow_run,
            recipe=recipe,
            at=now,
            until=until,
            details=dict(details or {}),
        )

    return decide(model, lease) or answers[-1]


def conclude(made: Entry, *, lease: Entry | None = None, replaces: int | None = WHOEVER) -> Entry:
    """Write what became of a challenger; the same conclusion again, as in a retried task, changes nothing.

    Args:
        made: from `conclusion_on`; signed with an `Approval` where it answers a request.
        lease: whose turn it is; None for a step outside of the train flow.
        replaces: version the challenger was judged against, None for no champion; `WHOEVER` does not ask, but where
            there is a lease it is the one that the decision names.

    Returns:
        The entry.

    Raises:
        ConflictError: the turn was lost to another run, another version became champion meanwhile, or somebody else
            answered the request.
        BackendError: storage failed.
    """
    done: list[Entry] = []
    request = int(made.details.get("approval", {}).get("request", 0))
    judged_against = made.replaced if lease is not None and "decision" in made.details else WHOEVER

    def conclusion(entries: Sequence[Entry]) -> Entry | None:
        done.extend(entry for entry in entries if _same(entry, made, lease, entries, request))
        if done:
            return None
        if request:
            require_open(entries, made, request)
        if lease is not None:
            require_lock(entries, lease)
        require_champion(entries, made, judged_against if replaces == WHOEVER else replaces)
        before = champion_entry(entries)
        if before is None or made.kind not in PROMOTING:  # a refusal or request names whom it was judged against
            return made
        return made.model_copy(update={"replaced": before.version})

    return decide(made.model, conclusion) or done[-1]


def conclusion_on(
    kind: EntryKind,
    version: ModelVersion,
    decision: Decision | None = None,
    *,
    recipe: str = "",
    lease: Entry | None = None,
    flow_run: str = "",
) -> Entry:
    """Make the entry that says what became of a challenger.

    Args:
        kind: ``promoted``, ``requested`` or ``refused``.
        version: the challenger's.
        decision: why; None where somebody promotes a version without judging it.
        recipe: names what the decision rests on.
        lease: whose turn it is; None for a step outside of the train flow.
        flow_run: the run that does it.
    """
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


def require_champion(entries: Sequence[Entry], made: Entry, replaces: int | None) -> None:
    """Make sure that the champion is still the one a version was judged against.

    Raises:
        ConflictError: another one became champion meanwhile; it is named.
    """
    champion = champion_entry(entries)
    if replaces == WHOEVER or champion is None or champion.version == replaces:
        return
    against = f"v{replaces}" if replaces else "no champion"
    raise ConflictError(
        f"{made.model}: v{champion.version} became champion meanwhile ({champion.what}); v{made.version} was judged "
        f"against {against}. Judge it against v{champion.version}, then decide"
    )


def require_open(entries: Sequence[Entry], made: Entry, request: int) -> None:
    """Make sure that a request for approval still waits for its answer.

    Raises:
        ConflictError: it was answered meanwhile, ran out, or made way for a newer one.
    """
    waiting = open_request(entries)
    if waiting is not None and waiting.sequence == request:
        return
    later = [entry for entry in entries if entry.sequence > request and entry.kind in DECISIONS]
    answer = next((entry for entry in later if entry.version == made.version), later[-1] if later else None)
    seen = f" ({answer.what}, {answer.by})" if answer else ""
    raise ConflictError(
        f"{made.model}: the request for v{made.version} was answered meanwhile{seen}; nothing was changed. Look at the "
        "history, then decide"
    )


def give_up(lease: Entry, reason: str) -> Entry | None:
    """Write that a turn ended without a decision, unless it had ended, or another run has it by now."""

    def failure(entries: Sequence[Entry]) -> Entry | None:
        held = held_lock(entries)
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


def require_lock(entries: Sequence[Entry], lease: Entry) -> None:
    """Make sure that nobody else took the turn.

    Raises:
        ConflictError: the lease ran out and another run took it.
    """
    taken = next((entry for entry in entries if entry.sequence > lease.sequence and entry.kind == "leased"), None)
    if taken is not None:
        raise ConflictError(
            f"{lease.model}: flow run {lease.flow_run} worked past its lease, and flow run {taken.flow_run} took over "
            f"({taken.what}); nothing was decided. Give Retrain a longer lease, then start train again"
        )


def decision_of(entry: Entry | None) -> Decision | None:
    """Return the decision an entry holds."""
    kept = entry.details.get("decision") if entry else None
    return Decision.model_validate(kept) if kept else None


def _same(entry: Entry, made: Entry, lease: Entry | None, entries: Sequence[Entry], request: int) -> bool:
    """Tell a conclusion that was written before: by the same run, or by one that a crash ended before the alias."""
    if (entry.kind, entry.version) != (made.kind, made.version):
        return False
    ours = entry.flow_run == made.flow_run
    if lease is not None:
        return ours and entry.sequence > lease.sequence
    if request:  # another person's answer is not this one, though it may say the same
        return ours and bool(made.flow_run) and entry.sequence > request
    if entry != champion_entry(entries):
        return False
    return (ours and bool(made.flow_run)) or not carried_out(entries, entry)
