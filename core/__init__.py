"""The ground floor: values, errors, settings, the lake, digests and statistics. Knows no Prefect task and no MLflow."""

from prefect_mlops.core.errors import (
    BackendError,
    CheckError,
    ConfigError,
    ConflictError,
    DataCheckError,
    DriftError,
    GateError,
    MLOpsError,
    PerformanceError,
)
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.dataset import DatasetSpec
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.specs.policies import Drift, Limits, Retrain, Tune
from prefect_mlops.core.values import (
    Decision,
    Evaluation,
    Gate,
    LoadedModel,
    LoggedRun,
    ModelVersion,
    Split,
    TableRef,
)

__all__ = [
    "BackendError",
    "Check",
    "CheckError",
    "ConfigError",
    "ConflictError",
    "DataCheckError",
    "DatasetSpec",
    "Decision",
    "Drift",
    "DriftError",
    "Evaluation",
    "Gate",
    "GateError",
    "Limits",
    "LoadedModel",
    "LoggedRun",
    "MLOpsError",
    "ModelSpec",
    "ModelVersion",
    "PerformanceError",
    "Report",
    "Retrain",
    "Split",
    "TableRef",
    "Tune",
]
