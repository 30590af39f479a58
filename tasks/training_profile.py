"""The training profile: a summary of the training rows, kept with the model for drift detection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_mlops.core.drift.training_profile import profile_split
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.tasks._step import run_logger, step
from prefect_mlops.tracking.training_profiles import log_training_profile, read_training_profile

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.drift.training_profile import TrainingProfile
    from prefect_mlops.core.evaluation.importance import Importances
    from prefect_mlops.core.specs.model import ModelSpec
    from prefect_mlops.core.values import LoggedRun, ModelVersion, Split


@step("keep-reference-of-{spec.name}", backend=True)
def save_training_profile(
    estimator: Any,
    *,
    spec: ModelSpec,
    split: Split,
    table: pd.DataFrame | None = None,
    run: LoggedRun | None = None,
    importances: Importances | None = None,
) -> TrainingProfile:
    """Summarise what a model was trained on, and keep it with the model's run.

    Ten thousand of the training rows go with it, for pages and predictions: who may read the run may read them.

    Args:
        estimator: the fitted one.
        spec: its recipe.
        split: training rows; of the test rows the model's predictions are summarised, and what each feature is worth.
        table: what the split was made of, for the order in time where the spec has an ``order_by``: neighbouring rows
            give the block baseline. Without it rows are taken in their own order.
        run: MLflow run that gets the folder ``reference/``; None keeps nothing.
        importances: what each feature is worth, where that is known already, as from the model's card.

    Returns:
        The reference, for `detect_drift`.

    Raises:
        BackendError: MLflow failed; tried again.

    Source: `core.drift.training_profile`; `sklearn.inspection.permutation_importance` for the weights.
    """
    profile = profile_split(estimator, spec=spec, split=split, table=table, importances=importances)
    if run is not None:
        log_training_profile(profile, run)
    return profile


@step("find-reference-of-{version.name}-v{version.version}", backend=True)
def find_training_profile(version: ModelVersion) -> TrainingProfile | None:
    """Find what was kept of a version's training data.

    Args:
        version: which one.

    Returns:
        The reference; None where none was kept, or where it is damaged, which the log tells.

    Raises:
        BackendError: MLflow failed; tried again.
    """
    try:
        return read_training_profile(version)
    except ConfigError as error:
        run_logger().warning("The reference of %s v%s is not used: %s", version.name, version.version, error)
        return None
