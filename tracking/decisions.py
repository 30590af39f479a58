"""Decisions on model versions, as tags and reports in MLflow: find one by its recipe, record one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.promotion import history, lock
from prefect_mlops.core.reports import save_reports
from prefect_mlops.core.values import Decision, ModelVersion
from prefect_mlops.tracking import anchors
from prefect_mlops.tracking.client import backend, mlflow_client, quoted

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report

MAX_DECISION_REASON = 2000  # a tag on a model version holds 5,000 characters


def find_decision(model_name: str, recipe: str) -> Decision | None:
    """Return what was decided on a recipe before, or None where it was not.

    Args:
        model_name: registered model.
        recipe: what `record_decision` was given.

    Returns:
        The newest decision.

    Raises:
        BackendError: MLflow or the lake failed; retried.
    """
    known = lock.decision_of(history.decided(history.read_history(model_name), recipe))
    if known is not None:
        return known
    client = mlflow_client()  # of models older than their history
    with backend(f"looking up decisions on {model_name!r}"):
        wanted = f"name = {quoted(model_name)} and tags.`{mlflow_tags.RECIPE}` = {quoted(recipe)}"
        found = client.search_model_versions(wanted, order_by=["version_number DESC"], max_results=1)
    return Decision.model_validate_json(found[0].tags[mlflow_tags.DECISION]) if found else None


def record_decision(
    version: ModelVersion, decision: Decision, *, recipe: str, reports: Sequence[Report] = ()
) -> Decision:
    """Record a decision on its version: two tags, its reports, and the anchor of its entry in the history.

    The last step of a decision, so that one that was interrupted is made again.

    Args:
        version: the challenger's.
        decision: without version and address, which are filled in.
        recipe: fingerprint of what the decision rests on, for `find_decision`.
        reports: what it rests on; kept with the version's run, in place of earlier ones of the same kind.

    Returns:
        The decision with version and address.

    Raises:
        BackendError: MLflow failed.
    """
    reason = decision.reason[:MAX_DECISION_REASON]
    done = decision.model_copy(update={"version": version.version, "url": version.url, "reason": reason})
    client = mlflow_client()
    with backend(f"noting the decision on {version.name} v{version.version}"):
        if reports:
            with tempfile.TemporaryDirectory() as scratch:
                save_reports(reports, Path(scratch, mlflow_tags.REPORTS_FOLDER))
                client.log_artifacts(version.run_id, scratch)
        for tag, value in ((mlflow_tags.DECISION, done.model_dump_json()), (mlflow_tags.RECIPE, recipe)):
            client.set_model_version_tag(version.name, str(version.version), tag, value)
    anchors.note_decision(client, version)
    return done
