"""Single steps by number of rows, ours against the library's own way, in one process that has everything imported.

    python sizes.py --repeats 3 --millions 0.1 0.3 1

Prints JSON. Tables are those of `benchmarks/drift_scale.py`: ten columns, six of numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import great_expectations as gx
import mlflow.data
import numpy as np
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
from great_expectations import expectations as gxe
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import get_scorer

from prefect_mlops.core import Gate
from prefect_mlops.core.drift.detection import detect_drift, write_drift_page
from prefect_mlops.core.tables.digests import table_digest
from prefect_mlops.tasks import judge_model, validate_table

sys.path.insert(0, str(Path(__file__).parents[1]))
from drift_scale import LEVELS, MILLION, NUMBERS, rows_of

TRAINING_ROWS = 20_000
EXPECTATIONS = [
    *(gxe.ExpectColumnValuesToNotBeNull(column=column) for column in ("price", "income", "kind", "town")),
    *(gxe.ExpectColumnValuesToBeBetween(column=column, min_value=0) for column in ("price", "wait", "visits")),
    gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=[f"kind {level}" for level in range(LEVELS["kind"])]),
    gxe.ExpectColumnValuesToBeBetween(column="score", min_value=0, max_value=1),
]
Ways = dict[str, dict[str, Callable[[], Any]]]


def text_table(side: str, rows: int) -> pd.DataFrame:
    """Make a table with text as a file would have it."""
    return rows_of(side, 0, rows).astype(dict.fromkeys(LEVELS, "str"))


def great_expectations_whole(rows: pd.DataFrame) -> None:
    """Check a frame as the quickstart does."""
    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": rows})
    suite = gx.ExpectationSuite(name="rows", expectations=EXPECTATIONS)
    if not batch.validate(suite).success:
        raise SystemExit("the rows do not meet their suite")


def ours_valid(rows: pd.DataFrame) -> None:
    """Check a frame with our task."""
    if not validate_table.fn(rows, EXPECTATIONS).passed:
        raise SystemExit("the rows do not meet their suite")


def ways(current: pd.DataFrame, reference: pd.DataFrame, models: tuple[Any, Any], folder: Path) -> Ways:
    """Return each step with the ways to do it; what a digest covers stands in its name."""
    X, y = current[list(NUMBERS)], current["new"].astype("int64")
    scorer, page = get_scorer("roc_auc"), str(folder / "page.html")
    return {
        "validate": {
            "Great Expectations, whole frame": lambda: great_expectations_whole(current),
            "ours, validate_table": lambda: ours_valid(current),
        },
        "digest": {
            "MLflow's dataset (first 10,000 rows; text and numbers)": lambda: mlflow.data.from_pandas(current).digest,
            "pandas' hash_pandas_object (every cell; no names, no types)": lambda: pd.util.hash_pandas_object(current),
            "ours (every cell, names, kinds)": lambda: table_digest(current),
        },
        "drift with page": {
            "Evidently's preset": lambda: Report([DataDriftPreset()]).run(current, reference).save_html(page),
            "ours, detect_drift": lambda: write_drift_page(
                detect_drift(current=current, reference=reference), Path(page)
            ),
        },
        "judge": {
            "scikit-learn's scorer, twice (no interval)": lambda: [scorer(model, X, y) for model in models],
            "ours, judge_model (with its interval)": lambda: judge_model.fn(
                *models, X, y, gates=[Gate("roc_auc", at_least=0.4, may_lose=0.01)]
            ),
        },
    }


def measure(millions: float, repeats: int, folder: Path) -> list[dict[str, Any]]:
    """Measure every way on tables of one size, in turns."""
    current, reference = (text_table(side, round(millions * MILLION)) for side in ("current", "reference"))
    train = text_table("reference", TRAINING_ROWS)
    models = tuple(
        HistGradientBoostingClassifier(max_iter=50, random_state=seed).fit(
            train[list(NUMBERS)], train["new"].astype(int)
        )
        for seed in (0, 1)
    )
    lines = []
    for step, by_way in ways(current, reference, models, folder).items():
        seen: dict[str, list[float]] = {way: [] for way in by_way}
        for _ in range(repeats):
            for way, work in by_way.items():
                start = time.perf_counter()
                work()
                seen[way].append(round(time.perf_counter() - start, 4))
        for way, seconds in seen.items():
            lines.append({"key": "h", "name": step, "what": way, "millions": millions, "seconds": seconds, "note": ""})
            print(f"{millions:g} million, {step}, {way}: {seconds}", file=sys.stderr)
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--millions", type=float, nargs="+", default=[0.1, 0.3, 1.0])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch, np.errstate(all="ignore"):
        measure(0.01, 1, Path(scratch))  # first calls import and compile
        lines = [line for millions in given.millions for line in measure(millions, given.repeats, Path(scratch))]
    print(json.dumps(lines))


if __name__ == "__main__":
    main()
