"""Permutation importances of the columns of a fitted model."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from pydantic import Field

from prefect_mlops.core.evaluation.positive_class import seen_by
from prefect_mlops.core.metrics import Metric, metric_name
from prefect_mlops.core.text import plain
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MAX_COLUMNS = 50  # kept by name, the most important first; a longer table is not read
IMPORTANCE_ROWS = 2_000  # the order of the columns is settled long before
REPEATS = 5  # shuffles of each column: enough to see their spread
MAX_PREDICTIONS = 2_000_000  # rows to predict in all: wide tables are measured on fewer rows
MIN_ROWS = 200  # below this, the drop of a metric is mostly chance
MAX_WIDTH = 500  # columns; each costs a few calls of the model however few the rows: seconds, not minutes


class NotMeasurableError(ValueError):
    """A part of the card does not exist for this model or these rows; the message is the sentence why."""


class Importance(Value):
    """Importance of a column: how much the score falls when the column is shuffled.

    Attributes:
        column: its name.
        drop: mean over the shuffles, in units of the metric.
        spread: standard deviation over the shuffles.
    """

    column: str
    drop: float
    spread: float = Field(ge=0)


class Importances(Value):
    """Permutation importances.

    Attributes:
        metric: whose drop is measured.
        rows: test rows they were measured on.
        repeats: shuffles of each column.
        columns: up to `MAX_COLUMNS`, the most important first.
        negligible: number of columns, of all, whose drop is within `noise`.
        largest_share: share of the first column in the sum of all drops above zero; 0 where nothing dropped.
    """

    metric: str
    rows: int
    repeats: int
    columns: tuple[Importance, ...]
    negligible: int
    largest_share: float

    def noise(self, spread: float) -> float:
        """Twice the standard error of a mean drop: what chance alone can give a column without importance."""
        return float(2 * spread / self.repeats**0.5)


def measure_importances(
    estimator: Any, X: pd.DataFrame, y: pd.Series, *, metric: Metric, seed: int, positive: object = None
) -> Importances:
    """Measure how much the score falls when a column is shuffled.

    Args:
        estimator: fitted scikit-learn compatible estimator.
        X: features of the test rows, (rows, columns); a seeded sample of at most `IMPORTANCE_ROWS` is used, of fewer
            where there are so many columns that more than `MAX_PREDICTIONS` rows would have to be predicted.
        y: ground truth, (rows,).
        metric: scorer name, or a function of estimator, X and y.
        seed: for the sample and the shuffles.
        positive: the positive one of two classes, for a scorer's name; None leaves classes as they are.

    Returns:
        Mean drop and its standard deviation over `REPEATS` shuffles, largest first.

    Raises:
        NotMeasurableError: too many columns, or a metric that is not defined on the sample.

    Source: `sklearn.inspection.permutation_importance`.
    """
    import numpy as np
    from sklearn.inspection import permutation_importance
    from sklearn.metrics import get_scorer

    width = X.shape[1]
    if width > MAX_WIDTH:
        raise NotMeasurableError(f"shuffling each of {width:,} columns would take too long")
    rows = sample(len(X), max(MIN_ROWS, min(IMPORTANCE_ROWS, MAX_PREDICTIONS // (width * REPEATS))), seed=seed)
    X = X.iloc[rows]
    estimator, y = seen_by(metric, estimator, y.iloc[rows], positive)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one warning for each shuffle; an undefined score is reported below
        found = permutation_importance(
            estimator, X, y, scoring=get_scorer(metric), n_repeats=REPEATS, random_state=seed, n_jobs=None
        )
    drops, spreads = found.importances_mean, found.importances_std
    if not (np.isfinite(drops).all() and np.isfinite(spreads).all()):
        raise NotMeasurableError(f"{metric_name(metric)} is not defined on a sample of {len(X):,} test rows")
    return _ranked(metric_name(metric), len(X), [plain(name) for name in X.columns], drops, spreads)


def _ranked(metric: str, rows: int, names: list[str], drops: NDArray[Any], spreads: NDArray[Any]) -> Importances:
    import numpy as np

    gains = np.clip(drops, 0, None)
    order = np.argsort(-drops, kind="stable")
    found = Importances(
        metric=metric,
        rows=rows,
        repeats=REPEATS,
        columns=tuple(
            Importance(column=names[place], drop=float(drops[place]), spread=float(spreads[place]))
            for place in order[:MAX_COLUMNS]
        ),
        negligible=0,
        largest_share=float(gains.max() / gains.sum()) if gains.sum() > 0 else 0.0,
    )
    small = sum(drop <= found.noise(spread) for drop, spread in zip(drops.tolist(), spreads.tolist(), strict=True))
    return found.model_copy(update={"negligible": small})


def one_thread() -> Any:
    """Limit OpenMP to one thread: for a few thousand rows, threads that wait for one another take ten times as long.

    OpenMP's limit is one of this thread only. That of BLAS is one of the whole process, and would change the results
    of other tasks.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="openmp")


def sample(rows: int, at_most: int, *, seed: int) -> NDArray[Any]:
    """Choose places of rows with a seed, in their order; all where there are no more than ``at_most``."""
    import numpy as np

    if rows <= at_most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, at_most, replace=False))
