"""Who was champion when, read from a model's history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import AwareDatetime

from prefect_mlops.core.promotion.history import PROMOTING, Entry
from prefect_mlops.core.values import Value

# What else was decided about a model; turns, drift and backfills are for those who audit.
DECIDED = ("refused", "requested", "denied", "opened", "closed", "failed", "repaired")


class ChampionPeriod(Value):
    """A time in which one version was champion.

    Attributes:
        version: which one.
        since: from when, in UTC.
        until: up to when; None while it still is.
        how: ``promoted`` or ``rolled_back``.
        replaced: version that was champion before.
        by: who or what made it champion.
        reason: why.
        comment: what the person said who approved it; empty where nobody was asked.
        flow_run: id of the Prefect flow run that did it.
        sequence: number of the entry.
    """

    version: int | None
    since: AwareDatetime
    until: AwareDatetime | None = None
    how: str
    replaced: int | None = None
    by: str
    reason: str = ""
    comment: str = ""
    flow_run: str = ""
    sequence: int


def champion_periods(entries: Sequence[Entry]) -> list[ChampionPeriod]:
    """Return who was champion from when to when, oldest first."""
    crowns = [entry for entry in entries if entry.kind in PROMOTING]
    ends = [entry.at for entry in crowns[1:]]
    return [_reign(entry, until) for entry, until in zip(crowns, [*ends, None], strict=False)]


def periods_between(found: Sequence[ChampionPeriod], start: datetime, end: datetime) -> list[ChampionPeriod]:
    """Return the reigns that a span of time is part of.

    Args:
        found: from `champion_periods`.
        start: with a zone.
        end: with a zone; the same as `start` for a moment.
    """
    return [reign for reign in found if reign.since <= end and (reign.until is None or reign.until > start)]


def other_decisions(entries: Sequence[Entry]) -> list[Entry]:
    """Return what was decided beside champions: refusals, requests, brakes, failures, repairs; oldest first."""
    return [entry for entry in entries if entry.kind in DECIDED]


def comment_on(entry: Entry) -> str:
    """Return what the person said who approved or refused; empty where there was none."""
    kept = entry.details.get("approval")
    return str(kept.get("comment") or "") if isinstance(kept, dict) else ""


def _reign(entry: Entry, until: datetime | None) -> ChampionPeriod:
    return ChampionPeriod(
        version=entry.version,
        since=entry.at,
        until=until,
        how=entry.kind,
        replaced=entry.replaced,
        by=entry.by,
        reason=entry.reason,
        comment=comment_on(entry),
        flow_run=entry.flow_run,
        sequence=entry.sequence,
    )
