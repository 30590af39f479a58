"""What a fork client makes of the messages of its fork server."""

from __future__ import annotations

import asyncio
import json
import socket
import sys

import pytest

from prefect_mlops.core.errors import BackendError
from prefect_mlops.deployments.fork_worker.client import ForkClient, ForkedProcess, Stale

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")


def answered(*messages: dict[str, object]) -> ForkedProcess:
    """Ask for a fork; the server sends its messages in one piece and ends."""

    async def ask() -> ForkedProcess:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        client = ForkClient(await asyncio.create_subprocess_exec("true"), reader, writer)
        listening = asyncio.create_task(client.listen())
        asked = asyncio.create_task(client.fork())
        await asyncio.sleep(0)
        with theirs:
            theirs.sendall(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        await asyncio.wait([asked, listening], timeout=20)
        return asked.result()

    return asyncio.run(ask())


def test_a_run_that_ends_at_once_is_reported_with_its_exit_code() -> None:
    process = answered({"id": "1", "pid": 7}, {"id": "1", "code": 2})
    assert (process.pid, process.returncode) == (7, 2)


def test_a_server_that_imported_a_file_that_has_changed_names_it() -> None:
    with pytest.raises(Stale, match="features"):
        answered({"id": "1", "stale": "features.py"})


def test_a_server_that_cannot_fork_says_why() -> None:
    with pytest.raises(BackendError, match="no more memory"):
        answered({"id": "1", "refused": "no more memory"})


def test_a_server_that_ends_leaves_no_request_waiting() -> None:
    with pytest.raises(BackendError, match="the fork server ended"):
        answered()
