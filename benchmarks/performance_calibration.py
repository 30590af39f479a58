"""How often the alarm of `evaluate_live` errs: years without decay that alarm, and decays that are found.

    python benchmarks/performance_calibration.py --lives 200

Each life is a model that answers for a year and some weeks. Labels come about four days late, and somebody looks every
day. Errors of the model are independent, or 30 % of them fade over about ten neighbouring rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.signal import lfilter
from sklearn import set_config

from prefect_mlops.core.evaluation.estimates import ScoreEstimate
from prefect_mlops.core.evaluation.influence_functions import influence
from prefect_mlops.core.evaluation.predictions import CachedPredictions
from prefect_mlops.core.evaluation.resampling_units import MAX_BLOCKS, MIN_BLOCKS
from prefect_mlops.core.live.degradation import LOOKS, judge_decay, loss_of
from prefect_mlops.core.live.labels import GroundTruth
from prefect_mlops.core.live.windows import MIN_LABELLED, MIN_ROWS, follow

if TYPE_CHECKING:
    from numpy.typing import NDArray

START = pd.Timestamp("2024-01-01", tz="UTC")  # a Monday
BASELINE, YEAR = 3, 52  # weeks
LATE = 4.0  # days until a label comes, on average
SHARED, FADES_OVER = 0.3, 10  # as in gate_calibration.py
METRIC, CONFIDENCE = "roc_auc", 0.95
AFTER = 14  # days after the last week, for its labels


def drawn(rows: int, *, weeks: int, error: float, tied: bool, chance: np.random.Generator) -> pd.DataFrame:
    """Draw the weeks of a model; after the baseline its error has the given size."""
    count = rows * weeks
    days = np.sort(chance.uniform(0, 7 * weeks, size=count))
    signal = 1.5 * chance.normal(size=count) - 1.0
    own = chance.normal(size=count)
    if tied:
        keep = np.exp(-1 / FADES_OVER)
        common = lfilter([np.sqrt(1 - keep**2)], [1, -keep], chance.normal(size=count))
        own = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own
    missed = own * np.where(days < 7 * BASELINE, 1.0, error)
    return pd.DataFrame(
        {
            "days": days,
            "known": days + chance.exponential(LATE, size=count),
            "at": START + pd.to_timedelta(days, unit="D").astype("timedelta64[us]"),
            "prediction": 1 / (1 + np.exp(-(signal + missed))),
            "label": (chance.random(count) < 1 / (1 + np.exp(-signal))).astype("float64"),
        }
    )


def look(life: pd.DataFrame, day: float, *, may_lose: list[float]) -> list[bool]:
    """Tell for each margin whether somebody who looks on this day is alarmed, as a user would ask."""
    seen = life[life["days"] < day].reset_index(drop=True)
    seen["label"] = seen["label"].where(seen["known"] < day)
    now = (START + pd.Timedelta(days=day)).to_pydatetime()
    course = follow(GroundTruth(seen[["at", "prediction", "label"]]), metrics=[METRIC], every="week", now=now)
    decided = [judge_decay(course, baseline=BASELINE, may_lose=margin)[0] for margin in may_lose]
    return [not check.passed and check.severity == "error" for check in decided]


class Watched:
    """The same looks, many times faster: a day measures again only what has changed; `main` compares the two."""

    def __init__(self, life: pd.DataFrame) -> None:
        self.days, self.known = life["days"].to_numpy(), life["known"].to_numpy()
        self.said, self.truth = life["prediction"].to_numpy(), life["label"].to_numpy()
        self.weeks = [np.flatnonzero(self.days // 7 == week) for week in range(int(self.days.max() // 7) + 1)]
        self.before: tuple[int, ScoreEstimate] | None = None

    def alarms(self, day: float, *, may_lose: list[float]) -> list[bool]:
        """Answer as `look` does."""
        newest = next((w for w in reversed(range(int(day // 7))) if self.judged(w, day)), -1)
        if newest < BASELINE or not all(self.judged(week, day) for week in range(BASELINE)):
            return [False] * len(may_lose)
        first = [self.labelled(week, day) for week in range(BASELINE)]
        rows = sum(map(len, first))
        if self.before is None or self.before[0] != rows:
            self.before = rows, self.measured(first, 0)
        loss = loss_of(self.before[1], self.measured([self.labelled(newest, day)], BASELINE * MAX_BLOCKS))
        each = 1 - (1 - CONFIDENCE) / (LOOKS * 53)
        return [not loss.problem and loss.lower(each) > margin for margin in may_lose]

    def labelled(self, week: int, day: float) -> NDArray[np.int64]:
        """Return the rows of a week whose label is known."""
        places = self.weeks[week]
        return places[self.known[places] < day]

    def judged(self, week: int, day: float) -> bool:
        """Tell whether a week can be judged; in these lives neither class is rare."""
        if week >= len(self.weeks):
            return False
        count = len(self.labelled(week, day))
        return count >= MIN_ROWS and count / len(self.weeks[week]) >= MIN_LABELLED

    def measured(self, windows: list[NDArray[np.int64]], free: int) -> ScoreEstimate:
        """Measure some windows together, in blocks of their own."""
        blocks = []
        for places in windows:
            count = min(MAX_BLOCKS, max(MIN_BLOCKS, len(places) // 20))
            blocks.append(free + (np.arange(0.5, len(places)) / len(places) * count).astype("int64"))
            free += count
        rows = np.concatenate(windows)
        answers = CachedPredictions(_Said(self.said), pd.DataFrame(index=range(len(self.said))))
        found = influence(METRIC, answers, self.truth, rows)
        assert found is not None  # noqa: S101 - a script's own condition
        score, moved = found[1]
        used, of, sizes = np.unique(np.concatenate(blocks), return_inverse=True, return_counts=True)
        spread = np.bincount(of, weights=moved)
        return ScoreEstimate(score, spread, used, sizes, len(rows), resampled=False, method="", pieces="blocks")


class _Said:
    classes_ = np.array([0, 1])

    def __init__(self, said: NDArray[np.float64]) -> None:
        self.said = said

    def decision_function(self, _: object) -> NDArray[np.float64]:
        return self.said


def first_alarms(watched: Watched, *, weeks: int, may_lose: list[float]) -> list[float]:
    """Return for each margin the first day that alarms, counted from the end of the baseline."""
    first = [np.inf] * len(may_lose)
    for day in range(7 * (BASELINE + 1), 7 * weeks + AFTER):
        alarmed = watched.alarms(day + 0.5, may_lose=may_lose)
        first = [min(one, day - 7 * BASELINE) if now else one for one, now in zip(first, alarmed, strict=True)]
        if np.isfinite(first).all():
            break
    return first


def compare(*, rows: int, tied: bool) -> None:
    """Stop unless quick looks and those of a user agree on some days of a decay."""
    table = drawn(rows, weeks=BASELINE + 6, error=2.0, tied=tied, chance=np.random.default_rng(1))
    margins = [0.004 * step for step in range(20)]
    for day in (30.5, 41.5, 48.5, 57.5, 61.5, 70.5):
        slow, quick = look(table, day, may_lose=margins), Watched(table).alarms(day, may_lose=margins)
        if slow != quick:
            sys.exit(f"day {day}: {slow} asked as a user, {quick} here")


def true_loss(error: float) -> float:
    """Tell what the larger error costs, from many rows."""
    rows = drawn(100_000, weeks=BASELINE + 3, error=error, tied=False, chance=np.random.default_rng(0))
    course = follow(GroundTruth(rows[["at", "prediction", "label"]]), metrics=[METRIC], every="week")
    scores = [window.scores[METRIC] for window in course.windows]
    return float(np.mean(scores[:BASELINE]) - np.mean(scores[BASELINE:]))


def count(
    *, lives: int, rows: int, error: float, tied: bool, may_lose: list[float], weeks: int
) -> list[dict[str, float]]:
    """Follow some lives and count for each margin those that alarm, on the first window or ever."""
    first = []
    for life in range(lives):
        chance = np.random.default_rng([life, rows, int(tied)])
        table = drawn(rows, weeks=BASELINE + weeks, error=error, tied=tied, chance=chance)
        first.append(first_alarms(Watched(table), weeks=BASELINE + weeks, may_lose=may_lose))
    days = np.array(first)
    soon, ever = (days < 7 + AFTER).mean(axis=0), np.isfinite(days).mean(axis=0)
    pairs = zip(may_lose, soon, ever, strict=True)
    return [{"may_lose": margin, "within 3 weeks": one, f"in {weeks} weeks": other} for margin, one, other in pairs]


def main() -> None:
    """Run the study and print one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--lives", type=int, default=200)
    parser.add_argument("--rows", nargs="+", type=int, default=[200, 1000, 5000], help="predictions a week")
    parser.add_argument("--error", type=float, default=1.0, help="size of the error after the baseline; 1 is no decay")
    parser.add_argument("--weeks", type=int, default=YEAR, help="weeks after the baseline")
    parser.add_argument("--tied", action=argparse.BooleanOptionalAction, help="whether neighbours share errors; both")
    parser.add_argument("--may-lose", nargs="+", type=float, default=[0.0, 0.02])
    given = parser.parse_args()
    set_config(assume_finite=True, skip_parameter_validation=True)  # most of the time would go into that
    loss = true_loss(given.error) if given.error != 1 else 0.0
    for rows, tied in itertools.product(given.rows, (False, True) if given.tied is None else (given.tied,)):
        compare(rows=rows, tied=tied)
        start = time.perf_counter()
        options = {"rows": rows, "tied": tied, "weeks": given.weeks}
        for line in count(lives=given.lives, error=given.error, may_lose=given.may_lose, **options):
            print(json.dumps({**options, "loss": round(loss, 4), **line}), flush=True)
        print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
