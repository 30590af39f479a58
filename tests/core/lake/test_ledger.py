"""Which line of the ledger counts for a file, a stamp, a content and a data version."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from prefect_mlops.core.lake.ledger import Arrival, Ledger, arrivals, read_ledger, write_lines

START = datetime(2024, 1, 1, tzinfo=timezone.utc)


def line(minute: int, state: str = "committed", version: int | None = None, **more: object) -> Arrival:
    at = START + timedelta(minutes=minute)
    return Arrival(
        **{"dataset": "shop", "path": "a", "digest": "d", "state": state, "version": version, "at": at, **more}
    )


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        ([line(1, "refused"), line(2, "refused")], 1),
        ([line(1, version=1), line(2, "refused")], 0),
        ([line(1, "refused"), line(2, version=1)], 1),
        ([line(1, version=3), line(2, version=1)], 0),
        ([line(1, version=1), line(2, version=1)], 1),
        ([line(1, version=1), line(2, "duplicate")], 0),
    ],
    ids=["newest refusal", "rows outweigh a refusal", "rows", "versions, not clocks", "newest line", "no duplicate"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_one_line_counts_for_each_content_of_a_file(lines: list[Arrival], counts: int, turned: bool) -> None:
    ledger = Ledger(lines[::-1] if turned else lines)
    assert ledger.find("a", "d") == lines[counts]
    assert ledger.current == [lines[counts]]
    assert ledger.find("a", "other") is None
    assert ledger.lines == lines, "oldest first"


def test_duplicates_alone_are_no_arrival() -> None:
    ledger = Ledger([line(1, "duplicate")])
    assert (ledger.find("a", "d"), ledger.current) == (None, [])


def test_a_file_is_known_by_its_stamp_and_not_by_an_empty_one() -> None:
    first, second = line(1, stamp="s"), line(2, stamp="s", digest="e")
    ledger = Ledger([first, second, line(3)])
    assert ledger.seen("a", "s") == second
    assert (ledger.seen("b", "s"), ledger.seen("a", "")) == (None, None)


def test_a_content_belongs_to_who_committed_it_first() -> None:
    first = line(2, version=1)
    ledger = Ledger([line(1, "refused", path="refused"), line(3, version=2, path="later")], [first])
    assert ledger.owner("d") == first
    assert ledger.unwritten == [first]
    assert Ledger([line(1, "refused")]).owner("d") is None


def test_a_data_version_holds_the_lines_up_to_it() -> None:
    lines = [line(1, version=1), line(2, "refused"), line(3, version=2), line(4, version=3)]
    assert Ledger(lines).at_version(2) == [lines[0], lines[2]]


def test_a_refusal_of_what_was_committed_is_not_written_and_a_line_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    write_lines("shop", [])
    assert not (tmp_path / "lake").exists()
    taken = line(1, version=1)
    write_lines("shop", [taken, taken])
    write_lines("shop", [taken, line(2, "refused"), line(3, "refused", digest="other"), line(4, "refused", path="b")])
    assert [(one.path, one.digest, one.state) for one in read_ledger("shop").lines] == [
        ("a", "d", "committed"),
        ("a", "other", "refused"),
        ("b", "d", "refused"),
    ]
    assert len(arrivals("shop")) == 3
