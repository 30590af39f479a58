"""The plumbing of the ready flows: what they call around the steps of `prefect_mlops.tasks`.

A flow of your own needs these where it takes part in the closed loop: one training at a time, decided once, with
a history, approvals and alpha spending.

- `training_lock`: take the training lock of a model, free that of a run that was killed.
- `decisions`: find and record decisions, refuse a challenger, open the circuit breaker, note what happened beside.
- `approvals`: request approval of a person, find the open request, sign the answer of a person who may give it.
- `aliases`: let MLflow's aliases follow the histories.
- `monitoring`: number monitoring runs for alpha spending, record and show them.
- `profiles`: merge the profiles of the parts of a table.
- `quarantine`: find refused files, replay quarantined rows.
- `events`: emit events of a dataset and of a loop that has stopped.
- `flow_runs`: mark zombie flow runs as crashed.
"""

from prefect_mlops.tasks.loop.aliases import repair_alias, sweep_models
from prefect_mlops.tasks.loop.approvals import find_request, request_approval, sign_approval
from prefect_mlops.tasks.loop.decisions import find_decision, note_entry, open_breaker, record_decision, refuse_model
from prefect_mlops.tasks.loop.events import emit_data_event, emit_late_event, emit_stop_event
from prefect_mlops.tasks.loop.flow_runs import crash_zombie_runs
from prefect_mlops.tasks.loop.monitoring import number_monitoring_run, record_monitoring_run, show_monitoring
from prefect_mlops.tasks.loop.profiles import merge_profiles
from prefect_mlops.tasks.loop.quarantine import find_refused, replay_quarantine
from prefect_mlops.tasks.loop.training_lock import free_training_lock, take_training_lock

__all__ = [
    "crash_zombie_runs",
    "emit_data_event",
    "emit_late_event",
    "emit_stop_event",
    "find_decision",
    "find_refused",
    "find_request",
    "free_training_lock",
    "merge_profiles",
    "note_entry",
    "number_monitoring_run",
    "open_breaker",
    "record_decision",
    "record_monitoring_run",
    "refuse_model",
    "repair_alias",
    "replay_quarantine",
    "request_approval",
    "show_monitoring",
    "sign_approval",
    "sweep_models",
    "take_training_lock",
]
