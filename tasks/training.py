"""Train a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_mlops.core.lineage.training_data import estimator_name
from prefect_mlops.core.training.fit import fit_estimator
from prefect_mlops.tasks._step import run_logger, step

if TYPE_CHECKING:
    import pandas as pd


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
    return fit_estimator(estimator, X, y, seed=seed, warn=run_logger().warning)
