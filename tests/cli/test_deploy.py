"""`prefect-mlops deploy` as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

COMMAND = str(Path(sys.executable).with_name("prefect-mlops"))
PROJECT = """
name: project-{unique}
pull: []
deployments:
  - name: hello
    entrypoint: greeting.hello
    work_pool: {{name: pool-{unique}}}
    triggers: [{{name: "wake {unique}", expect: [some.event, other.event, a.third, a.fourth]}}]
    schedules: [{{slug: weekly, cron: "0 6 * * 1"}}]
"""

Deploy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    unique = uuid.uuid4().hex[:8]
    (tmp_path / "greeting.py").write_text(
        f"from prefect import flow\n\n@flow(name='flow-{unique}')\ndef hello(): ...\n"
    )
    (tmp_path / "prefect.yaml").write_text(PROJECT.format(unique=unique))
    return tmp_path


@pytest.fixture
def environment(prefect_api: None, tmp_path: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**clean, "PREFECT_API_URL": str(get_current_settings().api.url), "PREFECT_HOME": str(tmp_path / "home")}


@pytest.fixture
def deploy(project: Path, environment: dict[str, str]) -> Deploy:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [COMMAND, "deploy", "--project", str(project), *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
        )

    return run


def test_it_shows_asks_deploys_and_has_nothing_to_do_the_second_time(deploy: Deploy, project: Path) -> None:
    dry = deploy("--dry-run")
    assert dry.returncode == 0
    unique = (project / "prefect.yaml").read_text().split()[1].partition("-")[2]
    assert dry.stdout.splitlines() == [
        f"Project project-{unique}",
        f"  + work pool pool-{unique}, of type process",
        f"  + flow-{unique}/hello: new",
        "      + schedule weekly",
        f"      + automation wake {unique}",
        "Nothing was changed: this was a dry run.",
    ]
    unasked = deploy()
    assert (unasked.returncode, unasked.stderr) == (
        2,
        "error: there is no terminal to ask on: look at the plan with --dry-run, then deploy with --yes\n",
    )
    done = deploy("--yes", "--json")
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert (told["applied"], told["deployments"][0]["verb"]) == (True, "create")
    again = deploy()
    assert again.returncode == 0
    assert again.stdout.splitlines()[1:] == [f"  = flow-{unique}/hello: unchanged", "Nothing to change."]

    changed = (project / "prefect.yaml").read_text().replace("0 6 * * 1", "0 7 * * 1")
    (project / "prefect.yaml").write_text(changed)
    assert '      ~ schedule weekly schedule.cron: "0 6 * * 1" -> "0 7 * * 1"' in deploy("--dry-run").stdout
    part = json.loads(deploy("--dry-run", "--json").stdout)["deployments"][0]["parts"][0]
    assert part == {
        "kind": "schedule",
        "name": "weekly",
        "verb": "change",
        "differences": {"schedule.cron": {"server": "0 6 * * 1", "file": "0 7 * * 1"}},
    }


@pytest.mark.parametrize(("answer", "code", "applied"), [(b"n\n", 1, False), (b"y\n", 0, True)])
def test_on_a_terminal_it_asks(
    project: Path, environment: dict[str, str], answer: bytes, code: int, applied: bool
) -> None:
    master, terminal = pty.openpty()
    command = [COMMAND, "deploy", "--project", str(project)]
    os.write(master, answer)
    done = subprocess.run(command, env=environment, stdin=terminal, capture_output=True, text=True, timeout=60)
    os.close(master)
    os.close(terminal)
    assert "Change this on the server?" in done.stderr
    assert done.returncode == code
    assert ("Deployed." in done.stdout) is applied


def test_names_cannot_write_to_the_terminal(deploy: Deploy, project: Path) -> None:
    text = (project / "prefect.yaml").read_text().replace("slug: weekly", r'slug: "red\e[31m\nschedule"')
    (project / "prefect.yaml").write_text(text)
    assert "+ schedule red\\x1b[31m\\nschedule\n" in deploy("--dry-run").stdout


def test_a_wrong_folder_is_one_plain_message(tmp_path: Path) -> None:
    done = subprocess.run([COMMAND, "deploy", "--project", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no prefect.yaml in {tmp_path}: ")


def test_it_explains_itself() -> None:
    said = subprocess.run([COMMAND, "deploy", "--help"], capture_output=True, text=True, check=True).stdout
    for option in ("--dry-run", "--yes", "--prune", "--reset", "--json", "--project"):
        assert option in said
