"""Notice files as they arrive and announce them. Killing it loses nothing: a sweep of the landing place finds all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from prefect_mlops.deployments.connection import server_address
from prefect_mlops.deployments.watch.announcements import Announcement, Announcer, Tell

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

    from prefect_mlops.deployments.watch.addresses import LandingAddress

LOOK_SECONDS = 1.0  # how soon it is noticed that a folder vanished or came back


async def watch(
    places: Sequence[LandingAddress], *, interval: float, done: Callable[[Announcement], None], tell: Tell
) -> None:
    """Announce files that arrive, until cancelled.

    Args:
        places: where to look.
        interval: seconds between two listings of a bucket.
        done: called with each announcement that the server has accepted.
        tell: called with messages for a person: what is watched, what does not work.

    Raises:
        ConfigError: when no Prefect server is configured.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    server_address()
    # Prefect's own attempts take a minute without a message, and leave out what arrived meanwhile.
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        async with get_client() as client:
            await _watch(places, client, interval=interval, done=done, tell=tell)


async def _watch(
    places: Sequence[LandingAddress],
    client: PrefectClient,
    *,
    interval: float,
    done: Callable[[Announcement], None],
    tell: Tell,
) -> None:
    async def send(event: dict[str, Any]) -> None:
        await client.request("POST", "/events", json=[event])  # the answer says that the server has it

    tasks = []
    for place in places:
        announcer = Announcer(place.dataset, send, done, tell)
        noticing = _notice(place, announcer, interval=interval, tell=tell)
        tasks += [asyncio.create_task(noticing), asyncio.create_task(announcer.run())]
    try:
        await asyncio.gather(*tasks)  # none of them ends by itself
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _notice(place: LandingAddress, announcer: Announcer, *, interval: float, tell: Tell) -> None:
    """Offer what arrives in one place; a failure is reported once, until it works again."""
    problem = ""
    while True:
        folder = place.folder
        seen = _seen_in_folder(folder) if folder else _seen_in_bucket(place.address, interval)
        tell(f"{place.dataset}: watching {place.address}") if not problem else None
        try:
            async for paths in seen:
                if problem:
                    tell(f"{place.dataset}: {place.address} can be read again")
                problem = ""
                announcer.offer(path for path in paths if visible(path))
        except Exception as error:  # noqa: BLE001 - a bucket may answer anything; the next look may succeed
            if not problem:
                tell(f"{place.dataset}: {place.address} cannot be read, {type(error).__name__}: {error}; still trying")
            problem = str(error) or "?"
            await asyncio.sleep(interval)


def visible(path: str) -> bool:
    """Return whether a file is not hidden: no part of the path begins with a dot."""
    return not any(part.startswith(".") for part in PurePosixPath(path).parts)


async def _seen_in_folder(folder: Path) -> AsyncIterator[list[str]]:
    """Yield what is in a folder, then what appears or changes in it, however often the folder itself comes and goes."""
    from watchfiles import awatch

    while True:
        folder.mkdir(parents=True, exist_ok=True)
        stop, mark, first = asyncio.Event(), _mark(folder), True
        changes = awatch(
            folder,
            watch_filter=None,
            stop_event=stop,
            rust_timeout=int(LOOK_SECONDS * 1000),
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        try:
            async for batch in changes:
                changed = [path for _, path in batch]
                # Watching begins with the first round: a listing before that would miss what arrives in between.
                yield await asyncio.to_thread(_changed, folder, [str(folder)] if first else changed)
                first = False
                if _mark(folder) != mark:
                    break
        finally:
            stop.set()
            await changes.aclose()


def _changed(folder: Path, paths: Iterable[str]) -> list[str]:
    """Name the files behind changes, where they are there; of a folder that was moved in only itself is reported."""
    found: dict[str, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found.update(dict.fromkeys(_files(path, folder)))
        elif path.is_file():
            found[path.relative_to(folder).as_posix()] = None
    return list(found)


def _files(within: Path, folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(within):
        yield from (Path(parent, name).relative_to(folder).as_posix() for name in names)


def _mark(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def _seen_in_bucket(address: str, interval: float) -> AsyncIterator[list[str]]:
    """Yield what is new or has changed since the last listing."""
    before: dict[str, str] = {}
    while True:
        listed = await asyncio.to_thread(_listing, address)
        yield [path for path, mark in listed.items() if before.get(path) != mark]
        before = listed
        await asyncio.sleep(interval)


def _listing(address: str) -> dict[str, str]:
    """List a bucket: for each relative path what tells one content from another."""
    from fsspec.core import url_to_fs

    storage, root = url_to_fs(address)
    storage.invalidate_cache()  # some keep listings for as long as they live
    found = storage.find(root, detail=True)
    marks = ("size", "ETag", "etag", "LastModified", "updated", "mtime", "created", "last_modified")
    start = len(root.rstrip("/")) + 1
    return {path[start:]: repr([info.get(mark) for mark in marks]) for path, info in found.items()}
