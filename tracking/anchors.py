"""Anchors of the history: hashes of entries as tags of model versions, for `core.promotion.tampering`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.promotion.history import DECISIONS, Entry, read_history
from prefect_mlops.tracking.client import backend, quoted

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from prefect_mlops.core.values import ModelVersion


def note_decision(client: MlflowClient, version: ModelVersion) -> None:
    """Anchor the newest decision on a version; nothing where the history has none."""
    about = [one for one in read_history(version.name) if one.version == version.version and one.kind in DECISIONS]
    if about:
        note(client, about[-1])


def note(client: MlflowClient, entry: Entry) -> None:
    """Write the hash of an entry onto the version it is about."""
    with backend(f"noting entry {entry.sequence} of the history of {entry.model}"):
        client.set_model_version_tag(
            entry.model, str(entry.version), mlflow_tags.history_tag(entry.sequence), entry.hash
        )


def noted(client: MlflowClient, model_name: str) -> dict[int, str]:
    """Return the hash of each entry the registry has noted, by its number."""
    with backend(f"listing the versions of {model_name!r}"):
        found = client.search_model_versions(f"name = {quoted(model_name)}", max_results=10_000)
    hashes: dict[int, str] = {}
    for version in found:
        hashes.update(mlflow_tags.history_hashes(version.tags or {}))
    return hashes
