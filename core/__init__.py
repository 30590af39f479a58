"""The lowest layer: values, errors, specs, the lake, statistics. Imports neither Prefect nor MLflow.

The kernel, which every package below may import:

- ``errors``: the hierarchy of errors, and messages for unknown names and for object storage
- ``values``: frozen JSON values that tasks exchange: `TableRef`, `Gate`, `Decision`, `ModelVersion`, ...
- ``reports``: `Check` and `Report`, the one vocabulary for every verdict
- ``metrics``: what a metric may be: a scikit-learn scorer's name or a function
- ``settings``: settings of a site, read from the environment
- ``addresses``: addresses of the lake's tables and their inverse
- ``tags``: names of MLflow tags and artifact paths
- ``processes``: child processes that end with their parent, and free ports
- ``text``: text for people: one line, cut; times; escaped markdown
- ``drawing``: what SVG drawings share
- ``imports``: importing large libraries, and ending a program quickly

The packages, lowest first:

- ``specs``: `DatasetSpec`, `ModelSpec` and policies
- ``tables``: reading tables, whole or in chunks; digests over cells
- ``lake``: Delta tables: ingest, ledger, quarantine, compaction
- ``lineage``: training data, code and environment of a model
- ``training``: splitting rows, fitting an estimator
- ``model_files``: loading model files safely; smoke test
- ``evaluation``: scores, confidence intervals, gates, slices
- ``promotion``: history of decisions, lock, retrain guards, tampering
- ``drift``: profiles, statistical tests, monitoring runs
- ``live``: labels, stored predictions, degradation
- ``cards``: model cards
- ``trace``: from a prediction back to data, code and decision
"""

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
from prefect_mlops.core.specs.policies import Degradation, Drift, Limits, Retrain, Tune
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
    "Degradation",
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
