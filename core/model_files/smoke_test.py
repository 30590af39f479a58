"""The smoke test of a model: rows kept at training with their predictions, predicted again in a clean process.

`keep_rows` writes the rows at training; `run_smoke_test` is what the clean process runs. That process knows no Prefect
and no MLflow, and takes nothing from the files on trust: they come from a store that others can write to.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.imports import uncollected
from prefect_mlops.core.model_files.loading import load_model_files
from prefect_mlops.core.tags import SMOKE_TEST_PREDICTIONS, SMOKE_TEST_ROWS
from prefect_mlops.core.text import one_line
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ROWS_FILE = SMOKE_TEST_ROWS.rpartition("/")[2]
PREDICTIONS_FILE = SMOKE_TEST_PREDICTIONS.rpartition("/")[2]
MAX_ROWS = 200  # enough to meet most branches of a model, few enough to keep with each version
MAX_BYTES = 100_000_000  # of the rows, and of the predictions; two hundred rows of a thousand columns take 2 MB
TIMED_ROWS = 1000
TIMED_RUNS = 5  # their median leaves out the one that another process disturbed
TIMED_SECONDS = 10.0  # no more runs after this: a slow model is known to be slow after the first


Stage = Literal["model", "rows", "predict", "done"]


class SmokeTest(Value):
    """The result of a smoke test.

    Attributes:
        stage: last stage: ``model`` was refused, stored ``rows`` cannot be read, ``predict`` failed, or ``done``.
        problem: what stopped it.
        rows: number of rows that were predicted.
        predictions: how many numbers or labels were compared.
        different: how many of them differ from those at training.
        difference: which differ and how much, in words; empty where all are equal.
        seconds_per_1000_rows: median time of predicting 1,000 rows.
        memory_mb: peak on top of the imports, in MB; None where this system does not report it.
    """

    stage: Stage
    problem: str = ""
    rows: int = 0
    predictions: int = 0
    different: int = 0
    difference: str = ""
    seconds_per_1000_rows: float | None = None
    memory_mb: float | None = None


def keep_rows(estimator: Any, rows: pd.DataFrame, folder: Path) -> str:
    """Write rows and the model's predictions for them, for later smoke tests.

    The model predicts the rows as they are read back from the file: a table in another memory layout can change the
    last digit of a product.

    Args:
        estimator: fitted estimator.
        rows: features; the first `MAX_ROWS` are kept.
        folder: where to write; nothing is left in it when the rows cannot be kept.

    Returns:
        Why they cannot be kept, in words; empty when they were.
    """
    import numpy as np

    if not len(rows):
        return "there are no rows"
    kept = rows.head(MAX_ROWS).reset_index(drop=True)
    kept.attrs = {}
    folder.mkdir(parents=True)
    try:
        kept.to_parquet(folder / ROWS_FILE)
        np.savez(folder / PREDICTIONS_FILE, **predictions_of(estimator, read_rows(folder)))  # type: ignore[arg-type]
        _read_predictions(folder)
    except Exception as error:  # noqa: BLE001 - pyarrow and estimators raise many kinds for what they cannot take
        for name in (ROWS_FILE, PREDICTIONS_FILE):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
        return _line(error)
    return ""


def questions_for(estimator: Any) -> list[str]:
    """Return the prediction methods of a model: ``predict``, and ``predict_proba`` or else ``decision_function``."""
    return ["predict", *[name for name in ("predict_proba", "decision_function") if hasattr(estimator, name)][:1]]


def predictions_of(
    estimator: Any, rows: pd.DataFrame, questions: Sequence[str] | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """Compute the predictions of a model for rows.

    Args:
        estimator: fitted estimator.
        rows: features; each method gets a copy of its own.
        questions: some of `questions_for`; None for all.

    Returns:
        Predictions by method, as arrays without objects.

    Raises:
        ConfigError: predictions that are neither numbers nor text.
    """
    import joblib

    names = questions_for(estimator) if questions is None else questions
    # Threads add up the trees of a forest in whatever order they end, and the last bits differ at every call.
    with joblib.parallel_config(backend="sequential"):
        return {name: _plain(name, getattr(estimator, name)(rows.copy())) for name in names}


def _plain(name: str, predicted: Any) -> np.ndarray[Any, Any]:
    import numpy as np

    if isinstance(predicted, list):  # one array for each target, each as wide as that target has classes
        predicted = np.concatenate(predicted, axis=1) if predicted and np.ndim(predicted[0]) > 1 else predicted
    array = np.asarray(predicted.toarray() if hasattr(predicted, "toarray") else predicted)
    if array.dtype.kind not in "OT":
        return array
    if not all(isinstance(label, str) for label in array.flat):
        kinds = sorted({type(label).__name__ for label in array.flat})
        raise ConfigError(f"{name} gave objects that are not all text: {', '.join(kinds)}")
    return array.astype(str)


def read_rows(folder: Path) -> pd.DataFrame:
    """Read the kept rows, as the table they were."""
    import pandas as pd
    import pyarrow.parquet as pq

    path = folder / ROWS_FILE
    described = pq.ParquetFile(path).metadata
    size = sum(described.row_group(place).total_byte_size for place in range(described.num_row_groups))
    if described.num_rows > MAX_ROWS or max(size, path.stat().st_size) > MAX_BYTES:
        raise ConfigError(f"{ROWS_FILE} holds {described.num_rows:,} rows and {size:,} bytes, more than are kept")
    return pd.read_parquet(path)


def _read_predictions(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    path = folder / PREDICTIONS_FILE
    size = sum(member.file_size for member in zipfile.ZipFile(path).infolist())
    if size > MAX_BYTES:
        raise ConfigError(f"{PREDICTIONS_FILE} unpacks to {size:,} bytes, more than are kept")
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: np.asarray(stored[name]) for name in stored.files}
    if "predict" not in arrays:
        raise ConfigError(f"{PREDICTIONS_FILE} holds no predictions")
    return arrays


def run_smoke_test(*, model: Path, kept: Path | None, subject: str) -> SmokeTest:
    """Load a model, compare its predictions with the kept ones, and measure what they cost.

    Args:
        model: folder of the model's files.
        kept: folder of `keep_rows`; None where nothing was kept, then the model is only loaded.
        subject: name of the model in messages.

    Returns:
        The result; never raises for what is in the files.
    """
    with uncollected():  # all imports come first: the memory they take is not the model's
        import skops.io  # noqa: F401 - brings scikit-learn and pandas

    rows, then, unreadable = _stored(kept)
    stage: Stage = "model"
    start = _start_of_memory()
    try:
        estimator = load_model_files(model, subject=subject)
        if rows is None:
            return SmokeTest(stage="rows" if unreadable else "done", problem=unreadable, memory_mb=_memory_since(start))
        stage = "predict"
        different, difference = _compared(then, predictions_of(estimator, rows))
        seconds = _seconds(estimator, rows)
    except Exception as error:  # noqa: BLE001 - any error of a model is its result
        return SmokeTest(stage=stage, problem=_line(error))
    return SmokeTest(
        stage="done",
        rows=len(rows),
        predictions=sum(array.size for array in then.values()),
        different=different,
        difference=difference,
        seconds_per_1000_rows=seconds,
        memory_mb=_memory_since(start),
    )


def _stored(kept: Path | None) -> tuple[pd.DataFrame | None, dict[str, np.ndarray[Any, Any]], str]:
    """Read rows and predictions, or return why they cannot be read."""
    if kept is None:
        return None, {}, ""
    try:
        return read_rows(kept), _read_predictions(kept), ""
    except Exception as error:  # noqa: BLE001 - damaged files fail in many ways
        return None, {}, _line(error)


def _compared(then: dict[str, np.ndarray[Any, Any]], now: dict[str, np.ndarray[Any, Any]]) -> tuple[int, str]:
    """Count and describe the differences."""
    count, words = 0, []
    for name, was in then.items():
        differs, how = _differing(was, now[name]) if name in now else (was.size, "not given any more")
        count += differs
        words += [f"{name}: {how}"] if how else []
    words += [f"{name}: not kept at training" for name in now if name not in then]
    return count, one_line("; ".join(words))


def _differing(was: np.ndarray[Any, Any], has: np.ndarray[Any, Any]) -> tuple[int, str]:
    import numpy as np

    text = was.dtype.kind == has.dtype.kind == "U"  # as wide as their longest label
    if was.shape != has.shape or (was.dtype != has.dtype and not text):
        return was.size, f"shape {has.shape} of {has.dtype}, at training {was.shape} of {was.dtype}"
    unequal = was != has
    if was.dtype.kind in "fcmM":
        unequal &= ~(np.isnan(was) & np.isnan(has)) if was.dtype.kind in "fc" else ~(np.isnat(was) & np.isnat(has))
    count = int(np.count_nonzero(unequal))
    if not count:
        return 0, ""
    return count, f"{count:,} of {was.size:,} differ{_farthest(was[unequal], has[unequal])}"


def _farthest(was: np.ndarray[Any, Any], has: np.ndarray[Any, Any]) -> str:
    import numpy as np

    if was.dtype.kind not in "fiub":
        return ""
    with np.errstate(all="ignore"):
        far = np.abs(has.astype(float) - was.astype(float))
    far = far[np.isfinite(far)]
    return f", the largest difference is {far.max():.3g}" if far.size else ""


def _seconds(estimator: Any, rows: pd.DataFrame) -> float:
    """Time the prediction of 1,000 rows, made of the kept ones over and over."""
    import numpy as np

    many = rows.iloc[np.resize(np.arange(len(rows)), TIMED_ROWS)].reset_index(drop=True)
    taken: list[float] = []
    while len(taken) < TIMED_RUNS and sum(taken) < TIMED_SECONDS:
        asked = many.copy()
        start = time.perf_counter()
        estimator.predict(asked)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _start_of_memory() -> float | None:
    """Return the memory in use in MB, and let Linux forget the peak that the imports left behind."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _status("VmRSS")
    except OSError:
        return _highest()


def _memory_since(start: float | None) -> float | None:
    peak = _status("VmHWM") if Path("/proc/self/status").exists() else _highest()
    return None if start is None or peak is None else max(peak - start, 0.0)


def _status(name: str) -> float | None:
    """Read a line of ``/proc/self/status``, which counts in units of 1,024 bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def _highest() -> float | None:
    """Return the peak without ``/proc``: in bytes on macOS, in units of 1,024 elsewhere; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024) / 1e6


def _line(error: Exception) -> str:
    return one_line(str(error) or type(error).__name__)


def answer(order: dict[str, str | None]) -> None:
    """Run the smoke test and write its result as one line of JSON; what a model prints goes to standard error."""
    result = os.dup(1)
    os.dup2(2, 1)
    found = run_smoke_test(
        model=Path(str(order["model"])),
        kept=Path(order["kept"]) if order["kept"] else None,
        subject=str(order["subject"]),
    )
    with os.fdopen(result, "w", encoding="utf-8") as out:
        out.write(json.dumps(found.model_dump(mode="json")) + "\n")
