from __future__ import annotations

from datetime import datetime, timedelta, timezone

from prefect_mlops.core.promotion.history import Entry
from prefect_mlops.core.promotion.periods import champion_periods, comment_on, other_decisions, periods_between

START = datetime(2026, 3, 1, tzinfo=timezone.utc)


def entry(hour: int, kind: str, version: int | None = None, **fields: object) -> Entry:
    return Entry(model="m", kind=kind, version=version, sequence=hour, at=START + timedelta(hours=hour), **fields)  # type: ignore[arg-type]


HISTORY = [
    entry(1, "leased"),
    entry(2, "promoted", 1, reason="good"),
    entry(3, "refused", 2),
    entry(4, "promoted", 3, replaced=1, by="ada", details={"approval": {"by": "ada", "comment": "fine"}}),
    entry(5, "drifted", 3),
    entry(6, "rolled_back", 1, replaced=3, by="ben"),
    entry(7, "something_newer", 9),
]


def test_each_reign_ends_where_the_next_one_begins() -> None:
    first, second, third = champion_periods(HISTORY)
    assert [(one.version, one.how, one.by) for one in (first, second, third)] == [
        (1, "promoted", "person"),
        (3, "promoted", "ada"),
        (1, "rolled_back", "ben"),
    ]
    assert (first.until, second.until, third.until) == (second.since, third.since, None)
    assert second.comment == "fine"
    assert champion_periods([]) == []


def test_a_moment_belongs_to_the_reign_that_begins_at_it() -> None:
    found = champion_periods(HISTORY)

    def at(hour: float, end: float | None = None) -> list[int]:
        span = (START + timedelta(hours=hour), START + timedelta(hours=end if end is not None else hour))
        return [one.sequence for one in periods_between(found, *span)]

    assert at(1.9) == []
    assert at(2) == [2]
    assert at(3.9) == [2]
    assert at(4) == [4]
    assert at(100) == [6]
    assert at(0, 24) == [2, 4, 6]
    assert at(3, 4) == [2, 4]


def test_turns_drift_and_what_is_not_known_yet_are_no_decisions() -> None:
    assert [one.kind for one in other_decisions(HISTORY)] == ["refused"]


def test_an_entry_without_a_comment_has_an_empty_one() -> None:
    approvals = [{}, {"approval": None}, {"approval": {"by": "ada"}}, {"approval": {"comment": None}}]
    assert [comment_on(entry(1, "promoted", 1, details=details)) for details in approvals] == [""] * 4
