"""The folder of a local stack: its lock, and what is kept from one start to the next."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect_mlops.core.errors import BackendError, ConflictError
from prefect_mlops.core.processes import Child, end_sessions, lock_file, runs

REMAINS_SECONDS = 15.0  # how long what a killed stack left behind may take to end


@dataclass
class Hold:
    """The lock on a home, and the children that share it.

    Children inherit the lock, so it is free again once the last process of a stack is gone, however it went; the
    lock's file says who they are, for the message to a second stack and for clearing up after a kill.

    Attributes:
        lock: file descriptor that holds the lock.
        children: every child, in the order they were started.
        url: where the stack can be seen, once it can.
    """

    lock: int
    children: list[Child] = field(default_factory=list)
    url: str = ""

    def add(self, child: Child) -> None:
        """Write down a child that was just started."""
        self.children.append(child)
        self._write()

    def announce(self, url: str) -> None:
        """Write down where the stack can be seen."""
        self.url = url
        self._write()

    def _write(self) -> None:
        children = [child.process.pid for child in self.children if child.alive]  # other numbers get new owners
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, json.dumps({"pid": os.getpid(), "url": self.url, "children": children}).encode(), 0)


def hold(home: Path, *, tell: Callable[[str], None]) -> Hold:
    """Take a home for one stack; clears up what a killed one left running.

    Args:
        home: the folder, which exists.
        tell: called with a message when something has to be cleared up.

    Returns:
        The hold; its ``lock`` is the caller's to close.

    Raises:
        ConflictError: when another stack runs on it.
        BackendError: when the remains of a killed one do not go away.
    """
    path = home / "stack.lock"
    lock = lock_file(path)
    if lock is None:
        owner = _read(path)
        if runs(int(owner.get("pid", 0))):
            where = f"see {owner['url']}" if owner.get("url") else "it is still starting"
            raise ConflictError(f"a stack already runs on {home} (process {owner['pid']}): {where}")
        tell("ending what a killed stack left behind")
        end_sessions(owner.get("children", ()))
        lock = _outwait(path)
    held = Hold(lock)
    held.announce("")
    return held


def recall(home: Path) -> dict[str, Any]:
    """Read what `remember` wrote; empty where nothing was."""
    return _read(home / "stack.json")


def remember(home: Path, **parts: Any) -> None:
    """Keep something for the next start, beside what is kept already; never a secret.

    Args:
        home: the folder.
        parts: JSON values by name.
    """
    path = home / "stack.json"
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({**recall(home), **parts}, file, indent=1)
    fresh.replace(path)


def _outwait(path: Path) -> int:
    deadline = time.monotonic() + REMAINS_SECONDS
    while (lock := lock_file(path)) is None:
        if time.monotonic() > deadline:
            raise BackendError(f"processes of a killed stack still hold {path}: end them, then start again")
        time.sleep(0.1)
    return lock


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}  # not there yet, or cut short by a kill: everything in it can be found again
    return content if isinstance(content, dict) else {}
