"""The behaviour of a fitted model on its test rows: calibration, residuals or confusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_mlops.core.cards.card import (
    MAX_CLASSES,
    OTHER,
    Calibration,
    CalibrationBin,
    Confusion,
    ResidualBin,
    Residuals,
)
from prefect_mlops.core.evaluation.importance import NotMeasurableError, one_thread, sample
from prefect_mlops.core.lineage.training_data import estimator_name
from prefect_mlops.core.text import plain

if TYPE_CHECKING:
    import pandas as pd

BEHAVIOUR_ROWS = 100_000  # more rows do not change a curve of ten points
BINS = 10


def measure_behaviour(model: Any, X: pd.DataFrame, y: pd.Series, *, seed: int) -> Calibration | Residuals | Confusion:
    """Measure calibration, residuals or confusion, whichever fits the model.

    Args:
        model: fitted scikit-learn compatible estimator.
        X: features of the test rows, (rows, columns); a seeded sample of at most `BEHAVIOUR_ROWS` is used.
        y: ground truth, (rows,).
        seed: of the sample.

    Returns:
        Calibration for two classes with probabilities, a confusion table for other classifiers, residuals for a
        regressor.

    Raises:
        NotMeasurableError: neither classifier nor regressor, or no finite prediction.

    Source: `sklearn.calibration.calibration_curve`, `sklearn.metrics.confusion_matrix`.
    """
    from sklearn.base import is_classifier, is_regressor

    rows = sample(len(X), BEHAVIOUR_ROWS, seed=seed)
    X, y = X.iloc[rows], y.iloc[rows]
    if not (is_classifier(model) or is_regressor(model)):
        raise NotMeasurableError(f"{estimator_name(model)} says neither that it is a classifier nor a regressor")
    with one_thread():
        return _residuals(model, X, y) if is_regressor(model) else _classifier(model, X, y)


def _classifier(model: Any, X: pd.DataFrame, y: pd.Series) -> Calibration | Confusion:
    if len(model.classes_) != 2:  # noqa: PLR2004 - a probability of one of two classes is one number
        return _confusion(model, X, y)
    if not hasattr(model, "predict_proba"):
        note = f"{estimator_name(model)} has no predict_proba, so there is no calibration curve."
        return _confusion(model, X, y).model_copy(update={"note": note})
    return _calibration(model, X, y)


def _calibration(model: Any, X: pd.DataFrame, y: pd.Series) -> Calibration:
    import numpy as np
    from scipy.stats import binomtest
    from sklearn.calibration import calibration_curve

    positive = model.classes_[1]
    predicted = np.asarray(model.predict_proba(X), dtype="float64")[:, 1]
    is_positive = (y == positive).to_numpy(dtype="int64")
    observed, mean_predicted = calibration_curve(is_positive, predicted, n_bins=BINS, strategy="quantile")
    # `calibration_curve` returns no counts: bin the rows the same way.
    edges = np.percentile(predicted, np.linspace(0, 100, BINS + 1))
    counts = np.bincount(np.searchsorted(edges[1:-1], predicted))
    bins = []
    for share, mean, rows in zip(observed, mean_predicted, counts[counts > 0], strict=True):
        interval = binomtest(round(share * rows), int(rows)).proportion_ci(method="wilson")
        bins.append(
            CalibrationBin(
                predicted=float(mean),
                observed=float(share),
                low=float(interval.low),
                high=float(interval.high),
                rows=int(rows),
            )
        )
    return Calibration(positive=plain(positive), bins=tuple(bins))


def _residuals(model: Any, X: pd.DataFrame, y: pd.Series) -> Residuals:
    import numpy as np

    predicted = np.asarray(model.predict(X), dtype="float64")
    if predicted.ndim != 1:
        raise NotMeasurableError("it predicts more than one number for a row")
    residuals = y.to_numpy(dtype="float64", na_value=np.nan) - predicted
    finite = np.isfinite(predicted) & np.isfinite(residuals)
    if not finite.any():
        raise NotMeasurableError("no prediction is a finite number")
    predicted, residuals = predicted[finite], residuals[finite]
    edges = np.quantile(predicted, np.linspace(0, 1, BINS + 1))
    bin_numbers = np.searchsorted(edges[1:-1], predicted)
    bins = []
    for bin_number in np.unique(bin_numbers):
        inside = bin_numbers == bin_number
        low, median, high = np.quantile(residuals[inside], [0.1, 0.5, 0.9])
        bins.append(
            ResidualBin(
                predicted=float(predicted[inside].mean()),
                low=float(low),
                median=float(median),
                high=float(high),
                rows=int(inside.sum()),
            )
        )
    return Residuals(bins=tuple(bins))


def _confusion(model: Any, X: pd.DataFrame, y: pd.Series) -> Confusion:
    import numpy as np
    import pandas as pd

    predicted = pd.Series(np.asarray(model.predict(X)).ravel(), index=y.index, dtype=object)
    truth = y.astype(object)
    classes = list(model.classes_)
    if len(classes) > MAX_CLASSES:
        frequent = truth.value_counts().index[:MAX_CLASSES]
        classes = [label for label in classes if label in set(frequent)]
    code_of = {label: code for code, label in enumerate(classes)}
    codes = [side.map(code_of).fillna(len(classes)).to_numpy(dtype="int64") for side in (truth, predicted)]
    counts = np.zeros((len(classes) + 1, len(classes) + 1), dtype="int64")
    np.add.at(counts, (codes[0], codes[1]), 1)
    size = len(classes) + int(counts[-1].any() or counts[:, -1].any())
    return Confusion(
        labels=(*(plain(label) for label in classes), OTHER)[:size],
        counts=tuple(tuple(int(count) for count in line[:size]) for line in counts[:size]),
    )
