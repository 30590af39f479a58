"""How a model that was trained again, and all it was made from, compare with what was recorded; in sentences."""

from __future__ import annotations

import platform
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lineage.environment import installed_packages
from prefect_mlops.core.model_files.contents import READ_FROM, differing_paths, model_content
from prefect_mlops.core.text import listed, one_line
from prefect_mlops.core.values import Value
from prefect_mlops.reproduction.recorded_run import RecordedRun, versions

if TYPE_CHECKING:
    import numpy as np

    from prefect_mlops.reproduction.worktrees import Checkout

MAX_PREDICTION_BYTES = 4_000_000_000  # of hundreds of millions of test rows
LEARNER = "scikit-learn"
MAX_NAMED = 5  # the first few tell where to look
# What computes comes first: a difference there can move a model.
COMPUTING = (
    *(LEARNER, "numpy", "scipy", "pandas", "pyarrow", "deltalake", "joblib", "threadpoolctl", "skops"),
    *("lightgbm", "xgboost", "catboost", "prefect-mlops"),
)


THREAD_VARIABLES = ("omp_num_threads", "openblas_num_threads", "mkl_num_threads")


class DiffPart(Value):
    """One thing a model depends on, or one way to compare two models.

    Attributes:
        state: ``same``, ``differs``, or ``unknown`` where it cannot be determined.
        sentence: what was seen.
    """

    state: Literal["same", "differs", "unknown"]
    sentence: str


def same(sentence: str) -> DiffPart:
    """Say that nothing differs."""
    return DiffPart(state="same", sentence=sentence)


def differs(sentence: str) -> DiffPart:
    """Say what differs."""
    return DiffPart(state="differs", sentence=sentence)


def unknown(sentence: str) -> DiffPart:
    """Say why it cannot be determined."""
    return DiffPart(state="unknown", sentence=sentence)


def data_part(record: RecordedRun, result: Mapping[str, Any]) -> DiffPart:
    """Compare the training rows, cell by cell, through their digest."""
    then, now = record.tags.data_digest, result.get("data")
    source = record.tags.source
    where = f"{source.uri}@{source.version}" if source and source.version is not None else source.uri if source else ""
    if now is None:
        if result["stage"] == "data":
            return differs(f"the training rows cannot be had again: {result['failed']}")
        return unknown("the data was not read, because training again did not get so far")
    if then is None:
        return unknown("the version does not say which rows it was trained on")
    if then == now:
        return same(f"{result['rows']:,} training rows, every cell the same, from {where or 'the dataset'}")
    return differs(
        f"{result['rows']:,} training rows from {where or 'the dataset'} with other cells: {now}, then {then}"
    )


def code_part(record: RecordedRun, checkout: Checkout, result: Mapping[str, Any]) -> DiffPart:
    """Say whether the code was that of the run."""
    if checkout.lost:
        return unknown(checkout.problem)
    commit = (record.tags.commit or "")[:10]
    if wrong := checkout.problem or _other_code(record, checkout, result, commit):
        return differs(wrong)
    if flow := record.tags.own_flow:
        return unknown(
            f"the flow {flow!r} trained it, which may split or fit otherwise than the spec that was repeated"
        )
    if result.get("tunes") and record.tags.tuned is None:
        return unknown("the spec tunes its estimator, and the version does not say which parameters were found")
    return same(f"commit {commit}" + (" with what was not committed" if record.diff else ""))


def _other_code(record: RecordedRun, checkout: Checkout, result: Mapping[str, Any], commit: str) -> str:
    """Say why the code that ran was not what made the model, although the commit is there; empty where it was."""
    library = str(result.get("library") or "")
    if checkout.library and library and not Path(library).resolve().is_relative_to(checkout.root or "/"):
        return f"prefect-mlops was imported from {library}, not from commit {commit}"
    if result["stage"] == "spec":
        return f"the spec cannot be had from commit {commit}: {result['failed']}"
    recorded, here = record.tags.spec_digest, installed().get(LEARNER)
    # The digest holds scikit-learn's version: with another one, it says nothing about the code.
    if recorded and result["spec_digest"] != recorded and (record.packages or {}).get(LEARNER, here) == here:
        return f"commit {commit} has a spec of that name, but it is not the one that made the model"
    return ""


def environment_part(record: RecordedRun, result: Mapping[str, Any], lock: Path | None) -> DiffPart:
    """Compare what is installed with what was, or else with the lock; then the lock itself, and Python.

    Args:
        record: of the version.
        result: of training again.
        lock: lock file of the commit, where it has one.
    """
    python, now = record.tags.environment.get("python"), platform.python_version()
    seen = [f"Python {python} then, {now} now"] if python and python != now else []
    packages, wording = record.packages, "then"
    if packages is None and lock is not None:
        packages, wording = _locked(lock), "in the lock"
    moved = _moved(packages or {})
    if moved:
        seen.append(listed([f"{name} {was} {wording}, {has} now" for name, was, has in moved], MAX_NAMED))
    locked = record.tags.lock
    if locked and result.get("lock") != locked:
        seen.append("the lock file is another one" if result.get("lock") else "the lock file is not in the commit")
    if seen:
        return differs("; ".join(seen))
    if not packages:
        return unknown("the version does not say which packages were installed")
    return same(f"Python {now}, {len(packages):,} packages" + (", and the lock" if locked else ""))


def _moved(packages: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Name packages whose version has changed, those that compute first."""
    now = installed()
    moved = [(name, was, now.get(name, "not there")) for name, was in packages.items() if now.get(name) != was]
    return sorted(moved, key=lambda one: (one[0] not in COMPUTING, one[0]))


def installed() -> dict[str, str]:
    """Return the version of each distribution that is installed."""
    return versions("\n".join(installed_packages()))


def _locked(lock: Path) -> dict[str, str]:
    """Read what a lock in the format of requirements pins for this machine; nothing where it has another format."""
    from packaging.requirements import InvalidRequirement, Requirement

    pinned = {}
    here = installed()
    for line in lock.read_text(errors="replace").splitlines():
        if not re.match(r"[A-Za-z0-9]", line) or "==" not in line:
            continue
        try:
            wanted = Requirement(line.rstrip("\\ ").partition(" #")[0])
        except InvalidRequirement:
            continue
        name = wanted.name.lower().replace("_", "-")
        if name in here and (wanted.marker is None or wanted.marker.evaluate()):
            pinned[name] = str(wanted.specifier).removeprefix("==")
    return pinned


def seed_part(record: RecordedRun, result: Mapping[str, Any]) -> DiffPart:
    """Compare the seed of the spec with the recorded one."""
    then, now = record.tags.seed, result.get("seed")
    if then is None:
        return unknown("the version does not say which seed it had")
    if now is None:
        return unknown("the spec could not be read, so its seed is not known")
    if then == str(now):
        return same(f"seed {then}")
    return differs(f"the spec says {now}, the model was trained with {then:.20}")


def hardware_part(record: RecordedRun, result: Mapping[str, Any]) -> DiffPart:
    """Compare platform, processor and thread counts, as far as they were recorded."""
    recorded = record.tags.environment
    # What the libraries reported of their threads counts before variables, which they may not have followed.
    left_out = ("python", *(THREAD_VARIABLES if "openmp_threads" in recorded else ()))
    then = {name: value for name, value in recorded.items() if name not in left_out}
    now = result.get("environment")
    if not then or now is None:
        return unknown("the version does not say what it was trained on" if not then else "it was not trained again")
    moved = [
        f"{name} {then[name]} then, {now.get(name, 'not known')} now" for name in then if now.get(name) != then[name]
    ]
    if moved:
        return differs(listed(moved, MAX_NAMED))
    return same(", ".join(f"{name} {value}" for name, value in sorted(then.items())))


def predictions_part(record: RecordedRun, result: Mapping[str, Any], out: Path) -> DiffPart:
    """Compare what both models say, bit for bit: about the stored rows, and about every test row."""
    if result["stage"] != "done":
        return unknown(f"the model was not trained again: {result['failed']}")
    try:
        compared = _pairs(record, out)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:  # what was kept comes from the artifact store
        return unknown(f"the predictions made at training cannot be read: {one_line(error)}")
    wrong = [_unlike(word, then, now) for word, then, now in compared]
    if any(wrong):
        return differs("; ".join(filter(None, [*wrong, _unstable(record, wrong, out)])))
    rows = " and ".join(f"{len(now['predict']):,} {word}" for word, _, now in compared)
    missing = "" if len(compared) > 1 else "; the predictions made at training were not kept"
    return same(f"{', '.join(compared[-1][2])} of {rows}, bit for bit{missing}")


Predictions: TypeAlias = "Mapping[str, np.ndarray[Any, Any]]"


def _pairs(record: RecordedRun, out: Path) -> list[tuple[str, Predictions, Predictions]]:
    """Return the predictions of both models for the stored rows, where there are some, and for the test rows."""
    pairs = [("test rows", _arrays(out / "test_then.npz"), _arrays(out / "test_now.npz"))]
    if "rows" in record.files and "predictions" in record.files:
        stored = _arrays(record.files["predictions"])
        pairs.insert(0, ("stored rows", stored, _arrays(out / "stored_now.npz")))
    return pairs


def _unstable(record: RecordedRun, wrong: Sequence[str], out: Path) -> str:
    """Say whether the registered model itself no longer says about the stored rows what was kept."""
    if len(wrong) == 1 or wrong[1] or _unlike("", _arrays(out / "stored_then.npz"), _arrays(out / "stored_now.npz")):
        return ""
    return (
        f"but {record.name}, asked again, says the same as the model trained again: what was kept at training was "
        "computed otherwise, as by several threads (n_jobs) whose order changes the last digit"
    )


def _arrays(file: Path) -> Predictions:
    import numpy as np

    with zipfile.ZipFile(file) as members:
        if sum(member.file_size for member in members.infolist()) > MAX_PREDICTION_BYTES:
            raise ConfigError(f"{file.name} unpacks to more than {MAX_PREDICTION_BYTES:,} bytes")
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _unlike(word: str, then: Predictions, now: Predictions) -> str:
    """Say how predictions differ; empty when each bit is the same."""
    import numpy as np

    for name in {"predict": None, **then}:
        if name not in then or name not in now:
            return f"{name} of the {word} is missing"
        was, has = then[name], now[name]
        if was.dtype.kind == has.dtype.kind == "U":
            width = max(was.dtype.itemsize, has.dtype.itemsize) // 4
            was, has = was.astype(f"U{width}"), has.astype(f"U{width}")
        if was.shape != has.shape or was.dtype != has.dtype:
            return f"{name} of the {word} has shape {has.shape} of {has.dtype}, then {was.shape} of {was.dtype}"
        bits = [np.ascontiguousarray(array).view("u1").reshape(len(array), -1) for array in (was, has)]
        if rows := int((bits[0] != bits[1]).any(axis=1).sum()):
            return f"{name} differs for {rows:,} of {len(was):,} {word}{_distance(was, has)}"
    return ""


def _distance(was: np.ndarray[Any, Any], has: np.ndarray[Any, Any]) -> str:
    import numpy as np

    if was.dtype.kind != "f":
        return ""
    far = np.abs(was - has)
    known = far[np.isfinite(far)]
    return f", by {known.max():.3g} at most" if known.size else ""


def content_part(record: RecordedRun, out: Path) -> DiffPart:
    """Compare the stored models, whatever their files look like."""
    if not (out / "model.skops").exists():
        return unknown("there is no second model to compare with")
    then = model_content(record.model)
    paths = differing_paths(then, model_content(out / "model.skops"))
    counted = [path for path in paths if not path.startswith(READ_FROM)]
    if counted:
        named = listed([path or "its type" for path in counted], MAX_NAMED)
        return differs(f"{len(counted):,} of {len(then):,} parts: {named}")
    moved = "; only the place the rows were read from is another one" if paths else ""
    return same(f"{len(then):,} parts{moved}")
