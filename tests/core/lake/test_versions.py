"""Ranges of data versions, on a ledger whose times are known."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake.ledger import Arrival, write_lines
from prefect_mlops.core.lake.versions import DataVersion, data_versions, versions_between

TIMES = {1: "2024-01-01T00:00:00+00:00", 2: "2024-01-02T12:00:00+00:00", 3: "2024-01-02T23:59:59.999999+00:00"}


def line(path: str, version: int | None, at: str) -> Arrival:
    state, rows = ("refused", 0) if version is None else ("committed", 10)
    when = datetime.fromisoformat(at)
    return Arrival(dataset="shop", path=path, digest=path, state=state, rows=rows, version=version, at=when)


@pytest.fixture(autouse=True)
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path))
    early = line("early", 2, "2024-01-02T11:00:00+00:00")  # in one commit with a later one
    refused = line("bad", None, TIMES[3])
    write_lines("shop", [early, refused, *(line(f"{version}", version, at) for version, at in TIMES.items())])


def test_a_version_is_its_newest_line_with_the_files_and_rows_of_all() -> None:
    at = {version: datetime.fromisoformat(text) for version, text in TIMES.items()}
    assert data_versions("shop") == [
        DataVersion(version=1, at=at[1], files=1, rows=10),
        DataVersion(version=2, at=at[2], files=2, rows=20),
        DataVersion(version=3, at=at[3], files=1, rows=10),
    ]


@pytest.mark.parametrize(
    ("start", "end", "chosen"),
    [
        ("", "", [1, 2, 3]),
        ("@2", "", [2, 3]),
        ("", "@2", [1, 2]),
        (" @2", "@2 ", [2]),
        ("2020-01-01", "2099-01-01", [1, 2, 3]),
        (TIMES[1], TIMES[2], [1, 2]),
        (TIMES[2], "", [2, 3]),
        ("2024-01-02T12:00:00", "", [2, 3]),
        ("2024-01-02T12:00:00Z", "", [2, 3]),
        ("2024-01-02T13:00:00+01:00", "", [2, 3]),
        ("2024-01-01", "2024-01-01", [1]),
        ("2024-01-02", "2024-01-02", [2, 3]),
    ],
)
def test_ranges(start: str, end: str, chosen: list[int]) -> None:
    assert [one.version for one in versions_between("shop", start, end)] == chosen


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (
            "@4",
            "",
            "no version from @4 to the newest: there are @1 (2024-01-01 00:00 UTC) to @3 (2024-01-02 23:59 UTC)",
        ),
        ("", "2023-12-31", "no version from the first to 2023-12-31"),
        ("@3", "@2", "no version from @3 to @2"),
        ("2099-01-01", "", "no version from 2099-01-01"),
        ("yesterday", "", "start 'yesterday' is neither a data version such as @3 nor a date"),
        ("3", "", "start '3' is neither"),
        ("", "@-1", "end '@-1' is neither"),
    ],
)
def test_wrong_ranges_say_what_there_is(start: str, end: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        versions_between("shop", start, end)
    assert says in str(refused.value)
    with pytest.raises(ConfigError, match="nothing has arrived in dataset 'empty' yet"):
        versions_between("empty", start, end)
