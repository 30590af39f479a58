"""One Prefect task for each step of a model's life; thin wrappers around `core`, `data_checks` and `tracking`.

Data:

- `tables`: load a table from a file or the lake.
- `ingestion`: take pending files from the landing zone into the lake.
- `data_validation`: run a suite over a table, split bad rows off.
- `splitting`: split a table into training and test rows.
- `profiles`: profile a table in one pass, also in parts.

Training and evaluation:

- `training`: fit an estimator, keep the lineage of its data.
- `tuning`: search for hyperparameters.
- `evaluation`: score a model, compare a challenger with the champion, look for target leakage.
- `run_logging`: log a candidate to MLflow.
- `smoke_test`: ask a registered model about stored rows in a process of its own.
- `cards`: measure a model, write its model card.
- `training_profile`: save and find the profile of the training rows.

Promotion:

- `registry`: find, load, register, promote and roll back versions.
- `loop`: a package, the plumbing of the ready flows: training lock, decisions, approvals, monitoring runs.

Monitoring:

- `drift`: compare new data with the training profile, draw the page.
- `performance`: score stored predictions with the labels.

Runs and reports:

- `reporting`: stop on a report, emit events, publish artifacts.

Private:

- `_step`: what every task has in common, and the logger of a run.
- `flow_context`: which flow run calls, and the state of its code.
- `_search`, `_space`: Optuna and search space of `tuning`.
- `_intake`: read and check files that go into one commit.
- `_events`: names, resources and payloads of events.
- `_progress`: progress artifacts.
- `_plain_logs`: log errors of ours without a stack.
"""

from prefect_mlops.tasks import _plain_logs
from prefect_mlops.tasks.cards import measure_model, write_card
from prefect_mlops.tasks.data_validation import split_bad_rows, validate_table
from prefect_mlops.tasks.drift import detect_drift, draw_drift_page
from prefect_mlops.tasks.evaluation import check_leakage, evaluate_model, judge_model, judge_recipes
from prefect_mlops.tasks.ingestion import find_pending, ingest_files
from prefect_mlops.tasks.performance import evaluate_live
from prefect_mlops.tasks.profiles import profile_table
from prefect_mlops.tasks.registry import (
    find_model,
    find_version,
    load_model,
    promote_model,
    register_model,
    roll_back_model,
)
from prefect_mlops.tasks.reporting import emit_event, publish_report, require
from prefect_mlops.tasks.run_logging import log_run
from prefect_mlops.tasks.smoke_test import smoke_test_model
from prefect_mlops.tasks.splitting import split_table
from prefect_mlops.tasks.tables import load_table
from prefect_mlops.tasks.training import train_model
from prefect_mlops.tasks.training_profile import find_training_profile, save_training_profile
from prefect_mlops.tasks.tuning import tune_model

_plain_logs.install()

__all__ = [
    "check_leakage",
    "detect_drift",
    "draw_drift_page",
    "emit_event",
    "evaluate_live",
    "evaluate_model",
    "find_model",
    "find_pending",
    "find_training_profile",
    "find_version",
    "ingest_files",
    "judge_model",
    "judge_recipes",
    "load_model",
    "load_table",
    "log_run",
    "measure_model",
    "profile_table",
    "promote_model",
    "publish_report",
    "register_model",
    "require",
    "roll_back_model",
    "save_training_profile",
    "smoke_test_model",
    "split_bad_rows",
    "split_table",
    "train_model",
    "tune_model",
    "validate_table",
    "write_card",
]
