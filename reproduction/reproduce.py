"""Prove that a model version can be made again, or say what keeps it from being the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.model_files.trusted_types import trusted_types
from prefect_mlops.core.names import named_version
from prefect_mlops.core.processes import Progress, no_progress, sigterm_as_exit, start_child, stop_children, tail
from prefect_mlops.core.settings import Settings
from prefect_mlops.core.values import TableRef, Value
from prefect_mlops.reproduction import _retrain, diff
from prefect_mlops.reproduction.diff import DiffPart
from prefect_mlops.reproduction.recorded_run import RecordedRun, fetch_recorded_run
from prefect_mlops.reproduction.worktrees import Checkout, checked_out

__all__ = ["Reproduced", "named_version", "reproduce_model"]

TIMEOUT_SECONDS = 24 * 3600.0  # a training that takes longer is not what is meant to be repeated on a whim
DEPENDS_ON = ("data", "code", "environment", "seed", "hardware")
UNEXPLAINED = (
    "although everything recorded is the same: the estimator has randomness or parallel sums that no seed covers"
)
# As many threads add up the same sums; what was measured counts before a variable that may have come too late.
_THREADS = {
    "OMP_NUM_THREADS": "openmp_threads",
    "OPENBLAS_NUM_THREADS": "blas_threads",
    "MKL_NUM_THREADS": "blas_threads",
}


class Reproduced(Value):
    """A model version beside the model that was trained again from its records.

    Attributes:
        model: registered model.
        version: its version.
        identical: predictions and content are the same, to the last bit.
        data: the training rows.
        code: the commit, and what was not committed.
        environment: Python, packages and lock.
        seed: of everything random.
        hardware: platform, processor and threads.
        predictions: what both models say about the same rows.
        content: what both model files hold.
        worktree: where the commit's code was left; None where it was removed.
    """

    model: str
    version: int
    identical: bool
    data: DiffPart
    code: DiffPart
    environment: DiffPart
    seed: DiffPart
    hardware: DiffPart
    predictions: DiffPart
    content: DiffPart
    worktree: str | None = None

    @property
    def sentence(self) -> str:
        """The answer in a sentence."""
        name = f"{self.model} v{self.version}"
        if self.identical:
            return f"{name} is identical to the model trained again."
        seen = (self.predictions.state, self.content.state)
        if seen == ("unknown", "unknown"):
            return self._explained(f"{name} could not be made again", otherwise=f": {self.predictions.sentence}")
        if "differs" not in seen:
            part = self.predictions if self.predictions.state == "unknown" else self.content
            return self._explained(f"{name} could not be compared in full", otherwise=f": {part.sentence}")
        agree = ", though it predicts the same" if self.predictions.state == "same" else ""
        return self._explained(f"{name} differs from the model trained again{agree}", otherwise=f" {UNEXPLAINED}")

    def _explained(self, start: str, *, otherwise: str) -> str:
        """Add what the model depends on and was not the same, or else another reason."""
        parts = {name: getattr(self, name) for name in DEPENDS_ON}
        moved = ", ".join(name for name, part in parts.items() if part.state == "differs")
        unsure = ", ".join(name for name, part in parts.items() if part.state == "unknown")
        if not moved and not unsure:
            return f"{start}{otherwise}."
        reasons = [f"what differs: {moved}" if moved else "", f"not known: {unsure}" if unsure else ""]
        return f"{start}; {'; '.join(filter(None, reasons))}."


def reproduce_model(
    model_name: str,
    which: int | str,
    *,
    spec: str = "",
    project: Path | None = None,
    keep: bool = False,
    progress: Progress | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Reproduced:
    """Train a model version again from its records, in the code of its commit, and compare.

    Args:
        model_name: registered model.
        which: number of the version, or an alias.
        spec: dotted name of the spec, where the version does not say it.
        project: folder of the project in its repository; the current one by default.
        keep: leave the worktree with the commit's code where it is.
        progress: called with a sentence at each step.
        timeout: longest time for training again, in seconds.

    Returns:
        Whether both are identical, and what of data, code, environment, seed and hardware differs.

    Raises:
        ConfigError: no such version, or it does not say which spec made it.
        BackendError: MLflow failed, or training again took too long or was killed.
    """
    tell = progress or no_progress
    with sigterm_as_exit(), tempfile.TemporaryDirectory(prefix="prefect-mlops-reproduce-") as scratch:
        folder = Path(scratch).resolve()
        tell(f"fetching {model_name} {f'v{which}' if isinstance(which, int) else which} and what is known about it")
        record = fetch_recorded_run(model_name, which, folder)
        dotted = spec or record.tags.spec
        if not dotted:
            raise ConfigError(f"{record.name} does not say which spec made it: give --spec, e.g. --spec flights.model")
        commit = record.tags.commit
        tell(f"checking out {f'commit {commit:.10}' if commit else 'its code'}")
        with checked_out(project or Path.cwd(), commit, record.diff, keep=keep) as checkout:
            if checkout.problem:
                tell(checkout.problem)
            tell("training again")
            result = _retrained(record, checkout, dotted, folder, timeout=timeout)
            tell("comparing")
            return _compared(record, checkout, result, folder, keep=keep)


def _compared(
    record: RecordedRun, checkout: Checkout, result: Mapping[str, Any], out: Path, *, keep: bool
) -> Reproduced:
    predictions = diff.predictions_part(record, result, out)
    content = diff.content_part(record, out)
    return Reproduced(
        model=record.version.name,
        version=record.version.version,
        identical=predictions.state == content.state == "same",
        data=diff.data_part(record, result),
        code=diff.code_part(record, checkout, result),
        environment=diff.environment_part(record, result, _lock(checkout.folder)),
        seed=diff.seed_part(record, result),
        hardware=diff.hardware_part(record, result),
        predictions=predictions,
        content=content,
        worktree=str(checkout.root) if keep and checkout.root else None,
    )


def _lock(folder: Path) -> Path | None:
    found = folder / (Settings().lock_file or "requirements.lock")
    return found if found.is_file() else None


def _retrained(
    record: RecordedRun, checkout: Checkout, spec: str, folder: Path, *, timeout: float
) -> Mapping[str, Any]:
    """Run the program that trains, in a process of its own that ends with this one."""
    order, log = folder / "order.json", folder / "retrain.log"
    order.write_text(json.dumps(_order(record, checkout, spec, folder)), encoding="utf-8")
    # Run by its path: the commit may have none, or another one. -c leaves the current folder in sys.path alone.
    command = [sys.executable, "-c", "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"]
    child = start_child(
        "training again",
        [*command, str(Path(_retrain.__file__).resolve()), str(order)],
        environment=_environment(record, checkout),
        log=log,
        folder=checkout.folder,
    )
    try:
        child.process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise BackendError(f"{record.name}: training again was stopped after {timeout:,.0f} s") from None
    finally:
        stop_children([child])
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        ended = f"ended with exit code {child.process.returncode}"
        raise BackendError(f"{record.name}: training again {ended}; it said last: {tail(log, 1)}") from None
    return result


def _order(record: RecordedRun, checkout: Checkout, spec: str, folder: Path) -> dict[str, Any]:
    source = record.tags.source
    lineage = record.lineage
    comparable = "rows" in record.files and "predictions" in record.files
    return {
        "spec": spec,
        "addresses": list(_addresses(source, checkout)) if source else [],
        "version": f"@{source.version}" if source and source.version is not None else "",
        "tuned": record.tuned,
        "sides": lineage.rule.model_dump(mode="json") if lineage and lineage.rule else None,
        "refit_of": lineage.refit_of if lineage else None,
        "model": str(record.model),
        "rows": str(record.files["rows"].parent) if comparable else None,
        "trusted": sorted(trusted_types()),
        "out": str(folder),
    }


def _addresses(source: TableRef, checkout: Checkout) -> Iterator[str]:
    """Say where the rows may be read, best first; a file of the repository is read as it was in the commit."""
    if source.version is not None:
        uri = source.uri if "://" in source.uri else f"delta://{source.uri}"
        yield f"{uri}@{source.version}"
        return
    file = Path(source.uri)
    if checkout.root and checkout.top and "://" not in source.uri and file.resolve().is_relative_to(checkout.top):
        committed = checkout.root / file.resolve().relative_to(checkout.top)
        if committed.exists():
            yield str(committed)
    if "***" not in source.uri:  # a masked password
        yield source.uri


def _environment(record: RecordedRun, checkout: Checkout) -> dict[str, str]:
    """Give the child as many threads as there were, and the commit's prefect-mlops where it has one."""
    then = record.tags.environment
    variables = {name: value for name, value in os.environ.items() if name not in _THREADS}
    for name, measured in _THREADS.items():
        count = then.get(measured) or then.get(name.lower())
        if count and count.isdecimal():
            variables[name] = count
    # Threads that wait by spinning make boosting many times slower where another program wants the processors.
    variables.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if checkout.library:
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(checkout.library), os.environ.get("PYTHONPATH")]))
    return variables
