"""Importing large libraries, and ending a program that has, without the garbage collector's share of the time."""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Switch the collector off while something large is imported: it would visit it over and over, for nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def end_quickly() -> None:
    """Spare this program the collector when it ends: an interpreter has it visit all that was imported."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
