"""`prefect-mlops watch` as a user runs it, with real Prefect servers that come and go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
from prefect.settings import get_current_settings

from prefect_mlops.core.processes import reserved_port
from prefect_mlops.deployments.local.home import remember
from prefect_mlops.deployments.local.stack import local_stack

COMMAND = str(Path(sys.executable).with_name("prefect-mlops"))
DEADLINE = 60.0
SPECS = """
import great_expectations as gx
from prefect_mlops.core import DatasetSpec

check = gx.expectations.ExpectTableRowCountToBeBetween(min_value=1)
sales = DatasetSpec(name="sales", suite=gx.ExpectationSuite(name="any", expectations=[check]), landing="in")
"""


@dataclass
class Watching:
    """A running command and what it said so far."""

    process: subprocess.Popen[str]
    folder: Path
    out: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.said)):
            threading.Thread(target=self._read, args=(stream, lines), daemon=True).start()

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        lines.extend(iter(stream.readline, ""))

    def await_said(self, words: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not any(words in line for line in self.said):
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.05)

    def announced(self, path: str) -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            for line in list(self.out):
                if path in (told := json.loads(line))["paths"]:
                    return told
            time.sleep(0.05)
        raise AssertionError(f"{path} was not announced: {self.out} {self.said}")


def start(folder: Path, api: str) -> Watching:
    environment = {**os.environ, "PREFECT_API_URL": api, "PREFECT_HOME": str(folder / "home")}
    command = [COMMAND, "watch", "--json", "--project", str(folder)]
    return Watching(
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), folder
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "specs.py").write_text(SPECS)
    (tmp_path / "prefect.yaml").write_text("deployments: [{name: ingest, parameters: {dataset: specs.sales}}]")
    return tmp_path


@pytest.fixture
def watching(prefect_api: None, project: Path) -> Iterator[Watching]:
    (project / "in").mkdir()
    (project / "in" / "before.csv").write_text("1")
    running = start(project, str(get_current_settings().api.url))
    yield running
    running.process.kill()


def test_it_announces_what_is_there_and_what_comes_until_ctrl_c(watching: Watching) -> None:
    assert watching.announced("before.csv") == {
        "event": "prefect-mlops.data.arrived",
        "dataset": "sales",
        "paths": ["before.csv"],
        "count": 1,
    }
    (watching.folder / "in" / "red\x1b[31m.csv").write_text("1")
    (watching.folder / "in" / ".hidden.csv").write_text("1")
    (watching.folder / "in" / "last.csv").write_text("1")
    watching.announced("last.csv")
    memory = Path(f"/proc/{watching.process.pid}/maps")
    if memory.exists():
        loaded = memory.read_text()
        assert not [name for name in ("pandas", "sklearn", "scipy", "pyarrow") if f"site-packages/{name}/" in loaded]
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(20) == 0
    assert watching.said[-1] == "stopped\n"
    assert not [line for line in [*watching.out, *watching.said] if "\x1b" in line or "hidden" in line]


@pytest.mark.slow
def test_a_server_that_is_killed_delays_an_announcement_and_loses_none(project: Path) -> None:
    home = project / "stack"
    home.mkdir(mode=0o700)
    with reserved_port() as prefect, reserved_port() as mlflow:
        remember(home, ports={"prefect": prefect, "mlflow": mlflow})
    watching: Watching | None = None
    try:
        with local_stack(home) as stack:
            watching = start(project, stack.prefect_api_url)
            watching.await_said("sales: watching")
            (project / "in" / "a.csv").write_text("1")
            watching.announced("a.csv")
            stack.children[0].process.kill()
            stack.children[0].process.wait()
            (project / "in" / "b.csv").write_text("1")
            watching.await_said("not announced, the Prefect server does not answer")
            (project / "in" / "c.csv").write_text("1")
        with local_stack(home) as again:
            assert again.prefect_api_url == stack.prefect_api_url
            watching.announced("b.csv")
            watching.announced("c.csv")
        assert len([line for line in watching.said if "not announced" in line]) == 1
    finally:
        if watching:
            watching.process.kill()


def test_a_wrong_request_is_one_plain_message(project: Path) -> None:
    def refused(*arguments: str) -> str:
        clean = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        environment = {**clean, "PREFECT_HOME": str(project / "home")}
        command = [COMMAND, "watch", "--project", str(project), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        return done.stderr

    assert refused("sails") == "error: no dataset that prefect.yaml declares is called 'sails': did you mean 'sales'?\n"
    assert refused().startswith("error: no Prefect server is configured: start one with `prefect-mlops up`")


def test_it_explains_itself() -> None:
    said = subprocess.run([COMMAND, "watch", "--help"], capture_output=True, text=True, check=True).stdout
    for word in ("[DATASET]...", "--interval", "--project", "--json"):
        assert word in said
