"""The ready flows, one a file, and the steps that several of them share.

Flows:

- `backfill`: train and judge on every data version of a range, oldest first.
- `check_freshness`: report datasets that are later than their promise.
- `decide`: act on a person's answer to a request for approval.
- `ingest`: take arriving files into the lake, each content version once.
- `maintenance`: repair aliases, expire requests, mark zombie runs as crashed.
- `monitor`: compare new data with the champion's training profile, and its predictions with the labels.
- `replay`: take quarantined rows and files in again after the suite changed.
- `rollback`: make an earlier champion the champion again.
- `train`: train a challenger, compare it with the champion, promote or refuse it.

Composing a flow of one's own:

- `training_run`: `TrainingRun`, a method for each stage of a training; `train` is made of it.

Shared steps:

- `decision_summary`: what the summary of a training says of its decision, or of what kept it from starting.
- `judging`: compare a challenger with the champion on rows that neither was trained on.
- `refit`: train the promoted recipe once more, on the rows of both sides, as a version of its own.
- `run_fingerprint`: detect that a training would repeat one that was decided before.
- `run_summary`: the summary artifact and the outcome of a run, also of a failed one.
- `training_data`: load, check, prepare and split the table of a training.
- `ui_labels`: titles and descriptions of parameters in the forms of the Prefect UI.
"""

from prefect_mlops.flows.training_run import TrainingRun

__all__ = ["TrainingRun"]
