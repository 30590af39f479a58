"""What a training costs in seconds and memory as the table grows, step by step, beside the same work by hand.

    python benchmarks/train_scale.py --rows 1000000 3000000 10000000

The table is a dataset of the lake: ten features (six of fractions, two of whole numbers, two of words), a target, a
time, five columns nobody asks for, and the marks of the lake, in files of half a million rows. "By hand", "estimator"
and "ours" have a process each. Memory is the peak of a step on top of the imports, in sizes of the feature matrix as it
was loaded (Linux only), with everything that lives from the steps before. What the estimator takes by itself stands
apart: `fit` on the bare matrix. By hand is what pandas and scikit-learn do with the same columns: read, split, fit,
predict.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from prefect_mlops.core.specs.model import ModelSpec

FILE_ROWS = 500_000
WARM_ROWS = 5_000
FRACTIONS = tuple(f"x{place}" for place in range(6))
WHOLE = ("visits", "age")
WORDS = {"kind": ("shoes", "shirt", "hat"), "town": tuple(f"town {place}" for place in range(40))}
FEATURES = (*FRACTIONS, *WHOLE, *WORDS)
OTHERS = tuple(f"note{place}" for place in range(5))
TEST_SHARE = 0.2
HOW = ("by hand", "estimator", "ours")


def rows_of(start: int, count: int) -> pa.Table:
    """Make some rows of the dataset as the lake keeps them; what stands in them depends on their number only."""
    import pyarrow as pa

    chance = np.random.default_rng(start)
    columns: dict[str, Any] = {name: chance.normal(size=count) for name in FRACTIONS}
    columns |= {name: chance.integers(0, 90, count) for name in WHOLE}
    columns |= {name: np.array(words)[chance.integers(0, len(words), count)] for name, words in WORDS.items()}
    score = columns["x0"] + 0.5 * columns["x1"] + 0.02 * columns["age"] + (columns["kind"] == "shoes") - 1.2
    columns["returned"] = (chance.random(count) < 1 / (1 + np.exp(-score))).astype("int64")
    columns["sold_at"] = np.datetime64("2024-01-01", "us") + np.arange(start, start + count).astype("timedelta64[s]")
    columns |= {name: [f"{name} of sale {place}" for place in range(start, start + count)] for name in OTHERS}
    columns |= {"_file": [f"landing/{start}.parquet"] * count, "_digest": ["sha256:" + "0" * 64] * count}
    return pa.table(columns | {"_row": np.arange(1, count + 1)})


def write_dataset(uri: str, rows: int) -> None:
    """Write so many rows as a Delta table."""
    from deltalake import write_deltalake

    for start in range(0, rows, FILE_ROWS):
        write_deltalake(uri, rows_of(start, min(FILE_ROWS, rows - start)), mode="append")


def estimator(kind: str) -> Any:
    """Return a frugal estimator that takes the columns as they are."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder, StandardScaler

    numbers = [*FRACTIONS, *WHOLE]
    coded = (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), list(WORDS))
    if kind == "sgd":
        return make_pipeline(
            make_column_transformer((StandardScaler(), numbers), coded), SGDClassifier(loss="log_loss", max_iter=5)
        )
    trees = HistGradientBoostingClassifier(max_iter=20, early_stopping=False)
    return make_pipeline(make_column_transformer(("passthrough", numbers), coded), trees)


def spec_of(dataset: str, kind: str) -> ModelSpec:
    """Declare the model: a suite that names every feature and one column more."""
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as gxe

    from prefect_mlops.core import Gate, ModelSpec

    wanted: list[Any] = [gxe.ExpectColumnValuesToNotBeNull(column=name) for name in (*FEATURES, "note0")]
    wanted += [gxe.ExpectColumnValuesToBeBetween(column=name, min_value=-9, max_value=99) for name in FRACTIONS]
    wanted += [gxe.ExpectColumnValuesToBeInSet(column=name, value_set=list(words)) for name, words in WORDS.items()]
    return ModelSpec(
        name="scale",
        dataset=dataset,
        target="returned",
        features=FEATURES,
        order_by="sold_at",
        estimator=estimator(kind),
        suite=ExpectationSuite(name="scale", expectations=wanted),
        gates=[Gate("roc_auc", at_least=0.5, may_lose=0.5, slices=("kind",))],
        metrics=["accuracy", "neg_log_loss"],
        test_share=TEST_SHARE,
    )


def memory(name: str) -> int:
    """Read a figure of this process's memory from Linux, in bytes; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


@dataclass
class Clock:
    """Seconds and peak of memory of each step, on top of what there was at the start."""

    before: int = field(default_factory=lambda: memory("VmRSS"))
    steps: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure one step."""
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux counts the peak from now on
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.steps[name] = {
            "seconds": round(seconds, 2),
            "peak": memory("VmHWM") - self.before,
            "left": memory("VmRSS") - self.before,
        }


def matrix_bytes(X: pd.DataFrame) -> int:
    """Return the size of the features as they were loaded."""
    return int(X.memory_usage(index=False, deep=True).sum())


def by_hand(uri: str, kind: str) -> dict[str, Any]:
    """Do the work as one would write it down, with the columns that are needed."""
    import pandas as pd
    from deltalake import DeltaTable
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import train_test_split

    warm = rows_of(0, WARM_ROWS).to_pandas()
    estimator(kind).fit(warm[list(FEATURES)], warm["returned"])
    clock = Clock()
    with clock.step("read"):
        files = DeltaTable(uri).file_uris()
        table = pd.read_parquet(files, columns=[*FEATURES, "returned"])
    with clock.step("split"):
        X, y = table[list(FEATURES)], table["returned"]
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=TEST_SHARE, shuffle=False)
    with clock.step("fit"):
        model = estimator(kind).fit(X_train, y_train)
    with clock.step("predict"):
        roc_auc_score(y_test, model.predict_proba(X_test)[:, 1])
    return {"matrix": matrix_bytes(X), "steps": clock.steps}


def bare(uri: str, kind: str) -> dict[str, Any]:
    """Fit on the training features alone; what they take is not counted."""
    import pandas as pd
    from deltalake import DeltaTable

    warm = rows_of(0, WARM_ROWS).to_pandas()
    estimator(kind).fit(warm[list(FEATURES)], warm["returned"])
    table = pd.read_parquet(DeltaTable(uri).file_uris(), columns=[*FEATURES, "returned"])
    train = round(len(table) * (1 - TEST_SHARE))
    y, X = table.pop("returned").iloc[:train].copy(), table.iloc[:train].copy()
    size = matrix_bytes(table)
    del table
    clock = Clock()
    with clock.step("fit"):
        estimator(kind).fit(X, y)
    return {"matrix": size, "steps": clock.steps}


def ours(uri: str, kind: str) -> dict[str, Any]:
    """Take a challenger from the lake to its reference, against a champion of the first rows."""
    import logging

    import train_scale
    from prefect import flow

    from prefect_mlops.flows.train import train
    from prefect_mlops.flows.training_run import TrainingRun

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    train_scale.warm = spec_of(f"{uri}-warm", kind)  # type: ignore[attr-defined]
    train_scale.large = spec = spec_of(uri, kind)  # type: ignore[attr-defined]
    train("train_scale.warm")
    found: dict[str, Any] = {}

    @flow
    def scaled() -> None:
        clock = Clock()
        with TrainingRun(spec, force=True) as run:
            with clock.step("prepare"):
                run.load()
            with clock.step("train"):
                run.train()
            with clock.step("evaluate and judge"):
                run.judge()
            with clock.step("log and register"):
                run.register()
                _ = run.version
            with clock.step("smoke test, card, profile, decision"):
                run.smoke_test()
                run.conclude()
        found.update(matrix=sum(map(matrix_bytes, (run.split.X_train, run.split.X_test))), steps=clock.steps)

    scaled()
    return found


JOBS = {"by hand": by_hand, "estimator": bare, "ours": ours}


def shown(rows: int, how: str, measured: dict[str, Any]) -> str:
    """Write one process as lines of a table."""
    matrix, lines = measured["matrix"], []
    start = f"| {rows:,} | {matrix / 1e6:,.0f} MB | {how} |"
    for name, step in measured["steps"].items():
        peak, left = (f"{step[key] / matrix:.2f}" for key in ("peak", "left"))
        lines.append(f"{start} {name} | {step['seconds']:.2f} | {peak} | {left} |")
    steps = measured["steps"].values()
    peak, seconds = max(step["peak"] for step in steps) / matrix, sum(step["seconds"] for step in steps)
    return "\n".join([*lines, f"{start} all | {seconds:.2f} | {peak:.2f} | |"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--estimator", choices=["sgd", "trees"], default="sgd")
    parser.add_argument("--how", nargs="+", choices=HOW, default=list(HOW))
    parser.add_argument("--folder", type=Path, help="of datasets to keep and use again; a temporary one by default")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("HOW", "TABLE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(JOBS[given.one[0]](given.one[1], given.estimator)))
        return
    from prefect_mlops.deployments.local.stack import local_stack

    if not given.json:
        print("| rows | matrix | how | step | seconds | peak, matrices | left, matrices |\n" + "| --- " * 7 + "|")
    with tempfile.TemporaryDirectory() as scratch:
        for rows in given.rows:
            folder = given.folder or Path(scratch)
            uri = str(folder / f"rows-{rows}")
            for name, count in ((uri, rows), (f"{uri}-warm", WARM_ROWS)):
                if not Path(name).exists():
                    write_dataset(name, count)
            for how in given.how:
                with contextlib.ExitStack() as stack:
                    here = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
                    environment = dict(os.environ, PYTHONPATH=here)
                    if how == "ours":
                        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                        environment |= stack.enter_context(local_stack(home)).environment
                        environment["PREFECT_LOGGING_LEVEL"] = "ERROR"
                    one = [sys.executable, __file__, "--estimator", given.estimator, "--one", how, uri]
                    done = subprocess.run(one, capture_output=True, text=True, env=environment, check=False)  # noqa: S603
                if done.returncode:
                    sys.exit(done.stderr[-3000:])
                measured = json.loads(done.stdout.splitlines()[-1])
                print(json.dumps({"rows": rows, "how": how} | measured) if given.json else shown(rows, how, measured))
                sys.stdout.flush()


if __name__ == "__main__":
    main()
