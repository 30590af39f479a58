"""How often the gate errs: equal challengers it promotes or refuses, and better ones it lets through.

    python benchmarks/gate_calibration.py --trials 1000

Each trial is a new set of judging rows with two models on it, whose errors are alike (correlation 0.7) because both
learned from the same data. Their answers are drawn, not learned: so it is known which one is better, and by how much.
Rows are independent, or in groups, or in time, where 30 % of a model's error is shared by the rows of a group, or fades
over about ten neighbouring rows.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn import set_config
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from prefect_mlops.core import Gate
from prefect_mlops.core.evaluation.estimates import Rows
from prefect_mlops.core.evaluation.gates import Comparison, judge_gates
from prefect_mlops.core.evaluation.predictions import CachedPredictions
from prefect_mlops.core.evaluation.resampling_units import resampling_units
from prefect_mlops.core.evaluation.scoring import score_model
from prefect_mlops.core.evaluation.slices import judge_slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRICS = ("roc_auc", "accuracy", "neg_log_loss", "f1", "average_precision", "neg_root_mean_squared_error")
ROWS = (200, 1000, 5000)
SHAPES = ("rows", "groups", "time")
ALIKE = 0.7  # correlation of the errors of the two models
SHARED = 0.3  # share of a model's error that rows of a group, or neighbours in time, have in common
FADES_OVER = 10  # rows, until what neighbours share is down to 1/e
BETTER = 0.8  # size of a better challenger's error, that of the champion being 1
MARGIN = 0.01  # of may_lose
FEWER = 5  # times fewer trials for better challengers: half is easier to tell from all than 5 % from 6 %
MANY = 1_000_000  # rows to measure the true gain on
SLICES = 12  # groups of the slice, of unequal size


class Drawn(BaseEstimator):
    """A model whose answers stand in a column."""

    def __init__(self, column: str) -> None:
        self.column = column

    def predict(self, X: pd.DataFrame) -> NDArray[Any]:
        """Answer with the column."""
        return X[self.column].to_numpy()


class DrawnRegressor(RegressorMixin, Drawn):
    """A regression whose answers stand in a column."""


class DrawnClassifier(ClassifierMixin, Drawn):
    """A classifier whose probabilities stand in a column."""

    classes_ = np.array([0, 1])

    def predict_proba(self, X: pd.DataFrame) -> NDArray[Any]:
        """Answer with the probabilities."""
        late = X[self.column].to_numpy()
        return np.column_stack([1 - late, late])

    def predict(self, X: pd.DataFrame) -> NDArray[Any]:
        """Answer with the likelier class."""
        return (X[self.column].to_numpy() > 0.5).astype("int64")  # noqa: PLR2004


def own_skill(estimator: Any, X: pd.DataFrame, y: pd.Series) -> float:
    """Compare the Brier score with that of the mere share, as a function of one's own, of which nothing is known."""
    late = y.to_numpy()
    missed = ((estimator.predict_proba(X)[:, 1] - late) ** 2).mean()
    return float(1 - missed / late.var())


def groups_of(rows: int, shape: str, chance: np.random.Generator) -> NDArray[Any]:
    """Number the group of each row; sizes differ by a factor of several."""
    count = {200: 20, 1000: 50, 5000: 100}.get(rows, max(10, rows // 50)) if shape == "groups" else rows
    shares = chance.gamma(4, size=count)
    return chance.choice(count, size=rows, p=shares / shares.sum()) if shape == "groups" else np.arange(rows)


def noise(rows: int, shape: str, groups: NDArray[Any], chance: np.random.Generator) -> NDArray[Any]:
    """Draw errors of variance 1 with the dependence of the shape."""
    own = chance.normal(size=rows)
    if shape == "rows":
        return own
    if shape == "groups":
        common = chance.normal(size=rows)[groups]
    else:
        from scipy.signal import lfilter

        keep = np.exp(-1 / FADES_OVER)
        steps = chance.normal(size=rows + 20 * FADES_OVER) * np.sqrt(1 - keep**2)
        common = lfilter([1], [1, -keep], steps)[-rows:]
    return np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own


def drawn(rows: int, shape: str, *, better: bool, chance: np.random.Generator) -> pd.DataFrame:
    """Draw judging rows: truth and both models' answers, for a class and for a number."""
    groups = groups_of(rows, shape, chance)
    alike, ours, theirs = (noise(rows, shape, groups, chance) for _ in range(3))
    error = np.sqrt(ALIKE) * alike
    errors = {"challenger": error + np.sqrt(1 - ALIKE) * ours, "champion": error + np.sqrt(1 - ALIKE) * theirs}
    if better:
        errors["challenger"] *= BETTER
    logit = 1.5 * noise(rows, shape, groups, chance) - 1.8
    signal = noise(rows, shape, groups, chance)
    table = {
        "at": np.arange(rows),
        "group": groups,
        "slice": chance.choice(SLICES, size=rows, p=np.arange(1, SLICES + 1) / sum(range(1, SLICES + 1))),
        "late": (chance.random(rows) < 1 / (1 + np.exp(-logit))).astype("int64"),
        "delay": signal + chance.normal(size=rows),
    }
    for name, missed in errors.items():
        table[name] = 1 / (1 + np.exp(-(logit + missed)))
        table[f"{name}_delay"] = signal + missed
    return pd.DataFrame(table)


def contest(table: pd.DataFrame, shape: str, metric: str) -> Comparison:
    """Let both models answer on the rows."""
    number = metric == "neg_root_mean_squared_error"
    kind, suffix = (DrawnRegressor, "_delay") if number else (DrawnClassifier, "")
    ours, theirs = (CachedPredictions(kind(name + suffix), table) for name in ("challenger", "champion"))
    options: dict[str, Any] = {"rows": {}, "groups": {"group_by": "group"}, "time": {"order_by": "at"}}[shape]
    units = resampling_units(table, **{"order_by": None, "group_by": None, **options})
    return Comparison(ours, theirs, Rows(table["delay" if number else "late"], units), table)


def count(*, trials: int, rows: int, shape: str, metric: Any, slices: bool, seed: int) -> dict[str, float]:
    """Judge new rows in each trial and count what became of equal and of better challengers."""
    chance = np.random.default_rng([seed, rows, SHAPES.index(shape)])  # the same rows for every metric
    name = metric if isinstance(metric, str) else metric.__name__
    gate = Gate(metric, may_lose=MARGIN, must_gain=0.0)
    sliced = Gate(metric, may_lose=0.0, slices=("slice",))
    counts: Counter[str] = Counter()
    for _ in range(trials):
        equal = contest(drawn(rows, shape, better=False, chance=chance), shape, name)
        not_worse, promoted = judge_gates(equal, [gate])
        counts["equal promoted by must_gain"] += promoted.passed
        counts["equal passed by may_lose"] += not_worse.passed
        if slices:
            counts["equal refused by slices"] += not all(check.passed for check in judge_slices(equal, [sliced]))
    fewer = max(1, trials // FEWER)
    for _ in range(fewer):
        better = contest(drawn(rows, shape, better=True, chance=chance), shape, name)
        not_worse, promoted = judge_gates(better, [gate])
        counts["better promoted by must_gain"] += promoted.passed
        counts["better passed by may_lose"] += not_worse.passed
    shares = {key: value / (fewer if key.startswith("better") else trials) for key, value in sorted(counts.items())}
    return shares | {"better by": true_gain(metric, seed=seed)}


@functools.cache
def true_gain(metric: Any, *, seed: int) -> float:
    """Tell how much better the better challenger is, from many rows; it does not depend on their shape."""
    name = metric if isinstance(metric, str) else metric.__name__
    rows = drawn(MANY, "rows", better=True, chance=np.random.default_rng(seed))
    judged = contest(rows, "rows", name)
    ours, theirs = (
        score_model(answers.model, rows, judged.rows.y, metrics=[metric])[name]
        for answers in (judged.challenger, judged.champion)
    )
    return ours - theirs


def study(
    *, trials: int, seed: int, metrics: list[str], shapes: list[str], tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Count for every metric, shape and number of rows; a function of one's own on 200 and 1,000 rows only."""
    found = []
    for metric in [own_skill if name == own_skill.__name__ else name for name in metrics]:
        own = callable(metric)
        for shape in shapes:
            for rows in ROWS[:2] if own else ROWS:
                start = time.perf_counter()
                runs = max(1, trials // FEWER) if own else trials
                slices = not own and rows > ROWS[0]
                line: dict[str, Any] = {"metric": getattr(metric, "__name__", metric), "shape": shape, "rows": rows}
                line["trials"] = runs
                line |= count(trials=runs, rows=rows, shape=shape, metric=metric, slices=slices, seed=seed)
                found.append(line)
                tell(f"{line} {time.perf_counter() - start:.0f} s")
    return found


def markdown(found: list[dict[str, Any]]) -> str:
    """Write the counts as a table, one line for each metric and shape, with the numbers of rows side by side."""
    lines = [
        "| metric | pieces | equal promoted by `must_gain=0` | equal refused by slices | better by "
        "| better promoted by `must_gain=0` | better passed by `may_lose=0.01` | equal passed by `may_lose=0.01` |",
        "|" + " --- |" * 8,
    ]
    for metric, shape in dict.fromkeys((line["metric"], line["shape"]) for line in found):
        of_both = [line for line in found if (line["metric"], line["shape"]) == (metric, shape)]

        def shares(name: str, lines: list[dict[str, Any]] = of_both) -> str:
            return ", ".join(f"{100 * line[name]:.1f}" for line in lines if name in line)

        cells = [
            f"`{metric}`",
            shape,
            shares("equal promoted by must_gain"),
            shares("equal refused by slices"),
            f"{of_both[0]['better by']:+.4f}",
            shares("better promoted by must_gain"),
            shares("better passed by may_lose"),
            shares("equal passed by may_lose"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=1000, help="sets of judging rows for each line of the table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--metrics", nargs="+", default=[*METRICS, own_skill.__name__])
    parser.add_argument("--shapes", nargs="+", default=SHAPES, choices=SHAPES)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    set_config(assume_finite=True, skip_parameter_validation=True)  # most of the time would go into that
    found = study(
        trials=given.trials,
        seed=given.seed,
        metrics=given.metrics,
        shapes=given.shapes,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps(found) if given.json else markdown(found))


if __name__ == "__main__":
    main()
