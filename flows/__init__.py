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

Shared steps:

- `challenger`: train, evaluate, register and judge one challenger.
- `run_fingerprint`: detect that a training would repeat one that was decided before.
- `run_summary`: the summary artifact and the outcome of a run, also of a failed one.
- `training_data`: load, check, prepare and split the table of a training.
- `ui_labels`: titles and descriptions of parameters in the forms of the Prefect UI.
"""
