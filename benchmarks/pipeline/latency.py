"""How soon an event, or somebody who creates a run, is answered; and what Prefect costs when there is no work."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stage import RUN_SECONDS, ContestantError, Stage, Worker

EVENT = "benchmark.arrived"
FIRST_LINE = "event to first line"
BLOCK = 5  # answers in a row before the other worker has its turn
LOOK_SECONDS = 0.01


def events(
    stage: Stage, flows: Sequence[tuple[Worker, str]], *, folder: Path, repeats: int, runs: int
) -> list[dict[str, Any]]:
    """Measure from an event to the first line of a flow with nothing to import, and to a promoted model.

    Args:
        stage: where to do it.
        flows: workers, and which pipeline each runs.
        folder: of the flights.
        repeats: for first lines, by each worker.
        runs: for promoted models, by each worker.
    """
    rows = {
        (worker.name, name): {"key": f"f {worker.name}", "name": name, "what": f"{worker.name} worker", "note": ""}
        | {"seconds": []}
        for worker, _ in flows
        for name in (FIRST_LINE, "event to first line of the pipeline", "event to promoted model")
    }
    for block in range(-(-repeats // BLOCK)):
        for worker, flow in flows:
            first, line, promoted = (row["seconds"] for (name, _), row in rows.items() if name == worker.name)
            try:
                with stage.turn(worker):
                    _answer(stage, worker, "empty_flows.empty", {})  # opens the connection that events take
                    for _ in range(min(BLOCK, repeats - block * BLOCK)):
                        first.append(_answer(stage, worker, "empty_flows.empty", {})[0])
                    seen = _pipelines(stage, worker, flow, folder=folder, runs=runs) if block == 0 else []
                    line += [began for began, _ in seen]
                    promoted += [ended for _, ended in seen]
            except Exception as error:  # noqa: BLE001 - the other worker goes on
                rows[worker.name, FIRST_LINE]["note"] = f"failed: {error}"
                print(f"events, {worker.name}: {error}", file=sys.stderr)
    return [row for row in rows.values() if row["seconds"] or row["note"]]


def _pipelines(stage: Stage, worker: Worker, flow: str, *, folder: Path, runs: int) -> list[tuple[float, float]]:
    """Start the pipeline by events; the first answer makes the champion and is not counted."""
    page = stage.folder / f"drift-event-{worker.name}.html"
    given = {"folder": str(folder), "name": f"event-{worker.name}", "page": str(page)}
    return [_answer(stage, worker, flow, given) for _ in range(runs + 1)][1:]


def _answer(stage: Stage, worker: Worker, flow: str, given: dict[str, str]) -> tuple[float, float]:
    """Send an event; returns seconds to the first line of the flow that it starts, and to its end."""
    from prefect.events import emit_event

    event = f"{EVENT}.{worker.name}.{flow}"
    deployment = stage.wake_on_event(worker, flow, event, (*given, "stamp"))
    stamp = stage.folder / f"stamp-{time.time_ns()}"
    known = stage.last_run(deployment)
    start = time.time()
    emit_event(event, resource={"prefect.resource.id": "benchmark"}, payload={**given, "stamp": str(stamp)})
    deadline = time.monotonic() + RUN_SECONDS
    while not (stamp.exists() and stamp.read_text()):
        if time.monotonic() > deadline:
            raise ContestantError(f"event {event} was not answered within {RUN_SECONDS:.0f} seconds")
        time.sleep(LOOK_SECONDS)
    run = stage.last_run(deployment)
    while run is None or (known and run.id == known.id):
        time.sleep(LOOK_SECONDS)
        run = stage.last_run(deployment)
    return round(float(stamp.read_text()) - start, 3), round(stage.wait(run.id) - start, 3)


def empty_runs(stage: Stage, workers: Sequence[Worker], *, repeats: int) -> list[dict[str, Any]]:
    """Measure flow runs of 0, 1 and 51 empty tasks in a process of their own, and empty runs of workers."""
    rows = []
    seen, said = stage.script(str(Path(__file__).parent / "empty_flows.py"), str(repeats))
    for tasks, seconds in json.loads(said.splitlines()[-1]).items():
        name = f"flow run with {tasks} empty tasks"
        rows.append({"key": "g", "name": name, "what": "in a process, server runs", "seconds": seconds, "note": ""})
    for worker in workers:
        row: dict[str, Any] = {"key": "g", "name": "empty flow run", "what": f"{worker.name} worker"}
        row |= {"seconds": [], "first_line": [], "note": ""}
        rows.append(row)
        try:
            with stage.turn(worker):
                for _ in range(repeats):
                    seen = stage.run(worker, "empty_flows.empty")
                    row["seconds"].append(round(seen.seconds, 3))
                    row["first_line"].append(round(seen.first_line or 0, 3))
        except Exception as error:  # noqa: BLE001 - the other worker goes on
            row["note"] = f"failed: {error}"
    return rows
