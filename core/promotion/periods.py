"""Champion periods: which version was champion from when to when, read from a model's history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import AwareDatetime

from prefect_mlops.core.promotion.history import PROMOTING, Entry
from prefect_mlops.core.values import Value

# Other decisions about a model. Locks, drift and backfills are shown by `audit` only.
DECIDED = ("refused", "requested", "denied", "opened", "closed", "failed", "repaired")


class ChampionPeriod(Value):
    """A period in which one version was champion.

    Attributes:
        version: the champion.
        since: start, in UTC.
        until: end, in UTC; None for the present champion.
        how: ``promoted`` or ``rolled_back``.
        replaced: version that was champion before.
        by: who or what made it champion.
        reason: why.
        comment: comment of the person who approved it; empty without an approval.
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
    """Return the champion periods of a model, oldest first."""
    promotions = [entry for entry in entries if entry.kind in PROMOTING]
    ends = [entry.at for entry in promotions[1:]]
    return [_period(entry, until) for entry, until in zip(promotions, [*ends, None], strict=False)]


def periods_between(found: Sequence[ChampionPeriod], start: datetime, end: datetime) -> list[ChampionPeriod]:
    """Return the champion periods that overlap a span of time.

    Args:
        found: from `champion_periods`.
        start: with a zone.
        end: with a zone; the same as `start` for a moment.
    """
    return [period for period in found if period.since <= end and (period.until is None or period.until > start)]


def other_decisions(entries: Sequence[Entry]) -> list[Entry]:
    """Return the other decisions: refusals, requests, breaker, failures, repairs; oldest first."""
    return [entry for entry in entries if entry.kind in DECIDED]


def comment_on(entry: Entry) -> str:
    """Return the comment of the person who approved or refused; empty where there is none."""
    kept = entry.details.get("approval")
    return str(kept.get("comment") or "") if isinstance(kept, dict) else ""


def _period(entry: Entry, until: datetime | None) -> ChampionPeriod:
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
