"""Score estimates: the score of a model on some rows, and how it varies with the resampling units.

Each metric leaves a *spread*: how the score moves with each unit (`core.evaluation.influence_functions`), or the scores
of resamples where nothing is known of the metric. The difference of two models has the difference of their spreads,
which is what makes a comparison paired: what is hard for both cancels.
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
from prefect_mlops.core.evaluation.scoring import score_model
from prefect_mlops.core.metrics import Metric, metric_name

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.evaluation.predictions import CachedPredictions
    from prefect_mlops.core.evaluation.resampling_units import ResamplingUnits

DRAWS = 200  # only the standard error is read from them, which 200 give within 5 %; the rest is Student's t


@dataclass(frozen=True)
class Rows:
    """The test set, as every score estimate needs it.

    Attributes:
        y: ground truth, (rows,), numbered from 0 in the index.
        units: which rows belong together.
        seed: of the resamples.
    """

    y: pd.Series
    units: ResamplingUnits
    seed: int = 0

    @functools.cached_property
    def truth(self) -> NDArray[Any]:
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
        used: which units they are, (units,).
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
        """Number of independent pieces."""
        return len(self.used)


def measure(
    metric: Metric,
    answers: CachedPredictions,
    rows: Rows,
    chosen: NDArray[Any] | None = None,
    *,
    resample: bool = False,
) -> ScoreEstimate:
    """Score a model, and estimate how the score varies with the units.

    What is not known by `core.evaluation.influence_functions` is scored again without each of the up to 50 blocks, or,
    where there are no blocks, on `DRAWS` resamples of the units. That costs as many times what the
    metric itself takes on the rows, for each model; predictions are made once.

    Args:
        metric: scikit-learn scorer name, or function ``f(estimator, X, y) -> float``.
        answers: the model's answers to all judging rows.
        rows: the judging rows.
        chosen: numbers of the rows to score, (chosen,); None for all.
        resample: take resamples in any case.

    Raises:
        ConfigError: a metric that does not fit the model or the target.
        DataCheckError: the score is not defined on these rows.
    """
    import numpy as np

    places = np.arange(len(rows.y)) if chosen is None else chosen
    used, of, sizes = np.unique(rows.units.of[places], return_inverse=True, return_counts=True)
    known = None if resample or callable(metric) else influence(metric, answers, rows.truth, places)
    score = _checked(metric, answers, rows, places, known=known)
    kept = functools.partial(ScoreEstimate, score, used=used, sizes=sizes, rows=len(places), pieces=rows.units.kind)
    if known is None or metric not in answers.understood:
        if rows.units.kind == "blocks" and not resample:
            left_out = _without_each(metric, answers, rows, places, of=of)
            if np.isfinite(left_out).all():
                moved = (score - left_out) * (1 - sizes / sizes.sum())
                return kept(spread=moved, resampled=False, method="jackknife")
        draws = _resampled(metric, answers, rows, places, of=of)
        return kept(spread=draws, resampled=True, method=f"bootstrap, {DRAWS} draws")
    method, (_, moved) = known
    kept = functools.partial(kept, best=0.0 if metric_name(metric).startswith("neg_") else 1.0)
    if rows.units.kind != "rows":
        spread = np.bincount(of, weights=moved, minlength=len(used))
        return kept(spread=spread, resampled=False, method="Obuchowski" if method == "DeLong" else method)
    right = moved * len(moved) + score > 0.5 if metric == "accuracy" else None  # noqa: PLR2004 - it is 0 or 1
    return kept(spread=moved, resampled=False, method=method, right=right)


def _checked(
    metric: Metric, answers: CachedPredictions, rows: Rows, places: NDArray[Any], *, known: tuple[str, Influence] | None
) -> float:
    """Return the scorer's own score, and once it agrees with ours on some rows, ours on others.

    scikit-learn takes milliseconds to check its input, which many groups would multiply.
    """
    name = metric_name(metric)
    ours = known[1][0] if known else math.nan
    if name in answers.understood and len(places) < len(rows.y) and math.isfinite(ours):
        return ours
    score = _score(metric, answers, rows, places)
    if math.isclose(ours, score, rel_tol=1e-9, abs_tol=1e-9):
        answers.understood.add(name)
    else:
        answers.understood.discard(name)
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
    metric: Metric, answers: CachedPredictions, rows: Rows, places: NDArray[Any], *, of: NDArray[Any]
) -> NDArray[Any]:
    """Score the rows without each of the units; NaN where the metric is then undefined.

    Blocks are few and long, and neighbours may go together, which resamples that draw them one by one cannot see.

    Source: Miller 1974, "The jackknife - a review".
    """
    import numpy as np

    scores = np.full(of.max() + 1, np.nan)
    for unit in range(len(scores)):
        with contextlib.suppress(ConfigError, DataCheckError):
            scores[unit] = _score(metric, answers, rows, places[of != unit])
    return scores


def _resampled(
    metric: Metric, answers: CachedPredictions, rows: Rows, places: NDArray[Any], *, of: NDArray[Any]
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
        with contextlib.suppress(ConfigError, DataCheckError):  # one class only, or as bad: it says nothing
            scores[draw] = _score(metric, answers, rows, again)
    return scores


def _score(metric: Metric, answers: CachedPredictions, rows: Rows, places: NDArray[Any]) -> float:
    """Score a model on some of the rows."""
    import pandas as pd

    name, y = metric_name(metric), rows.y.iloc[places]
    if not callable(metric):  # a scorer hands the features on and no more
        return score_model(answers, pd.DataFrame(index=places), y, metrics=[metric])[name]
    model = answers if _scores_cached_predictions(metric, answers, rows) else answers.model
    return score_model(model, answers.features.iloc[places], y, metrics=[metric])[name]


def _scores_cached_predictions(metric: Metric, answers: CachedPredictions, rows: Rows) -> bool:
    """Check whether a custom metric can use cached predictions: not when it changes the features first."""
    name = metric_name(metric)
    if name not in answers.enough_for:
        asked = score_model(answers.model, answers.features, rows.y, metrics=[metric])[name]
        try:
            kept = score_model(answers, answers.features, rows.y, metrics=[metric])[name]
        except (ConfigError, DataCheckError):
            kept = math.nan
        answers.enough_for[name] = math.isclose(kept, asked, rel_tol=1e-9, abs_tol=1e-12)
    return answers.enough_for[name]
