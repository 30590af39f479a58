"""Announce arrived files: a few events for many files, retried until the Prefect server has accepted them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

EVENT = "prefect-mlops.data.arrived"
MAX_PATHS = 100  # a hint for people; the flow lists the landing place itself
FIRST_PAUSE, LAST_PAUSE = 1.0, 10.0  # seconds between events while files keep coming; it doubles from one to the other
FIRST_RETRY, LAST_RETRY = 1.0, 15.0  # seconds between attempts while the server does not answer

Send = Callable[[dict[str, Any]], Any]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Announcement:
    """That files arrived in a dataset's landing place.

    Attributes:
        dataset: plain name of the dataset.
        paths: up to `MAX_PATHS` of them, relative to the landing place.
        count: how many there are.
    """

    dataset: str
    paths: tuple[str, ...]
    count: int

    def event(self) -> dict[str, Any]:
        """Make the event as Prefect's API takes it."""
        from prefect.events import Event

        event = Event(
            event=EVENT,
            resource={"prefect.resource.id": f"prefect-mlops.data.{self.dataset}"},
            payload={"dataset": self.dataset, "paths": list(self.paths), "count": self.count},
        )
        return event.model_dump(mode="json")


@dataclass
class Announcer:
    """Collects what arrives in one landing place and announces it.

    The first file of a quiet time is announced at once, those that follow together after a pause that grows while
    they keep coming. What could not be sent is announced together with what came meanwhile.

    Attributes:
        dataset: plain name of the dataset.
        send: coroutine that sends an event; raises where the server did not take it.
        done: called with each announcement that the server has accepted.
        tell: called with a message when the server stops answering, and when it answers again.
    """

    dataset: str
    send: Send
    done: Callable[[Announcement], None]
    tell: Tell
    _waiting: dict[str, None] = field(default_factory=dict)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, paths: Iterable[str]) -> None:
        """Take note of files; they are announced with the next event."""
        # A name that is not UTF-8 cannot be written as JSON; it is a hint only, so its odd letters may go.
        found = {path.encode("utf-8", "replace").decode(): None for path in paths}
        if found:
            self._waiting.update(found)
            self._arrived.set()

    async def run(self) -> None:
        """Announce what is offered, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            await self._arrived.wait()
            await self._announce()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE) if self._arrived.is_set() else FIRST_PAUSE

    async def _announce(self) -> None:
        """Send what is waiting, until the server has taken it; what arrives meanwhile goes along."""
        retry, reported = FIRST_RETRY, False
        while True:
            waiting, self._waiting = self._waiting, {}  # the same file may change again while this is on its way
            self._arrived.clear()
            announcement = Announcement(self.dataset, tuple(waiting)[:MAX_PATHS], len(waiting))
            try:
                await self.send(announcement.event())
            except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may succeed, and the sweep is there
                self._waiting = {**waiting, **self._waiting}
                if not reported:
                    self.tell(f"{self.dataset}: not announced, {_reason(error)}; trying again until it is taken")
                reported = True
                await asyncio.sleep(retry)
                retry = min(retry * 2, LAST_RETRY)
                continue
            if reported:
                self.tell(f"{self.dataset}: the Prefect server answers again")
            self.done(announcement)
            return


def _reason(error: Exception) -> str:
    import httpx

    if isinstance(error, httpx.HTTPStatusError):  # Prefect's is one
        return f"the Prefect server answered {error.response.status_code}"
    if isinstance(error, httpx.TransportError):
        return f"the Prefect server does not answer ({type(error).__name__})"
    return f"{type(error).__name__}: {error}"
