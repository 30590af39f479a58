"""Clients that write at the same time are all served, by a real server on SQLite."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
from sqlalchemy import text

from prefect_mlops.core.processes import reserved_port
from prefect_mlops.deployments.local.prefect_server import begin_by_writing
from prefect_mlops.deployments.local.stack import local_stack

RUNS, AT_ONCE = 60, 12
LIVES = ("PENDING", "RUNNING", "COMPLETED")


def live(api: str, flow: str) -> list[int]:
    """Let a flow run live, as a worker and its process do; returns the codes of the answers."""
    with httpx.Client(base_url=api, trust_env=False, timeout=100) as client:
        made = client.post("/flow_runs/", json={"flow_id": flow, "state": {"type": "SCHEDULED"}})
        codes = [made.status_code]
        if made.is_error:
            return codes
        run = f"/flow_runs/{made.json()['id']}"
        for state in LIVES:
            codes.append(client.post(f"{run}/set_state", json={"state": {"type": state}}).status_code)
            codes.append(client.patch(f"{run}/labels", json={"was": state}).status_code)
        return codes


@pytest.mark.slow
def test_requests_of_simultaneous_runs_are_never_refused(tmp_path: Path) -> None:
    with local_stack(tmp_path / "home") as stack:
        api = stack.prefect_api_url
        flow = httpx.post(f"{api}/flows/", json={"name": "busy"}, trust_env=False, timeout=20).json()["id"]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            codes = [code for answers in pool.map(live, [api] * RUNS, [flow] * RUNS) for code in answers]
        state = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        completed = httpx.post(f"{api}/flow_runs/count", json=state, trust_env=False, timeout=20).json()
    assert len(codes) == RUNS * (1 + 2 * len(LIVES))
    assert [code for code in codes if code >= 400] == []
    assert completed == RUNS


def test_a_session_inside_of_another_ones_transaction_reads_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = AioSqliteConfiguration.begin_transaction
    monkeypatch.setattr(AioSqliteConfiguration, "begin_transaction", stock)  # set back at the end
    begin_by_writing()

    async def read_inside() -> tuple[object, object, object]:
        configuration = AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")
        engine = await configuration.engine()
        async with await configuration.session(engine) as outer, configuration.begin_transaction(outer):
            begun = (await outer.connection()).in_transaction()
            async with await configuration.session(engine) as inner:
                read = await asyncio.wait_for(inner.scalar(text("select 1")), timeout=20)
        await engine.dispose()
        return begun, read, SQLITE_BEGIN_MODE.get()

    assert asyncio.run(read_inside()) == (True, 1, None)


@pytest.mark.slow
def test_a_prefect_with_another_way_to_begin_transactions_is_served_the_stock_way(tmp_path: Path) -> None:
    """One line says what is missing, and the server answers."""
    another = (
        "from prefect.server.database.configurations import AioSqliteConfiguration as database; "
        "stock = database.begin_transaction; "
        "database.begin_transaction = lambda self, session, **how: stock(self, session, **how); "
        "from prefect_mlops.deployments.local.prefect_server import main; main()"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    log = tmp_path / "server.log"
    with reserved_port() as port:
        command = [sys.executable, "-c", another, "start", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as file:
        server = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=file, stderr=subprocess.STDOUT)
    try:
        code = first_answer(f"http://127.0.0.1:{port}/api/flows/")
    finally:
        server.terminate()
        server.wait(30)
    assert code == 201, log.read_text()
    lines = [line for line in log.read_text().splitlines() if " has no " in line]
    assert len(lines) == 1
    assert "AioSqliteConfiguration.begin_transaction(with_for_update): writers that meet on SQLite are" in lines[0]


def first_answer(address: str) -> int:
    """Make a flow as soon as the server answers; returns the code of the answer."""
    deadline = time.monotonic() + 90
    while True:
        try:
            return httpx.post(address, json={"name": "first"}, trust_env=False, timeout=20).status_code
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)


def test_it_takes_the_arguments_of_prefects_own_command() -> None:
    command = [sys.executable, "-m", "prefect_mlops.deployments.local.prefect_server", "start", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "--port" in done.stdout, "Start a Prefect server" in done.stdout) == (0, True, True)
