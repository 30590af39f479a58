"""Scores by scikit-learn scorer names, with every reason a score cannot be computed said in words."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, DataCheckError, unknown_name
from prefect_mlops.core.reports import Check, Report

if TYPE_CHECKING:
    import pandas as pd

MAX_REASON_LENGTH = 200  # scikit-learn's own messages can quote whole arrays


def require_metrics(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return the metric names once each, in order.

    Raises:
        ConfigError: none was given, or one is not a scikit-learn scorer name.
    """
    from sklearn.metrics import get_scorer_names

    names = tuple(dict.fromkeys([metrics] if isinstance(metrics, str) else metrics))
    if not names:
        raise ConfigError("no metric was given: name at least one scikit-learn scorer, e.g. 'roc_auc' or 'r2'")
    known = get_scorer_names()
    for name in names:
        if name not in known:
            raise unknown_name("metric", name, known, hint="Metrics are scikit-learn scorer names; larger is better.")
    return names


def score_model(model: Any, X: pd.DataFrame, y: pd.Series, *, metrics: Iterable[str]) -> dict[str, float]:
    """Score a fitted estimator.

    Args:
        model: fitted scikit-learn compatible estimator.
        X: features, (rows, columns).
        y: truth, (rows,), in the order of ``X``.
        metrics: scorer names; larger is better for each.

    Returns:
        Finite value by scorer name.

    Raises:
        ConfigError: unknown metric, or one that does not fit the model or the target.
        DataCheckError: no rows, or a score that is not defined on these rows (one class only).

    Source: `sklearn.metrics.get_scorer`.
    """
    from sklearn.metrics import get_scorer

    names = require_metrics(metrics)
    if len(X) == 0:
        raise _undefined("rows", "there are no rows to score")
    return {name: _finite(name, _one(get_scorer(name), name, model, X, y), y) for name in names}


def _one(scorer: Any, name: str, model: Any, X: pd.DataFrame, y: pd.Series) -> float:
    with warnings.catch_warnings():
        # "Only one class is present": said again, with the name of the metric, by the check for NaN.
        warnings.filterwarnings("ignore", message="Only one class is present")
        try:
            return float(scorer(model, X, y))
        except (ValueError, TypeError, AttributeError) as error:
            if _classes(y) == 1:
                raise _undefined(name, _one_class(y)) from error
            raise ConfigError(
                f"metric {name!r} cannot be computed for {type(model).__name__}: {_reason(error)}{_hint(name, y)}"
            ) from error


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

    return f"the target has one value only, {pd.Series(y).tolist()[0]!r}, in {len(y)} rows"


def _undefined(metric: str, why: str) -> DataCheckError:
    check = Check(name="score is defined", passed=False, subject=metric, observed=why, expected="a finite number")
    return DataCheckError(
        f"{metric} is not defined: {why}", Report(kind="data", subject="scored rows", checks=(check,))
    )


def _hint(name: str, y: pd.Series) -> str:
    """Point from a binary metric to the one for more classes, the commonest wrong choice."""
    many = {"roc_auc": "roc_auc_ovr", "f1": "f1_macro", "precision": "precision_macro", "recall": "recall_macro"}
    binary = 2
    if name not in many:
        return ""
    if _classes(y) > binary:
        return f". The target has {_classes(y)} classes: use {many[name]!r}"
    return f". For labels other than 0 and 1 use {many[name]!r}" if name != "roc_auc" else ""


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= MAX_REASON_LENGTH else text[: MAX_REASON_LENGTH - 1] + "…"
