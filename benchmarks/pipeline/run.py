"""The flights pipeline by every contestant, side by side in one run; one table.

    python benchmarks/pipeline/run.py --repeats 5
    python benchmarks/pipeline/run.py --only a b e floor --json

Each reads January to March of 2013, checks, prepares and splits the rows, trains, evaluates, compares with the
champion, writes to MLflow, registers, draws Evidently's page and sets the alias. Servers, lake and pages are in a
temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from race import CONTESTANTS, Race  # noqa: E402 - modules beside this one
from stage import STOCK, TUNED, WARM, Stage  # noqa: E402
from table import bounds, failed, markdown  # noqa: E402

MONTHS = (1, 2, 3)
PARTS = {"f": "events", "g": "empty runs", "h": "by rows"}
SIZES = ("0.1", "0.3", "1")


def write_flights(folder: Path, landing: Path) -> None:
    """Write the months for scripts as Parquet, and for our ready flow where files arrive."""
    import pandas as pd

    from prefect_mlops.examples.flights.arrivals import write_month

    folder.mkdir(parents=True)
    for month in MONTHS:
        rows = pd.read_csv(write_month(landing, month), parse_dates=["scheduled_departure"])
        rows.to_parquet(folder / f"{month:02}.parquet", index=False)


def measure(given: argparse.Namespace, home: Path) -> list[dict[str, Any]]:
    """Run what was asked for on a stack that runs."""
    import latency
    from mlflow import MlflowClient
    from prefect.client.orchestration import get_client

    flights, wanted = home / "flights", set(given.only)
    write_flights(flights, home / "landing" / "flights")
    rows: list[dict[str, Any]] = []
    with get_client(sync_client=True) as client:
        stage = Stage(home, os.environ, client)
        if wanted & {"e2", "e2cold", "e0"}:
            stage.script(str(HERE / "ready_flow.py"), "ingest")
        if chosen := [one for one in CONTESTANTS if one.key in wanted]:
            rows += Race(stage, chosen, folder=flights, mlflow=MlflowClient()).run(given.repeats)
        if "f" in wanted:
            flows = ((TUNED, "tuned_flow.pipeline"), (WARM, "our_flow.pipeline"))
            rows += latency.events(stage, flows, folder=flights, repeats=given.events, runs=given.repeats)
        if "g" in wanted:
            rows += latency.empty_runs(stage, (STOCK, TUNED, WARM), repeats=given.repeats)
        if "h" in wanted:
            sizes = [*SIZES, *(["3"] if given.big else [])]
            arguments = ("--repeats", str(given.repeats), "--millions", *sizes)
            _, said = stage.script(str(HERE / "sizes.py"), *arguments)
            rows += json.loads(said.splitlines()[-1])
    return rows


def peers() -> list[dict[str, Any]]:
    """Let other tools do the same work by a command of their own."""
    command = [sys.executable, str(HERE / "peers" / "run.py"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a program beside this one
    if done.returncode:
        return [{"name": "peers", "what": "", "seconds": [], "note": f"failed: {done.stderr[-300:]}", "key": "peer"}]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [{"note": "", "key": "peer"} | row for row in found]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    keys = [*(one.key for one in CONTESTANTS), *PARTS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each, after one that is not counted")
    parser.add_argument("--events", type=int, default=10, help="events answered by each worker")
    parser.add_argument("--only", nargs="+", choices=keys, default=keys, help=f"some contestants; {PARTS}")
    parser.add_argument("--big", action="store_true", help="steps on 3 million rows too")
    parser.add_argument("--peers", action="store_true", help="also Kedro, Metaflow, Dagster, ZenML")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="also write it here")
    return parser.parse_args()


def main() -> None:
    """Measure and print; ends with 1 where somebody failed to do the work."""
    given = arguments()

    from prefect_mlops.deployments.local.stack import local_stack

    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        with local_stack(home, mlflow=True) as stack:
            os.environ.update(stack.environment)
            rows = measure(given, home)
    rows += peers() if given.peers else []
    said = json.dumps({"rows": rows, "bounds": bounds(rows)}, indent=1) if given.json else markdown(rows)
    if given.out:
        given.out.write_text(said + "\n")
    print(said)
    sys.exit(any(failed(row) for row in rows))


if __name__ == "__main__":
    main()
