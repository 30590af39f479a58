"""Influence functions: the derivative of a score by the weight of each row.

Summed over the rows of a unit (a row, a group, a block in time) they give the variance of the score over other units:
the infinitesimal jackknife. For a mean it gives the t interval, for the area under the ROC curve DeLong's, for a
function of sums the delta method.

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
_NOISE = 1e-8  # rounding error of a derivative that is 0, times the number of rows
_CLASSES_LEAST = 2


def influence(
    metric: str, predictions: CachedPredictions, y: NDArray[Any], rows: NDArray[Any]
) -> tuple[str, Influence] | None:
    """Compute a score and the influence of each row on it.

    Args:
        metric: scikit-learn scorer name.
        predictions: the model's predictions for all rows.
        y: ground truth of all rows, (all rows,).
        rows: numbers of the rows to score, (rows,).

    Returns:
        Name of the interval's method, then the score and the influence of each of the rows; None for a metric that is
        not known here, or predictions it cannot read. Compare the score with the scorer's own before trusting it.
    """
    import numpy as np

    y_true = y[rows]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # about empty classes; the scorer reports them better
        try:
            for metrics, interval, method, compute in _FAMILIES:
                if metric in metrics:
                    y_pred = _ranks(predictions) if method == "ranking" else predictions.all(method)
                    return interval, compute(metric, y_true, y_pred[rows], getattr(predictions, "classes_", None))
        except (ValueError, TypeError, AttributeError, IndexError, ZeroDivisionError):
            return None
    return None


def _ranks(predictions: CachedPredictions) -> NDArray[Any]:
    """Return what binary scorers rank by: the decision function, or the probabilities where there is none."""
    return predictions.all("decision_function" if hasattr(predictions, "decision_function") else "predict_proba")


def _binary(y_true: NDArray[Any], y_pred: NDArray[Any], classes: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return which rows are positive, and the scores that rank them."""
    if len(classes) != _CLASSES_LEAST:
        raise ValueError("not binary")
    return y_true == classes[1], y_pred if y_pred.ndim == 1 else y_pred[:, 1]


def _roc_auc(metric: str, y_true: NDArray[Any], y_pred: NDArray[Any], classes: Any) -> Influence:
    import numpy as np

    if metric == "roc_auc":
        return auc_influence(*_binary(y_true, y_pred, classes))
    each = [auc_influence(y_true == label, y_pred[:, place]) for place, label in enumerate(classes)]
    return float(np.mean([score for score, _ in each])), np.mean([derivatives for _, derivatives in each], axis=0)


def auc_influence(positive: NDArray[Any], ranked: NDArray[Any]) -> Influence:
    """Compute the AUC from the share of the other class each row is ranked correctly against; ties count half."""
    import numpy as np

    above, below = np.sort(ranked[~positive]), np.sort(ranked[positive])
    placed = np.empty(len(ranked))
    placed[positive] = _share_below(above, ranked[positive])
    placed[~positive] = 1 - _share_below(below, ranked[~positive])
    score = placed[positive].mean()
    derivatives, rows = placed - score, len(placed)
    for side in (positive, ~positive):
        count = side.sum()
        # The root makes it exactly DeLong's estimate, whose variances divide by count - 1 in each class.
        derivatives[side] *= np.sqrt(count / (count - 1) * (rows - 1) / rows) / count
    return float(score), derivatives


def _share_below(ordered: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(ordered))


def _average_precision(_: str, y_true: NDArray[Any], y_pred: NDArray[Any], classes: Any) -> Influence:
    """Differentiate the sum over thresholds; a row counts at its own threshold and at each lower one."""
    import numpy as np

    positive, ranked = _binary(y_true, y_pred, classes)
    order, place = np.unique(-ranked, return_inverse=True)
    found_here = np.bincount(place, weights=positive, minlength=len(order))
    found, taken = np.cumsum(found_here), np.cumsum(np.bincount(place, minlength=len(order)))
    precision, positives = found / taken, found[-1]
    score = (found_here * precision).sum() / positives
    gained = np.cumsum((found_here / taken)[::-1])[::-1][place]
    lost = np.cumsum((found_here * found / taken**2)[::-1])[::-1][place]
    return float(score), (positive * (precision[place] - score + gained) - lost) / positives


def _row_mean(metric: str, y_true: NDArray[Any], y_pred: NDArray[Any], classes: Any) -> Influence:
    """Take a mean, or a function of one mean, over the rows."""
    import numpy as np

    losses = _LOSSES[metric](y_true, y_pred, classes)
    mean = losses.mean()
    if metric in _ROOTS:
        root = np.sqrt(mean)
        return float(-root), (mean - losses) / (2 * root * len(losses)) if root > 0 else np.zeros(len(losses))
    return float(-mean) if mean else 0.0, (mean - losses) / len(losses)


def _accuracy(_: str, y_true: NDArray[Any], y_pred: NDArray[Any], __: Any) -> Influence:
    right = (y_true == y_pred).astype("float64")
    share = right.mean()
    return float(share), (right - share) / len(right)


def _explained(metric: str, y_true: NDArray[Any], y_pred: NDArray[Any], _: Any) -> Influence:
    import numpy as np

    y_true = y_true.astype("float64")
    errors = y_true - y_pred
    if metric == "explained_variance":
        errors = errors - errors.mean()
    left, whole = errors**2, (y_true - y_true.mean()) ** 2
    share = left.sum() / whole.sum()
    return float(1 - share), (share * whole - left) / np.float64(whole.sum())


def _log_loss(y_true: NDArray[Any], y_pred: NDArray[Any], classes: Any) -> NDArray[Any]:
    import numpy as np

    floor = np.finfo(y_pred.dtype).eps
    chosen = y_pred[np.arange(len(y_pred)), _codes(y_true, classes)]
    return np.asarray(-np.log(np.clip(chosen, floor, 1 - floor)))


def _brier(y_true: NDArray[Any], y_pred: NDArray[Any], classes: Any) -> NDArray[Any]:
    import numpy as np

    if len(classes) == _CLASSES_LEAST:
        return np.asarray((y_pred[:, 1] - (y_true == classes[1])) ** 2)
    missed = y_pred - np.eye(len(classes))[_codes(y_true, classes)]
    return np.asarray((missed**2).sum(axis=1))


def _codes(y_true: NDArray[Any], classes: Any) -> NDArray[Any]:
    """Number the labels as the columns of the probabilities are; an unknown label is an IndexError."""
    import numpy as np
    import pandas as pd

    codes = pd.Index(classes).get_indexer(pd.Index(y_true))
    if (codes < 0).any():
        raise IndexError("a label the model does not know")
    return np.asarray(codes)


def _labels(metric: str, y_true: NDArray[Any], y_pred: NDArray[Any], _: Any) -> Influence:
    """Differentiate a function of the confusion matrix by each of its counts."""
    import numpy as np
    import pandas as pd

    codes, names = pd.factorize(np.concatenate([y_true, y_pred]))
    size = len(names)
    if size > _MOST_LABELS:
        raise ValueError("too many classes to differentiate by each pair")
    cells = codes[: len(y_true)] * size + codes[len(y_true) :]
    counts = np.bincount(cells, minlength=size**2).astype("float64")
    # Small enough for a smooth score to be linear, large enough to exceed the rounding errors of doubles.
    least, share, most = _STEP
    step = min(most, max(least, share * len(y_true)))
    steps = step * np.concatenate([np.zeros((1, size**2)), np.eye(size**2), -np.eye(size**2)])
    stacked = (counts + steps).reshape(-1, size, size)
    name, _, average = metric.partition("_")
    if metric in ("balanced_accuracy", "matthews_corrcoef"):
        values = {"balanced_accuracy": _balanced, "matthews_corrcoef": _matthews}[metric](stacked)
    else:
        place = int(np.flatnonzero(names == 1)[0]) if not average else -1
        values = _averaged(stacked, _SHARES[name], average, place)
    ups, downs = values[1 : 1 + size**2], values[1 + size**2 :]
    derivatives = (ups - downs) / (2 * step)
    derivatives[np.abs(derivatives) * len(y_true) < _NOISE] = 0  # equal models have to differ by exactly 0
    return float(values[0]), derivatives[cells]


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
    """Average a share over the classes as scikit-learn does; a share with denominator 0 is 0."""
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


def _squared(y_true: NDArray[Any], y_pred: NDArray[Any], _: Any) -> NDArray[Any]:
    import numpy as np

    return np.asarray((y_true.astype("float64") - y_pred) ** 2)


def _log_squared(y_true: NDArray[Any], y_pred: NDArray[Any], _: Any) -> NDArray[Any]:
    import numpy as np

    return np.asarray((np.log1p(y_true.astype("float64")) - np.log1p(y_pred)) ** 2)


def _absolute(y_true: NDArray[Any], y_pred: NDArray[Any], _: Any) -> NDArray[Any]:
    import numpy as np

    return np.asarray(np.abs(y_true.astype("float64") - y_pred))


def _relative(y_true: NDArray[Any], y_pred: NDArray[Any], _: Any) -> NDArray[Any]:
    import numpy as np

    y_true = y_true.astype("float64")
    return np.asarray(np.abs(y_true - y_pred) / np.maximum(np.abs(y_true), np.finfo("float64").eps))


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
