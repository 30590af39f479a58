"""Lists and long texts on a terminal: aligned columns and wrapped lines, escaped; whole lines where a program reads."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

SHORT_DIGEST = 8  # enough to tell the contents of one file apart; the whole one is in --json
MAX_REASON = 300  # a reason has to fit a few lines of a terminal; the whole one is in --json


def escaped(text: str) -> str:
    """Write control characters and the like as escapes: names and cells come from others, and a terminal obeys them."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def shortened(text: str, length: int = MAX_REASON) -> str:
    """Cut a long text, visibly, and escape it."""
    return escaped(text if len(text) <= length else text[: length - 1] + "…")


def short_digest(digest: str) -> str:
    """Return the first characters of a digest; empty where there is none."""
    return digest.removeprefix("sha256:")[:SHORT_DIGEST]


def moment(at: datetime) -> str:
    """Write a time in the local time zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def age(since: datetime) -> str:
    """Say in one unit how long ago something was."""
    time = datetime.now(timezone.utc) - since
    for unit, length in (("d", timedelta(days=2)), ("h", timedelta(hours=2)), ("min", timedelta(minutes=2))):
        if time >= length:
            return f"{time // (length / 2)} {unit}"
    return f"{max(round(time.total_seconds()), 0)} s"


def counted(number: int, noun: str) -> str:
    """Write a number of things: ``1 file``, ``2 files``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def columns(headers: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()) -> Iterator[str]:
    """Align rows under headers; numbers to the right, the last column as long as it is.

    Args:
        headers: those that end in ``>`` are of numbers.
        rows: cells, escaped here.
        notes: a line to go under each row, where it is not empty.
    """
    names = [header.removesuffix(">") for header in headers]
    cells = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    texts = [*notes] or [""] * len(cells)

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if header.endswith(">") else cell.ljust(width)
            for cell, width, header in zip(row, widths, headers, strict=True)
        ]
        return "  ".join(parts).rstrip()

    if cells:
        yield line(names)
    for row, text in zip(cells, texts, strict=True):
        yield line(row)
        if text:
            yield f"    {shortened(text)}"


def say(sentence: str) -> None:
    """Print progress on stderr; stdout is for the answer only."""
    typer.echo(escaped(sentence), err=True)


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
