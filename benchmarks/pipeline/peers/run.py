"""The same work done with Kedro, Metaflow, Dagster and ZenML, each in an environment of its own.

    python benchmarks/pipeline/peers/run.py --repeats 3
    python benchmarks/pipeline/peers/run.py --only kedro dagster --json

Environments are made with uv and kept for the next time; everything else happens in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))  # `stage` measures memory, for the other contestants too
PUBLISHED_BY = "2026-10-15"
TABLE, PAGE, STORE = "flights.parquet", "drift.html", "mlflow.db"
MONTHS = (1, 2, 3)
RUN_SECONDS = 600  # many times what any takes
MAX_GAP = 0.001  # of the AUC of any two contestants
MAX_NOTE = 300
COMPARED = ("pydantic", "fastapi", "starlette")  # beside libraries.txt; told where a contestant has another version


class PeerError(Exception):
    """A contestant could not be installed, or did not do its work."""


@dataclass(frozen=True)
class Peer:
    """A contestant.

    Attributes:
        key: folder of its project, and its name for ``--only``.
        name: what the table calls it.
        what: how it runs.
        command: started in a copy of its folder, with the programs of its environment first.
        setup: commands run once before the clock.
    """

    key: str
    name: str
    what: str
    command: tuple[str, ...]
    setup: tuple[tuple[str, ...], ...] = ()


DAGSTER = ("dagster", "job", "execute", "-f", "definitions.py", "-j", "release")
TRACKER = ("zenml", "experiment-tracker", "register", "mlflow", "--flavor=mlflow", "--tracking_uri={store}")
STACK = ("zenml", "stack", "register", "flights", "-o", "default", "-a", "default", "-e", "mlflow", "--set")
PEERS = (
    Peer("script", "the same functions as a script", "one process", ("python", "main.py")),
    Peer("kedro", "Kedro + kedro-mlflow", "kedro run, one process", ("kedro", "run")),
    Peer("dagster", "Dagster, in process", "dagster job execute, one process", (*DAGSTER, "-c", "in_process.yaml")),
    Peer("dagster", "Dagster, multiprocess", "dagster job execute, a process a step", DAGSTER),
    Peer("metaflow", "Metaflow", "flow.py run, a process a step", ("python", "flow.py", "run")),
    Peer("zenml", "ZenML", "local stack, one process", ("python", "run.py"), (("zenml", "init"), TRACKER, STACK)),
)


def write_table(path: Path) -> None:
    """Write January to March of the flights."""
    import pandas as pd

    from prefect_mlops.examples.flights.arrivals import write_month

    with tempfile.TemporaryDirectory() as files:
        months = [pd.read_csv(write_month(Path(files), month)) for month in MONTHS]
    rows = pd.concat(months, ignore_index=True)
    rows["scheduled_departure"] = pd.to_datetime(rows["scheduled_departure"], utc=True)
    rows.to_parquet(path, index=False)


def install(key: str, environments: Path) -> Path:
    """Make the environment of a contestant, or take the one of last time; returns its folder."""
    uv = shutil.which("uv")
    if uv is None:
        raise PeerError("uv is not installed: pip install uv")
    folder, requirements = environments / key, HERE / key / "requirements.txt"
    wanted = requirements.read_text() + (HERE / "libraries.txt").read_text()
    made = folder / "requirements.made"
    if made.exists() and made.read_text() == wanted:
        return folder
    print(f"{key}: installing into {folder}", file=sys.stderr)
    # MLflow writes pip's version beside each model, so pip is there too (--seed).
    _call([uv, "venv", "--quiet", "--seed", "--clear", "--python", sys.executable, str(folder)])
    interpreter = str(folder / "bin" / "python")
    _call(
        [uv, "pip", "install", "--quiet", "--python", interpreter, "--exclude-newer", PUBLISHED_BY, "-r", requirements]
    )
    made.write_text(wanted)
    return folder


def _call(command: Sequence[str | Path], **given: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **given)  # noqa: S603 - commands above
    if done.returncode:
        raise PeerError(" ".join((done.stderr or done.stdout).split())[-MAX_NOTE:])
    return done.stdout


def environment(folder: Path, installed: Path) -> dict[str, str]:
    """Return the variables of a contestant: its own store and home, and nobody is told that it ran."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_", "PYTHON"))}
    return {
        **kept,
        "PATH": f"{installed / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(installed),
        "PYTHONPATH": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / STORE}",
        "DAGSTER_HOME": str(folder),
        "METAFLOW_HOME": str(folder),
        "METAFLOW_USER": "benchmark",
        "ZENML_CONFIG_PATH": str(folder / "zenml"),
        "ZENML_LOCAL_STORES_PATH": str(folder / "stores"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def prepare(peer: Peer, *, folder: Path, installed: Path, table: Path) -> None:
    """Copy a project, register the champion it has to beat, and set its framework up; once for each folder."""
    if (folder / "champion.db").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / peer.key, folder)
    for file in (HERE / "work.py", HERE.parent / "recipe.py", table):
        shutil.copy(file, folder)
    variables = environment(folder, installed)
    for command in (("python", "work.py", "champion"), *peer.setup):
        filled = [part.format(store=variables["MLFLOW_TRACKING_URI"]) for part in command]
        _call([_program(installed, filled[0]), *filled[1:]], cwd=folder, env=variables)
    shutil.copy(folder / STORE, folder / "champion.db")


def _program(installed: Path, name: str) -> str:
    return str(installed / "bin" / name)


def run_once(peer: Peer, *, folder: Path, installed: Path, measure: bool) -> tuple[float, float, float]:
    """Run a contestant in a fresh process; returns seconds, megabytes (0 unless asked for) and the model's AUC."""
    for leftover in (*folder.glob(f"{STORE}*"), folder / PAGE):
        leftover.unlink(missing_ok=True)
    shutil.copy(folder / "champion.db", folder / STORE)
    variables = environment(folder, installed)
    command = [_program(installed, peer.command[0]), *peer.command[1:]]
    seconds, megabytes = _timed(command, folder, variables, measure=measure)
    found = _call([_program(installed, "python"), "work.py", "outcome"], cwd=folder, env=variables)
    outcome = json.loads(found.splitlines()[-1])
    if "missing" in outcome:
        raise PeerError(f"it ended well, but the registry lacks: {outcome['missing']}")
    if not (folder / PAGE).exists() or "</html>" not in (folder / PAGE).read_text()[-100:]:
        raise PeerError("it ended well, but there is no drift page")
    return seconds, megabytes, outcome["auc"]


def _timed(command: list[str], folder: Path, variables: Mapping[str, str], *, measure: bool) -> tuple[float, float]:
    from stage import Peak

    peak, log = Peak(), folder / "run.log"
    with log.open("w") as out:
        start = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - commands above
            command, cwd=folder, env=variables, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            if measure:
                with peak.of(process.pid):
                    process.wait(RUN_SECONDS)
            process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            raise PeerError(f"did not end within {RUN_SECONDS} seconds") from None
        finally:
            seconds = time.perf_counter() - start
            with suppress(ProcessLookupError):  # its own session: nothing it started outlives it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise PeerError(f"ended with {process.returncode}: {' '.join(log.read_text().split())[-MAX_NOTE:]}")
    return seconds, peak.megabytes


def versions(installed: Path | None = None) -> dict[str, str]:
    """Return the version of each package of an environment; of this one without a folder."""
    found: Sequence[Distribution]
    if installed is None:
        found = list(distributions())
    else:
        found = list(distributions(path=[str(place) for place in installed.glob("lib/python*/site-packages")]))
    return {one.name.lower(): one.version for one in found}


def new_row(peer: Peer) -> dict[str, Any]:
    """Return a row without figures."""
    own = [line for line in (HERE / peer.key / "requirements.txt").read_text().split() if "==" in line]
    what = f"{peer.what}; {', '.join(own).replace('==', ' ')}" if own else peer.what
    return {"key": peer.key, "name": peer.name, "what": what, "seconds": [], "peak_mb": [], "auc": None, "note": ""}


def race(peers: Sequence[Peer], *, environments: Path, scratch: Path, repeats: int) -> list[dict[str, Any]]:
    """Install everybody, run everybody once without a clock, which measures memory, then in turns."""
    rows = [new_row(peer) for peer in peers]
    write_table(scratch / TABLE)
    places: dict[str, dict[str, Path]] = {}
    for peer, row in zip(peers, rows, strict=True):
        try:
            places[peer.key] = {"folder": scratch / peer.key, "installed": install(peer.key, environments)}
            prepare(peer, table=scratch / TABLE, **places[peer.key])
        except PeerError as error:
            row["note"] = f"skipped: {error}"
    for number in range(repeats + 1):
        for peer, row in zip(peers, rows, strict=True):
            if row["note"]:
                continue
            try:
                seconds, megabytes, row["auc"] = run_once(peer, measure=number == 0, **places[peer.key])
            except PeerError as error:
                row["note"] = f"failed: {error}"
                continue
            (row["seconds"] if number else row["peak_mb"]).append(round(seconds, 3) if number else round(megabytes))
            print(f"{row['name']}: {seconds:.2f} s{'' if number else ', not counted'}", file=sys.stderr)
    for peer, row in zip(peers, rows, strict=True):
        row["note"] = row["note"] or _gap(row, rows) or _differences(versions(places[peer.key]["installed"]))
    return rows


def _gap(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    middle = statistics.median_low([one["auc"] for one in rows if one["auc"] is not None])
    return f"failed: AUC {row['auc']:.4f}, others {middle:.4f}" if abs(row["auc"] - middle) > MAX_GAP else ""


def _differences(theirs: dict[str, str]) -> str:
    ours = versions()
    shared = [line.partition("==")[0] for line in (HERE / "libraries.txt").read_text().splitlines() if "==" in line]
    found = [
        f"{name} {theirs[name]}, ours {ours[name]}"
        for name in (*shared, *COMPARED)
        if name in theirs and name in ours and theirs[name] != ours[name]
    ]
    return "; ".join(found)


def table(rows: list[dict[str, Any]]) -> str:
    """Draw the rows as a markdown table."""
    lines = ["| | how | s, median (min to max) | of the script | MB | AUC | note |", "|---|---|--:|--:|--:|--:|---|"]
    script = [second for row in rows if row["key"] == "script" for second in row["seconds"]]
    for row in rows:
        figures = ["", "", "", ""]
        if row["seconds"] and not row["note"].startswith("failed"):
            middle = statistics.median(row["seconds"])
            ratio = f"{middle / statistics.median(script):.2f}" if script else ""
            span = f"{middle:.1f} ({min(row['seconds']):.1f} to {max(row['seconds']):.1f})"
            figures = [span, ratio, f"{max(row['peak_mb']):,}", f"{row['auc']:.4f}"]
        note = row["note"].replace("|", "\\|")
        lines.append(f"| {row['name']} | {row['what']} | {' | '.join(figures)} | {note} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print; ends with an error where a contestant that was installed did not do its work."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    keys = list(dict.fromkeys(peer.key for peer in PEERS))
    parser.add_argument("--only", nargs="+", choices=keys, default=keys)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print a row a line instead of the table")
    default = Path(tempfile.gettempdir()) / "prefect-mlops-peers"
    parser.add_argument("--environments", type=Path, default=default, metavar="DIR", help=f"default: {default}")
    given = parser.parse_args()
    chosen = [peer for peer in PEERS if peer.key in given.only]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        rows = race(
            chosen, environments=given.environments.resolve(), scratch=Path(scratch).resolve(), repeats=given.repeats
        )
    print("\n".join(map(json.dumps, rows)) if given.json else table(rows))
    if any(row["note"].startswith("failed") for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
