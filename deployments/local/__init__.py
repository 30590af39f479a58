"""The local stack: a Prefect server, MLflow, workers and a watcher, as child processes of ``prefect-mlops up``.

- ``stack``: start and stop the whole stack
- ``home``: the stack's folder: its lock, its ports, and processes that a killed stack left behind
- ``servers``: start the Prefect server and MLflow, and wait until both answer
- ``services``: start workers and watcher, and deploy the project
- ``prefect_server``: the Prefect server with write transactions on SQLite that take turns
"""

__all__ = ["home", "prefect_server", "servers", "services", "stack"]
