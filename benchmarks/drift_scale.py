"""What judging drift costs in seconds and memory as tables grow, against Evidently's preset.

    python benchmarks/drift_scale.py --millions 0.3 1 3 10 30

Current table and reference have equally many rows and ten columns: six of numbers, three of categories, one boolean,
as Parquet in files of a million rows. Each measurement has a process of its own. Our reference was stored before; what
making it costs stands apart. Evidently gets frames that pandas read, and writes its page.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MILLION = 1_000_000
LEVELS = {"kind": 5, "shop": 50, "town": 500}
NUMBERS = ("price", "income", "wait", "size", "visits", "score")
SHIFT = 0.15  # of the current side, so that sizes are not all alike
PARTS = 4
EVIDENTLY_MB = {"each million rows": 800, "and": 1_000}  # 7,500 were seen at ten million


def rows_of(side: str, number: int, rows: int) -> pd.DataFrame:
    """Make a piece of a table; what stands in it depends on side and number only."""
    import pandas as pd

    moved = SHIFT * (side == "current")
    chance = np.random.default_rng([side == "current", number])
    table: dict[str, Any] = {
        "price": np.round(chance.gamma(2, 20 * (1 + moved), rows), 2),
        "income": chance.lognormal(10 + moved, 0.5, rows),
        "wait": chance.exponential(5, rows),
        "size": chance.normal(moved, 1, rows),
        "visits": chance.poisson(3 * (1 + moved), rows),
        "score": np.where(chance.random(rows) < 0.03, np.nan, chance.random(rows, dtype="float32")),  # noqa: PLR2004
    }
    for name, levels in LEVELS.items():
        shares = np.arange(1, levels + 1.0) ** (-moved)
        names = pd.Index([f"{name} {level}" for level in range(levels)])
        table[name] = pd.Categorical.from_codes(chance.choice(levels, rows, p=shares / shares.sum()), names)
    table["new"] = chance.random(rows) < 0.3 + moved / 3
    return pd.DataFrame(table)


def write_tables(folder: Path, millions: Iterable[float]) -> None:
    """Write the largest table of each side once; smaller ones share its files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for side in ("current", "reference"):
        (folder / side).mkdir(parents=True)
        for number in range(int(max(1, *millions))):
            whole = pa.Table.from_pandas(rows_of(side, number, MILLION), preserve_index=False)
            for name in LEVELS:  # plain strings in the file, as most exports have them
                whole = whole.set_column(whole.schema.get_field_index(name), name, whole[name].cast(pa.string()))
            whole = whole.replace_schema_metadata(None)
            pq.write_table(whole, folder / side / f"{number:03}.parquet", row_group_size=MILLION // 4)
        for size in millions:
            part = table_at(folder, side, size)
            part.mkdir()
            if size < 1:
                first = pq.read_table(folder / side / "000.parquet").slice(0, round(size * MILLION))
                pq.write_table(first, part / "000.parquet")
            else:
                for number in range(int(size)):
                    os.link(folder / side / f"{number:03}.parquet", part / f"{number:03}.parquet")


def table_at(folder: Path, side: str, size: float) -> Path:
    """Return where a table stands."""
    return folder / f"{side}-{size:g}"


def memory(field: str) -> float:
    """Read a figure of this process's memory from Linux, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(field))


# Each of these runs in a process of its own.


def make(current: Path, reference: Path, store: Path) -> Callable[[], Any]:  # noqa: ARG001 - all have one shape
    """Make a reference and store it."""
    import pyarrow.parquet  # noqa: F401

    from prefect_mlops.core.drift.table_profile import profile_chunks
    from prefect_mlops.core.drift.training_profile import (
        PROFILE_FILE,
        SAMPLE_FILE,
        TrainingProfile,
        write_training_profile,
    )
    from prefect_mlops.core.tables.chunks import read_chunks

    def work() -> dict[str, Any]:
        profile = profile_chunks(read_chunks(str(reference)))
        write_training_profile(TrainingProfile(profile, tuple(profile.columns)), store)
        return {"stored_mb": round(sum((store / name).stat().st_size for name in (PROFILE_FILE, SAMPLE_FILE)) / 1e6, 2)}

    return work


def ours(current: Path, reference: Path, store: Path, *, html: Path | None = None) -> Callable[[], Any]:  # noqa: ARG001
    """Judge against the stored reference."""
    import sklearn.ensemble
    import sklearn.model_selection  # noqa: F401
    from scipy import stats  # noqa: F401

    from prefect_mlops.core.drift.detection import detect_drift, write_drift_page
    from prefect_mlops.core.drift.training_profile import read_training_profile
    from prefect_mlops.core.values import TableRef

    def work() -> dict[str, Any]:
        report = detect_drift(current=TableRef(uri=str(current)), reference=read_training_profile(store))
        if html is not None:
            write_drift_page(report, html)
        return {"passed": report.passed, "drifted": report.checks[0].observed}

    return work


def page(current: Path, reference: Path, store: Path) -> Callable[[], Any]:
    """Judge, and draw the page."""
    import evidently
    import evidently.metrics
    import evidently.presets  # noqa: F401

    return ours(current, reference, store, html=store / "page.html")


def evidently(current: Path, reference: Path, store: Path) -> Callable[[], Any]:
    """Let Evidently read, judge and write its page."""
    import pandas as pd
    import pyarrow.parquet  # noqa: F401
    from evidently import Report
    from evidently.presets import DataDriftPreset

    def work() -> dict[str, Any]:
        seen = Report([DataDriftPreset()]).run(pd.read_parquet(current), pd.read_parquet(reference))
        seen.save_html(str(store / "evidently.html"))
        return {"drifted": seen.dict()["metrics"][0]["value"]["count"]}

    return work


JOBS = {"make": make, "ours": ours, "page": page, "evidently": evidently}


def measured(job: str, current: Path, reference: Path, store: Path) -> dict[str, Any]:
    """Do a job in this process, once everything is imported."""
    work = JOBS[job](current, reference, store)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    start, used = time.perf_counter(), time.process_time()
    seen = work()
    used = time.process_time() - used
    return {
        "seconds": time.perf_counter() - start,
        "cpu": used,
        "mb": memory("VmHWM") - before,
        "mb_of_imports": before,
        **seen,
    }


def in_a_process(job: str, current: Path, reference: Path, store: Path) -> dict[str, Any]:
    """Do a job in a new process; the wall time of the whole process includes its imports."""
    command = [sys.executable, __file__, "--job", job, *map(str, (current, reference, store))]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this very script
    seconds = time.perf_counter() - start
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"wall": seconds}


def measure(folder: Path, size: float, *, evidently_too: bool) -> dict[str, Any]:
    """Measure every job on tables of one size."""
    current, reference = (table_at(folder, side, size) for side in ("current", "reference"))
    store = folder / f"store-{size:g}"
    line: dict[str, Any] = {"millions": size}
    for job in JOBS:
        if job == "evidently" and not evidently_too:
            line[job] = {"error": "not asked"}
        elif job == "evidently" and (needed := evidently_mb(size)) > free_mb():
            line[job] = {"error": f"needs about {needed:,.0f} MB, {free_mb():,.0f} are free"}
        else:
            line[job] = in_a_process(job, current, reference, store)
        print(f"{size:g} million, {job}: {line[job]}", file=sys.stderr, flush=True)
    return line


def evidently_mb(size: float) -> float:
    """Estimate what Evidently needs."""
    return EVIDENTLY_MB["each million rows"] * size + EVIDENTLY_MB["and"]


def free_mb() -> float:
    """Return how much memory Linux has left."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("MemAvailable"))


# How exact the sizes are.


def exactness(folder: Path, size: float) -> dict[str, float]:
    """Compare our sizes with exact ones, and those of merged parts with those of one pass."""
    from prefect_mlops.core.drift.table_drift import compare_profiles
    from prefect_mlops.core.drift.table_profile import merge_profiles, profile_chunks
    from prefect_mlops.core.drift.training_profile import read_training_profile
    from prefect_mlops.core.tables.chunks import read_chunks

    current, reference = (table_at(folder, side, size) for side in ("current", "reference"))
    stored = read_training_profile(folder / f"store-{size:g}").profile
    files = np.array_split(sorted(current.iterdir()), PARTS)
    parts = [
        profile_chunks((chunk for file in part for chunk in read_chunks(str(file))), part=number)
        for number, part in enumerate(files)
    ]
    passes = {"one pass": profile_chunks(read_chunks(str(current))), "merged": merge_profiles(parts)}
    seen = {name: compare_profiles(current=profile, reference=stored) for name, profile in passes.items()}
    sizes = {
        name: {one.column: one.measure.size for one in found.changes if one.aspect == "distribution"}
        for name, found in seen.items()
    }
    true = {name: exact_size(current, reference, name) for name in sizes["one pass"]}
    return {
        "bound": seen["one pass"].error,
        "one pass": max(abs(sizes["one pass"][name] - true[name]) for name in true),
        "merged": max(abs(sizes["merged"][name] - true[name]) for name in true),
        "merged from one pass": max(abs(sizes["merged"][name] - sizes["one pass"][name]) for name in true),
        "rows merged": passes["merged"].rows - passes["one pass"].rows,
    }


def exact_size(current: Path, reference: Path, name: str) -> float:
    """Measure one column on all of its values at once."""
    import pandas as pd

    sides = [pd.read_parquet(table, columns=[name])[name].dropna() for table in (current, reference)]
    if name in NUMBERS:
        return exact_distance(*(np.sort(side.to_numpy("float64")) for side in sides))
    shares = pd.concat([side.value_counts(normalize=True) for side in sides], axis=1).fillna(0).to_numpy()
    rows = np.array([len(side) for side in sides])
    pooled = shares @ rows / rows.sum()
    by_chance = 0.5 * np.sqrt(pooled * (1 - pooled) * (1 / rows).sum()).sum()
    return float(max(0.0, 0.5 * np.abs(shares[:, 0] - shares[:, 1]).sum() - by_chance))


def exact_distance(now: NDArray[Any], before: NDArray[Any]) -> float:
    """Return the Kolmogorov-Smirnov distance of sorted values: the gap is largest just after one of them."""
    gaps = []
    for points in (now, before):
        gap = np.searchsorted(now, points, side="right") / len(now)
        gap -= np.searchsorted(before, points, side="right") / len(before)
        gaps.append(np.abs(gap).max())
    return float(max(gaps))


def markdown(lines: list[dict[str, Any]]) -> str:
    """Write times and memory as a table."""
    text = [
        "Seconds of work (of processor; of the whole process with imports), MB on top of imports.",
        "",
        "| million rows | making the reference | MB | stored MB | our verdict | MB | with page | MB | Evidently | MB "
        "| times faster: verdict, with page, whole processes |",
        "|" + " --- |" * 11,
    ]
    for line in lines:
        make_, mine, paged, theirs = (line[job] for job in JOBS)
        cells = [f"{line['millions']:g}", _seconds(make_), _mb(make_), str(make_.get("stored_mb", "-"))]
        for one in (mine, paged, theirs):
            cells += [_seconds(one), _mb(one)]
        if any("error" in one for one in (mine, paged, theirs)):
            cells.append("-")
        else:
            ratios = [theirs["seconds"] / mine["seconds"], theirs["seconds"] / paged["seconds"]]
            cells.append(f"{ratios[0]:.0f}, {ratios[1]:.0f}, {theirs['wall'] / paged['wall']:.1f}")
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def _seconds(one: dict[str, Any]) -> str:
    return one["error"] if "error" in one else f"{one['seconds']:.2f} ({one['cpu']:.1f}; {one['wall']:.1f})"


def _mb(one: dict[str, Any]) -> str:
    return "-" if "error" in one else f"{one['mb']:,.0f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--millions", nargs="+", type=float, default=[0.3, 1, 3, 10, 30], help="of rows, each side")
    parser.add_argument("--evidently-up-to", type=float, default=30, help="larger tables are not given to Evidently")
    parser.add_argument("--exact-at", type=float, default=10, help="where sizes are compared with exact ones")
    parser.add_argument("--folder", type=Path, help="of tables to keep and use again; a temporary one by default")
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        print(json.dumps(measured(given.job[0], *map(Path, given.job[1:]))))
        return
    folder = given.folder or Path(tempfile.mkdtemp())
    try:
        if not (folder / "current").exists():
            write_tables(folder, given.millions)
        lines = [measure(folder, size, evidently_too=size <= given.evidently_up_to) for size in given.millions]
        print(markdown(lines))
        if given.exact_at in given.millions:
            print(f"\nAt {given.exact_at:g} million rows: {exactness(folder, given.exact_at)}")
    finally:
        if not given.folder:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
