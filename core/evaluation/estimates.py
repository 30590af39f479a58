"""Score estimates: the score of a model on some rows, and how it varies with the resampling units.

Each estimate has a *spread*: the influence of each unit on the score (`core.evaluation.influence_functions`), or the
scores of resamples for a metric without an influence function. The spread of a difference is the difference of the
spreads. That makes the comparison paired: units that are hard for both models cancel.
"""

from __future__ import annotations

import contextlib
import functools
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.evaluation.influence_functions import Influence, influence
from prefect_mlops.core.evaluation.positive_class import coded_labels
from prefect_mlops.core.evaluation.scoring import score_model
from prefect_mlops.core.metrics import Metric, metric_name

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.evaluation.predictions import CachedPredictions
    from prefect_mlops.core.evaluation.resampling_units import ResamplingUnits

DRAWS = 200  # they give the standard error within 5 %; the bounds come from Student's t


@dataclass(frozen=True)
class Rows:
    """The test set, as every score estimate needs it.

    Attributes:
        y: ground truth, (rows,), numbered from 0 in the index.
        units: the resampling unit of each row.
        seed: of the resamples.
        positive: the positive one of two classes, for scorer names; None leaves classes as they are.
    """

    y: pd.Series
    units: ResamplingUnits
    seed: int = 0
    positive: object = None

    @functools.cached_property
    def binary(self) -> Rows:
        """The same rows with a target of 0 and 1, where 1 is the positive class."""
        return Rows(coded_labels(self.y, self.positive), self.units, self.seed)

    @functools.cached_property
    def y_true(self) -> NDArray[Any]:
        """The ground truth as a NumPy array, nullable numbers as numbers."""
        from pandas.api import types

        kind = self.y.dtype
        if types.is_extension_array_dtype(kind) and types.is_numeric_dtype(kind) and not self.y.isna().any():
            return self.y.to_numpy(dtype=getattr(kind, "numpy_dtype", None))
        return self.y.to_numpy()


@dataclass(frozen=True)
class ScoreEstimate:
    """One model's score on some rows, and its spread.

    Attributes:
        score: as the scorer gives it.
        spread: derivative of the score by the weight of each unit, (units,), or scores of resamples, (draws,).
        rows: number of rows.
        used: numbers of the units, (units,).
        sizes: rows of each unit, (units,).
        resampled: the spread holds scores of resamples.
        method: what the interval is called.
        best: the best score there is; infinite where that is not known.
        pieces: what the units are called: rows, groups or blocks.
        right: for accuracy over independent rows, which predictions were right, (rows,).
    """

    score: float
    spread: NDArray[Any]
    used: NDArray[Any]
    sizes: NDArray[Any]
    rows: int
    resampled: bool
    method: str
    best: float = math.inf
    pieces: str = "rows"
    right: NDArray[Any] | None = None

    @property
    def units(self) -> int:
        """Number of independent units."""
        return len(self.used)


def measure(
    metric: Metric,
    predictions: CachedPredictions,
    rows: Rows,
    chosen: NDArray[Any] | None = None,
    *,
    resample: bool = False,
) -> ScoreEstimate:
    """Score a model, and estimate how the score varies with the units.

    A metric without an influence function is computed again without each of the up to 50 blocks (jackknife), or, where
    there are no blocks, on `DRAWS` resamples of the units (bootstrap). Predictions are cached.

    Args:
        metric: scikit-learn scorer name, or function ``f(estimator, X, y) -> float``.
        predictions: of the model, for all rows of the test set.
        rows: the test set.
        chosen: numbers of the rows to score, (chosen,); None for all.
        resample: take resamples in any case.

    Raises:
        ConfigError: a metric that does not fit the model or the target.
        DataCheckError: the score is not defined on these rows.
    """
    import numpy as np

    if rows.positive is not None and not callable(metric):
        predictions, rows = predictions.binary(rows.positive), rows.binary
    places = np.arange(len(rows.y)) if chosen is None else chosen
    used, of, sizes = np.unique(rows.units.of[places], return_inverse=True, return_counts=True)
    known = None if resample or callable(metric) else influence(metric, predictions, rows.y_true, places)
    score = _checked(metric, predictions, rows, places, known=known)
    kept = functools.partial(ScoreEstimate, score, used=used, sizes=sizes, rows=len(places), pieces=rows.units.kind)
    if known is None or metric not in predictions.understood:
        if rows.units.kind == "blocks" and not resample:
            left_out = _without_each(metric, predictions, rows, places, of=of)
            if np.isfinite(left_out).all():
                moved = (score - left_out) * (1 - sizes / sizes.sum())
                return kept(spread=moved, resampled=False, method="jackknife")
        draws = _resampled(metric, predictions, rows, places, of=of)
        return kept(spread=draws, resampled=True, method=f"bootstrap, {DRAWS} draws")
    method, (_, moved) = known
    kept = functools.partial(kept, best=0.0 if metric_name(metric).startswith("neg_") else 1.0)
    if rows.units.kind != "rows":
        spread = np.bincount(of, weights=moved, minlength=len(used))
        return kept(spread=spread, resampled=False, method="Obuchowski" if method == "DeLong" else method)
    right = moved * len(moved) + score > 0.5 if metric == "accuracy" else None  # noqa: PLR2004 - it is 0 or 1
    return kept(spread=moved, resampled=False, method=method, right=right)


def _checked(
    metric: Metric,
    predictions: CachedPredictions,
    rows: Rows,
    places: NDArray[Any],
    *,
    known: tuple[str, Influence] | None,
) -> float:
    """Return the scorer's score; once ours agreed with it on some rows, return ours on others.

    scikit-learn takes milliseconds to check its input: too long for many groups.
    """
    name = metric_name(metric)
    ours = known[1][0] if known else math.nan
    if name in predictions.understood and len(places) < len(rows.y) and math.isfinite(ours):
        return ours
    score = _score(metric, predictions, rows, places)
    if math.isclose(ours, score, rel_tol=1e-9, abs_tol=1e-9):
        predictions.understood.add(name)
    else:
        predictions.understood.discard(name)
    return score


def measure_both(
    metric: Metric, first: CachedPredictions, second: CachedPredictions, rows: Rows, chosen: NDArray[Any] | None = None
) -> tuple[ScoreEstimate, ScoreEstimate]:
    """Measure two models so that their spreads can be compared; see `measure`."""
    one, two = measure(metric, first, rows, chosen), measure(metric, second, rows, chosen)
    if one.resampled and not two.resampled:
        two = measure(metric, second, rows, chosen, resample=True)
    elif two.resampled and not one.resampled:
        one = measure(metric, first, rows, chosen, resample=True)
    return one, two


def _without_each(
    metric: Metric, predictions: CachedPredictions, rows: Rows, places: NDArray[Any], *, of: NDArray[Any]
) -> NDArray[Any]:
    """Score the rows without each of the units; NaN where the metric is then undefined.

    Neighbouring blocks may be correlated, which resamples that draw blocks independently would ignore.

    Source: Miller 1974, "The jackknife - a review".
    """
    import numpy as np

    scores = np.full(of.max() + 1, np.nan)
    for unit in range(len(scores)):
        with contextlib.suppress(ConfigError, DataCheckError):
            scores[unit] = _score(metric, predictions, rows, places[of != unit])
    return scores


def _resampled(
    metric: Metric, predictions: CachedPredictions, rows: Rows, places: NDArray[Any], *, of: NDArray[Any]
) -> NDArray[Any]:
    """Score resamples of the units; two models measured on the same rows get the same resamples."""
    import numpy as np

    order = np.argsort(of, kind="stable")
    starts = np.searchsorted(of[order], np.arange(of.max() + 2))
    units = len(starts) - 1
    chance = np.random.default_rng([rows.seed, zlib.crc32(metric_name(metric).encode())])
    scores = np.full(DRAWS, np.nan)
    for draw in range(DRAWS):
        drawn = chance.integers(units, size=units)
        sizes = starts[drawn + 1] - starts[drawn]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        again = places[order[np.repeat(starts[drawn], sizes) + within]]
        with contextlib.suppress(ConfigError, DataCheckError):  # not defined on this resample, e.g. one class only
            scores[draw] = _score(metric, predictions, rows, again)
    return scores


def _score(metric: Metric, predictions: CachedPredictions, rows: Rows, places: NDArray[Any]) -> float:
    """Score a model on some of the rows."""
    import pandas as pd

    name, y = metric_name(metric), rows.y.iloc[places]
    if not callable(metric):  # a named scorer only passes the features to the model
        return score_model(predictions, pd.DataFrame(index=places), y, metrics=[metric])[name]
    model = predictions if _scores_cached_predictions(metric, predictions, rows) else predictions.model
    return score_model(model, predictions.features.iloc[places], y, metrics=[metric])[name]


def _scores_cached_predictions(metric: Metric, predictions: CachedPredictions, rows: Rows) -> bool:
    """Check whether a custom metric can use cached predictions: not where it changes the features first."""
    name = metric_name(metric)
    if name not in predictions.enough_for:
        expected = score_model(predictions.model, predictions.features, rows.y, metrics=[metric])[name]
        try:
            cached = score_model(predictions, predictions.features, rows.y, metrics=[metric])[name]
        except (ConfigError, DataCheckError):
            cached = math.nan
        predictions.enough_for[name] = math.isclose(cached, expected, rel_tol=1e-9, abs_tol=1e-12)
    return predictions.enough_for[name]
