"""Long texts on a terminal: wrapped where somebody reads them, whole lines where a program does."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prefect_mlops.cli._terminal import escaped

if TYPE_CHECKING:
    from rich.console import RenderableType

UNWRAPPED = 100_000  # characters: into a file or pipe goes one line for one thing
NARROWEST = 40


def width() -> int:
    """Return how many characters fit a line."""
    return max(shutil.get_terminal_size().columns, NARROWEST) if sys.stdout.isatty() else UNWRAPPED


def paragraph(text: str, *, indent: int = 0) -> Iterator[str]:
    """Escape a text and break it into lines that fit, all of them indented."""
    space = " " * indent
    broken = textwrap.wrap(
        escaped(text), width(), initial_indent=space, subsequent_indent=space, break_on_hyphens=False
    )
    yield from broken


def drawn(shape: RenderableType) -> str:
    """Draw a tree or table of rich as text that fits."""
    from rich.console import Console

    console = Console(width=width(), color_system=None, markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(shape)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
