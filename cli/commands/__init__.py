"""The commands of ``prefect-mlops``, one file each.

- ``audit``: show every history entry of a model, and verify that no entry was changed
- ``backfill``: train on every data version of a range
- ``compare``: differences between two model versions
- ``decide``: answer a request for approval
- ``demo``: the flights example, from the first file to the drift report
- ``deploy``: apply the project's ``prefect.yaml`` to a Prefect server
- ``drift``: compare recent data with the champion's training profile
- ``files``: pending files of a dataset, and the state of every file that arrived
- ``history``: champions of a model over time, and why each was promoted
- ``ingest``: check pending files and commit them to the lake
- ``lake``: compact the lake's tables
- ``promote``: make a version champion without gates, after a smoke test
- ``quarantine``: list, show and replay refused rows and files
- ``reproduce``: train a version again and compare it bit for bit
- ``rollback``: make an earlier champion champion again
- ``status``: champion, pending files, guards and what to do about them
- ``trace``: provenance of a model version: rows, code, environment, checks, decision
- ``up``: run a local stack: Prefect server, MLflow, worker, watcher
- ``watch``: announce arriving files to the Prefect server as events
"""

__all__ = [
    "audit",
    "backfill",
    "compare",
    "decide",
    "demo",
    "deploy",
    "drift",
    "files",
    "history",
    "ingest",
    "lake",
    "promote",
    "quarantine",
    "reproduce",
    "rollback",
    "status",
    "trace",
    "up",
    "watch",
]
