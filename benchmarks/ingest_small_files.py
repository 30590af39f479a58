"""How fast many small files get into the lake: drop them all, then drain them with one run of the flow ``ingest``.

    python benchmarks/ingest_small_files.py --files 10000

Everything happens in a temporary folder, against a Prefect server of its own.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import sys
import tempfile
import time
from pathlib import Path

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from prefect_mlops.core import DatasetSpec

KINDS = ("shoes", "shirt", "hat")
HEADER = "sold_at,kind,price,weight,returned"

small_files = DatasetSpec(
    name="shop",
    landing="landing",
    settle_seconds=0,
    suite=ExpectationSuite(
        name="shop",
        expectations=[
            gxe.ExpectTableColumnsToMatchSet(column_set=HEADER.split(",")),
            gxe.ExpectColumnValuesToNotBeNull(column="sold_at"),
            gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=list(KINDS)),
            gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, max_value=1000),
        ],
    ),
)


def drop_files(folder: Path, *, files: int, rows: int) -> None:
    """Write files no two of which hold the same."""
    folder.mkdir(parents=True)
    for number in range(files):
        lines = [HEADER]
        for row in range(rows):
            at = f"2024-01-{1 + row % 28:02}T{number % 24:02}:{row % 60:02}:00"
            place = number * rows + row
            lines.append(
                f"{at},{KINDS[place % 3]},{place % 9999 / 10:.1f},{1 + place % 7 / 4},{int(place % 5 == number % 5)}"
            )
        lines[-1] = lines[-1].rpartition(",")[0] + f",{number}"  # makes the content its own
        (folder / f"{number:06}.csv").write_text("\n".join(lines) + "\n")


def memory(field: str) -> int:
    """Read a figure of this process's memory from Linux, in bytes; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


def forget_peak() -> None:
    """Let Linux count the peak of memory from now on."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def drain(*, files: int, rows: int, profile: int) -> dict[str, float]:
    """Ingest what landed in the current folder, once all libraries are imported."""
    import deltalake
    import mlflow  # noqa: F401 - a worker has it imported
    import pandas as pd  # noqa: F401
    from prefect.client.orchestration import get_client

    from prefect_mlops.core.addresses import table_uri
    from prefect_mlops.flows.ingest import ingest

    before = memory("VmRSS")
    forget_peak()
    profiler = cProfile.Profile() if profile else None
    start = time.perf_counter()
    if profiler:
        profiler.enable()
    done = ingest("ingest_small_files.small_files").arrivals
    if profiler:
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumulative").print_stats(profile)
    seconds = time.perf_counter() - start
    peak = memory("VmHWM")
    rows_there = deltalake.DeltaTable(table_uri("datasets", "shop")).to_pyarrow_table().num_rows
    if (len(done), rows_there) != (files, files * rows):
        sys.exit(f"expected {files} files with {files * rows} rows, the lake has {len(done)} with {rows_there}")
    start = time.perf_counter()
    ingest("ingest_small_files.small_files")
    with get_client(sync_client=True) as client:
        return {
            "files": files,
            "rows_committed": rows_there,
            "seconds": round(seconds, 2),
            "files_per_second": round(files / seconds, 1),
            "seconds_second_look": round(time.perf_counter() - start, 2),
            "peak_mb_on_top_of_imports": round((peak - before) / 1e6, 1),
            "flow_runs": len(client.read_flow_runs(limit=200)),
            "task_runs": len(client.read_task_runs(limit=200)),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=20, help="in each file")
    parser.add_argument("--profile", type=int, default=0, metavar="LINES", help="print where the time goes")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))

    from prefect_mlops.deployments.local.stack import local_stack

    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        drop_files(Path("landing"), files=given.files, rows=given.rows)
        with local_stack(Path(scratch) / "home") as stack:
            os.environ.update(stack.environment, PREFECT_LOGGING_LEVEL="WARNING")
            measured = drain(files=given.files, rows=given.rows, profile=given.profile)
        os.chdir("/")
    print(
        json.dumps(measured) if given.json else "\n".join(f"{name:<28}{value:>12,}" for name, value in measured.items())
    )


if __name__ == "__main__":
    main()
