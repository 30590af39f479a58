"""The verbs: one Prefect task for each step of a model's life."""

from prefect_mlops.tasks import _plain_logs
from prefect_mlops.tasks.data_validation import split_bad_rows, validate_table
from prefect_mlops.tasks.drift import detect_drift
from prefect_mlops.tasks.evaluation import evaluate_model, judge_model
from prefect_mlops.tasks.ingestion import ingest_file
from prefect_mlops.tasks.registry import (
    find_decision,
    find_model,
    load_model,
    promote_model,
    record_decision,
    register_model,
)
from prefect_mlops.tasks.reporting import announce, publish_report, require
from prefect_mlops.tasks.splitting import split_table
from prefect_mlops.tasks.tables import load_table
from prefect_mlops.tasks.tracking import log_run
from prefect_mlops.tasks.training import train_model

_plain_logs.install()

__all__ = [
    "announce",
    "detect_drift",
    "evaluate_model",
    "find_decision",
    "find_model",
    "ingest_file",
    "judge_model",
    "load_model",
    "load_table",
    "log_run",
    "promote_model",
    "publish_report",
    "record_decision",
    "register_model",
    "require",
    "split_bad_rows",
    "split_table",
    "train_model",
    "validate_table",
]
