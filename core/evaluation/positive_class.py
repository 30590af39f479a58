"""The positive class: two classes of any kind as 0 and 1, for metrics that score one class against the other.

scikit-learn's scorers take 1 as the positive class, so ``f1`` or ``average_precision`` of "No" and "Yes" fail. With the
positive class given, labels and predictions are coded for them; the model stays as it is, and so does its target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.evaluation.model_view import ModelView
from prefect_mlops.core.lineage.training_data import estimator_name
from prefect_mlops.core.text import listed, show

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.metrics import Metric

OF_ONE_CLASS = frozenset(  # scores of one of two classes, which scikit-learn takes to be 1, or the last in order
    {
        *("average_precision", "f1", "jaccard", "precision", "recall", "neg_brier_score", "d2_brier_score"),
        *("positive_likelihood_ratio", "neg_negative_likelihood_ratio"),
    }
)
LABELS = "prefect_mlops.labels"  # on the attrs of coded labels: what 0 and 1 stand for
MAX_NAMED = 8  # classes named in a message; beyond it the count says enough
_BINARY = 2


class BinaryView(ModelView):
    """Takes the place of a fitted classifier of two classes in scorers: 1 is the positive class, 0 the other one.

    All that is not named here is the model's.

    Attributes:
        model: the fitted classifier.
        classes_: 0 and 1.
    """

    def __init__(self, estimator: Any, positive: object, *, name: str) -> None:
        """Check that the model has two classes, of which one is the positive one.

        Args:
            estimator: fitted classifier.
            positive: the positive class.
            name: what messages call it.

        Raises:
            ConfigError: it has not two classes, or none of them is the positive one.
        """
        import numpy as np

        self.model = estimator
        self.classes_ = np.array([0, 1])
        self._positive = positive
        self._last = _place(estimator, positive, name=name) == 1

    def _predicted(self, method: str, X: pd.DataFrame) -> NDArray[Any]:
        import numpy as np

        answers = np.asarray(getattr(self.model, method)(X))
        if method == "predict":
            return np.asarray(answers == self._positive).astype("int64")
        if self._last:
            return answers
        return -answers if method == "decision_function" else answers[:, ::-1]


def _place(estimator: Any, positive: object, *, name: str) -> int:
    """Return the place of the positive class among the two classes of a classifier."""
    given = f"positive={positive!r:.80}"
    learned = learned_classes(estimator)
    if learned is None:
        raise ConfigError(f"{given}: {name} has no classes; only a classifier of two classes has a positive one")
    if len(learned) != _BINARY:
        raise ConfigError(
            f"{given}: {name} has {len(learned)} classes, {named(learned)}; only of two one can be the positive one"
        )
    if positive not in learned:
        raise ConfigError(f"{given} is none of the classes of {name}: {named(learned)}")
    return learned.index(positive)


def coded_labels(y: pd.Series, positive: object) -> pd.Series:
    """Code a target of two classes: 1 for the positive one.

    Args:
        y: ground truth, (rows,).
        positive: the positive class.

    Returns:
        0 or 1 for each row, (rows,), with the index of ``y``.

    Raises:
        ConfigError: more than two classes, two without the positive one, or a row without a class.
    """
    given, missing = f"positive={positive!r:.80}", int(y.isna().sum())
    classes = sorted(y.dropna().unique().tolist(), key=str)
    if missing:
        raise ConfigError(f"{given}: {missing:,} of {len(y):,} rows have no class: leave them out")
    if len(classes) > _BINARY:
        raise ConfigError(f"{given}: the target has {len(classes):,} classes, {named(classes)}; it is for two")
    if len(classes) == _BINARY and positive not in classes:
        raise ConfigError(f"{given} is none of the classes of the target: {named(classes)}")
    coded = (y == positive).astype("int64")
    coded.attrs[LABELS] = {int(label == positive): label for label in classes}
    return coded


def seen_by(metric: Metric, estimator: Any, y: pd.Series, positive: object) -> tuple[Any, pd.Series]:
    """Return a model and a target as a metric sees them: coded for a scorer's name, as they are for a function.

    Raises:
        ConfigError: a positive class is given, and model or target have not two classes with it.
    """
    if positive is None or callable(metric):
        return estimator, y
    return BinaryView(estimator, positive, name=estimator_name(estimator)), coded_labels(y, positive)


def require_positive(metric: Metric, y: pd.Series, positive: object) -> None:
    """Check that a metric has the positive class it needs.

    Args:
        metric: scikit-learn scorer name; a function needs none.
        y: ground truth, (rows,).
        positive: the positive class; None where none was given.

    Raises:
        ConfigError: the metric scores one of two classes, which are text, and none is given; or one is given, and the
            target has not two classes with it.
    """
    import pandas as pd
    from pandas.api import types

    if callable(metric):
        return
    if positive is not None:
        coded_labels(y, positive)
        return
    if metric not in OF_ONE_CLASS or types.is_numeric_dtype(y) or types.is_bool_dtype(y):
        return
    classes = pd.Series(y).dropna().unique().tolist()
    if len(classes) == _BINARY and any(isinstance(label, str) for label in classes):
        raise ConfigError(f"metric {metric!r} scores one of two classes: {which(classes)}")


def which(classes: list[Any]) -> str:
    """Ask for the positive one of two classes."""
    ways = " or ".join(f"positive={show(repr(label))}" for label in sorted(classes, key=str))
    return f"say which is the positive one, {ways}"


def learned_classes(estimator: Any) -> list[Any] | None:
    """Return the classes of a fitted classifier in its order; None for an estimator without."""
    import numpy as np

    found = getattr(estimator, "classes_", None)
    return None if found is None else np.asarray(found).ravel().tolist()


def unlearned_classes(estimator: Any, y: pd.Series, *, name: str) -> str:
    """Say which classes of some rows a classifier has not learned.

    Args:
        estimator: fitted.
        y: ground truth, (rows,).
        name: what the sentence calls the estimator.

    Returns:
        A sentence with the classes and the number of their rows; empty where there are none.
    """
    learned = learned_classes(estimator)
    if learned is None:
        return ""
    known = set(learned)
    counts = y.value_counts()
    new = {label: rows for label, rows in counts[counts > 0].items() if label not in known}
    if not new:
        return ""
    word = "class" if len(new) == 1 else "classes"
    return (
        f"{name} has not learned {word} {named(list(new))}, so it cannot be right on {sum(new.values()):,} of the "
        f"{len(y):,} test rows; it knows {named(learned)}."
    )


def named(classes: list[Any]) -> str:
    """List classes as Python writes them, so that 1 and '1' differ."""
    return listed([show(repr(label)) for label in classes], MAX_NAMED)
