"""Scores by scikit-learn scorer names and custom metrics, with the reason where one cannot be computed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.evaluation.positive_class import (
    LABELS,
    OF_ONE_CLASS,
    BinaryView,
    require_positive,
    seen_by,
    which,
)
from prefect_mlops.core.evaluation.predictions import CachedPredictions
from prefect_mlops.core.metrics import Metric, metric_name, require_metrics
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.text import one_line

if TYPE_CHECKING:
    import pandas as pd


def score_model(
    estimator: Any, X: pd.DataFrame, y: pd.Series, *, metrics: Iterable[Metric], positive: object = None
) -> dict[str, float]:
    """Score a fitted estimator.

    Args:
        estimator: fitted scikit-learn compatible estimator.
        X: features, (rows, columns).
        y: ground truth, (rows,), in the order of ``X``.
        metrics: scorer names, and functions ``f(estimator, X, y) -> float``; larger is better for each.
        positive: the positive one of two classes, for scorer names; None leaves classes as they are.

    Returns:
        Finite value by the metric's name.

    Raises:
        ConfigError: unknown metric, or one that does not fit the model or the target.
        DataCheckError: no rows, or a score that is not defined on these rows (one class only).

    Source: `sklearn.metrics.get_scorer`.
    """
    wanted = require_metrics(metrics)
    if len(X) == 0:
        raise _undefined("rows", "there are no rows to score")
    scores = {}
    for metric in wanted:
        model, target = seen_by(metric, estimator, y, positive)
        scores[metric_name(metric)] = _finite(metric_name(metric), _one(metric, model, X, target), target)
    return scores


def _one(metric: Metric, estimator: Any, X: pd.DataFrame, y: pd.Series) -> float:
    from sklearn.metrics import get_scorer

    name = metric_name(metric)
    scorer = metric if callable(metric) else get_scorer(metric)
    require_positive(metric, y, None)
    # A custom metric may raise any exception.
    expected = (Exception,) if callable(metric) else (ValueError, TypeError, AttributeError)
    with warnings.catch_warnings():
        # "Only one class is present": the check for NaN reports it, with the name of the metric.
        warnings.filterwarnings("ignore", message="Only one class is present")
        try:
            return float(scorer(estimator, X, y))
        except expected as error:
            if _classes(y) == 1:
                raise _undefined(name, _one_class(y)) from error
            kind = "" if isinstance(error, (ValueError, TypeError, AttributeError)) else f"{type(error).__name__}: "
            raise ConfigError(
                f"metric {name!r} cannot be computed for {_kind(estimator)}: {kind}{one_line(error)}{_hint(name, y)}"
            ) from error


def _kind(estimator: Any) -> str:
    """Name the class of the model, also where predictions take its place."""
    while isinstance(estimator, (CachedPredictions, BinaryView)):
        estimator = estimator.model
    return type(estimator).__name__


def _finite(name: str, value: float, y: pd.Series) -> float:
    if math.isfinite(value):
        return value
    why = _one_class(y) if _classes(y) == 1 else f"its value is {value} on {len(y)} rows"
    raise _undefined(name, why)


def _classes(y: pd.Series) -> int:
    import pandas as pd

    return int(pd.Series(y).nunique())


def _one_class(y: pd.Series) -> str:
    import pandas as pd

    value, labels = pd.Series(y).tolist()[0], getattr(y, "attrs", {}).get(LABELS, {})
    return f"the target has one value only, {labels.get(value, value)!r}, in {len(y)} rows"


def _undefined(metric: str, why: str) -> DataCheckError:
    check = Check(
        id="score-defined",
        name="score is defined",
        passed=False,
        subject=metric,
        observed=why,
        expected="a finite number",
    )
    return DataCheckError(
        f"{metric} is not defined: {why}", Report(kind="data", subject="scored rows", checks=(check,))
    )


def _hint(name: str, y: pd.Series) -> str:
    """Point from a metric of one class to the one for more classes, or to the positive class that it needs."""
    import pandas as pd

    many = {"roc_auc": "roc_auc_ovr", "f1": "f1_macro", "precision": "precision_macro", "recall": "recall_macro"}
    binary = 2
    if name in many and _classes(y) > binary:
        return f". The target has {_classes(y)} classes: use {many[name]!r}"
    if name in OF_ONE_CLASS and _classes(y) == binary:
        return f": {which(pd.Series(y).dropna().unique().tolist())}"
    return ""
