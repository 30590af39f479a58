"""How much each row moves a metric: the derivative of the score by the row's weight.

Summed over the rows of a unit (a row, a group, a block in time) these numbers tell how the score would vary with other
units: the infinitesimal jackknife. For a mean it gives the t interval, for the area under the ROC curve DeLong's, for
a function of sums the delta method.

Source:
    Jaeckel 1972, "The infinitesimal jackknife"; Efron 1982, "The jackknife, the bootstrap and other resampling plans",
    chapter 6.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prefect_mlops.core.evaluation.predictions import CachedPredictions

Influence = tuple[float, "NDArray[Any]"]
"""The score, and its derivative by the weight of each row, (rows,); the derivatives add up to about 0."""

_STEP = (1e-3, 1e-6, 0.5)  # for derivatives by counts: in rows, as a share of all rows, and at most; see `_labels`
_NOISE = 1e-8  # what is left by rounding where a row moves nothing, times the number of rows
_CLASSES_LEAST = 2


def influence(
    metric: str, answers: CachedPredictions, y: NDArray[Any], rows: NDArray[Any]
) -> tuple[str, Influence] | None:
    """Tell how much each row moves a score.

    Args:
        metric: scikit-learn scorer name.
        answers: the model's predictions for all rows.
        y: truth of all rows, (all rows,).
        rows: numbers of the rows to score, (rows,).

    Returns:
        What the interval is called, and the influence of each of the rows; None for a metric that is not known here,
        or predictions it cannot read. The score is to be compared with the scorer's own before it is trusted.
    """
    import numpy as np

    truth = y[rows]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of empty classes; the scorer says it better
        try:
            for known, called, method, compute in _FAMILIES:
                if metric in known:
                    given = _ranks(answers) if method == "ranking" else answers.all(method)
                    return called, compute(metric, truth, given[rows], getattr(answers, "classes_", None))
        except (ValueError, TypeError, AttributeError, IndexError, ZeroDivisionError):
            return None
    return None


def _ranks(answers: CachedPredictions) -> NDArray[Any]:
    """Return what binary scorers rank by: the decision function, or the probabilities where there is none."""
    return answers.all("decision_function" if hasattr(answers, "decision_function") else "predict_proba")


def _binary(truth: NDArray[Any], given: NDArray[Any], classes: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return which rows are positive and by what they are ranked."""
    if len(classes) != _CLASSES_LEAST:
        raise ValueError("not binary")
    return truth == classes[1], given if given.ndim == 1 else given[:, 1]


def _roc_auc(metric: str, truth: NDArray[Any], given: NDArray[Any], classes: Any) -> Influence:
    import numpy as np

    if metric == "roc_auc":
        return auc_influence(*_binary(truth, given, classes))
    each = [auc_influence(truth == label, given[:, place]) for place, label in enumerate(classes)]
    return float(np.mean([score for score, _ in each])), np.mean([moved for _, moved in each], axis=0)


def auc_influence(positive: NDArray[Any], ranked: NDArray[Any]) -> Influence:
    """Take the share of rows of the other class that each row is rightly above or below, ties counting half."""
    import numpy as np

    above, below = np.sort(ranked[~positive]), np.sort(ranked[positive])
    placed = np.empty(len(ranked))
    placed[positive] = _share_below(above, ranked[positive])
    placed[~positive] = 1 - _share_below(below, ranked[~positive])
    score = placed[positive].mean()
    moved, rows = placed - score, len(placed)
    for side in (positive, ~positive):
        count = side.sum()
        # The root makes it DeLong's estimate exactly, whose variances divide by count - 1 in each class.
        moved[side] *= np.sqrt(count / (count - 1) * (rows - 1) / rows) / count
    return float(score), moved


def _share_below(ordered: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(ordered))


def _average_precision(_: str, truth: NDArray[Any], given: NDArray[Any], classes: Any) -> Influence:
    """Differentiate the sum over thresholds; a row counts at its own threshold and at each one below its rank."""
    import numpy as np

    positive, ranked = _binary(truth, given, classes)
    order, place = np.unique(-ranked, return_inverse=True)
    found_here = np.bincount(place, weights=positive, minlength=len(order))
    found, taken = np.cumsum(found_here), np.cumsum(np.bincount(place, minlength=len(order)))
    precision, positives = found / taken, found[-1]
    score = (found_here * precision).sum() / positives
    gained = np.cumsum((found_here / taken)[::-1])[::-1][place]
    lost = np.cumsum((found_here * found / taken**2)[::-1])[::-1][place]
    return float(score), (positive * (precision[place] - score + gained) - lost) / positives


def _row_mean(metric: str, truth: NDArray[Any], given: NDArray[Any], classes: Any) -> Influence:
    """Take a mean, or a function of one mean, over the rows."""
    import numpy as np

    losses = _LOSSES[metric](truth, given, classes)
    mean = losses.mean()
    if metric in _ROOTS:
        root = np.sqrt(mean)
        return float(-root), (mean - losses) / (2 * root * len(losses)) if root > 0 else np.zeros(len(losses))
    return float(-mean) if mean else 0.0, (mean - losses) / len(losses)


def _accuracy(_: str, truth: NDArray[Any], given: NDArray[Any], __: Any) -> Influence:
    right = (truth == given).astype("float64")
    share = right.mean()
    return float(share), (right - share) / len(right)


def _explained(metric: str, truth: NDArray[Any], given: NDArray[Any], _: Any) -> Influence:
    import numpy as np

    truth = truth.astype("float64")
    errors = truth - given
    if metric == "explained_variance":
        errors = errors - errors.mean()
    left, whole = errors**2, (truth - truth.mean()) ** 2
    share = left.sum() / whole.sum()
    return float(1 - share), (share * whole - left) / np.float64(whole.sum())


def _log_loss(truth: NDArray[Any], given: NDArray[Any], classes: Any) -> NDArray[Any]:
    import numpy as np

    floor = np.finfo(given.dtype).eps
    chosen = given[np.arange(len(given)), _codes(truth, classes)]
    return np.asarray(-np.log(np.clip(chosen, floor, 1 - floor)))


def _brier(truth: NDArray[Any], given: NDArray[Any], classes: Any) -> NDArray[Any]:
    import numpy as np

    if len(classes) == _CLASSES_LEAST:
        return np.asarray((given[:, 1] - (truth == classes[1])) ** 2)
    missed = given - np.eye(len(classes))[_codes(truth, classes)]
    return np.asarray((missed**2).sum(axis=1))


def _codes(truth: NDArray[Any], classes: Any) -> NDArray[Any]:
    """Number the labels as the columns of the probabilities are; a label no model knows is an IndexError."""
    import numpy as np
    import pandas as pd

    codes = pd.Index(classes).get_indexer(pd.Index(truth))
    if (codes < 0).any():
        raise IndexError("a label the model does not know")
    return np.asarray(codes)


def _labels(metric: str, truth: NDArray[Any], given: NDArray[Any], _: Any) -> Influence:
    """Differentiate a function of the confusion matrix by each of its counts."""
    import numpy as np
    import pandas as pd

    codes, names = pd.factorize(np.concatenate([truth, given]))
    size = len(names)
    if size > _MOST_LABELS:
        raise ValueError("too many classes to differentiate by each pair")
    cells = codes[: len(truth)] * size + codes[len(truth) :]
    counts = np.bincount(cells, minlength=size**2).astype("float64")
    # Small enough for a smooth score to be straight, large enough to stand out of the rounding of doubles.
    least, share, most = _STEP
    step = min(most, max(least, share * len(truth)))
    steps = step * np.concatenate([np.zeros((1, size**2)), np.eye(size**2), -np.eye(size**2)])
    stacked = (counts + steps).reshape(-1, size, size)
    name, _, average = metric.partition("_")
    if metric in ("balanced_accuracy", "matthews_corrcoef"):
        values = {"balanced_accuracy": _balanced, "matthews_corrcoef": _matthews}[metric](stacked)
    else:
        place = int(np.flatnonzero(names == 1)[0]) if not average else -1
        values = _averaged(stacked, _SHARES[name], average, place)
    ups, downs = values[1 : 1 + size**2], values[1 + size**2 :]
    moved = (ups - downs) / (2 * step)
    moved[np.abs(moved) * len(truth) < _NOISE] = 0  # what tells models apart has to be 0 where nothing does
    return float(values[0]), moved[cells]


_MOST_LABELS = 20  # 400 pairs of classes, each a matrix of 400 counts
_Matrices = Any  # (matrices, classes, classes): rows by ground truth, columns by prediction


def _balanced(counts: _Matrices) -> NDArray[Any]:
    import numpy as np

    there = counts[0].sum(axis=1) > 0
    return np.asarray((_hits(counts)[:, there] / counts.sum(axis=2)[:, there]).mean(axis=1))


def _matthews(counts: _Matrices) -> NDArray[Any]:
    """Correlate ground truth and prediction. Source: Gorodkin 2004, as `sklearn.metrics.matthews_corrcoef`."""
    import numpy as np

    rows, true, predicted = counts.sum(axis=(1, 2)), counts.sum(axis=2), counts.sum(axis=1)
    together = _hits(counts).sum(axis=1) * rows - (true * predicted).sum(axis=1)
    spread = (rows**2 - (true**2).sum(axis=1)) * (rows**2 - (predicted**2).sum(axis=1))
    return np.asarray(together / np.sqrt(spread))


def _averaged(counts: _Matrices, share: Callable[..., Any], average: str, place: int) -> NDArray[Any]:
    """Average a share over the classes as scikit-learn does; one that divides by nothing is 0."""
    import numpy as np

    true, predicted, hits = counts.sum(axis=2), counts.sum(axis=1), _hits(counts)
    if average == "micro":
        true, predicted, hits = (part.sum(axis=1, keepdims=True) for part in (true, predicted, hits))
    top, bottom = share(hits, true, predicted)
    shares = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
    if average == "weighted":
        return np.asarray((shares * true).sum(axis=1) / true.sum(axis=1))
    return np.asarray(shares.mean(axis=1) if average else shares[:, place])


def _hits(counts: _Matrices) -> NDArray[Any]:
    import numpy as np

    return np.asarray(np.diagonal(counts, axis1=1, axis2=2))


_SHARES: dict[str, Callable[..., Any]] = {
    "precision": lambda hits, _, predicted: (hits, predicted),
    "recall": lambda hits, true, _: (hits, true),
    "f1": lambda hits, true, predicted: (2 * hits, true + predicted),
    "jaccard": lambda hits, true, predicted: (hits, true + predicted - hits),
}


def _squared(truth: NDArray[Any], given: NDArray[Any], _: Any) -> NDArray[Any]:
    import numpy as np

    return np.asarray((truth.astype("float64") - given) ** 2)


def _log_squared(truth: NDArray[Any], given: NDArray[Any], _: Any) -> NDArray[Any]:
    import numpy as np

    return np.asarray((np.log1p(truth.astype("float64")) - np.log1p(given)) ** 2)


def _absolute(truth: NDArray[Any], given: NDArray[Any], _: Any) -> NDArray[Any]:
    import numpy as np

    return np.asarray(np.abs(truth.astype("float64") - given))


def _relative(truth: NDArray[Any], given: NDArray[Any], _: Any) -> NDArray[Any]:
    import numpy as np

    truth = truth.astype("float64")
    return np.asarray(np.abs(truth - given) / np.maximum(np.abs(truth), np.finfo("float64").eps))


_LOSSES: dict[str, Callable[..., Any]] = {
    "neg_log_loss": _log_loss,
    "neg_brier_score": _brier,
    "neg_mean_squared_error": _squared,
    "neg_root_mean_squared_error": _squared,
    "neg_mean_squared_log_error": _log_squared,
    "neg_root_mean_squared_log_error": _log_squared,
    "neg_mean_absolute_error": _absolute,
    "neg_mean_absolute_percentage_error": _relative,
}
_ROOTS = {"neg_root_mean_squared_error", "neg_root_mean_squared_log_error"}
_OF_PROBABILITIES = {"neg_log_loss", "neg_brier_score"}
_OF_LABELS = {
    *("balanced_accuracy", "matthews_corrcoef"),
    *(name + average for name in _SHARES for average in ("", "_macro", "_micro", "_weighted")),
}
_Compute = Callable[[str, "NDArray[Any]", "NDArray[Any]", Any], Influence]
_FAMILIES: tuple[tuple[set[str], str, str, _Compute], ...] = (
    ({"roc_auc"}, "DeLong", "ranking", _roc_auc),
    ({"roc_auc_ovr"}, "DeLong", "predict_proba", _roc_auc),
    ({"average_precision"}, "infinitesimal jackknife", "ranking", _average_precision),
    (_OF_PROBABILITIES, "t", "predict_proba", _row_mean),
    (set(_LOSSES) - _OF_PROBABILITIES - _ROOTS, "t", "predict", _row_mean),
    (_ROOTS, "delta method", "predict", _row_mean),
    ({"r2", "explained_variance"}, "delta method", "predict", _explained),
    ({"accuracy"}, "t", "predict", _accuracy),
    (_OF_LABELS, "delta method", "predict", _labels),
)
