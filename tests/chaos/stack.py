"""The processes of the chaos test, each of which can be killed and started again: server, worker, watcher."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import BackendError
from prefect_mlops.core.processes import Child, descendants, reserved_port, start_child, tail
from prefect_mlops.deployments.local import servers
from prefect_mlops.deployments.local.services import WARM
from prefect_mlops.deployments.local.stack import embedded_environment

if TYPE_CHECKING:
    import httpx

READY_SECONDS = 120.0
PROJECT = "chaos_project"  # `tests/chaos/project.py`, copied into the folder where the flows run
DATASET_RESOURCE = "prefect-mlops.data.chaos"
DRIFT_RESOURCE = "prefect-mlops.drift.chaos"

POOL = "mlops"
WORKER = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--limit", "3"]

_PREFECT_YAML = f"""
name: chaos
pull: []
definitions:
  work_pool: &pool {{name: {POOL}, job_variables: {{working_dir: "."}}}}
deployments:
  - name: ingest
    entrypoint: prefect_mlops.flows.ingest.ingest
    parameters: {{dataset: {PROJECT}.events}}
    work_pool: *pool
    triggers:
      - name: chaos arrived
        expect: [prefect-mlops.data.arrived]
        match: {{prefect.resource.id: {DATASET_RESOURCE}}}
    schedules:
      - {{slug: sweep, interval: 60}}
  - name: train
    entrypoint: prefect_mlops.flows.train.train
    parameters: {{model: {PROJECT}.model}}
    work_pool: *pool
    triggers:
      - name: chaos drifted
        expect: [prefect-mlops.drift.failed]
        match: {{prefect.resource.id: {DRIFT_RESOURCE}}}
        parameters: {{automatic: true}}
  - name: maintenance
    entrypoint: prefect_mlops.flows.maintenance.maintenance
    work_pool: *pool
    schedules:
      - {{slug: often, interval: 120}}
"""


class ChaosStack:
    """A Prefect server, a worker, a watcher and a lake in one folder; whatever is killed comes back when asked.

    Attributes:
        home: folder of databases, lake, landing place and logs.
        environment: variables that make a process use it.
    """

    def __init__(self, home: Path, cleanup: ExitStack) -> None:
        self.home = home
        self.children: dict[str, Child] = {}
        self._orphans: list[int] = []
        for folder in (home / "prefect", home / "logs", home / "artifacts", home / "project"):
            folder.mkdir(parents=True, exist_ok=True)
        (home / "project" / "prefect.yaml").write_text(_PREFECT_YAML)
        shutil.copy(Path(__file__).with_name("project.py"), home / "project" / f"{PROJECT}.py")
        self._port = cleanup.enter_context(reserved_port())
        own = {
            **embedded_environment(home),
            "PREFECT_API_URL": f"{servers.address(self._port)}/api",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # the least Prefect allows
            "PREFECT_WORKER_QUERY_SECONDS": "0.5",
            "PREFECT_LOGGING_LEVEL": "WARNING",
        }
        self.environment: Mapping[str, str] = {**servers.caller_environment(), **own}
        cleanup.callback(self.stop)

    @property
    def landing(self) -> Path:
        """The landing place."""
        return self.home / "landing" / "chaos"

    def start(self) -> None:
        """Start everything that does not run, and wait for the server."""
        servers.await_database(
            servers.start_database(self.home, environment=self.environment, keep=(), started=lambda _child: None)
        )
        if self._gone("server"):
            command, own = servers.PREFECT.program(self.home, self._port)
            self._start("server", command, own)
        self._await_server()
        if not (self.home / "deployed").exists():
            self._deploy()
            (self.home / "deployed").touch()
        if self._gone("worker"):
            self._start("worker", WORKER)
        if self._gone("watcher"):
            self._start("watcher", [sys.executable, "-m", "prefect_mlops.cli.app", "watch"])

    def start_second_worker(self) -> None:
        """Start another worker beside the first, until `kill`."""
        self._start("worker 2", WORKER)

    def kill(self, name: str) -> bool:
        """Kill -9 a process by name; ``run`` is one of the running flows. Returns whether there was one."""
        if name == "run":
            worker = self.children.get("worker")
            runs = descendants([worker.process.pid]) if worker else []
            for pid in runs:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return bool(runs)
        child = self.children.get(name)
        if child is None or not child.alive:
            return False
        self._orphans += descendants([child.process.pid])  # a killed worker's runs go on without it
        child.process.kill()
        child.process.wait()
        return True

    def stop(self) -> None:
        """Kill everything, flow runs included."""
        roots = [child.process.pid for child in self.children.values()]
        for pid in [*descendants([*roots, *self._orphans]), *roots, *self._orphans]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for child in self.children.values():
            child.process.wait()

    def announce(self, times: int = 1, *, event: str = "prefect-mlops.data.arrived", resource: str = "") -> bool:
        """Send one event, with one id, so many times; returns whether the server accepted it."""
        from uuid import uuid4

        body = {
            "id": str(uuid4()),
            "event": event,
            "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "resource": {"prefect.resource.id": resource or DATASET_RESOURCE},
            "payload": {},
        }
        accepted = False
        for _ in range(times):
            accepted = self.ask("POST", "/events", [body]) is not None or accepted
        return accepted

    def pause(self, paused: bool) -> None:
        """Pause or resume all automations."""
        for automation in self.ask("POST", "/automations/filter", {}) or ():
            self.ask("PATCH", f"/automations/{automation['id']}", {"enabled": not paused})

    def ask(self, method: str, address: str, content: Any) -> Any:
        """Ask the server; None where it does not answer, as while it is dead."""
        import httpx

        with httpx.Client(base_url=self.environment["PREFECT_API_URL"], trust_env=False, timeout=20) as client:
            return _answer(client, method, address, content)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run our command line against the stack."""
        return subprocess.run(
            [sys.executable, "-m", "prefect_mlops.cli.app", *command],
            env=dict(self.environment),
            cwd=self.home / "project",
            capture_output=True,
            text=True,
            check=False,
        )

    def _deploy(self) -> None:
        self.ask("POST", "/work_pools/", {"name": POOL, "type": WARM})
        done = self.run("deploy", "--yes")
        if done.returncode:
            raise BackendError(f"the chaos project could not be deployed: {done.stderr[-2000:]}")

    def _gone(self, name: str) -> bool:
        child = self.children.get(name)
        return child is None or not child.alive

    def _start(self, name: str, command: list[str], own: Mapping[str, str] | None = None) -> None:
        log = self.home / "logs" / f"{name.replace(' ', '-')}.log"
        environment = {**self.environment, **(own or {})}
        folder = self.home / "project"
        self.children[name] = start_child(name, command, environment=environment, log=log, folder=folder)

    def _await_server(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while self.ask("GET", "/health", None) is None:
            server = self.children["server"]
            if not server.alive or time.monotonic() > deadline:
                raise BackendError(f"the Prefect server does not come back; its log ends:\n{tail(server.log)}")
            time.sleep(0.2)


def _answer(client: httpx.Client, method: str, address: str, content: Any) -> Any:
    import httpx

    try:
        answer = client.request(method, address, json=content)
    except httpx.TransportError:
        return None
    if answer.is_error:
        return None
    try:
        return answer.json() if answer.content else True
    except json.JSONDecodeError:
        return True
