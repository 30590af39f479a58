"""Data versions: when each was committed, and ranges of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, timezone

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake.ledger import read_ledger
from prefect_mlops.core.text import moment
from prefect_mlops.core.values import Value


class DataVersion(Value):
    """One commit of rows to a dataset.

    Attributes:
        version: its number; ``@3`` in addresses.
        at: when, in UTC.
        files: number of files it added.
        rows: number of rows it added.
    """

    version: int
    at: datetime
    files: int
    rows: int


def data_versions(dataset: str) -> list[DataVersion]:
    """Return every version that added rows, oldest first; compaction is none.

    Raises:
        BackendError: storage failed.
    """
    found: dict[int, DataVersion] = {}
    for line in read_ledger(dataset).lines:
        if line.version is None:
            continue
        one = found.get(line.version, DataVersion(version=line.version, at=line.at, files=0, rows=0))
        found[line.version] = DataVersion(
            version=line.version, at=max(one.at, line.at), files=one.files + 1, rows=one.rows + line.rows
        )
    return [found[version] for version in sorted(found)]


def versions_between(dataset: str, start: str = "", end: str = "") -> list[DataVersion]:
    """Return the versions from one to another, both included.

    Args:
        dataset: dataset of the lake.
        start: ``@3`` for a version, ``2024-01-31`` for a day in UTC, or a whole time; empty for the first.
        end: likewise; empty for the newest.

    Raises:
        ConfigError: neither version nor date, or there is none between them.
        BackendError: storage failed.
    """
    versions = data_versions(dataset)
    if not versions:
        raise ConfigError(f"nothing has arrived in dataset {dataset!r} yet: there is no version of it")
    low, high = _bound(start, "start"), _bound(end, "end", whole_day=True)
    chosen = [one for one in versions if _holds(low, one, lower=True) and _holds(high, one, lower=False)]
    if not chosen:
        asked = f"from {start or 'the first'} to {end or 'the newest'}"
        raise ConfigError(f"dataset {dataset!r} has no version {asked}: {_range(versions)}")
    return chosen


def _range(versions: Sequence[DataVersion]) -> str:
    first, last = versions[0], versions[-1]
    return f"there are @{first.version} ({moment(first.at)}) to @{last.version} ({moment(last.at)})"


def _holds(bound: int | datetime | None, one: DataVersion, *, lower: bool) -> bool:
    if bound is None:
        return True
    if isinstance(bound, int):
        return one.version >= bound if lower else one.version <= bound
    return one.at >= bound if lower else one.at <= bound


def _bound(text: str, word: str, *, whole_day: bool = False) -> int | datetime | None:
    """Read a bound as a person writes it."""
    text = text.strip()
    if not text:
        return None
    if text.startswith("@") and text[1:].isdecimal():
        return int(text[1:])
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return _time(text, word)
    start = datetime.combine(day, time(), timezone.utc)
    return start + timedelta(days=1) - timedelta(microseconds=1) if whole_day else start


def _time(text: str, word: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ConfigError(
            f"{word} {text!r:.60} is neither a data version such as @3 nor a date such as 2024-01-31"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)
