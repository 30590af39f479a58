"""Clients that write at the same time are all served, by a real server on SQLite."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
from sqlalchemy import text

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
def test_runs_that_live_at_once_are_never_told_to_come_back(tmp_path: Path) -> None:
    with local_stack(tmp_path / "home") as stack:
        api = stack.prefect_api_url
        flow = httpx.post(f"{api}/flows/", json={"name": "busy"}, trust_env=False, timeout=20).json()["id"]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            codes = [code for told in pool.map(live, [api] * RUNS, [flow] * RUNS) for code in told]
        state = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        completed = httpx.post(f"{api}/flow_runs/count", json=state, trust_env=False, timeout=20).json()
    assert len(codes) == RUNS * (1 + 2 * len(LIVES))
    assert [code for code in codes if code >= 400] == []
    assert completed == RUNS


def test_a_session_inside_of_another_ones_transaction_reads_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_ever = AioSqliteConfiguration.begin_transaction
    monkeypatch.setattr(AioSqliteConfiguration, "begin_transaction", as_ever)  # set back at the end
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


def test_it_takes_the_arguments_of_prefects_own_command() -> None:
    command = [sys.executable, "-m", "prefect_mlops.deployments.local.prefect_server", "start", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "--port" in done.stdout, "Start a Prefect server" in done.stdout) == (0, True, True)
