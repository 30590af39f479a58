from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from prefect.client.orchestration import get_client


@pytest.fixture
def find_event(prefect_api: None) -> Callable[[str, str], dict[str, Any]]:
    """Ask the API for an event by its name and resource until it, which is sent in the background, has arrived."""

    def find(name: str, about: str) -> dict[str, Any]:
        wanted = {"event": {"name": [name]}, "resource": {"id": [about]}}  # other tests emit events here too
        deadline = time.monotonic() + 20
        with get_client(sync_client=True) as client:
            while time.monotonic() < deadline:
                answer = client.request("POST", "/events/filter", json={"filter": wanted})
                if found := answer.json()["events"]:
                    return dict(found[0])
                time.sleep(0.3)
        raise AssertionError(f"{name} did not arrive")

    return find
