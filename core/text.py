"""Text for people: one line, cut where it is too long; times; and markdown in which values are inert.

Values come from data files, so they are attacker text: whatever goes into markdown is escaped here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

MAX_CELL_LENGTH = 200  # an artifact is read by a person; a longer value is cut, and shown to be cut
MAX_REASON = 300  # characters of another library's message, which may quote whole arrays; the cause has all of it
MAX_SHOWN = 60  # characters of one value in a finding: enough to recognise it, too little to export data

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def one_line(value: object, most: int | None = MAX_REASON) -> str:
    """Write any value as one line; a line that was cut ends with an ellipsis.

    Args:
        value: anything.
        most: length in characters at most; None for all of it.
    """
    text = " ".join(str(value).split())
    return text if most is None or len(text) <= most else text[: most - 1] + "…"


def show(value: object) -> str:
    """Shorten one value of a column for a finding; it stays attacker text and is escaped where it is rendered."""
    return one_line(value, MAX_SHOWN)


def listed(items: Sequence[object], most: int) -> str:
    """List the first items of many, and count the others: ``a, b and 3 more``.

    Args:
        items: written as they are; pass them through `repr` or `show` where they are data.
        most: items to name.
    """
    rest = len(items) - most
    return ", ".join(map(str, items[:most])) + (f" and {rest:,} more" if rest > 0 else "")


def plain(value: object) -> str:
    """Turn a value or name from data into one short line of printable text that every encoding takes."""
    text = "".join(sign if sign.isprintable() else " " for sign in str(value))
    return show(text) or "(blank)"


def moment(time: datetime) -> str:
    """Write a time for people, to the minute and in UTC."""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def escape(value: object) -> str:
    """Escape any value as one line of inert markdown, cut at `MAX_CELL_LENGTH` characters."""
    text = one_line(value, MAX_CELL_LENGTH)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Bare addresses become links by themselves in most renderers: break the scheme apart.
    text = re.sub(r"(?i)\b(https?|ftp|www)(:|\.)", r"\1&#8203;\2", text)
    return _SPECIAL.sub(r"\\\1", text)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Render a markdown table; headers are ours, cells are escaped."""
    lines = ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
    lines += ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
