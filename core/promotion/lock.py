"""The training lock of a model: one run at a time trains, and writes its decision while it holds the lock."""

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
from prefect_mlops.core.text import one_line
from prefect_mlops.core.values import Decision, ModelVersion, Value

if TYPE_CHECKING:
    from prefect_mlops.core.specs.policies import Retrain

_MAX_ENTRY_REASON = 2000  # characters of a reason stored in the history; its beginning names the cause
ANY_CHAMPION = -1  # in place of a version: replace any champion, without a check


class LockAttempt(Value):
    """What came of an attempt to acquire the training lock; exactly one of the three is set.

    Attributes:
        lock: entry of the lock, for `conclude` and `give_up`.
        guard: what prevents the training.
        decided: decision another run made on the same recipe.
    """

    lock: Entry | None = None
    guard: Guard | None = None
    decided: Decision | None = None


def take(
    model_name: str,
    retrain: Retrain,
    *,
    automatic: bool = False,
    recipe: str = "",
    flow_run: str = "",
    details: Mapping[str, Any] | None = None,
) -> LockAttempt:
    """Acquire the training lock of a model.

    Args:
        model_name: registered model.
        retrain: the retrain policy; its `lease` is how long the lock lasts.
        automatic: started by a trigger or schedule; only then cool-down and breaker count.
        recipe: run fingerprint; empty acquires the lock also when it was decided before.
        flow_run: id of the calling flow run; a retry of it acquires its own lock again.
        details: written with the lock; plain JSON.

    Returns:
        The lock; or the guard that prevents the training; or the decision another run made on this recipe.

    Raises:
        BackendError: storage failed.
    """
    now = datetime.now(timezone.utc)
    outcomes: list[LockAttempt] = []

    def lease(entries: Sequence[Entry]) -> Entry | None:
        known = decision_of(decided(entries, recipe)) if recipe else None
        guard = None if known else find_guard(entries, retrain, now, automatic=automatic, flow_run=flow_run)
        if known or guard:
            outcomes.append(LockAttempt(guard=guard, decided=known))
            return None
        by, until = AUTOMATIC if automatic else PERSON, now + retrain.lease
        return Entry(
            model=model_name,
            kind="leased",
            by=by,
            flow_run=flow_run,
            recipe=recipe,
            at=now,
            until=until,
            details=dict(details or {}),
        )

    taken = decide(model_name, lease)
    return LockAttempt(lock=taken) if taken else outcomes[-1]


def conclude(made: Entry, *, lease: Entry | None = None, replaces: int | None = ANY_CHAMPION) -> Entry:
    """Write the decision on a challenger; idempotent, so a retried task writes nothing twice.

    Args:
        made: from `conclusion_on`; signed with an `Approval` where it answers a request.
        lease: the lock of the run; None for a step outside of the train flow.
        replaces: version the challenger was compared with, None for no champion; `ANY_CHAMPION` skips the check, except
            that with a lease the version named in the decision is checked.

    Returns:
        The entry.

    Raises:
        ConflictError: another run took over the lock, another version became champion, or the request was
            already answered.
        BackendError: storage failed.
    """
    done: list[Entry] = []
    request = int(made.details.get("approval", {}).get("request", 0))
    judged_against = made.replaced if lease is not None and "decision" in made.details else ANY_CHAMPION

    def conclusion(entries: Sequence[Entry]) -> Entry | None:
        done.extend(entry for entry in entries if _same(entry, made, lease, entries, request))
        if done:
            return None
        if request:
            require_open(entries, made, request)
        if lease is not None:
            require_lock(entries, lease)
        require_champion(entries, made, judged_against if replaces == ANY_CHAMPION else replaces)
        before = champion_entry(entries)
        if before is None or made.kind not in PROMOTING:  # a refusal or request names the version it was compared with
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
    """Build the entry with the decision on a challenger.

    Args:
        kind: ``promoted``, ``requested`` or ``refused``.
        version: the challenger's.
        decision: with its reason; None for a manual promotion, which passed no gate.
        recipe: run fingerprint of the decision.
        lease: the lock of the run; None for a step outside of the train flow.
        flow_run: id of the flow run that does it.
    """
    reason = one_line(decision.reason, _MAX_ENTRY_REASON) if decision else ""
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
    """Require that the champion is still the one a version was compared with.

    Raises:
        ConflictError: another version became champion; the message names it.
    """
    champion = champion_entry(entries)
    if replaces == ANY_CHAMPION or champion is None or champion.version == replaces:
        return
    against = f"v{replaces}" if replaces else "no champion"
    raise ConflictError(
        f"{made.model}: v{champion.version} became champion meanwhile ({champion.what}); v{made.version} was judged "
        f"against {against}. Judge it against v{champion.version}, then decide"
    )


def require_open(entries: Sequence[Entry], made: Entry, request: int) -> None:
    """Require that a request for approval is still open.

    Raises:
        ConflictError: it was answered, expired, or was replaced by a newer one.
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
    """Release the lock after a failure without a decision, unless it was released or another run holds it."""

    def failure(entries: Sequence[Entry]) -> Entry | None:
        held = held_lock(entries)
        if held is None or held.sequence != lease.sequence:
            return None
        return Entry(
            model=lease.model,
            kind="failed",
            reason=one_line(reason, _MAX_ENTRY_REASON),
            by=lease.by,
            flow_run=lease.flow_run,
            recipe=lease.recipe,
        )

    return decide(lease.model, failure)


def freed_sentence(given_up: Entry) -> str:
    """Say why the lock of a run that has ended was released, from the entry that `give_up` wrote."""
    return f"{given_up.reason[:1].upper()}{given_up.reason[1:]}: it was taken from it."


def require_lock(entries: Sequence[Entry], lease: Entry) -> None:
    """Require that no other run has acquired the lock.

    Raises:
        ConflictError: the lock expired and another run acquired it.
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
    """Check whether an entry is this decision: by the same run, or by one that crashed before it set the alias."""
    if (entry.kind, entry.version) != (made.kind, made.version):
        return False
    ours = entry.flow_run == made.flow_run
    if lease is not None:
        return ours and entry.sequence > lease.sequence
    if request:  # the same decision by another person is another answer
        return ours and bool(made.flow_run) and entry.sequence > request
    if entry != champion_entry(entries):
        return False
    return (ours and bool(made.flow_run)) or not carried_out(entries, entry)
