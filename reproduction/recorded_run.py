"""What MLflow keeps with a model version about how it came to be, fetched to be checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.lineage.environment import MAX_DIFF_BYTES
from prefect_mlops.core.model_files.loading import model_file
from prefect_mlops.core.values import ModelVersion, TableRef
from prefect_mlops.tasks import find_version
from prefect_mlops.tracking.client import backend, download_model, missing, mlflow_client, page

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_ARTIFACT_BYTES = 100_000_000  # as `core.model_files.smoke_test` keeps them
_ENVIRONMENT = "prefect_mlops.environment."
_FILES = {
    "diff": "lineage/uncommitted.diff",
    "packages": "lineage/packages.txt",
    "rows": "rehearsal/rows.parquet",
    "predictions": "rehearsal/predictions.npz",
}


@dataclass(frozen=True)
class RecordedRun:
    """A model version, its file, and what its run says about where it comes from.

    Attributes:
        version: which one it is.
        model: its skops file.
        tags: of the run.
        files: artifacts that are there, by name: ``diff packages rows predictions``.
    """

    version: ModelVersion
    model: Path
    tags: Mapping[str, str]
    files: Mapping[str, Path]

    @property
    def name(self) -> str:
        """Name it in a sentence."""
        return f"{self.version.name} v{self.version.version}"

    @property
    def source(self) -> TableRef | None:
        """Where its rows were read from."""
        try:
            return TableRef.model_validate_json(self.tags.get("prefect_mlops.data.source", ""))
        except ValidationError:
            return None

    @property
    def environment(self) -> dict[str, str]:
        """Python, platform and threads, by the names of `core.lineage.environment.environment`."""
        found = self.tags.items()
        return {name.removeprefix(_ENVIRONMENT): value for name, value in found if name.startswith(_ENVIRONMENT)}

    @property
    def tuned(self) -> dict[str, Any]:
        """Parameters that tuning had found."""
        try:
            found = json.loads(self.tags.get("prefect_mlops.tuned") or "{}")
        except json.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise ConfigError(f"{self.name}: its tag prefect_mlops.tuned is not a JSON object")
        return found

    @property
    def packages(self) -> dict[str, str] | None:
        """Version of each distribution that was installed; None where that was not kept."""
        return versions(self.files["packages"].read_text(errors="replace")) if "packages" in self.files else None

    @property
    def diff(self) -> str:
        """What was not committed; empty where everything was."""
        if "diff" in self.files:
            return self.files["diff"].read_bytes().decode(errors="replace")
        return "it is missing" if self.tags.get("prefect_mlops.git.dirty") == "true" else ""


def versions(lines: str) -> dict[str, str]:
    """Read ``name==version`` lines; names are written alike."""
    pairs = (line.split("==", 1) for line in lines.splitlines() if "==" in line)
    return {name.strip().lower().replace("_", "-"): version.strip() for name, version in pairs}


def fetch_recorded_run(name: str, which: int | str, folder: Path) -> RecordedRun:
    """Download a version's model file and the evidence kept with its run.

    Args:
        name: registered model.
        which: number of the version, or an alias.
        folder: an empty folder to download to.

    Returns:
        The evidence.

    Raises:
        ConfigError: no such version, with the nearest names; its run is gone; or its model is no skops file.
        BackendError: MLflow failed.
    """
    client = mlflow_client()
    version = _version(client, name, which)
    with backend(f"looking up the run of {name} v{version.version}"):
        tags = dict(client.get_run(version.run_id).data.tags)
        files = _download_files(client, version.run_id, folder)
    home = download_model(client, version, folder / "model")
    subject = f"model {name} v{version.version}"
    return RecordedRun(version, model_file(home, subject=subject), tags, files)


def _version(client: MlflowClient, name: str, which: int | str) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    if isinstance(which, str):
        found: ModelVersion | None = find_version.fn(name, which)
        if found is not None:
            return found
        raise _absent(client, name, f"alias {which!r}")
    with backend(f"looking up {name} v{which}"):
        try:
            made = client.get_model_version(name, str(which))
        except MlflowException as error:
            if missing(error):
                raise _absent(client, name, f"version {which}") from error
            raise
    if not made.run_id:
        raise ConfigError(f"{name} v{which} was registered without a run, so nothing is known about where it is from")
    url = page(f"models/{name}/versions/{which}")
    return ModelVersion(name=name, version=which, run_id=made.run_id, model_uri=made.source, url=url)


def _absent(client: MlflowClient, name: str, which: str) -> ConfigError:
    known = [model.name for model in client.search_registered_models(max_results=1000)]
    if name not in known:
        return unknown_name("registered model", name, known)
    return ConfigError(f"registered model {name!r} has no {which}")


def _download_files(client: MlflowClient, run_id: str, folder: Path) -> dict[str, Path]:
    listed = [found for part in ("lineage", "rehearsal") for found in client.list_artifacts(run_id, part)]
    sizes = {found.path: found.file_size or 0 for found in listed}
    files = {}
    for name, path in _FILES.items():
        largest = 2 * MAX_DIFF_BYTES if name == "diff" else MAX_ARTIFACT_BYTES
        if sizes.get(path, largest + 1) <= largest:
            files[name] = Path(client.download_artifacts(run_id, path, str(folder)))
    return files
