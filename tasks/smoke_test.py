"""Try a registered model in a clean process before it may serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_mlops.tasks._step import step
from prefect_mlops.tracking.smoke_test import smoke_test_version

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.specs.policies import Limits
    from prefect_mlops.core.values import ModelVersion


@step("rehearse-{version.name}-v{version.version}", backend=True)
def smoke_test_model(version: ModelVersion, limits: Limits | None = None) -> Report:
    """Load a version from the registry in a clean process, and ask it again for what it predicted at training.

    The process has the path of this one and none of its secrets; it takes the model with the safe loader only. What it
    costs to run is measured there too: without a limit it is reported in a note.

    Args:
        version: from `register_model`.
        limits: what it may cost: MB on disk, seconds per 1,000 rows, MB of memory; None measures only.

    Returns:
        A report of kind ``gate``: fails where the model is refused, crashes or hangs, has no stored rows, predicts
        another bit than at training, or costs more than it may.

    Raises:
        BackendError: MLflow failed; retried.

    Source: peak memory from Linux' ``VmHWM``, elsewhere from ``getrusage``; time is the median of a few predictions.
    """
    return smoke_test_version(version, limits)
