"""How long a check of a table takes and how much memory, read whole and read in chunks.

    python benchmarks/validate_chunks.py --rows 300000 1000000

Everything happens in a temporary folder; each measurement has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FILE_ROWS = 500_000
NUMBERS = 6
KINDS = ("shoes", "shirt", "hat")


def write_table(path: Path, *, rows: int) -> None:
    """Write ten columns as a Delta table, so many rows to a file."""
    import numpy as np
    import pyarrow as pa
    from deltalake import write_deltalake

    for start in range(0, rows, FILE_ROWS):
        count = min(FILE_ROWS, rows - start)
        random = np.random.default_rng(start)
        columns: dict[str, Any] = {f"x{place}": random.normal(size=count) for place in range(NUMBERS)}
        columns["id"] = np.arange(start, start + count)
        columns["hour"] = random.integers(0, 24, count)
        columns["kind"] = np.array(KINDS)[random.integers(0, len(KINDS), count)]
        columns["weight"] = pa.array(random.normal(size=count), mask=random.random(count) < 0.1)  # noqa: PLR2004
        write_deltalake(path, pa.table(columns), mode="append")


def suite(*, unique: bool) -> list[Any]:
    """Return fourteen expectations, or one more that looks at a whole column."""
    from great_expectations import expectations as gxe

    numbers = [f"x{place}" for place in range(NUMBERS)]
    found: list[Any] = [gxe.ExpectColumnValuesToNotBeNull(column=name) for name in numbers[:4]]
    found += [gxe.ExpectColumnValuesToBeBetween(column=name, min_value=-3, max_value=3, mostly=0.9) for name in numbers]
    found += [
        gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=list(KINDS)),
        gxe.ExpectColumnValuesToNotBeNull(column="weight", mostly=0.8),
        gxe.ExpectColumnMeanToBeBetween(column="hour", min_value=11, max_value=12),
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
    ]
    return [*found, gxe.ExpectColumnValuesToBeUnique(column="id")] if unique else found


def memory(name: str) -> int:
    """Read a figure of this process's memory from Linux, in bytes; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def check(path: str, *, how: str, unique: bool) -> dict[str, Any]:
    """Check a table once, when all libraries are imported and have been used."""
    import pandas as pd

    from prefect_mlops.core.tables.read import as_frame
    from prefect_mlops.core.values import TableRef
    from prefect_mlops.data_checks import check_table

    expectations = suite(unique=unique)
    table = TableRef(uri=path)
    columns = {**{f"x{place}": [0.0] for place in range(NUMBERS)}, "weight": [0.0]}
    check_table(pd.DataFrame({**columns, "id": [0], "hour": [0], "kind": ["hat"]}), expectations)
    before = memory("VmRSS")
    start = time.perf_counter()
    report = check_table(as_frame(table) if how == "whole" else table, expectations)
    seconds = time.perf_counter() - start
    if not report.passed:
        sys.exit(f"expected a table that passes, got: {report.summary}")
    peak = memory("VmHWM") - before
    return {"rows": report.rows, "read": how, "seconds": round(seconds, 2), "peak_mb_on_top_of_imports": peak // 10**6}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[300_000, 1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--unique", action="store_true", help="also ask whether a column is unique")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("HOW", "TABLE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(check(given.one[1], how=given.one[0], unique=given.unique)))
        return
    more = ["--unique"] if given.unique else []
    for rows in given.rows:
        with tempfile.TemporaryDirectory() as scratch:
            write_table(Path(scratch) / "table", rows=rows)
            for how in ("whole", "chunks"):
                one = [sys.executable, __file__, "--one", how, f"{scratch}/table", *more]
                done = subprocess.run(one, capture_output=True, text=True, check=True)  # noqa: S603 - this script itself
                measured = json.loads(done.stdout.splitlines()[-1])
                line = "  ".join(
                    f"{name} {value:,}" if name != "read" else f"{value:<6}" for name, value in measured.items()
                )
                print(json.dumps(measured) if given.json else line, flush=True)


if __name__ == "__main__":
    main()
