"""Private names of Prefect: all there, all listed, used in no other place, and each absence is noticed."""

from __future__ import annotations

import ast
import asyncio
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_mlops.deployments.fork_worker import internals, worker
from prefect_mlops.deployments.fork_worker.internals import (
    FORKED_RUNS,
    HEARTBEATS,
    STARTER,
    UI_FORM,
    Name,
    Use,
    missing,
)

USES = {name: use for name, use in vars(internals).items() if isinstance(use, Use)}
CASES = [(use, name) for use in USES.values() for name in use.names]
IDS = [f"{name.module}.{name.path}" for _, name in CASES]
PROJECT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
ROOMS = (
    "cli",
    "core",
    "data_checks",
    "deployments",
    "examples",
    "flows",
    "serving",
    "reproduction",
    "tasks",
    "tracking",
)
ALLOWED = ("deployments/fork_worker/", "deployments/local/prefect_server.py")


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    handler = Lines()
    loggers = [logging.getLogger(name) for name in ("prefect.prefect_mlops", "prefect.workers.warm-process.one")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler.lines
    for logger in loggers:
        logger.removeHandler(handler)


def remove(monkeypatch: pytest.MonkeyPatch, name: Name) -> None:
    """Take a name away, as a release without it would."""
    monkeypatch.delattr(importlib.import_module(f"prefect.{name.module}"), name.path.partition(".")[0])


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_installed_prefect_has_every_name(use: Use) -> None:
    assert missing(use) is None


@pytest.mark.parametrize(("use", "name"), CASES, ids=IDS)
def test_a_name_that_is_gone_is_said_with_what_happens_instead(
    use: Use, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(monkeypatch, name)
    lack = missing(use)
    assert lack is not None
    assert lack.count("\n") == 0
    assert f"prefect.{name.module}.{name.path}" in lack
    assert lack.endswith(f": {use.otherwise}.")


def test_a_module_that_is_gone_or_fails_is_said() -> None:
    assert missing(Use((Name("runner._not_there", "x"),), "y")) is not None


def test_a_parameter_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect.flow_engine._send_heartbeats", lambda engine: None)
    lack = missing(HEARTBEATS)
    assert lack is not None
    assert "has no prefect.flow_engine._send_heartbeats(join_on_exit): " in lack


def test_an_attribute_that_is_no_longer_set_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(
        self: Any, *, workspace_root: Any, stream_output: Any, control_channel: Any, source_cwd: Any, environment: Any
    ) -> None:
        self._config_path = workspace_root

    monkeypatch.setattr(f"prefect.runner._workspace_starter.{STARTER}.__init__", renamed)
    lack = missing(FORKED_RUNS)
    assert lack is not None
    assert f"has no _manifest_path in prefect.runner._workspace_starter.{STARTER}.__init__: " in lack


def test_a_variable_that_prefect_no_longer_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.runner import _workspace_supervisor as supervisor

    monkeypatch.setattr(supervisor, "_RUNNER_OWNED_ENV_KEYS", supervisor._RUNNER_OWNED_ENV_KEYS - {internals.RUN_HOOKS})
    lack = missing(FORKED_RUNS)
    assert lack is not None
    assert f"has no {internals.RUN_HOOKS} in " in lack


def test_the_table_lists_every_name_under_its_use() -> None:
    table = (internals.__doc__ or "").split("===\n")[2]
    rows: dict[str, str] = {}
    for line in table.splitlines():
        if (first := line.partition(" ")[0]) in USES:
            row = first
        rows[row] = rows.get(row, "") + line
    assert rows.keys() == USES.keys()
    for use, text in rows.items():
        for name in USES[use].names:
            assert name.module in text
            assert name.path.partition(".")[0] in text
    assert all(variable in rows["FORKED_RUNS"] for variable in internals.RUN_VARIABLES)


def test_no_other_module_uses_private_names_of_prefect() -> None:
    found = []
    for path in (path for room in ROOMS for path in (PROJECT / room).rglob("*.py")):
        place = path.relative_to(PROJECT).as_posix()
        if not place.startswith(ALLOWED):
            found += [f"{place}: {name}" for name in private_names(ast.parse(path.read_text()))]
    assert found == []


def private_names(module: ast.Module) -> Iterator[str]:
    """Yield what a module takes from Prefect's inside, and the variables that Prefect sets for one run."""
    for node in ast.walk(module):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "prefect":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.partition(".")[0] == "prefect"]
        yield from (name for name in names if "._" in name)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(internals.PER_RUN):
            yield node.value


def test_a_worker_without_a_name_does_not_fork_and_logs_it_once(
    logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(monkeypatch, FORKED_RUNS.names[0])
    assert not worker.WarmProcessWorker("pool", name="one")._can_fork()
    assert [line.partition(": ")[2] for line in logged] == ["runs start as those of a process worker."]


def test_a_worker_without_a_name_that_saves_time_forks_and_logs_it_once(
    logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(monkeypatch, HEARTBEATS.names[0])
    assert worker.WarmProcessWorker("pool", name="one")._can_fork()
    assert [line.partition(": ")[2] for line in logged] == ["a forked run waits for its heartbeats, up to a second."]


def test_a_server_without_the_list_of_types_runs_without_ours(
    logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.server.api import collections

    remove(monkeypatch, UI_FORM.names[0])
    worker.offer_in_ui()
    assert not hasattr(collections, "get_collection_view")
    assert [line.partition(": ")[2] for line in logged] == ["the form for new work pools does not offer this type."]


def test_a_server_offers_the_type_in_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.server.api import collections

    async def listed(view: str) -> dict[str, Any]:
        return {"prefect": {"process": view}}

    monkeypatch.setattr(collections, "get_collection_view", listed)
    worker.offer_in_ui()
    types = asyncio.run(collections.get_collection_view("aggregate-worker-metadata"))
    assert types["prefect"] == {"process": "aggregate-worker-metadata"}
    assert types["prefect-mlops"]["warm-process"]["display_name"] == "Warm process"
    assert set(asyncio.run(collections.get_collection_view("demo-flows"))) == {"prefect"}
