"""Shared by the modules that draw SVG with matplotlib."""

from __future__ import annotations

import threading

_NAME_LENGTH = 28  # characters of a column name beside its bar
DRAWING = threading.Lock()  # matplotlib's rcParams belong to the process, and tasks run in threads
METADATA = ("Date", "Creator", "Format", "Type")  # keys to leave out: they hold addresses and the time


def cut(name: str) -> str:
    """Shorten a name so that it fits beside a picture."""
    return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"
