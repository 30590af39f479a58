"""How flows get run: on a server there is, or on a local stack.

- `project`: what a project's ``prefect.yaml`` declares.
- `connection`: the configured Prefect server, and a client for it.
- `rollout/`: ``prefect-mlops deploy``.
- `watch/`: ``prefect-mlops watch``.
- `local/`: ``prefect-mlops up``.
- `fork_worker/`: the work pool type ``warm-process``.
"""
