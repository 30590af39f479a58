"""Can a model be made again, to the last bit? Three estimators on the flights data, with one thread and with two.

    python benchmarks/reproduce_flights.py --months 3

Each model is trained by the flow ``train`` in a process of its own, and reproduced by another one. Everything happens
in a temporary folder: the specs are committed to a git repository there, lake, Prefect server and MLflow are its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from prefect_mlops.examples.flights.arrivals import write_month

SPECS = """
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from prefect_mlops.core import Gate, ModelSpec
from prefect_mlops.examples.flights import CATEGORIES, NUMBERS, flights, prepare

CODES = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def spec(name, columns, estimator):
    return ModelSpec(
        name=name, dataset="flights", target="late", features=(*CATEGORIES, *NUMBERS), order_by="scheduled_departure",
        prepare=prepare, suite=flights.suite, estimator=make_pipeline(columns, estimator),
        gates=[Gate("roc_auc", at_least=0.5)],
    )


scaled = make_column_transformer(
    (OneHotEncoder(handle_unknown="ignore"), list(CATEGORIES)),
    (make_pipeline(SimpleImputer(), StandardScaler()), list(NUMBERS)),
)
coded = make_column_transformer((CODES, list(CATEGORIES)), (SimpleImputer(), list(NUMBERS)))
gaps = make_column_transformer((CODES, list(CATEGORIES)), remainder="passthrough")
linear = spec("logistic-regression", scaled, LogisticRegression(max_iter=500))
forest = spec("random-forest", coded, RandomForestClassifier(100, min_samples_leaf=5, n_jobs=2))
boosted = spec("hist-gradient-boosting", gaps, HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05))
"""
NAMES = {"linear": "logistic-regression", "forest": "random-forest", "boosted": "hist-gradient-boosting"}
RUNS = ((2, 2), (1, 1), (2, 1), (1, 2))  # threads when it was trained, and when it is trained again
INGEST = "from prefect_mlops.flows.ingest import ingest; ingest('prefect_mlops.examples.flights.flights')"
TRAIN = "import sys; from prefect_mlops.flows.train import train; train('late.' + sys.argv[1], force=True)"
REPRODUCE = """
import json, sys
from prefect_mlops.reproduction.reproduce import reproduce_model
from prefect_mlops.tracking.client import mlflow_client
name, version, threads = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client = mlflow_client()
run = client.get_run(client.get_model_version(name, str(version)).run_id)
for count in ("openmp_threads", "blas_threads"):  # as many as were recorded are used: another number is recorded
    client.set_tag(run.info.run_id, f"prefect_mlops.environment.{count}", threads)
print(reproduce_model(name, version).model_dump_json())
"""


def run(program: str, *arguments: str, threads: int, folder: Path) -> str:
    """Run a program in a Python of its own; stop here when it fails."""
    count = str(threads)
    environment = {**os.environ, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(  # noqa: S603 - this Python, and programs from above
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{arguments} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def measure(folder: Path, estimators: list[str]) -> list[dict[str, Any]]:
    """Train and reproduce each estimator with each number of threads."""
    lines = []
    for estimator in estimators:
        versions = {threads: number for number, threads in enumerate((1, 2), start=1)}
        for threads in versions:
            run(TRAIN, estimator, threads=threads, folder=folder)
        for then, again in RUNS:
            start = time.perf_counter()
            said = run(REPRODUCE, NAMES[estimator], str(versions[then]), str(again), threads=2, folder=folder)
            made = json.loads(said.splitlines()[-1])
            lines.append(
                {
                    "model": NAMES[estimator],
                    "threads": f"{then}, again {again}",
                    "identical": made["identical"],
                    "predictions": made["predictions"]["state"],
                    "content": made["content"]["state"],
                    "seconds": round(time.perf_counter() - start, 1),
                    "parts": {name: part for name, part in made.items() if isinstance(part, dict)},
                }
            )
            print(lines[-1]["model"], lines[-1]["threads"], lines[-1]["identical"], file=sys.stderr)
    return lines


def commit(folder: Path) -> None:
    """Make a repository with the specs in it."""
    folder.mkdir()
    (folder / "late.py").write_text(SPECS)
    who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@example.com")
    for arguments in (("init", "-q"), ("add", "late.py"), (*who, "commit", "-qm", "specs")):
        subprocess.run(["git", *arguments], cwd=folder, check=True)  # noqa: S603, S607 - fixed arguments


def table(lines: list[dict[str, Any]]) -> str:
    """Write the lines as a markdown table."""
    names = ("model", "threads", "identical", "predictions", "content", "seconds")
    rows = [[str(line[name]) for name in names] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(names), ["---"] * len(names), *rows])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--months", type=int, default=3, help="of 2013")
    parser.add_argument("--estimators", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--json", action="store_true", help="print everything that was compared")
    given = parser.parse_args()

    from prefect_mlops.deployments.local.stack import local_stack

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "project"
        commit(folder)
        with local_stack(Path(scratch) / "home") as stack:
            os.environ.update(stack.environment)
            for month in range(1, given.months + 1):
                write_month(stack.home / "landing" / "flights", month)
            run(INGEST, threads=2, folder=folder)
            lines = measure(folder, given.estimators)
    print(json.dumps(lines, indent=1) if given.json else table(lines))


if __name__ == "__main__":
    main()
