"""What drawings as SVG share."""

from __future__ import annotations

import threading

_NAME_LENGTH = 28  # characters of a column name beside its bar
DRAWING = threading.Lock()  # how SVG is written is a setting of the whole process, and tasks run in threads
METADATA = ("Date", "Creator", "Format", "Type")  # left out: addresses and moments


def cut(name: str) -> str:
    """Shorten a name so that it fits beside a picture."""
    return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"
