"""Which MLflow run a candidate is written to: one parent for each Prefect flow run, one child for each candidate.

MLflow's active run is per thread and its create call has no key of ours, so nothing here is ambient and nothing rests
on creating once: a run is found by its tags, and of two parents made in the same moment by two workers the older one
stays and takes over the children.
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.specs.model import described_parameters
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_finding = threading.Lock()  # spares threads of one process the making of twins; across processes `adopt` settles it


class Caller(Value):
    """The Prefect run that logs: ids, names and page; all None when a task function is called outside Prefect."""

    flow_run_id: str | None = None
    flow_run_name: str | None = None
    flow_name: str | None = None
    task_run_id: str | None = None
    url: str | None = None


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, making it when it is new; two makers at once both get the same one."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage == "deleted":
        raise ConfigError(f"experiment {name!r} is deleted in MLflow: restore it there, or use another name")
    return str(found.experiment_id)


def candidate_key(who: Caller, estimator: Any, data_digest: str | None) -> str:
    """Name a candidate by what it is, so that a retry of the run finds the same one again.

    Inside a flow run that is estimator, parameters and training data; a lone task is known by its own run.
    """
    described = [
        who.flow_run_id or who.task_run_id,
        repr(type(estimator)),
        described_parameters(estimator),
        data_digest,
    ]
    return hashlib.sha256(json.dumps(described, default=str, sort_keys=True).encode()).hexdigest()[:32]


def open_parent(client: MlflowClient, experiment: str, who: Caller) -> str | None:
    """Return the parent run of the calling flow run, making it when it is the first to log; None outside a flow.

    The parent only groups its children, so it is ended as soon as it is made: a killed machine cannot leave it
    RUNNING.
    """
    if who.flow_run_id is None:
        return None
    with _finding:
        found = _parents(client, experiment, who.flow_run_id)
        if found:
            return str(found[0].info.run_id)
        tags = {mlflow_tags.FLOW_RUN: who.flow_run_id, **_origin(who)}
        made = client.create_run(experiment, tags=tags, run_name=who.flow_run_name)
        client.set_terminated(made.info.run_id)
    return str(made.info.run_id)


def open_child(client: MlflowClient, experiment: str, who: Caller, *, key: str, parent: str | None, name: str) -> Run:
    """Return the run of a candidate, found again by its key or made new."""
    with _finding:
        found = client.search_runs([experiment], f"tags.`{mlflow_tags.CANDIDATE}` = '{key}'", max_results=1)
        if found:
            return found[0]
        tags = {mlflow_tags.CANDIDATE: key, **_origin(who), **({mlflow_tags.PARENT: parent} if parent else {})}
        return client.create_run(experiment, tags=tags, run_name=name)


def adopt(client: MlflowClient, experiment: str, who: Caller, child: str, parent: str = "") -> str | None:
    """Settle on one parent after logging: the oldest stays, a twin's children move to it and the twin is deleted.

    The last one to finish sees every parent, so after the last candidate of a flow run one parent is left.
    The parent the child was made with need not be written again.
    """
    if who.flow_run_id is None:
        return None
    first, *twins = _parents(client, experiment, who.flow_run_id)
    keep = str(first.info.run_id)
    for twin in twins:
        for run in client.search_runs([experiment], f"tags.`{mlflow_tags.PARENT}` = '{twin.info.run_id}'"):
            client.set_tag(run.info.run_id, mlflow_tags.PARENT, keep)
        client.delete_run(twin.info.run_id)
    if parent != keep:
        client.set_tag(child, mlflow_tags.PARENT, keep)
    return keep


def _parents(client: MlflowClient, experiment: str, flow_run_id: str) -> list[Run]:
    runs = client.search_runs([experiment], f"tags.`{mlflow_tags.FLOW_RUN}` = '{flow_run_id}'")
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def _origin(who: Caller) -> dict[str, str]:
    """Say in MLflow's own terms who made the run, with the way back to Prefect's page."""
    tags = {"mlflow.source.type": "JOB", "mlflow.source.name": who.flow_name or "prefect-mlops"}
    if who.url:
        tags["mlflow.note.content"] = f"Made by the Prefect flow run [{who.flow_run_name}]({who.url})."
        tags[mlflow_tags.FLOW_RUN_URL] = who.url
    return tags
