"""Serve the deployments of a ``prefect.yaml`` on a local Prefect server: work pools, deployments, workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.deployments.processes import Child, start_child, tail

if TYPE_CHECKING:
    import httpx

PROJECT_FILE = "prefect.yaml"
POOL = "mlops"  # where a file names none; Prefect reserves every name that starts with "prefect"
WORKER = "local"  # one name, so a restart takes the worker's place instead of adding a dead one to the list
DEPLOY_SECONDS = 180.0  # importing every flow of a project, from a cold disk
WORKER_SECONDS = 60.0
BUSY_SECONDS = 30.0
PAGE = 200  # the most rows Prefect's API gives in one answer

# Asking twice a second finds a run 0.25 s after it is due on average; the idle stack then takes 4 % of one core.
# Prefect's own ten seconds are meant for fleets.
WORKER_ENVIRONMENT = {
    "PREFECT_WORKER_QUERY_SECONDS": "0.5",
    "PREFECT_DEFAULT_WORK_POOL_NAME": POOL,
    "COLUMNS": "400",  # log lines of the Prefect CLI are otherwise broken at 80 characters
}


@dataclass(frozen=True)
class Served:
    """What came of serving a project.

    Attributes:
        workers: one for each work pool the file names.
        deployments: ``flow/deployment`` names of what the file lists, sorted.
        switches: for each schedule, whether the file said it is on; to be remembered for the next time.
    """

    workers: tuple[Child, ...]
    deployments: tuple[str, ...]
    switches: dict[str, bool]


def serve_project(
    project: Path,
    *,
    client: httpx.Client,
    environment: Mapping[str, str],
    logs: Path,
    keep: Sequence[int],
    remembered: Mapping[str, bool],
    started: Callable[[Child], None],
) -> Served:
    """Make the work pools, deploy everything in the project's file and run a worker for each pool.

    Args:
        project: folder that holds the ``prefect.yaml``; deploying and flow runs start in it and can import from it.
        client: HTTP client with the Prefect API as base address.
        environment: environment for deploying and for the workers.
        logs: folder for log files.
        keep: file descriptors the workers inherit.
        remembered: `Served.switches` of the last time.
        started: told of each child at once, so that it is stopped whatever happens next.

    Returns:
        The workers and what they serve.

    Raises:
        ConfigError: when there is no file, or Prefect refuses it.
        BackendError: when a worker does not come up.
    """
    pools, names = read_project(project)
    before = {key: switch for key, switch, _ in _schedules(client)}
    path = os.pathsep.join(filter(None, (str(project), environment.get("PYTHONPATH"))))
    environment = {**environment, **WORKER_ENVIRONMENT, "PYTHONPATH": path}
    since = {pool: _make_pool(client, pool) for pool in pools}
    workers = []
    for pool in pools:  # they take seconds to import Prefect, as deploying does: side by side
        worker = _start_worker(pool, project=project, environment=environment, logs=logs, keep=keep)
        started(worker)
        workers.append(worker)
    _deploy(project, environment=environment, log=logs / "deploy.log", started=started)
    declared = {key: switch for key, switch, _ in _schedules(client)}
    _restore_switches(client, before=before, declared=declared, remembered=remembered)
    _await_workers(client, dict(zip(pools, workers, strict=True)), since)
    return Served(tuple(workers), _full_names(client, names), declared)


def read_project(project: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read what a project's file wants served.

    Args:
        project: folder that holds the ``prefect.yaml``.

    Returns:
        The work pools it names, without doubles and in its order, and the names of its deployments.

    Raises:
        ConfigError: when there is no such file, it is not YAML or lists no deployments.
    """
    import yaml  # type: ignore[import-untyped]  # comes with Prefect, whose format it is

    file = project / PROJECT_FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no {PROJECT_FILE} in {project}: run `prefect init` there, or name another folder") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {error}") from error
    entries = content.get("deployments") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        raise ConfigError(f"{file} lists no deployments, so there is nothing to serve")
    pools = dict.fromkeys((entry.get("work_pool") or {}).get("name") or POOL for entry in entries)
    return tuple(pools), tuple(str(entry.get("name")) for entry in entries)


def _make_pool(client: httpx.Client, pool: str) -> str:
    """Make a process work pool unless it is there; returns when its worker was last heard of, or nothing."""
    answer = _ask(client, "POST", "/work_pools/", {"name": pool, "type": "process"})
    if answer.status_code == HTTPStatus.CONFLICT:
        return _last_heard(client, pool)
    if answer.is_error:
        raise ConfigError(f"Prefect refused the work pool {pool!r}: {answer.json().get('detail', answer.text)}")
    return ""


def _start_worker(
    pool: str, *, project: Path, environment: Mapping[str, str], logs: Path, keep: Sequence[int]
) -> Child:
    command = [
        sys.executable,
        "-m",
        "prefect",
        "worker",
        "start",
        "--type",
        "process",
        "--pool",
        pool,
        "--name",
        WORKER,
    ]
    log = logs / ("worker.log" if pool == POOL else f"worker-{''.join(c if c.isalnum() else '-' for c in pool)}.log")
    return start_child(
        f"the worker of pool {pool!r}", command, environment=environment, log=log, folder=project, keep=keep
    )


def _deploy(project: Path, *, environment: Mapping[str, str], log: Path, started: Callable[[Child], None]) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", PROJECT_FILE]
    child = start_child("prefect deploy", command, environment=environment, log=log, folder=project)
    started(child)
    try:
        code = child.process.wait(DEPLOY_SECONDS)
    except subprocess.TimeoutExpired:
        raise child.failure(f"did not end within {DEPLOY_SECONDS:.0f} seconds") from None
    if code:
        raise ConfigError(f"Prefect could not deploy {project / PROJECT_FILE}; the end of {log}:\n{tail(log)}")


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


def _restore_switches(
    client: httpx.Client, *, before: Mapping[str, bool], declared: Mapping[str, bool], remembered: Mapping[str, bool]
) -> None:
    """Put schedules back that somebody switched in the UI: deploying sets each to what the file says.

    Somebody who edits the file wants the file to win, so only a schedule whose file entry still says what it said
    the last time keeps its switch.
    """
    for key, switch, address in _schedules(client):
        if remembered.get(key) == declared[key] and before.get(key, switch) != switch:
            answer = _ask(client, "PATCH", address, {"active": before[key]})
            if answer.is_error:
                raise BackendError(f"Prefect answered {answer.status_code} to {address}: {answer.text}")


def _schedules(client: httpx.Client) -> Iterator[tuple[str, bool, str]]:
    """Each schedule of the server: a name that survives deploying again, whether it is on, and its address."""
    for deployment in _rows(client, "/deployments/filter"):
        for schedule in deployment["schedules"]:
            name = schedule["slug"] or json.dumps(schedule["schedule"], sort_keys=True)
            yield (
                f"{deployment['id']}/{name}",
                schedule["active"],
                f"/deployments/{deployment['id']}/schedules/{schedule['id']}",
            )


def _full_names(client: httpx.Client, names: Sequence[str]) -> tuple[str, ...]:
    flows = {flow["id"]: flow["name"] for flow in _rows(client, "/flows/filter")}
    found = _rows(client, "/deployments/filter")
    return tuple(sorted(f"{flows[row['flow_id']]}/{row['name']}" for row in found if row["name"] in names))


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


def _ask(client: httpx.Client, method: str, address: str, content: dict[str, Any]) -> httpx.Response:
    """Ask Prefect's API, again where it was busy: on SQLite it answers 503 or hangs up when two writers meet."""
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
