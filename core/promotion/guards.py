"""Retrain guards: the training lock, the cool-down and the circuit breaker, as pure functions of history and time.

Prefect's concurrency limits are not used: they leak slots when runs die. The lock is an entry that expires by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime

from prefect_mlops.core.promotion.history import AUTOMATIC, DECISIONS, LOCK_ENDS, Entry, last_decision
from prefect_mlops.core.text import moment
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    from prefect_mlops.core.specs.policies import Retrain


class Guard(Value):
    """A retrain guard that prevents a training from starting.

    Attributes:
        kind: ``busy`` (the lock is held), ``cool-down`` or ``breaker``.
        reason: why, one sentence.
        until: when it expires; None when only a person can release it.
        advice: what to do.
    """

    kind: Literal["busy", "cool-down", "breaker"]
    reason: str
    until: AwareDatetime | None = None
    advice: str


def find_guard(
    entries: Sequence[Entry], retrain: Retrain, now: datetime, *, automatic: bool, flow_run: str = ""
) -> Guard | None:
    """Find the guard that prevents a training from starting.

    Args:
        entries: the model's history, oldest first.
        retrain: the retrain policy of the spec.
        now: current time, with a zone.
        automatic: started by a trigger or schedule; for a run that a person started only the lock counts.
        flow_run: id of the calling flow run; its own lock does not count.

    Returns:
        The guard; None when the training may start.
    """
    if not automatic:
        return busy(entries, now, flow_run=flow_run)
    return next(iter(find_guards(entries, retrain, now, flow_run=flow_run)), None)


def find_guards(entries: Sequence[Entry], retrain: Retrain, now: datetime, *, flow_run: str = "") -> list[Guard]:
    """Find all guards of an automatic training; those that only a person can release come first."""
    found = (breaker(entries, retrain), busy(entries, now, flow_run=flow_run), cooling(entries, retrain, now))
    return [guard for guard in found if guard is not None]


def busy(entries: Sequence[Entry], now: datetime, *, flow_run: str = "") -> Guard | None:
    """Return a guard if another run holds the training lock and the lock has not expired."""
    lease = held_lock(entries)
    if lease is None or lease.until is None or lease.until <= now or (flow_run and lease.flow_run == flow_run):
        return None
    return Guard(
        kind="busy",
        reason=f"flow run {lease.flow_run} has held the training lock of {lease.model} since {moment(lease.at)}",
        until=lease.until,
        advice=f"Wait until it has ended. If it crashed, the lock expires at {moment(lease.until)}.",
    )


def cooling(entries: Sequence[Entry], retrain: Retrain, now: datetime) -> Guard | None:
    """Return a guard during the cool-down after the last decision."""
    last = last_decision(entries)
    if last is None or last.at + retrain.cool_down <= now:
        return None
    until = last.at + retrain.cool_down
    return Guard(
        kind="cool-down",
        reason=f"v{last.version} was {last.kind} at {moment(last.at)}, and the cool-down is {retrain.cool_down}",
        until=until,
        advice=f"Wait until {moment(until)}, or start train by hand.",
    )


def breaker(entries: Sequence[Entry], retrain: Retrain) -> Guard | None:
    """Return a guard if the circuit breaker is open: the limit of challengers refused in a row is reached."""
    refused = refused_in_a_row(entries)
    if not retrain.refused_in_a_row or refused < retrain.refused_in_a_row:
        return None
    last = last_decision(entries)
    return Guard(
        kind="breaker",
        reason=f"{refused} challengers in a row were refused, the last one because: {last.reason if last else ''}",
        advice="Look at why they were refused, mend data or spec, then start train by hand: that closes the breaker.",
    )


def refused_in_a_row(entries: Sequence[Entry]) -> int:
    """Count the challengers refused in a row, up to the last other decision, decision by a person, or reset."""
    steps = [entry for entry in reversed(entries) if entry.kind in (*DECISIONS, "closed")]
    return len(list(takewhile(lambda entry: entry.kind == "refused" and not _by_person(entry), steps)))


def opened(entries: Sequence[Entry]) -> bool:
    """Check whether the history has an entry for the open breaker, newer than the last that closed it."""
    steps = [entry for entry in entries if entry.kind in ("promoted", "closed", "opened") or _by_person(entry)]
    return bool(steps) and steps[-1].kind == "opened"


def held_lock(entries: Sequence[Entry]) -> Entry | None:
    """Return the newest lock if its run has not released it; it may have expired."""
    lease = next((entry for entry in reversed(entries) if entry.kind == "leased"), None)
    if lease is None or any(_ends(entry, lease) for entry in entries):
        return None
    return lease


def _by_person(entry: Entry) -> bool:
    return entry.kind in DECISIONS and entry.by != AUTOMATIC


def _ends(entry: Entry, lease: Entry) -> bool:
    return entry.kind in LOCK_ENDS and entry.sequence > lease.sequence and entry.flow_run == lease.flow_run
