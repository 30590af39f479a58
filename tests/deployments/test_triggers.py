"""Events sent by hand to a real server that was deployed from our own prefect.yaml; no worker is needed to see runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_mlops.deployments.local.services import _ask as ask  # Prefect on SQLite is busy now and then
from prefect_mlops.deployments.local.stack import local_stack

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "triggers.md").read_text(encoding="utf-8")
DATASET = {"dataset": "prefect_mlops.examples.flights.flights"}
MODEL = {"model": "prefect_mlops.examples.flights.model"}
DEADLINE = 60.0

pytestmark = pytest.mark.slow


@dataclass
class Served:
    """A server, what it serves, and the environment to reach it."""

    client: httpx.Client
    environment: dict[str, str]
    ids: dict[str, str]

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """The runs that events started, oldest first; those of schedules wait for their time."""
        wanted = {"deployments": {"id": {"any_": [self.ids[deployment]]}}, "sort": "ID_DESC", "limit": 50}
        found: list[dict[str, Any]] = ask(self.client, "POST", "/flow_runs/filter", wanted).json()
        return [run for run in reversed(found) if not run["auto_scheduled"]]

    def scheduled(self, deployment: str) -> list[dict[str, Any]]:
        wanted = {"deployments": {"id": {"any_": [self.ids[deployment]]}}, "limit": 50}
        found: list[dict[str, Any]] = ask(self.client, "POST", "/flow_runs/filter", wanted).json()
        return [run for run in found if run["auto_scheduled"]]

    def send(self, name: str, resource: str) -> None:
        event = {"event": name, "resource": {"prefect.resource.id": resource}, "id": str(uuid.uuid4())}
        stamped = [{**event, "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}]
        assert self.client.post("/events", json=stamped).status_code == 204


def after(count: int, look: Any) -> list[dict[str, Any]]:
    """Wait for as many runs."""
    deadline = time.monotonic() + DEADLINE
    while len(found := look()) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with local_stack(tmp_path_factory.mktemp("home")) as stack:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment = {**clean, **stack.environment}
        command = [sys.executable, "-m", "prefect_mlops.cli.app", "deploy", "--yes", "--project", str(ROOT)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with httpx.Client(base_url=stack.prefect_api_url, trust_env=False, timeout=20) as client:
            rows = ask(client, "POST", "/deployments/filter", {"limit": 50}).json()
            yield Served(client, environment, {row["name"]: row["id"] for row in rows})


def block(name: str, language: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```{language}\n(.*?)```\n<!-- /{name} -->", DOCS, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize("example", ["python", "shell"])
def test_the_examples_of_the_documentation_start_ingest(served: Served, example: str) -> None:
    before = len(served.runs("ingest"))
    command = [sys.executable, "-c", block("python", "python")]
    if example == "shell":
        command = ["bash", "-c", block("shell", "bash")]
    done = subprocess.run(command, env=served.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runs = after(before + 1, lambda: served.runs("ingest"))
    assert [run["parameters"] for run in runs] == [DATASET] * (before + 1)
    assert {run["state_type"] for run in runs} == {"SCHEDULED"}


def test_the_loop_is_closed_and_what_starts_by_itself_says_so(served: Served) -> None:
    served.send("prefect-mlops.data.committed", "prefect-mlops.data.flights")
    (training,) = after(1, lambda: served.runs("train"))
    (look,) = after(1, lambda: served.runs("monitor"))
    assert training["parameters"] == {**MODEL, "automatic": True}
    assert look["parameters"] == MODEL
    served.send("prefect-mlops.drift.failed", "prefect-mlops.drift.flights-late")
    again = after(2, lambda: served.runs("train"))
    assert [run["parameters"] for run in again] == [{**MODEL, "automatic": True}] * 2


def test_another_datasets_events_wake_nobody(served: Served) -> None:
    before = {name: len(served.runs(name)) for name in served.ids}
    served.send("prefect-mlops.data.arrived", "prefect-mlops.data.flights-of-others")
    served.send("prefect-mlops.data.committed", "prefect-mlops.data.flights-of-others")
    served.send("prefect-mlops.data.arrived", "prefect-mlops.data.flights")  # events are worked on in order
    after(before["ingest"] + 1, lambda: served.runs("ingest"))
    assert {name: len(served.runs(name)) for name in served.ids} == {**before, "ingest": before["ingest"] + 1}


def test_schedules_are_on_and_start_with_the_right_parameters(served: Served) -> None:
    expected = {"ingest": DATASET, "check-freshness": DATASET, "train": {**MODEL, "automatic": True}, "monitor": MODEL}
    for name, parameters in expected.items():
        runs = after(1, lambda name=name: served.scheduled(name))  # type: ignore[misc]
        assert runs
        assert all(run["parameters"] == parameters for run in runs)
