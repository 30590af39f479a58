"""Fit an estimator so that the result can be explained and repeated."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lineage.sides import SideRule
from prefect_mlops.core.lineage.training_data import HOLDOUT_ATTRIBUTE, Lineage, attach, training_digest
from prefect_mlops.core.text import listed, one_line
from prefect_mlops.core.training.estimators import require_classes, require_rows, seeded_copy

if TYPE_CHECKING:
    import pandas as pd

MAX_NAMED_COLUMNS = 5


_logger = logging.getLogger(__name__)


def fit_estimator(
    estimator: Any, X: pd.DataFrame, y: pd.Series, *, seed: int = 0, warn: Callable[[str], object] = _logger.warning
) -> Any:
    """Fit a copy of an estimator.

    Every ``random_state`` the estimator leaves at None, however deep, is set to ``seed``: without it a forest or a
    boosting differs each time and cannot be reproduced. What it was trained on is left on the fitted copy
    (`core.lineage.training_data`), from where it is written to MLflow.

    Args:
        estimator: scikit-learn compatible estimator or pipeline; it is cloned, never changed.
        X: features, (rows, columns).
        y: target, (rows,), in the order of ``X``.
        seed: for everything random that has no seed yet.
        warn: called once with each warning of the fit, instead of once a thread on stderr.

    Returns:
        The fitted copy.

    Raises:
        ConfigError: not an estimator, or estimator and table do not go together.
        DataCheckError: no rows, rows that do not match, or one class only.

    Source: `sklearn.base.clone`, the estimator's own ``fit``.
    """
    fitted = fit_copy(estimator, X, y, seed=seed, warn=warn)
    attach(fitted, _lineage(X, y, seed, warn))
    return fitted


def fit_copy(estimator: Any, X: pd.DataFrame, y: pd.Series, *, seed: int, warn: Callable[[str], object]) -> Any:
    """Fit a copy of an estimator as `fit_estimator` does, without a lineage: for copies that only judge a recipe."""
    fitted = seeded_copy(estimator, seed)
    require_rows(X, y)
    require_classes(fitted, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted.fit(X, y)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"training {type(fitted).__name__} failed: {_why(error, X)}") from error
    for message in dict.fromkeys(one_line(item.message) for item in caught):
        warn(message)
    return fitted


def _why(error: Exception, X: pd.DataFrame) -> str:
    text = one_line(error)
    columns = [str(name) for name in getattr(X, "columns", [])]
    if "NaN" in text or "missing" in text:
        holes = [name for place, name in enumerate(columns) if X.iloc[:, place].isna().any()]
        names = listed([repr(name) for name in holes], MAX_NAMED_COLUMNS)
        return f"{text} Columns with missing values: {names}; add an imputer to the pipeline."
    if "could not convert" in text:
        words = [name for place, name in enumerate(columns) if X.iloc[:, place].dtype.kind not in "biuf"]
        names = listed([repr(name) for name in words], MAX_NAMED_COLUMNS)
        return f"{text}. Columns that are not numbers: {names}; add an encoder to the pipeline."
    return text


def _lineage(X: pd.DataFrame, y: pd.Series, seed: int, warn: Callable[[str], object]) -> Lineage:
    import pandas as pd

    from prefect_mlops.core.tables.digests import column_kinds
    from prefect_mlops.core.tables.read import source_of

    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X)
    truth = y if isinstance(y, pd.Series) else pd.Series(y)
    return Lineage(
        digest=training_digest(frame, truth),
        rows=len(frame),
        columns=column_kinds(frame),
        gaps=tuple(str(name) for place, name in enumerate(frame.columns) if frame.iloc[:, place].isna().any()),
        target="" if truth.name is None else str(truth.name),
        source=source_of(frame),
        seed=seed,
        **_holdout(frame, warn),
    )


def _holdout(X: pd.DataFrame, warn: Callable[[str], object]) -> dict[str, Any]:
    """Return what a split left on its training rows, where it still holds for them.

    Rows that were changed since, such as scaled, have other hashes: a later judge would take rows that the model has
    learned from for unseen ones.
    """
    known: dict[str, Any] = json.loads(X.attrs.get(HOLDOUT_ATTRIBUTE, "{}"))
    rule = SideRule.model_validate(known["rule"]) if known.get("rule") else None
    if rule is not None and not rule.missing(X.columns) and rule.on_test_side(X).any():
        warn(
            "the training rows are not as they were split, so no later judge can tell which rows this model has "
            "learned from: change features before split_table, or in steps of the estimator's pipeline"
        )
        return {}
    return known
