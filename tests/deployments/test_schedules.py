from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from prefect_mlops.deployments.local.stack import local_stack

WAIT_SECONDS = 120.0  # the server's scheduler looks once a minute


@pytest.mark.slow
def test_the_server_makes_the_runs_of_a_schedule(tmp_path: Path) -> None:
    """Prefect 3.8 with SQLAlchemy 2.1 never makes one: its scheduler fails, and only its log says so."""
    schedule = {"schedule": {"interval": 60.0}, "active": True}
    with local_stack(tmp_path / "home") as stack, httpx.Client(base_url=stack.prefect_api_url, timeout=30) as client:
        flow = client.post("/flows/", json={"name": "scheduled"}).json()["id"]
        made = client.post("/deployments/", json={"name": "often", "flow_id": flow, "schedules": [schedule]})
        assert made.is_success, made.text
        wanted = {"deployments": {"id": {"any_": [made.json()["id"]]}}}
        deadline = time.monotonic() + WAIT_SECONDS
        while not (runs := client.post("/flow_runs/filter", json=wanted).json()) and time.monotonic() < deadline:
            time.sleep(0.5)
    log = (tmp_path / "home" / "logs" / "prefect.log").read_text()
    assert runs, log[-3000:]
    assert all(run["auto_scheduled"] for run in runs)
