"""Stored predictions, scored in place of the estimator that made them.

One column of predictions holds a number, a class, or a probability of the positive class. That decides which scorers
can be computed; others, such as those that need one probability for each class, are refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.evaluation.estimates import Rows, ScoreEstimate, measure
from prefect_mlops.core.evaluation.predictions import CachedPredictions
from prefect_mlops.core.text import show

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.evaluation.resampling_units import ResamplingUnits

MAX_CLASSES = 100  # more are numbers, not classes
MIN_OF_CLASS = 5  # rows of either class of a binary target
RANKED = ("roc_auc", "average_precision")
OF_PROBABILITIES = ("neg_brier_score", "neg_log_loss")
_SHARES = ("f1", "precision", "recall", "jaccard")
OF_CLASSES = (
    *("accuracy", "balanced_accuracy", "matthews_corrcoef"),
    *(name + average for name in _SHARES for average in ("", "_macro", "_micro", "_weighted")),
)
IN_UNITS = ("neg_mean_absolute_error", "neg_mean_squared_error", "neg_root_mean_squared_error")
OF_NUMBERS = (
    *("r2", "explained_variance", *IN_UNITS, "neg_mean_absolute_percentage_error"),
    *("neg_mean_squared_log_error", "neg_root_mean_squared_log_error"),
)
WORKING = (*RANKED, *OF_PROBABILITIES, *OF_CLASSES, *OF_NUMBERS)
_BINARY = 2
_THRESHOLD = 0.5  # above it a probability means the positive class, as in `predict` of scikit-learn's classifiers


@dataclass(frozen=True)
class StoredPredictions:
    """Stored predictions and labels of the labelled rows, as one metric needs them.

    Attributes:
        metric: scikit-learn scorer name.
        cached: the predictions, in place of the model.
        y: labels, (rows,), numbered from 0.
        both_needed: the score needs rows of both classes.
        note: how the predictions were read, where that is not obvious.
    """

    metric: str
    cached: CachedPredictions
    y: pd.Series
    both_needed: bool = False
    note: str = ""

    def problem(self, chosen: NDArray[Any]) -> str:
        """Return why the metric cannot be computed on some of the rows; empty where it can."""
        if not self.both_needed:
            return ""
        counts = self.y.iloc[chosen].value_counts()
        if len(counts) < _BINARY:
            return f"one class only in {len(chosen):,} labelled rows"
        if counts.min() < MIN_OF_CLASS:
            return f"{counts.min()} rows of one class, at least {MIN_OF_CLASS} are needed"
        return ""

    def measure(self, units: ResamplingUnits, chosen: NDArray[Any]) -> ScoreEstimate:
        """Score some of the rows.

        Raises:
            ConfigError: the metric does not fit the values.
            DataCheckError: the score is not defined on these rows.
        """
        with warnings.catch_warnings():  # scikit-learn's, about classes that a window does not have
            warnings.simplefilter("ignore", UserWarning)
            return measure(self.metric, self.cached, Rows(self.y, units), chosen)


def require_working(metrics: object) -> tuple[str, ...]:
    """Return the metrics once each, in order.

    Raises:
        ConfigError: none was given, or one cannot be computed from one stored column of predictions.
    """
    given = [metrics] if isinstance(metrics, str) or callable(metrics) else list(metrics)  # type: ignore[call-overload]
    if not given:
        raise ConfigError("no metric was given: name at least one scikit-learn scorer, e.g. 'roc_auc' or 'r2'")
    for metric in given:
        if not isinstance(metric, str):
            raise ConfigError(
                f"metric {getattr(metric, '__name__', metric)!r:.80} is a function, and would need the model and its "
                f"features: stored predictions can be scored by {', '.join(WORKING)}"
            )
        if metric not in WORKING:
            hint = "These can be computed from one stored column of predictions: " + ", ".join(WORKING) + "."
            raise unknown_name("metric of stored predictions", metric, WORKING, hint=hint)
    return tuple(dict.fromkeys(given))


def read_stored(
    metric: str, predictions: pd.Series, labels: pd.Series, *, positive: object = None
) -> StoredPredictions | None:
    """Convert stored predictions to the form a metric needs.

    Args:
        metric: one of `WORKING`.
        predictions: of the labelled rows, (rows,).
        labels: ground truth of these rows, (rows,).
        positive: the positive class; None takes the last in order, as scikit-learn does.

    Returns:
        Predictions and labels as the metric needs them; None where all labels are of one class, which may be
        the positive one or not.

    Raises:
        ConfigError: predictions or labels are not what the metric needs.

    Source: `sklearn.metrics.get_scorer`, through `core.evaluation.estimates`.
    """
    if metric in OF_NUMBERS:
        predicted, y_true = _numbers(predictions, "predictions", metric), _numbers(labels, "labels", metric)
        return _stored(metric, _StoredNumbers(predicted), y_true)
    classes = _classes(labels, metric)
    plain = metric in _SHARES  # scores of the positive class; the others average over all classes
    if metric not in (*RANKED, *OF_PROBABILITIES) and not plain and len(classes) > _BINARY:
        return _stored_classes(metric, predictions, labels, positive=None)
    if len(classes) > _BINARY:
        working = "accuracy, balanced_accuracy, f1_macro"
        raise ConfigError(
            f"{metric} needs two classes, the labels hold {len(classes)}: {_listed(classes)}. "
            f"From a stored class can be computed: {working} and the other averages"
        )
    if positive is None:
        positive = _positive(classes)
    elif len(classes) == _BINARY and positive not in classes:
        raise ConfigError(f"positive={positive!r} is none of the labels: {_listed(classes)}")
    if metric in OF_CLASSES:
        return _stored_classes(metric, predictions, labels, positive=positive)
    if positive is None:
        return None
    predicted, y_true = _numbers(predictions, "predictions", metric), (labels == positive).to_numpy().astype("int64")
    if metric in RANKED:
        return _stored(metric, _StoredScores(predicted), y_true, both_needed=True)
    if predicted.min() < 0 or predicted.max() > 1:
        raise ConfigError(
            f"{metric} needs probabilities from 0 to 1, the predictions go from {predicted.min():g} to "
            f"{predicted.max():g}; {' and '.join(RANKED)} can be computed from any score"
        )
    return _stored(metric, _StoredProbabilities(predicted), y_true, both_needed=True)


def _stored_classes(
    metric: str, predictions: pd.Series, labels: pd.Series, *, positive: object
) -> StoredPredictions | None:
    """Number labels and predictions; a probability becomes a class."""
    import numpy as np
    import pandas as pd

    note, y_true, predicted = "", labels.astype(object), predictions.astype(object)
    if positive is not None and _are_probabilities(predictions, labels, positive):
        y_true, predicted = y_true == positive, predictions.astype("float64") > _THRESHOLD
        note = f"{metric}: a prediction above {_THRESHOLD:g} counts as class {show(positive)}."
        positive = True
    elif _is_text(labels) != _is_text(predictions):
        if positive is None and labels.nunique() == 1 and not _is_text(predictions):
            return None  # a probability, of one class or the other
        seen = f"a label is {show(labels.iloc[0])!r}, a prediction {show(predictions.iloc[0])!r}"
        raise ConfigError(
            f"{metric} compares classes: {seen}; keep the class as the labels spell it, or a probability of two classes"
        )
    binary = labels.nunique() <= _BINARY
    if metric in _SHARES:
        if positive is None:
            return None
        codes, count = (
            np.concatenate([(cells == positive).to_numpy() for cells in (y_true, predicted)]).astype("int64"),
            2,
        )
    else:
        codes, names = pd.factorize(np.concatenate([y_true.to_numpy(), predicted.to_numpy()]))
        count = len(names)
    both_needed = binary and metric != "accuracy" and not metric.endswith("_micro")
    rows = len(y_true)
    return _stored(metric, _StoredClasses(codes[rows:], count), codes[:rows], both_needed=both_needed, note=note)


def _are_probabilities(predictions: pd.Series, labels: pd.Series, positive: object) -> bool:
    """Check whether predictions are numbers from 0 to 1 that are not the classes themselves."""
    if _is_text(predictions):
        return False
    predicted = predictions.astype("float64")
    if predicted.min() < 0 or predicted.max() > 1:
        return False
    return bool(_is_text(labels) or positive not in (0, 1) or not predicted.isin([0, 1]).all())


def _stored(
    metric: str, estimator: Any, y_true: NDArray[Any], *, both_needed: bool = False, note: str = ""
) -> StoredPredictions:
    import numpy as np
    import pandas as pd

    nothing = pd.DataFrame(index=np.arange(len(y_true)))
    return StoredPredictions(metric, CachedPredictions(estimator, nothing), pd.Series(y_true), both_needed, note)


def _numbers(cells: pd.Series, role: str, metric: str) -> NDArray[Any]:
    import numpy as np
    import pandas as pd

    times = cells.dtype.kind in "mM"  # pandas would count their nanoseconds
    found = pd.Series(np.nan, cells.index) if times else pd.to_numeric(cells, errors="coerce")
    numbers = np.asarray(found.to_numpy(dtype="float64", na_value=np.nan))
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        raise ConfigError(f"{metric} needs numbers, the {role} hold {show(cells[wrong].iloc[0])!r}")
    return numbers


def _classes(labels: pd.Series, metric: str) -> list[Any]:
    """Return the classes among the labels, in order."""
    try:
        classes = labels.astype(object).unique().tolist()
    except TypeError:
        raise ConfigError("the labels hold values that cannot be compared, such as lists: one value a row") from None
    if len(classes) > MAX_CLASSES:
        raise ConfigError(
            f"{metric} is for classes, the labels hold {len(classes):,} values; for numbers there are: "
            f"{', '.join(OF_NUMBERS)}"
        )
    try:
        return sorted(classes)
    except TypeError:
        raise ConfigError(f"the labels hold values of several kinds: {_listed(classes)}") from None


def _positive(classes: list[Any]) -> object:
    """Take the last of two classes; with one class, only 0 and 1 show which it is."""
    if len(classes) == _BINARY:
        return classes[1]
    return 1 if classes and classes[0] in (0, 1) else None


def positive_note(metrics: Iterable[str], labels: pd.Series) -> str:
    """Say which of two classes that are text counts as the positive one where none was named; empty elsewhere."""
    one_sided = [metric for metric in metrics if metric in (*RANKED, *OF_PROBABILITIES, *_SHARES)]
    classes = sorted(map(str, labels.unique()))
    if not one_sided or len(classes) != _BINARY or not _is_text(labels):
        return ""
    first, last = map(show, classes)
    return f"Class {last!r} counts as the positive one, as the last in order; positive= can name {first!r}."


def _is_text(cells: pd.Series) -> bool:
    from pandas.api import types

    kind = cells.dtype
    if types.is_object_dtype(kind):
        return types.infer_dtype(cells, skipna=True) not in ("boolean", "integer", "floating", "mixed-integer-float")
    return not (types.is_numeric_dtype(kind) or types.is_bool_dtype(kind))


def _listed(classes: list[Any]) -> str:
    shown = ", ".join(repr(show(value)) for value in classes[:5])
    return shown + (" ..." if len(classes) > 5 else "")  # noqa: PLR2004 - enough to see what they are


class _Stored:
    """The interface that scikit-learn's scorers use of a model, answered from stored predictions."""

    kind = "classifier"

    def __init__(self, predicted: NDArray[Any], classes: int = _BINARY) -> None:
        import numpy as np

        self._predicted = predicted
        if self.kind == "classifier":
            self.classes_ = np.arange(max(classes, _BINARY))

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=self.kind, target_tags=TargetTags(required=True))


class _StoredNumbers(_Stored):
    kind = "regressor"

    def predict(self, _: object) -> NDArray[Any]:
        return self._predicted


class _StoredClasses(_Stored):
    def predict(self, _: object) -> NDArray[Any]:
        return self._predicted


class _StoredScores(_Stored):
    def decision_function(self, _: object) -> NDArray[Any]:
        return self._predicted


class _StoredProbabilities(_Stored):
    def predict_proba(self, _: object) -> NDArray[Any]:
        import numpy as np

        return np.column_stack([1 - self._predicted, self._predicted])
