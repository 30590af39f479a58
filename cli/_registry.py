"""Which MLflow a command asks: the configured one, or that of the home."""

from __future__ import annotations

import os

from prefect_mlops.core.settings import Settings

MLFLOW_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "_MLFLOW_SERVER_ARTIFACT_ROOT")


def use_registry() -> bool:
    """Take the MLflow of the home when none is configured.

    Without either, MLflow would make a database in the current folder, in which nothing is.

    Returns:
        Whether there is one to ask.
    """
    from prefect_mlops.deployments.local.stack import embedded_environment

    if os.environ.get("MLFLOW_TRACKING_URI"):
        return True
    home = Settings().home
    if not (home / "mlflow.db").exists():
        return False
    environment = embedded_environment(home)
    os.environ.update({name: environment[name] for name in MLFLOW_VARIABLES})
    return True
