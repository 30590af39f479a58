"""Fit an estimator so that the result can be explained and repeated."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lineage.training_data import UNTIL_ATTRIBUTE, Lineage, attach, estimator_name, training_digest
from prefect_mlops.core.text import one_line
from prefect_mlops.tasks._estimators import require_classes, require_rows, seeded_copy
from prefect_mlops.tasks._step import run_logger, step

if TYPE_CHECKING:
    import pandas as pd

MAX_NAMED_COLUMNS = 5


def _run_name(parameters: dict[str, Any]) -> str:
    return f"train-{estimator_name(parameters['estimator'])}-on-{len(parameters['X'])}-rows"


@step(_run_name)
def train_model(estimator: Any, X: pd.DataFrame, y: pd.Series, *, seed: int = 0) -> Any:
    """Fit a copy of an estimator.

    Every ``random_state`` the estimator leaves at None, however deep, is set to ``seed``: without it a forest or a
    boosting differs each time and cannot be reproduced. What it was trained on is left on the fitted model
    (`core.lineage.training_data`), from where `log_run` writes it to MLflow.

    Args:
        estimator: scikit-learn compatible estimator or pipeline; it is cloned, never changed.
        X: features, (rows, columns).
        y: target, (rows,), in the order of ``X``.
        seed: for everything random that has no seed yet.

    Returns:
        The fitted copy.

    Raises:
        ConfigError: not an estimator, or estimator and table do not go together.
        DataCheckError: no rows, rows that do not match, or one class only.

    Source: `sklearn.base.clone`, the estimator's own ``fit``.
    """
    model = seeded_copy(estimator, seed)
    require_rows(X, y)
    require_classes(model, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(X, y)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"training {type(model).__name__} failed: {_why(error, X)}") from error
    _log_once(caught)
    attach(model, _lineage(X, y, seed))
    return model


def _why(error: Exception, X: pd.DataFrame) -> str:
    text = one_line(error)
    columns = [str(name) for name in getattr(X, "columns", [])]
    if "NaN" in text or "missing" in text:
        holes = [name for place, name in enumerate(columns) if X.iloc[:, place].isna().any()]
        return f"{text} Columns with missing values: {_listed(holes)}; add an imputer to the pipeline."
    if "could not convert" in text:
        words = [name for place, name in enumerate(columns) if X.iloc[:, place].dtype.kind not in "biuf"]
        return f"{text}. Columns that are not numbers: {_listed(words)}; add an encoder to the pipeline."
    return text


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED_COLUMNS} more" if len(names) > MAX_NAMED_COLUMNS else ""
    return ", ".join(repr(name) for name in names[:MAX_NAMED_COLUMNS]) + more


def _lineage(X: pd.DataFrame, y: pd.Series, seed: int) -> Lineage:
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
        until=frame.attrs.get(UNTIL_ATTRIBUTE),
    )


def _log_once(caught: list[warnings.WarningMessage]) -> None:
    """Show each warning of a fit once, in the run's log, instead of once a thread on stderr."""
    for message in dict.fromkeys(one_line(item.message) for item in caught):
        run_logger().warning(message)
