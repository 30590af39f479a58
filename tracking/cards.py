"""The model card of a version, as files of its MLflow run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.cards.page import render_page
from prefect_mlops.core.cards.sections import render_markdown
from prefect_mlops.tracking.client import backend, mlflow_client

if TYPE_CHECKING:
    from prefect_mlops.core.cards.card import Card
    from prefect_mlops.core.values import LoggedRun


def log_card(card: Card, run: LoggedRun) -> None:
    """Write ``card.md``, ``card.html`` and ``card.json`` to the run of its model.

    Raises:
        ConfigError: MLflow has no such run.
        BackendError: MLflow failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / mlflow_tags.CARD_MARKDOWN).write_text(render_markdown(card), encoding="utf-8", errors="replace")
        (folder / mlflow_tags.CARD_HTML).write_text(render_page(card), encoding="utf-8", errors="replace")
        (folder / mlflow_tags.CARD_JSON).write_text(card.model_dump_json(indent=2), encoding="utf-8")
        client = mlflow_client()
        with backend(f"writing the model card to run {run.run_id}"):
            client.log_artifacts(run.run_id, str(folder))
