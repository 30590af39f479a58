"""`prefect-mlops up` as a user runs it: the installed command, real servers, a project of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_mlops.core import processes
from prefect_mlops.deployments.local.home import remember
from prefect_mlops.deployments.local.services import _ask as ask  # Prefect on SQLite is busy now and then

COMMAND = str(Path(sys.executable).with_name("prefect-mlops"))
DEADLINE = 60.0

FLOW = """
import os
from pathlib import Path
from prefect import flow

@flow
def hello(name: str = "you", dataset: str = ""):
    Path(f"hello-{name}").write_text(os.environ["MLFLOW_TRACKING_URI"])
"""
SPEC = """
import great_expectations as gx
from prefect_mlops.core import DatasetSpec

check = gx.expectations.ExpectTableRowCountToBeBetween(min_value=1)
greetings = DatasetSpec(name="greetings", suite=gx.ExpectationSuite(name="any", expectations=[check]))
"""
PROJECT = """
pull: []
deployments:
  - name: hello
    entrypoint: greeting.hello
    parameters: {dataset: specs.greetings}
    triggers:
      - name: greeting arrived
        expect: [prefect-mlops.data.arrived]
        match: {prefect.resource.id: prefect-mlops.data.greetings}
        parameters: {name: arrival}
    work_pool: {name: mlops, job_variables: {working_dir: "."}}
    schedules: [{slug: weekly, cron: "0 6 * * 1", timezone: Europe/Berlin, active: false}]
"""
LOG_TO_THE_DATABASE = """
from mlflow import MlflowClient
client = MlflowClient()
run = client.create_run(client.create_experiment("flights"))
client.log_text(run.info.run_id, "seen by both", "note.txt")
print(run.info.run_id)
"""


@dataclass
class Up:
    """A running command: its addresses, and every process that belongs to it."""

    process: subprocess.Popen[str]
    project: Path
    info: dict[str, Any]
    family: list[int] = field(default_factory=list)

    @property
    def prefect(self) -> httpx.Client:
        return httpx.Client(base_url=self.info["prefect_api"], trust_env=False, timeout=20)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.family = processes.descendants([self.process.pid])
        self.process.send_signal(number)
        said = self.process.communicate(timeout=30)[1]
        return self.process.returncode, said


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def start(project: Path) -> Up:
    command = [COMMAND, "up", "--json", "--home", str(project / "home"), "--project", str(project)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    return Up(process, project, json.loads(line or process.stderr.read()))


def free_ports() -> dict[str, int]:
    with processes.reserved_port() as prefect, processes.reserved_port() as mlflow:
        return {"prefect": prefect, "mlflow": mlflow}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    project = tmp_path_factory.mktemp("project")
    (project / "greeting.py").write_text(FLOW)
    (project / "specs.py").write_text(SPEC)
    (project / "prefect.yaml").write_text(PROJECT)
    (project / "home").mkdir(mode=0o700)
    remember(project / "home", ports=free_ports())  # a stack of another test would take 4200 while this one restarts
    running = start(project)
    yield running
    if running.process.poll() is None:
        running.end(signal.SIGINT)


def deployment(client: httpx.Client) -> dict[str, Any]:
    found: list[dict[str, Any]] = ask(client, "POST", "/deployments/filter", {"limit": 10}).json()
    return found[0]


def test_version_and_help_need_no_heavy_library() -> None:
    assert run("--version").stdout.startswith("prefect-mlops 0.")
    assert "prefect-mlops up" in run("--help").stdout
    assert "--project ~/churn" in run("up", "--help").stdout
    code = "import sys, prefect_mlops.cli.app; print({'prefect', 'mlflow', 'pandas', 'httpx'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_wrong_request_is_one_plain_message(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text("name: nothing")
    answer = run("up", "--home", str(tmp_path / "home"), "--project", str(tmp_path))
    assert answer.returncode == 2
    assert answer.stderr == f"error: {tmp_path}/prefect.yaml lists no deployments, so there is nothing to serve\n"
    traced = run("up", "--home", str(tmp_path / "home"), "--project", str(tmp_path), PREFECT_MLOPS_DEBUG="1")
    assert "Traceback" in traced.stderr


@pytest.mark.slow
def test_a_server_that_cannot_start_is_one_plain_message_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "prefect.db").write_text("this is no database " * 100)
    answer = run("up", "--home", str(tmp_path), "--project", str(tmp_path))
    assert answer.returncode == 1
    assert "error: the Prefect server ended with exit code" in answer.stderr
    assert "file is not a database" in answer.stderr
    assert answer.stdout == ""
    assert not any(processes.runs(pid) for pid in json.loads((tmp_path / "stack.lock").read_text())["children"])


@pytest.mark.slow
def test_addresses_answer_with_pages(stack: Up) -> None:
    for address in (stack.info["prefect_ui"], stack.info["mlflow"]):
        page = httpx.get(address, trust_env=False, follow_redirects=True)
        assert page.status_code == 200
        assert "<html" in page.text.lower()
    settings = httpx.get(f"{stack.info['prefect_ui']}/ui-settings", trust_env=False).json()
    assert settings["api_url"] == stack.info["prefect_api"]
    assert stack.info["deployments"] == ["hello/hello"]


@pytest.mark.slow
def test_other_web_pages_cannot_call_the_api(stack: Up) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for address in (f"{stack.info['prefect_api']}/flows/filter", f"{stack.info['mlflow']}/api/2.0/mlflow/runs/create"):
        answer = httpx.options(address, headers=asked, trust_env=False)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.slow
def test_a_deployment_runs_in_the_project_folder(stack: Up) -> None:
    with stack.prefect as client:
        address = f"/deployments/{deployment(client)['id']}/create_flow_run"
        created = ask(client, "POST", address, {"parameters": {"name": "me"}, "state": {"type": "SCHEDULED"}}).json()
        state, deadline = "", time.monotonic() + DEADLINE
        while state not in {"COMPLETED", "FAILED", "CRASHED"} and time.monotonic() < deadline:
            time.sleep(0.1)
            state = ask(client, "GET", f"/flow_runs/{created['id']}", {}).json()["state"]["type"]
    assert state == "COMPLETED"
    assert (stack.project / "hello-me").read_text() == stack.info["mlflow"]


@pytest.mark.slow
def test_a_file_that_arrives_starts_a_run(stack: Up) -> None:
    landing = stack.project / "home" / "landing" / "greetings"
    deadline = time.monotonic() + DEADLINE
    while not landing.is_dir() and time.monotonic() < deadline:  # the watcher makes it
        time.sleep(0.1)
    (landing / "hello.csv").write_text("a\n1\n")
    while not (stack.project / "hello-arrival").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (stack.project / "hello-arrival").exists()


@pytest.mark.slow
def test_mlflow_shows_runs_and_artifacts_that_were_logged_past_it(stack: Up) -> None:
    home = stack.info["home"]
    straight = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        "MLFLOW_REGISTRY_URI": f"sqlite:///{home}/mlflow.db",
    }
    logged = subprocess.run(
        [sys.executable, "-c", LOG_TO_THE_DATABASE],
        env={**os.environ, **stack.info["environment"], **straight},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    with httpx.Client(base_url=stack.info["mlflow"], trust_env=False) as client:
        found = client.get("/api/2.0/mlflow/runs/get", params={"run_id": logged}).json()["run"]["info"]
        assert found["artifact_uri"].startswith(f"file://{home}/artifacts/")
        assert client.get("/get-artifact", params={"run_id": logged, "path": "note.txt"}).text == "seen by both"


@pytest.mark.slow
def test_a_second_one_on_the_same_home_is_told_where_the_first_is(stack: Up) -> None:
    answer = run("up", "--home", stack.info["home"], "--project", str(stack.project))
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: a stack already runs on ")
    assert stack.info["prefect_ui"] in answer.stderr


@pytest.mark.slow
def test_a_watcher_that_dies_ends_the_stack_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "greeting.py").write_text(FLOW)
    (tmp_path / "prefect.yaml").write_text(PROJECT)  # without the dataset it names
    (tmp_path / "home").mkdir(mode=0o700)
    remember(tmp_path / "home", ports=free_ports())
    running = start(tmp_path)
    said = running.process.communicate(timeout=DEADLINE)[1]
    assert running.process.returncode == 1
    assert "error: the watcher ended by itself with exit code 2; the end of " in said
    assert "there is no module 'specs' to import" in said


@pytest.mark.slow
def test_after_a_kill_it_starts_again_as_it_was_and_ctrl_c_ends_it(stack: Up) -> None:
    with stack.prefect as client:
        of = deployment(client)
        schedule = f"/deployments/{of['id']}/schedules/{of['schedules'][0]['id']}"
        switched = ask(client, "PATCH", schedule, {"active": True})
        (automation,) = ask(client, "POST", "/automations/filter", {"limit": 10}).json()
        paused = ask(client, "PATCH", f"/automations/{automation['id']}", {"enabled": False})
    assert switched.is_success
    assert paused.is_success
    stack.process.kill()
    stack.process.communicate()

    again = start(stack.project)
    try:
        assert (again.info["prefect_ui"], again.info["mlflow"]) == (stack.info["prefect_ui"], stack.info["mlflow"])
        with again.prefect as client:
            assert deployment(client)["schedules"][0]["active"], "a switch thrown in the UI survives deploying again"
            (kept,) = ask(client, "POST", "/automations/filter", {"limit": 10}).json()
            assert (kept["id"], kept["enabled"]) == (automation["id"], False), "and so does a paused automation"
    finally:
        code, said = again.end(signal.SIGINT)
    assert code == 0
    assert said.endswith("stopping\nstopped\n")
    assert len(again.family) >= 3
    assert not [pid for pid in again.family if processes.runs(pid)]
