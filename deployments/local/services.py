"""Serve a project on a local Prefect server: its work pools and deployments, workers, and a watcher for its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.processes import Child, start_child, tail
from prefect_mlops.deployments.project import POOL, PROJECT_FILE, declared, read_project

if TYPE_CHECKING:
    import httpx

COMMAND = "prefect_mlops.cli.app"  # run, not imported: the command line is above this room
WARM = "warm-process"  # the type of new pools; a pool that is there keeps its own
WORKER = "local"  # one name, so a restart takes the worker's place instead of adding a dead one to the list
DEPLOY_SECONDS = 180.0  # importing every flow of a project, from a cold disk
WORKER_SECONDS = 60.0
BUSY_SECONDS = 30.0
PAGE = 200  # the most rows Prefect's API gives in one answer

# A warm worker is woken by an event; this is for missed events and for pools of another type. Asking twice a second
# finds a run 0.25 s after it is due on average, and takes 4 % of one core. Prefect's own ten seconds are for fleets.
WORKER_ENVIRONMENT = {
    "PREFECT_WORKER_QUERY_SECONDS": "0.5",
    "PREFECT_DEFAULT_WORK_POOL_NAME": POOL,
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # the least Prefect allows: `maintenance` takes silence for death
    "COLUMNS": "400",  # log lines of the Prefect CLI are otherwise broken at 80 characters
}


@dataclass(frozen=True)
class Served:
    """What came of serving a project.

    Attributes:
        children: a worker for each work pool the file names, and a watcher where it declares datasets.
        deployments: ``flow/deployment`` names of what the file lists, sorted.
    """

    children: tuple[Child, ...]
    deployments: tuple[str, ...]


def serve_project(
    project: Path,
    *,
    client: httpx.Client,
    environment: Mapping[str, str],
    logs: Path,
    keep: Sequence[int],
    started: Callable[[Child], None],
) -> Served:
    """Make the work pools, deploy everything in the project's file, run a worker for each pool, and a watcher.

    Args:
        project: folder that holds the ``prefect.yaml``; deploying and flow runs start in it and can import from it.
        client: HTTP client with the Prefect API as base address.
        environment: environment of whatever is started.
        logs: folder for log files.
        keep: file descriptors that workers and watcher inherit.
        started: called with each child at once, so that it is stopped whatever happens next.

    Returns:
        What was started and what it serves.

    Raises:
        ConfigError: when there is no file, or Prefect refuses it.
        BackendError: when a worker does not come up.
    """
    pools, _ = read_project(project)
    path = os.pathsep.join(filter(None, (str(project), environment.get("PYTHONPATH"))))
    environment = {**environment, **WORKER_ENVIRONMENT, "PYTHONPATH": path}
    found = {pool: _make_pool(client, pool) for pool in pools}
    workers = []
    for pool, (kind, _) in found.items():  # they take seconds to import Prefect, as deploying does: side by side
        worker = _start_worker(pool, kind, project=project, environment=environment, logs=logs, keep=keep)
        started(worker)
        workers.append(worker)
    names = _deploy(project, environment=environment, log=logs / "deploy.log", started=started)
    children = list(workers)
    if declared(project).datasets:  # once what it wakes is there
        children.append(_start_watcher(project, environment=environment, logs=logs, keep=keep))
        started(children[-1])
    _await_workers(client, dict(zip(pools, workers, strict=True)), {pool: since for pool, (_, since) in found.items()})
    return Served(tuple(children), names)


def _make_pool(client: httpx.Client, pool: str) -> tuple[str, str]:
    """Make a warm work pool unless there is one; returns its type and when its worker was last heard of, or nothing."""
    answer = _ask(client, "POST", "/work_pools/", {"name": pool, "type": WARM})
    if answer.status_code == HTTPStatus.CONFLICT:
        there = _ask(client, "GET", f"/work_pools/{pool}").json()
        return str(there["type"]), _last_heard(client, pool)
    if answer.is_error:
        raise ConfigError(f"Prefect refused the work pool {pool!r}: {answer.json().get('detail', answer.text)}")
    return WARM, ""


def _start_worker(
    pool: str, kind: str, *, project: Path, environment: Mapping[str, str], logs: Path, keep: Sequence[int]
) -> Child:
    program = [sys.executable, "-m", "prefect", "worker", "start"]
    command = [*program, "--type", kind, "--pool", pool, "--name", WORKER]
    log = logs / ("worker.log" if pool == POOL else f"worker-{''.join(c if c.isalnum() else '-' for c in pool)}.log")
    return start_child(
        f"the worker of pool {pool!r}", command, environment=environment, log=log, folder=project, keep=keep
    )


def _deploy(
    project: Path, *, environment: Mapping[str, str], log: Path, started: Callable[[Child], None]
) -> tuple[str, ...]:
    """Deploy in a process of its own, which imports the project's flows; returns ``flow/deployment`` names."""
    command = [sys.executable, "-m", COMMAND, "deploy", "--yes", "--json", "--project", str(project)]
    child = start_child("prefect-mlops deploy", command, environment=environment, log=log, folder=project)
    started(child)
    try:
        code = child.process.wait(DEPLOY_SECONDS)
    except subprocess.TimeoutExpired:
        raise child.failure(f"did not end within {DEPLOY_SECONDS:.0f} seconds") from None
    if code:
        raise ConfigError(f"{project / PROJECT_FILE} could not be deployed; the end of {log}:\n{tail(log)}")
    lines = reversed(log.read_text(errors="replace").splitlines())  # flows and Prefect may print before and after it
    plan = json.loads(next(line for line in lines if line.startswith('{"project": ')))
    return tuple(sorted(part["name"] for part in plan["deployments"] if part["verb"] not in {"left", "remove"}))


def _start_watcher(project: Path, *, environment: Mapping[str, str], logs: Path, keep: Sequence[int]) -> Child:
    command = [sys.executable, "-m", COMMAND, "watch", "--project", str(project)]
    return start_child(
        "the watcher", command, environment=environment, log=logs / "watch.log", folder=project, keep=keep
    )


def _await_workers(client: httpx.Client, workers: Mapping[str, Child], since: Mapping[str, str]) -> None:
    deadline = time.monotonic() + WORKER_SECONDS
    for pool, worker in workers.items():
        while _last_heard(client, pool) == since[pool]:
            if not worker.alive:
                raise worker.failure(f"ended with exit code {worker.process.returncode} while starting")
            if time.monotonic() > deadline:
                raise worker.failure(f"was not heard of within {WORKER_SECONDS:.0f} seconds")
            time.sleep(0.1)


def _last_heard(client: httpx.Client, pool: str) -> str:
    found = _rows(client, f"/work_pools/{pool}/workers/filter")
    return next((str(row["last_heartbeat_time"]) for row in found if row["name"] == WORKER), "")


def _rows(client: httpx.Client, address: str) -> list[dict[str, Any]]:
    """Read all pages of a list; Prefect 3.8 cuts each at `PAGE` rows and refuses a null limit."""
    rows: list[dict[str, Any]] = []
    while True:
        answer = _ask(client, "POST", address, {"limit": PAGE, "offset": len(rows)})
        if answer.is_error:
            raise BackendError(f"Prefect answered {answer.status_code} to {address}: {answer.text}")
        page = answer.json()
        rows += page
        if len(page) < PAGE:
            return rows


def _ask(client: httpx.Client, method: str, address: str, content: dict[str, Any] | None = None) -> httpx.Response:
    """Ask Prefect's API, again where it did not answer or answered that it is busy."""
    import httpx

    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            answer = client.request(method, address, json=content)
        except httpx.TransportError as error:
            if time.monotonic() > deadline:
                raise BackendError(f"Prefect does not answer to {address}: {error}") from error
        else:
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                return answer
        time.sleep(0.2)
