"""How often a change that was made on purpose is found, by us and by Evidently.

    python benchmarks/drift_power.py --trials 50

Tables are drawn as for ``drift_alarms.py``; then one column of the batch is changed. What a trial finds is that column
named, or the whole table failed.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from drift_alarms import BATCHES, HALF_A_YEAR, LARGE, MONTH, REFERENCE_ROWS
from drift_tables import TEN, THIRTY, Answer, as_reference, ask_evidently, ask_ours, draws, pool, weights_for

from prefect_mlops.core.drift.column_profile import profile_column
from prefect_mlops.core.drift.statistical_tests import measure_categories, measure_numbers
from prefect_mlops.core.drift.table_profile import profile_chunks

NUMBERS, CATEGORIES = ("temp", "dep_delay"), ("origin", "carrier")
MEANS, SPREADS, MIXES, NULLS = (0.1, 0.25, 0.5), (1.25, 1.5), (0.05, 0.1, 0.2), (0.02, 0.05, 0.1, 0.5)
IMPORTANT = "temp"

Change = Callable[[pd.Series, np.random.Generator], pd.Series]


@dataclass(frozen=True)
class Case:
    """One change of one column.

    Attributes:
        words: the change.
        column: where.
        change: makes it.
        columns: the table it is in.
        weighed: the column is worth 40 % of the model's importance.
    """

    words: str
    column: str
    change: Change
    columns: tuple[str, ...] = TEN
    weighed: bool = False


def moved(by: float) -> Change:
    """Add a part of the standard deviation; whole minutes stay whole, so that ties stay."""
    return lambda cells, _: _rounded_as(cells, cells + by * cells.std())


def spread(by: float) -> Change:
    """Stretch around the mean."""
    return lambda cells, _: _rounded_as(cells, cells.mean() + by * (cells - cells.mean()))


def mixed(share: float) -> Change:
    """Give a share of all rows the most frequent category."""

    def change(cells: pd.Series, chance: np.random.Generator) -> pd.Series:
        top = cells.mode().iloc[0]
        others = np.flatnonzero(cells != top)
        places = chance.choice(others, min(len(others), round(share * len(cells))), replace=False)
        cells = cells.copy()
        cells.iloc[places] = top
        return cells

    return change


def emptied(share: float) -> Change:
    """Lose a share of the cells."""
    return lambda cells, chance: cells.mask(chance.permutation(len(cells)) < round(share * len(cells)))


def _rounded_as(cells: pd.Series, changed: pd.Series) -> pd.Series:
    whole = (cells.dropna() % 1 == 0).all()
    return changed.round() if whole else changed


@functools.cache
def cases() -> tuple[Case, ...]:
    """Return every change."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for column in NUMBERS:
        yield from (Case(f"mean + {by} sd", column, moved(by)) for by in MEANS)
        yield from (Case(f"spread x {by}", column, spread(by)) for by in SPREADS)
    for column in CATEGORIES:
        yield from (Case(f"{share:.0%} of the rows to one category", column, mixed(share)) for share in MIXES)
    for column in (NUMBERS[0], CATEGORIES[1]):
        yield from (Case(f"{share:.0%} missing", column, emptied(share)) for share in NULLS)
    important = (IMPORTANT, *(name for name in THIRTY if name != IMPORTANT))
    yield Case("mean + 0.5 sd, one of 30, 40 % of importance", IMPORTANT, moved(0.5), important, weighed=True)
    yield Case("mean + 0.5 sd, one of 30, no weights", IMPORTANT, moved(0.5), important)


def true_size(case: Case, months: tuple[int, ...]) -> float | None:
    """Return the size of the change on all rows of the months; None for missing values, whose size is in words."""
    before = pool(months, case.columns)[case.column]
    after = case.change(before, np.random.default_rng(0))
    sides = [profile_chunks([cells.to_frame()]).columns[case.column] for cells in (after, before)]
    if before.isna().sum() != after.isna().sum():
        return None
    if sides[0].counts and sides[1].counts:
        counts = [pd.Series(side.counts) for side in sides]
        return measure_categories(current=counts[0], reference=counts[1]).size
    points = [side.numbers.distribution() for side in sides]
    return measure_numbers(current=points[0], reference=points[1]).size


def count(*, rows: int, trials: int, evidently: int, seed: int) -> dict[Case, dict[str, Any]]:
    """Draw tables in each trial, make every change on them in turn, and count who sees it."""
    months, reference_rows = (HALF_A_YEAR, LARGE) if rows >= LARGE else (MONTH, REFERENCE_ROWS)
    seen: dict[Case, list[tuple[bool, bool]]] = {case: [] for case in cases()}
    flags: dict[Case, list[Answer]] = {case: [] for case in seen}
    for columns in dict.fromkeys(case.columns for case in seen):
        everything = pool(months, columns)
        chance = np.random.default_rng([seed, rows, len(columns)])
        for trial in range(trials):
            reference, current = draws(everything, [reference_rows, rows], chance)
            before, now = (profile_chunks([side]) for side in (reference, current))
            for case in (case for case in seen if case.columns == columns):
                cells = case.change(current[case.column], np.random.default_rng([seed, trial]))
                changed = replace(now, columns=now.columns | {case.column: profile_column(cells)})
                weights = weights_for(columns) if case.weighed else None
                said = ask_ours(changed, as_reference(before, weights=weights))
                seen[case].append((case.column in said.columns, said.alarm))
                if trial < evidently:
                    sides = cells.to_frame(), reference[[case.column]]
                    flags[case].append(ask_evidently(*sides, columns=[case.column]))
    return {
        case: {
            "named": _mean([named for named, _ in seen[case]]),
            "alarm": _mean([alarm for _, alarm in seen[case]]),
            "evidently": _mean([one.named > 0 for one in flags[case] if not one.failed]),
            "evidently errors": sum(one.failed for one in flags[case]),
        }
        for case in seen
    }


def _mean(flags: list[bool]) -> float | None:
    return float(np.mean(flags)) if flags else None


def markdown(found: list[dict[Case, dict[str, Any]]], batches: list[int]) -> str:
    """Write a line for each change, with the batches side by side."""
    lines = [
        f"Rows of the batch from left to right: {', '.join(f'{rows:,}' for rows in batches)}. Shares of the trials, in "
        f"percent. Batches from {LARGE:,} rows on are drawn from half a year, where a change has another size.",
        "",
        "| column | change | size in July, in half a year | we name it | we alarm | Evidently flags it |",
        "|" + " --- |" * 6,
    ]
    for case in found[0]:
        sizes = [true_size(case, months) for months in (MONTH, HALF_A_YEAR)]
        cells = [f"`{case.column}`", case.words, ", ".join("-" if size is None else f"{size:.3f}" for size in sizes)]
        counts = [one[case] for one in found]
        cells += [", ".join(_percent(one[name]) for one in counts) for name in ("named", "alarm", "evidently")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"


def main() -> None:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=50, help="tables for each change and size")
    parser.add_argument("--evidently", type=int, default=50, help="on how many of them Evidently is asked too")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = []
    for rows in given.batches:
        start = time.perf_counter()
        found.append(count(rows=rows, trials=given.trials, evidently=given.evidently, seed=given.seed))
        print(f"{rows:,} rows: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    print(markdown(found, list(given.batches)))


if __name__ == "__main__":
    main()
