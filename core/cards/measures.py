"""What a card measures of a model: importances, target, drift baseline; calibration, residuals or confusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from prefect_mlops.core.cards import data
from prefect_mlops.core.cards.card import (
    MAX_CLASSES,
    OTHER,
    Calibration,
    CalibrationBin,
    Confusion,
    Fact,
    Measurements,
    ResidualBin,
    Residuals,
)
from prefect_mlops.core.evaluation.importance import NotMeasurableError, measure_importances, one_thread, sample
from prefect_mlops.core.lineage.training_data import estimator_name
from prefect_mlops.core.text import one_line, plain

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.cards.card import Target
    from prefect_mlops.core.evaluation.importance import Importances
    from prefect_mlops.core.specs.model import ModelSpec
    from prefect_mlops.core.values import Split

BEHAVIOUR_ROWS = 100_000  # more rows do not change a curve of ten points
BINS = 10


MAX_REASON = 200  # scikit-learn's messages can quote whole arrays

CardPart = TypeVar("CardPart")


def measure_model(estimator: Any, *, spec: ModelSpec, split: Split) -> Measurements:
    """Measure what a model's card tells beside its scores, and what its training rows looked like.

    Each part is made on its own: one that cannot be made is None, or empty, and noted in ``left_out``.

    Args:
        estimator: fitted scikit-learn compatible estimator.
        spec: its recipe; the importances are those of the first gate's metric, shuffled by its seed.
        split: training rows, which the drift baseline describes, and test rows, which everything else is measured on.

    Returns:
        For `write_card`, and for the weights of `save_training_profile`.

    Source: `sklearn.inspection.permutation_importance`, `sklearn.calibration.calibration_curve`.
    """
    parts, seed = _Parts(), spec.seed
    importances = parts.make("Importances", lambda: _importances(estimator, spec, split))
    behaviour = parts.make(
        "Calibration, confusion or residuals",
        lambda: measure_behaviour(estimator, split.X_test, split.y_test, seed=seed, positive=spec.positive),
    )
    first = [each.column for each in importances.columns] if importances else []
    target = parts.make("Target", lambda: _target(estimator, split))
    baseline = parts.make("Drift baseline", lambda: data.describe_columns(split.X_train, first=first))
    return Measurements(
        importances=importances,
        calibration=behaviour if isinstance(behaviour, Calibration) else None,
        residuals=behaviour if isinstance(behaviour, Residuals) else None,
        confusion=behaviour if isinstance(behaviour, Confusion) else None,
        target=target,
        baseline=baseline or (),
        left_out=tuple(parts.left_out),
    )


class _Parts:
    """Makes parts of the card and keeps the reasons why some could not be made."""

    def __init__(self) -> None:
        self.left_out: list[Fact] = []

    def make(self, name: str, made: Callable[[], CardPart]) -> CardPart | None:
        try:
            return made()
        except NotMeasurableError as error:
            self.left_out.append(Fact(name=name, value=str(error)))
        except Exception as error:  # noqa: BLE001 - a user's own estimator or metric raises what it likes
            reason = one_line(error, MAX_REASON).encode("utf-8", "replace").decode()
            self.left_out.append(Fact(name=name, value=f"{type(error).__name__}: {reason}"))
        return None


def _importances(estimator: Any, spec: ModelSpec, split: Split) -> Importances:
    return measure_importances(
        estimator, split.X_test, split.y_test, metric=spec.gates[0].scorer, seed=spec.seed, positive=spec.positive
    )


def _target(estimator: Any, split: Split) -> Target:
    from sklearn.base import is_regressor

    return data.describe_target(split.y_train, split.y_test, classes=not is_regressor(estimator))


def measure_behaviour(
    estimator: Any, X: pd.DataFrame, y: pd.Series, *, seed: int, positive: object = None
) -> Calibration | Residuals | Confusion:
    """Measure calibration, residuals or confusion, whichever fits the estimator.

    Args:
        estimator: fitted scikit-learn compatible estimator.
        X: features of the test rows, (rows, columns); a seeded sample of at most `BEHAVIOUR_ROWS` is used.
        y: ground truth, (rows,).
        seed: of the sample.
        positive: the one of two classes whose probability is calibrated; None takes the last in order.

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
    if not (is_classifier(estimator) or is_regressor(estimator)):
        raise NotMeasurableError(f"{estimator_name(estimator)} is neither a classifier nor a regressor")
    with one_thread():
        return _residuals(estimator, X, y) if is_regressor(estimator) else _classifier(estimator, X, y, positive)


def _classifier(estimator: Any, X: pd.DataFrame, y: pd.Series, positive: object) -> Calibration | Confusion:
    if len(estimator.classes_) != 2:  # noqa: PLR2004 - a probability of one of two classes is one number
        return _confusion(estimator, X, y)
    if not hasattr(estimator, "predict_proba"):
        note = f"{estimator_name(estimator)} has no predict_proba, so there is no calibration curve."
        return _confusion(estimator, X, y).model_copy(update={"note": note})
    return _calibration(estimator, X, y, estimator.classes_[1] if positive is None else positive)


def _calibration(estimator: Any, X: pd.DataFrame, y: pd.Series, positive: object) -> Calibration:
    import numpy as np
    from scipy.stats import binomtest
    from sklearn.calibration import calibration_curve

    place = np.asarray(estimator.classes_).tolist().index(positive)
    predicted = np.asarray(estimator.predict_proba(X), dtype="float64")[:, place]
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


def _residuals(estimator: Any, X: pd.DataFrame, y: pd.Series) -> Residuals:
    import numpy as np

    predicted = np.asarray(estimator.predict(X), dtype="float64")
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


def _confusion(estimator: Any, X: pd.DataFrame, y: pd.Series) -> Confusion:
    import numpy as np
    import pandas as pd

    predicted = pd.Series(np.asarray(estimator.predict(X)).ravel(), index=y.index, dtype=object)
    y_true = y.astype(object)
    classes = list(estimator.classes_)
    if len(classes) > MAX_CLASSES:
        frequent = y_true.value_counts().index[:MAX_CLASSES]
        classes = [label for label in classes if label in set(frequent)]
    code_of = {label: code for code, label in enumerate(classes)}
    codes = [side.map(code_of).fillna(len(classes)).to_numpy(dtype="int64") for side in (y_true, predicted)]
    counts = np.zeros((len(classes) + 1, len(classes) + 1), dtype="int64")
    np.add.at(counts, (codes[0], codes[1]), 1)
    size = len(classes) + int(counts[-1].any() or counts[:, -1].any())
    return Confusion(
        labels=(*(plain(label) for label in classes), OTHER)[:size],
        counts=tuple(tuple(int(count) for count in line[:size]) for line in counts[:size]),
    )
