"""Flows that do nothing, for what Prefect and its workers cost by themselves.

python empty_flows.py REPEATS      # prints seconds of flows with 0, 1 and 51 empty tasks, against a running server
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from prefect import flow, task

TASKS = (0, 1, 51)


@task
def nothing() -> None:
    """Do nothing."""


@flow
def empty(tasks: int = 0, stamp: str = "") -> None:
    """Leave the time of the first line, then run empty tasks."""
    if stamp:
        Path(stamp).write_text(str(time.time()))
    for _ in range(tasks):
        nothing()


def main(repeats: int) -> None:
    """Measure in this process, after a first flow that nobody measures."""
    empty()
    seen: dict[int, list[float]] = {tasks: [] for tasks in TASKS}
    for _ in range(repeats):
        for tasks in TASKS:
            start = time.perf_counter()
            empty(tasks)
            seen[tasks].append(time.perf_counter() - start)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]))
