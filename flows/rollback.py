"""Make an earlier champion champion again."""

from __future__ import annotations

from typing import Annotated

from prefect import flow

from prefect_mlops.core.promotion.history import Entry
from prefect_mlops.core.specs.model import load_spec
from prefect_mlops.flows.run_summary import summarise_run
from prefect_mlops.flows.ui_labels import label
from prefect_mlops.tasks import roll_back_model


@flow(name="rollback", flow_run_name="rollback-{model}")
def rollback(
    model: Annotated[str, label("Model")],
    why: Annotated[str, label("Why")],
    name: Annotated[str, label("Your name")],
    version: Annotated[int, label("Version")] = 0,
) -> Entry:
    """Make an earlier champion champion again, at once and whatever is being trained.

    Args:
        model: Dotted name of the ModelSpec, e.g. prefect_mlops.examples.flights.model
        why: A sentence for those who ask later.
        name: Who wants it.
        version: Version that was champion before; 0 takes the last one before the present one.

    Returns:
        The entry in the history.

    Raises:
        ConfigError: there is nothing to go back to, or the version was never champion.
        ConflictError: the champion changed at the same time.
        BackendError: MLflow or storage failed.
    """
    spec = load_spec(model)
    with summarise_run("rollback", spec.name) as summary:
        entry = roll_back_model(spec.name, to=version or None, why=why, by=name)
        summary.title = f"v{entry.version} is champion again"
        summary.say(f"v{entry.replaced} was taken back by {entry.by}.", f"Why: {entry.reason}")
        return entry
