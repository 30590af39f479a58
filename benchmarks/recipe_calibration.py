"""How often cross-validation errs on small tables: equal recipes it promotes, and better ones it lets through.

    python benchmarks/recipe_calibration.py --trials 1000

Each trial draws a table. Two recipes learn from it by least squares, one from three of its six features, the other from
the three others: all of the same use, so neither recipe is better; in trials of a better challenger its features weigh
1.6 times as much. Rows are independent, or in groups, or in time, where half of the variance of features and noise is
shared by a group, or fades over about ten neighbouring rows. The folds and the statistic are those of
`core.evaluation.cross_validation`, the trainings are done in NumPy, as thousands of tables need millions of them.
Beside it stands a holdout of a fifth of the rows, the last ones or whole groups, judged by the gate.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.signal import lfilter
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from prefect_mlops.core import Gate
from prefect_mlops.core.evaluation import cross_validation
from prefect_mlops.core.evaluation.cross_validation import mean_over_folds
from prefect_mlops.core.evaluation.estimates import Rows
from prefect_mlops.core.evaluation.gates import Comparison, judge_gates
from prefect_mlops.core.evaluation.predictions import CachedPredictions
from prefect_mlops.core.evaluation.resampling_units import resampling_units
from prefect_mlops.core.reports import Check

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRICS = ("roc_auc", "accuracy", "neg_root_mean_squared_error")
ROWS = (40, 100, 200, 400)
SHAPES = ("rows", "groups", "time")
OURS, THEIRS = (0, 1, 2), (3, 4, 5)
WEIGHT, BETTER = 0.5, 1.6
GROUP_ROWS = 5  # in the mean
FADES_OVER = 10
LEVEL = 0.95
FEWER = 4  # times fewer trials for better challengers
HOLDOUT = 0.2


class Regressor(RegressorMixin, BaseEstimator):
    """Stands for a recipe where folds are cut; answers with a column where a holdout is judged."""

    def __init__(self, column: str = "") -> None:
        self.column = column

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Regressor:  # noqa: ARG002 - scikit-learn's signature
        """Learn nothing."""
        return self

    def predict(self, X: pd.DataFrame) -> NDArray[Any]:
        """Answer with the column."""
        return X[self.column].to_numpy()


class Classifier(ClassifierMixin, BaseEstimator):
    """The same for two classes."""

    classes_ = np.array([0, 1])

    def __init__(self, column: str = "") -> None:
        self.column = column

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Classifier:  # noqa: ARG002 - scikit-learn's signature
        """Learn nothing."""
        return self

    def decision_function(self, X: pd.DataFrame) -> NDArray[Any]:
        """Answer with the column, 0 being undecided."""
        return X[self.column].to_numpy() - 0.5

    def predict(self, X: pd.DataFrame) -> NDArray[Any]:
        """Choose the likelier class."""
        return (X[self.column].to_numpy() > 0.5).astype(int)  # noqa: PLR2004 - of a target of 0 and 1


def drawn(chance: np.random.Generator, rows: int, shape: str, better: float) -> tuple[NDArray[Any], NDArray[Any], Any]:
    """Draw features, a number to predict, and the group of each row."""
    X, noise = chance.normal(size=(rows, 6)), chance.normal(size=rows)
    groups = None
    if shape == "groups":
        groups = chance.integers(0, max(20, rows // GROUP_ROWS), rows)
        common = chance.normal(size=(groups.max() + 1, 7))[groups]
    elif shape == "time":
        decay = np.exp(-1 / FADES_OVER)
        before = chance.normal(size=(rows + 100, 7))
        common = lfilter([np.sqrt(1 - decay**2)], [1, -decay], before, axis=0)[100:]
    if shape != "rows":
        X, noise = np.sqrt(0.5) * (X + common[:, :6]), np.sqrt(0.5) * (noise + common[:, 6])
    return X, X @ np.repeat([WEIGHT * better, WEIGHT], 3) + noise, groups


def learned(X: NDArray[Any], y: NDArray[Any], train: NDArray[Any], test: NDArray[Any], columns: Any) -> NDArray[Any]:
    """Predict the test rows by least squares on the training rows."""
    known = np.column_stack([np.ones(len(train)), X[np.ix_(train, columns)]])
    weights = np.linalg.solve(known.T @ known + 1e-6 * np.eye(known.shape[1]), known.T @ y[train])
    return weights[0] + X[np.ix_(test, columns)] @ weights[1:]


def score(metric: str, y: NDArray[Any], answers: NDArray[Any]) -> float:
    """Score as scikit-learn does; NaN with one class only."""
    if metric == "neg_root_mean_squared_error":
        return -float(np.sqrt(np.mean((y - answers) ** 2)))
    if metric == "accuracy":
        return float(np.mean((answers > 0.5) == y))  # noqa: PLR2004 - of a target of 0 and 1
    positive = y == 1
    pairs = positive.sum() * (~positive).sum()
    ranks = np.argsort(np.argsort(answers)) + 1
    return float((ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2) / pairs) if pairs else np.nan


def crossed(
    metric: str, X: NDArray[Any], y: NDArray[Any], groups: Any, shape: str, seed: int
) -> tuple[bool, bool] | None:
    """Tell whether the challenger is promoted by cross-validation, and whether it would be without the correction."""
    table = pd.DataFrame({"when": np.arange(len(y)), "who": 0 if groups is None else groups})
    kind = Regressor() if metric.startswith("neg_") else Classifier()
    order_by, group_by = ("when" if shape == "time" else None), ("who" if shape == "groups" else None)
    folds = cross_validation._cut(kind, table, pd.Series(y), order_by, group_by, seed)  # noqa: SLF001 - the real folds
    if isinstance(folds, Check):
        return None
    apart = np.array(
        [
            score(metric, y[test], learned(X, y, train, test, OURS))
            - score(metric, y[test], learned(X, y, train, test, THEIRS))
            for train, test in folds.cuts
        ]
    )
    found = mean_over_folds(apart, folds, paired=True)
    if found.problem:
        return None
    known = apart[np.isfinite(apart)]
    naive = known.mean() - stats.t.ppf(LEVEL, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return found.lower(LEVEL) > 0, bool(naive > 0)


def held_back(metric: str, X: NDArray[Any], y: NDArray[Any], groups: Any, shape: str) -> bool:
    """Tell whether the challenger is promoted on a fifth of the rows."""
    if groups is not None:
        test = np.flatnonzero(groups >= np.quantile(np.unique(groups), 1 - HOLDOUT))
    else:
        test = np.arange(round(len(y) * (1 - HOLDOUT)), len(y))
    train = np.setdiff1d(np.arange(len(y)), test)
    table = pd.DataFrame({"when": test, "who": 0 if groups is None else groups[test]})
    table["ours"], table["theirs"] = (learned(X, y, train, test, columns) for columns in (OURS, THEIRS))
    units = resampling_units(
        table, order_by="when" if shape == "time" else None, group_by="who" if shape == "groups" else None
    )
    kind = Regressor if metric.startswith("neg_") else Classifier
    ours, theirs = (CachedPredictions(kind(name), table) for name in ("ours", "theirs"))
    rows = Rows(pd.Series(y[test]), units)
    if metric == "roc_auc" and len(np.unique(y[test])) == 1:
        return False
    return judge_gates(Comparison(ours, theirs, rows, table), [Gate(metric, must_gain=0.0, confidence=LEVEL)])[0].passed


def share(found: list[bool]) -> str:
    """Write a share of trials in per cent."""
    return f"{100 * np.mean(found):.1f}" if found else ""


def main() -> None:
    """Print a line of the table for each metric and shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--metrics", nargs="+", default=METRICS)
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    parser.add_argument("--rows", nargs="+", type=int, default=ROWS)
    given = parser.parse_args()
    print(
        "| metric | pieces | equal promoted | without the correction | on a holdout | better promoted | on a holdout |"
        " no verdict |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for shape in given.shapes:
        for metric in given.metrics:
            cells = defaultdict(list)
            started = time.perf_counter()
            for rows in given.rows:
                found: dict[str, list[bool]] = defaultdict(list)
                for kind, better, trials in (("equal", 1.0, given.trials), ("better", BETTER, given.trials // FEWER)):
                    for trial in range(trials):
                        chance = np.random.default_rng([given.seed, rows, trial, kind == "equal"])
                        X, number, groups = drawn(chance, rows, shape, better)
                        y = number if metric.startswith("neg_") else (number > 0).astype(int)
                        verdict = crossed(metric, X, y, groups, shape, given.seed)
                        found[f"{kind} none"].append(verdict is None)
                        found[kind].append(verdict is not None and verdict[0])
                        found[f"{kind} naive"].append(verdict is not None and verdict[1])
                        found[f"{kind} held back"].append(held_back(metric, X, y, groups, shape))
                for column, key in enumerate(
                    ("equal", "equal naive", "equal held back", "better", "better held back", "equal none")
                ):
                    cells[column].append(share(found[key]))
            print(
                f"| `{metric}` | {shape} | {' | '.join(', '.join(cells[column]) for column in range(6))} |", flush=True
            )
            print(f"{metric} {shape}: {time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
