"""The status of a model: its champion, the last decision, the guards that hold, and what a person can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from prefect_mlops.core.promotion.decisions import difference, open_request
from prefect_mlops.core.promotion.guards import Guard, find_guards, held_lock
from prefect_mlops.core.promotion.history import Entry, champion_entry, last_decision
from prefect_mlops.core.text import moment
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    from prefect_mlops.core.specs.policies import Retrain


class ModelStatus(Value):
    """The status of a model at one moment.

    Attributes:
        model: registered model.
        champion: entry of the promotion that made the champion; None where there was none.
        alias: version MLflow's alias points at; None where there is no alias.
        alias_known: False when MLflow did not answer.
        difference: where alias and history name different champions, in a sentence; empty when they agree.
        decision: entry of the last promotion or refusal.
        work: lock of the run that trains it now.
        brakes: retrain guards that prevent automatic trainings; those that only a person can release come first.
        request: entry of the open request for approval.
        drift: entry of the last drift.
        failure: entry of the last failed training, unless a decision followed.
        todo: what a person can do, one sentence each.
    """

    model: str
    champion: Entry | None = None
    alias: int | None = None
    alias_known: bool = True
    difference: str = ""
    decision: Entry | None = None
    work: Entry | None = None
    brakes: tuple[Guard, ...] = ()
    request: Entry | None = None
    drift: Entry | None = None
    failure: Entry | None = None
    todo: tuple[str, ...] = ()


def find_status(
    model: str,
    entries: Sequence[Entry],
    retrain: Retrain,
    now: datetime,
    *,
    alias: int | None = None,
    alias_known: bool = True,
) -> ModelStatus:
    """Find the status of a model.

    Args:
        model: registered model.
        entries: its history, oldest first.
        retrain: its retrain policy, with the guards.
        now: current time, with a zone.
        alias: version MLflow's alias points at; None where there is no alias.
        alias_known: False when MLflow did not answer.
    """
    lease, decision = held_lock(entries), last_decision(entries)
    training = lease if lease is not None and lease.until is not None and lease.until > now else None
    failure = _newest(entries, "failed")
    found = ModelStatus(
        model=model,
        champion=champion_entry(entries),
        alias=alias,
        alias_known=alias_known,
        difference=difference(entries, alias) if alias_known else "",
        decision=decision,
        work=training,
        brakes=tuple(find_guards(entries, retrain, now)),
        request=open_request(entries),
        drift=_newest(entries, "drifted"),
        failure=failure if _later(failure, decision) else None,
    )
    return found.model_copy(update={"todo": tuple(_todo(found))})


def _todo(found: ModelStatus) -> Iterator[str]:
    busy = found.work is not None
    if found.champion is None and found.alias is None and found.alias_known and not busy:
        yield "There is no champion: start train to make the first one."
    if found.request is not None:
        until = f" until {moment(found.request.until)}" if found.request.until else ""
        yield f"v{found.request.version} waits for approval{until}: start the flow decide."
    yield from (guard.advice for guard in found.brakes if guard.kind == "breaker")
    if found.failure is not None and not busy:
        yield f"The last training failed: mend what its reason names, then start train. {found.failure.reason}"
    if found.difference and found.champion is not None and not busy:
        yield f"The next run of train, monitor or maintenance lets the alias follow the history. {found.difference}"
    if found.drift is not None and _later(found.drift, found.decision) and not busy:
        yield _drift_advice(found)


def _drift_advice(found: ModelStatus) -> str:
    since = f"It has drifted since {moment(found.drift.at)}" if found.drift else ""
    waits = [guard for guard in found.brakes if guard.until is not None]
    if any(guard.until is None for guard in found.brakes):
        return f"{since}, and is not retrained before the breaker is closed."
    if waits:
        return f"{since}; it is retrained by the next trigger or schedule after {moment(max(_until(waits)))}."
    return f"{since} and was not trained since: start train, or see whether its trigger is switched on."


def _until(guards: Sequence[Guard]) -> list[datetime]:
    return [guard.until for guard in guards if guard.until is not None]


def _newest(entries: Sequence[Entry], kind: str) -> Entry | None:
    return next((entry for entry in reversed(entries) if entry.kind == kind), None)


def _later(entry: Entry | None, other: Entry | None) -> bool:
    return entry is not None and (other is None or entry.sequence > other.sequence)
