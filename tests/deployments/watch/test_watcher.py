"""Noticing files in real folders and a real bucket server, and announcing them in few events."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.deployments.watch import announcements, watcher
from prefect_mlops.deployments.watch.addresses import LandingAddress, find_landing_addresses
from prefect_mlops.deployments.watch.announcements import MAX_PATHS, Announcement, Announcer
from prefect_mlops.deployments.watch.watcher import visible

DEADLINE = 30.0
SPECS = """
import sys
import great_expectations as gx
from prefect_mlops.core import DatasetSpec

print("a module may print")
check = gx.expectations.ExpectTableRowCountToBeBetween(min_value=1)
sales = DatasetSpec(name="sales", suite=gx.ExpectationSuite(name="any", expectations=[check]), landing="in")
"""


class Server:
    """Takes events, or does not."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.attempts = 0
        self.up = True
        self.during: Callable[[], None] = lambda: None

    async def send(self, event: dict[str, Any]) -> None:
        self.attempts += 1
        self.during()
        await asyncio.sleep(0)
        if not self.up:
            raise httpx.ConnectError("refused")
        self.taken.append(event)

    @property
    def counts(self) -> list[int]:
        return [event["payload"]["count"] for event in self.taken]


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def beside(work: Callable[[], Coroutine[Any, Any, None]], *running: Coroutine[Any, Any, None]) -> None:
    """Do something while others run."""

    async def both() -> None:
        tasks = [asyncio.create_task(coroutine) for coroutine in running]
        try:
            await work()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(both())


def announcer(server: Server, said: list[str] | None = None) -> Announcer:
    return Announcer("sales", server.send, lambda _: None, (said if said is not None else []).append)


# Announcing.


def test_the_first_file_goes_at_once_and_the_rest_in_few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(announcements, "LAST_PAUSE", 0.4)
    server = Server()

    told = announcer(server)

    async def work() -> None:
        told.offer(["first"])
        await until(lambda: server.counts == [1])
        for number in range(10_000):
            told.offer([f"{number}"])
            if number % 100 == 0:
                await asyncio.sleep(0.01)
        told.offer(["last"])
        await until(lambda: sum(server.counts) == 10_002)

    beside(work, told.run())
    assert len(server.taken) < 12
    assert all(len(event["payload"]["paths"]) <= MAX_PATHS for event in server.taken)


def test_what_the_server_did_not_take_is_announced_with_what_came_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "FIRST_RETRY", 0.02)
    server, said = Server(), []
    server.up = False
    told = announcer(server, said)

    async def work() -> None:
        told.offer(["a"])
        await until(lambda: server.attempts == 2)
        told.offer(["b", "c"])
        await until(lambda: server.attempts == 4)
        server.up = True
        await until(lambda: server.counts == [3])

    beside(work, told.run())
    assert said == [
        "sales: not announced, the Prefect server does not answer (ConnectError); trying again until it is taken",
        "sales: the Prefect server answers again",
    ]


def test_a_file_that_changes_while_it_is_announced_is_announced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "FIRST_PAUSE", 0.02)
    server = Server()
    told = announcer(server)
    server.during = lambda: told.offer(["a"]) if server.attempts == 1 else None

    async def work() -> None:
        told.offer(["a"])
        await until(lambda: server.counts == [1, 1])

    beside(work, told.run())


def test_an_event_names_the_dataset_and_survives_any_file_name() -> None:
    server = Server()
    told = announcer(server)

    async def work() -> None:
        told.offer([os.fsdecode(b"caf\xe9.csv")])
        await until(lambda: server.counts == [1])

    beside(work, told.run())
    event = server.taken[0]
    assert (event["event"], event["resource"]) == (
        "prefect-mlops.data.arrived",
        {"prefect.resource.id": "prefect-mlops.data.sales"},
    )
    assert event["payload"] == {"dataset": "sales", "paths": ["caf?.csv"], "count": 1}


# Noticing.


@pytest.mark.parametrize(
    ("path", "counts"),
    [("a.csv", True), ("x/a.csv", True), (".a.csv", False), (".x/a.csv", False), ("x/.y/a.csv", False), ("a.b", True)],
)
def test_hidden_files_do_not_count(path: str, counts: bool) -> None:
    assert visible(path) is counts


class Notes:
    """What was noticed in one place."""

    def __init__(self, place: LandingAddress, interval: float = 0.05) -> None:
        self.paths: list[str] = []
        self.said: list[str] = []
        collector = Announcer(place.dataset, Server().send, lambda _: None, self.said.append)
        collector.offer = self.paths.extend  # type: ignore[method-assign, assignment]
        self.running = watcher._notice(place, collector, interval=interval, tell=self.said.append)


def test_files_are_noticed_in_a_folder_that_comes_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 0.1)
    folder = tmp_path / "not" / "there"
    notes = Notes(LandingAddress("sales", str(folder)))

    async def work() -> None:
        await until(folder.is_dir)
        (folder / "a.csv").write_text("1")
        await until(lambda: "a.csv" in notes.paths)
        (folder / ".hidden").write_text("1")
        (folder / ".part").mkdir()
        (folder / ".part" / "b.csv").write_text("1")
        (folder / "sub").mkdir()
        (folder / "sub" / "c.csv").write_text("1")
        await until(lambda: "sub/c.csv" in notes.paths)
        (folder / "a.csv").unlink()
        notes.paths.clear()
        shutil.rmtree(folder)
        await until(folder.is_dir)
        assert notes.paths == [], "what goes away has not arrived"
        (folder / "d.csv").write_text("1")
        await until(lambda: "d.csv" in notes.paths)

    beside(work, notes.running)
    assert not [path for path in notes.paths if ".hidden" in path or ".part" in path]


def test_what_was_there_before_is_noticed_and_so_is_a_folder_moved_in(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "old.csv").write_text("1")
    (tmp_path / "made").mkdir()
    for number in range(50):
        (tmp_path / "made" / f"{number}.csv").write_text("1")
    notes = Notes(LandingAddress("sales", folder.as_uri()))

    async def work() -> None:
        await until(lambda: "deep/old.csv" in notes.paths)
        (tmp_path / "made").rename(folder / "made")
        await until(lambda: len({path for path in notes.paths if path.startswith("made/")}) == 50)

    beside(work, notes.running)


def test_a_folder_that_cannot_be_made_is_said_once_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a file stands in its place")
    notes = Notes(LandingAddress("sales", str(tmp_path / "in")))

    async def work() -> None:
        await until(lambda: len(notes.said) >= 2)
        await asyncio.sleep(0.3)
        (tmp_path / "in").unlink()
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.csv").write_text("1")
        await until(lambda: "a.csv" in notes.paths)

    beside(work, notes.running)
    assert len([sentence for sentence in notes.said if "cannot be read" in sentence]) == 1
    assert notes.said[-1].endswith("can be read again")


def test_a_bucket_is_listed_and_what_is_new_or_changed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    pytest.importorskip("s3fs")
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import s3fs

    notes = Notes(LandingAddress("sales", "s3://landing/sales"))
    storage = s3fs.S3FileSystem()

    async def work() -> None:
        await until(lambda: any("cannot be read" in sentence for sentence in notes.said) or len(notes.said) == 1)
        await asyncio.to_thread(storage.mkdir, "landing")
        await asyncio.to_thread(storage.pipe_file, "landing/sales/x/a.csv", b"1")
        await asyncio.to_thread(storage.pipe_file, "landing/sales/.b.csv", b"1")
        await asyncio.to_thread(storage.pipe_file, "landing/elsewhere/c.csv", b"1")
        await until(lambda: notes.paths == ["x/a.csv"])
        await asyncio.to_thread(storage.pipe_file, "landing/sales/x/a.csv", b"2")
        await until(lambda: notes.paths == ["x/a.csv"] * 2)
        await asyncio.sleep(0.3)
        assert notes.paths == ["x/a.csv"] * 2, "what has not changed is not noticed again"

    try:
        beside(work, notes.running)
    finally:
        server.stop()


# Where to look.


def test_places_are_looked_up_elsewhere_and_relative_ones_are_under_the_project(tmp_path: Path) -> None:
    (tmp_path / "my_specs.py").write_text(SPECS)
    (tmp_path / "prefect.yaml").write_text("deployments: [{name: ingest, parameters: {dataset: my_specs.sales}}]")
    expected = [LandingAddress("sales", str(tmp_path / "in"))]
    assert find_landing_addresses([], tmp_path) == expected
    assert find_landing_addresses(["sales", "my_specs.sales"], tmp_path) == expected
    with pytest.raises(ConfigError, match=r"no dataset that prefect\.yaml declares is called 'sale'.*'sales'"):
        find_landing_addresses(["sale"], tmp_path)


def test_without_datasets_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text("deployments: [{name: train}]")
    with pytest.raises(ConfigError, match="has a parameter `dataset`, so there is nothing to watch: name a dataset"):
        find_landing_addresses([], tmp_path)


def test_a_count_is_told_in_full() -> None:
    assert Announcement("sales", ("a",), 10_000).event()["payload"]["count"] == 10_000
