"""Log a candidate to MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.lineage.training_data import estimator_name
from prefect_mlops.tasks import flow_context
from prefect_mlops.tasks._step import run_logger, step
from prefect_mlops.tracking.candidates import log_candidate
from prefect_mlops.tracking.client import tracking_uri

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.values import Evaluation, LoggedRun


def _run_name(parameters: dict[str, Any]) -> str:
    return f"log-{estimator_name(parameters['estimator'])}-to-{parameters['experiment']}"


@step(_run_name, backend=True)
def log_run(
    estimator: Any,
    evaluation: Evaluation,
    *,
    experiment: str,
    example: pd.DataFrame | None = None,
    smoke_test_rows: pd.DataFrame | None = None,
    reports: Sequence[Report] = (),
    params: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
) -> LoggedRun:
    """Write one candidate to MLflow and end its run.

    The candidate's run is a child of one parent for the whole flow run. A retry finds both again by their tags, from
    threads, processes or other machines; the ambient active run and ``MLFLOW_RUN_ID`` are never used.

    Args:
        estimator: fitted scikit-learn compatible estimator, best from `train_model`, which leaves its lineage on it.
        evaluation: its scores.
        experiment: MLflow experiment; made when it is new.
        example: a few rows of features; gives the model its signature. Without it no signature is kept.
        smoke_test_rows: up to 200 rows of features that are kept as they are, with what the estimator predicts for
            them, so that `smoke_test_model` can ask it again before it is promoted; None keeps those of ``example``.
        reports: verdicts to keep with the run, as JSON and markdown.
        params: more parameters than the estimator's own.
        tags: more tags.

    Returns:
        Where it was written, with the address of exactly this model.

    Raises:
        ConfigError: the model holds types that are not trusted, or cannot be stored in the skops format.
        BackendError: MLflow failed; retried.

    Source: MLflow tracking and logged models; `skops.io` for the model file.
    """
    logged = log_candidate(
        estimator,
        evaluation,
        experiment=experiment,
        caller=flow_context.caller(),
        code=flow_context.code_of_run(),
        example=example,
        smoke_test_rows=smoke_test_rows,
        reports=reports,
        params=params,
        tags=tags,
        warn=run_logger().warning,
    )
    where = logged.url or f"run {logged.run_id} of {tracking_uri()}"
    run_logger().info("%s is in MLflow: %s", estimator_name(estimator), where)
    return logged
