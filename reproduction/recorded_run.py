"""A model version with the tags and artifacts of its run, downloaded to be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lineage.environment import MAX_DIFF_BYTES
from prefect_mlops.core.lineage.training_data import Lineage
from prefect_mlops.core.model_files.loading import model_file
from prefect_mlops.tracking.client import backend, download_model, mlflow_client
from prefect_mlops.tracking.registry import absent, checked_name, version_by_alias, version_by_number
from prefect_mlops.tracking.run_tags import RunTags, package_versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from prefect_mlops.core.values import ModelVersion

MAX_ARTIFACT_BYTES = 100_000_000  # as `core.model_files.smoke_test` keeps them
_FOLDERS = (mlflow_tags.LINEAGE_FOLDER, mlflow_tags.SMOKE_TEST_FOLDER)
_FILES = {
    "diff": mlflow_tags.UNCOMMITTED_DIFF,
    "lineage": mlflow_tags.LINEAGE_DATA,
    "packages": mlflow_tags.PACKAGES,
    "rows": mlflow_tags.SMOKE_TEST_ROWS,
    "predictions": mlflow_tags.SMOKE_TEST_PREDICTIONS,
}


@dataclass(frozen=True)
class RecordedRun:
    """A model version, its file, and what its run says about where it comes from.

    Attributes:
        version: which one it is.
        model: its skops file.
        tags: of the run.
        files: artifacts that are there, by name: ``diff lineage packages rows predictions``.
    """

    version: ModelVersion
    model: Path
    tags: RunTags
    files: Mapping[str, Path]

    @property
    def name(self) -> str:
        """Name it in a sentence."""
        return f"{self.version.name} v{self.version.version}"

    @property
    def tuned(self) -> dict[str, Any]:
        """Parameters that tuning had found."""
        try:
            found = json.loads(self.tags.tuned or "{}")
        except json.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise ConfigError(f"{self.name}: its tag {mlflow_tags.TUNED} is not a JSON object")
        return found

    @property
    def lineage(self) -> Lineage | None:
        """What it was trained on; None where that was not kept."""
        if "lineage" not in self.files:
            return None
        try:
            return Lineage.model_validate_json(self.files["lineage"].read_bytes())
        except ValidationError:
            raise ConfigError(f"{self.name}: its {mlflow_tags.LINEAGE_DATA} is not a lineage") from None

    @property
    def packages(self) -> dict[str, str] | None:
        """Version of each distribution that was installed; None where that was not kept."""
        return versions(self.files["packages"].read_text(errors="replace")) if "packages" in self.files else None

    @property
    def diff(self) -> str:
        """What was not committed; empty where everything was."""
        if "diff" in self.files:
            return self.files["diff"].read_bytes().decode(errors="replace")
        return "it is missing" if self.tags.dirty else ""


def versions(lines: str) -> dict[str, str]:
    """Read ``name==version`` lines; names are written alike."""
    return {name.lower().replace("_", "-"): version for name, version in package_versions(lines).items()}


def fetch_recorded_run(model_name: str, which: int | str, folder: Path) -> RecordedRun:
    """Download a version's model file and the artifacts of its run that are compared.

    Args:
        model_name: registered model.
        which: number of the version, or an alias.
        folder: an empty folder to download to.

    Returns:
        The recorded run.

    Raises:
        ConfigError: no such version, with the nearest names; its run is gone; or its model is no skops file.
        BackendError: MLflow failed.
    """
    client = mlflow_client()
    version = _version(client, model_name, which)
    with backend(f"looking up the run of {model_name} v{version.version}"):
        tags = RunTags(dict(client.get_run(version.run_id).data.tags))
        files = _download_files(client, version.run_id, folder)
    home = download_model(client, version, folder / "model")
    subject = f"model {model_name} v{version.version}"
    return RecordedRun(version, model_file(home, subject=subject), tags, files)


def _version(client: MlflowClient, model_name: str, which: int | str) -> ModelVersion:
    if isinstance(which, str):
        found, named = version_by_alias(client, checked_name(model_name), which), f"alias {which!r}"
    else:
        found, named = version_by_number(client, model_name, which), f"version {which}"
    if found is None:
        raise absent(client, model_name, named)
    if not found.run_id:
        raise ConfigError(
            f"{model_name} v{found.version} was registered without a run, so nothing is known about where it is from"
        )
    return found


def _download_files(client: MlflowClient, run_id: str, folder: Path) -> dict[str, Path]:
    listed = [found for part in _FOLDERS for found in client.list_artifacts(run_id, part)]
    sizes = {found.path: found.file_size or 0 for found in listed}
    files = {}
    for name, path in _FILES.items():
        largest = 2 * MAX_DIFF_BYTES if name == "diff" else MAX_ARTIFACT_BYTES
        if sizes.get(path, largest + 1) <= largest:
            files[name] = Path(client.download_artifacts(run_id, path, str(folder)))
    return files
