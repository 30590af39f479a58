"""The smoke test of a registered version: its files and stored rows are downloaded and run in a clean process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.model_files import isolated, smoke_test
from prefect_mlops.core.model_files.loading import files_size
from prefect_mlops.core.model_files.smoke_test import SmokeTest
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.policies import Limits
from prefect_mlops.tracking.client import backend, download_model, fetch_file, missing, mlflow_client, run_files

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from prefect_mlops.core.values import ModelVersion

LOADS = {"id": "loads", "name": "loads in a clean process"}
STORED_ROWS = {"id": "stored-rows", "name": "has stored rows to rehearse"}
SAME = {"id": "same-predictions", "name": "predicts the same as at training"}
_FILES = (mlflow_tags.SMOKE_TEST_ROWS, mlflow_tags.SMOKE_TEST_PREDICTIONS)


def smoke_test_model(version: ModelVersion, limits: Limits | None = None) -> Report:
    """Load a version from the registry in a clean process, and ask it again for what it predicted at training.

    The process has the path of this one and none of its secrets; it takes the model with the safe loader only. What it
    costs to run is measured there too: without a limit it is reported in a note.

    Args:
        version: which one.
        limits: what it may cost: MB on disk, seconds per 1,000 rows, MB of memory; None measures only.

    Returns:
        A report of kind ``smoke-test``: fails where the model is refused, crashes or hangs, has no stored rows,
        predicts another bit than at training, or costs more than it may.

    Raises:
        BackendError: MLflow failed.

    Source: peak memory from Linux' ``VmHWM``, elsewhere from ``getrusage``; time is the median of a few predictions.
    """
    client = mlflow_client()
    subject = f"{version.name} v{version.version}"
    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = download_model(client, version, Path(scratch, "model"))
        except ConfigError as error:
            return Report(
                kind="smoke-test", subject=subject, checks=(Check(**LOADS, passed=False, observed=str(error)),)
            )
        kept, missing = _download_rows(client, version, Path(scratch, "kept"))
        seen = isolated.smoke_test_isolated(model=folder, kept=kept, subject="the model")
        costs, notes = _costs(seen, files_size(folder) / 1e6, limits or Limits())
    return Report(
        kind="smoke-test",
        subject=subject,
        checks=(*_answers(seen, missing), *costs),
        rows=seen.rows or None if isinstance(seen, SmokeTest) else None,
        notes=notes,
    )


def _download_rows(client: MlflowClient, version: ModelVersion, folder: Path) -> tuple[Path | None, str]:
    """Bring the rows kept at training here; say what is wrong where there are none to bring."""
    from mlflow.exceptions import MlflowException

    if not version.run_id:
        return None, "the version has no run"
    with backend(f"downloading the stored rows of run {version.run_id}"):
        try:
            files = run_files(client, version.run_id)
            found = {info.path: info.file_size or 0 for info in files.list_artifacts(mlflow_tags.SMOKE_TEST_FOLDER)}
        except MlflowException as error:
            if missing(error):
                return None, f"its run {version.run_id} is not there"
            raise
        if absent := [name for name in _FILES if name not in found]:
            return None, f"its run {version.run_id} has no {' and no '.join(absent)}"
        if too_large := [name for name in _FILES if found[name] > smoke_test.MAX_BYTES]:
            return None, f"{too_large[0]} has {found[too_large[0]]:,} bytes, more than {smoke_test.MAX_BYTES:,}"
        folder.mkdir()
        for name in _FILES:
            fetch_file(files, name, folder)
    return folder, ""


def _answers(seen: SmokeTest | str, missing: str) -> list[Check]:
    """Say what became of the questions, up to the first that could not be asked."""
    if isinstance(seen, str):
        return [Check(**LOADS, passed=False, observed=seen)]
    if seen.stage == "model":
        return [Check(**LOADS, passed=False, observed=seen.problem)]
    loads = Check(**LOADS, passed=True)
    if missing or seen.stage == "rows":
        wanted = (
            "rows and predictions of its training: train and log it again, with example= or smoke_test_rows= of log_run"
        )
        return [loads, Check(**STORED_ROWS, passed=False, observed=missing or seen.problem, expected=wanted)]
    if seen.stage == "predict":
        return [loads, Check(**SAME, passed=False, observed=seen.problem, expected="predictions")]
    return [loads, _same(seen)]


def _same(seen: SmokeTest) -> Check:
    if not seen.difference:
        return Check(**SAME, passed=True, observed=f"{seen.predictions:,} predictions, bit for bit")
    observed = f"{seen.different:,} of {seen.predictions:,} predictions differ ({seen.difference})"
    return Check(**SAME, passed=False, observed=observed, expected=f"the same {seen.predictions:,}, bit for bit")


def _costs(seen: SmokeTest | str, size_mb: float, limits: Limits) -> tuple[list[Check], tuple[str, ...]]:
    """Hold what was measured against the limits, and note what has none."""
    measured: dict[str, float | None] = {"size_mb": size_mb}
    if isinstance(seen, SmokeTest) and seen.stage == "done":
        measured |= {"seconds_per_1000_rows": seen.seconds_per_1000_rows, "memory_mb": seen.memory_mb}
    words = {
        "size_mb": ("size on disk", "MB"),
        "seconds_per_1000_rows": ("seconds per 1,000 rows", "s"),
        "memory_mb": ("memory on top of the imports", "MB"),
    }
    checks, notes = [], []
    for field, (name, unit) in words.items():
        value, limit = measured.get(field), getattr(limits, field)
        seen_words = "not measured" if value is None else f"{_figure(value)} {unit}"
        if limit is not None:
            passed = value is not None and value <= limit
            checks.append(
                Check(
                    id=f"limit-{field.replace('_', '-')}",
                    name=name,
                    passed=passed,
                    observed=seen_words,
                    expected=f"at most {limit:g} {unit}",
                    value=value,
                    threshold=limit,
                )
            )
        elif value is not None:
            notes.append(f"{name[0].upper()}{name[1:]}: {seen_words}; no limit is set.")
    return checks, tuple(notes)


def _figure(value: float) -> str:
    """Write a measurement as people read it: three digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.0001 else "below 0.0001"  # noqa: PLR2004
