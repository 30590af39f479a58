"""How flows get run: what a project declares, and what is deployed, watched and started.

- ``connection``: a client for the configured Prefect server, with its refusals as our errors
- ``project``: the deployments, datasets and models that a ``prefect.yaml`` declares
- ``rollout``: plan and apply a ``prefect.yaml``, as ``prefect-mlops deploy`` does
- ``watch``: announce arriving files as events, as ``prefect-mlops watch`` does
- ``local``: the local stack of ``prefect-mlops up``
- ``fork_worker``: the work pool type ``warm-process``
"""

__all__ = ["connection", "fork_worker", "local", "project", "rollout", "watch"]
