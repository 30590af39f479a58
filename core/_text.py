"""Markdown for artifacts. Cell values come from data files, so they are attacker text: everything is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAX_CELL_LENGTH = 200  # an artifact is read by a person; a longer value is cut, and shown to be cut

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def escape(value: object) -> str:
    """Turn any value into one line of inert markdown text, cut at `MAX_CELL_LENGTH` characters."""
    text = " ".join(str(value).split())
    if len(text) > MAX_CELL_LENGTH:
        text = text[: MAX_CELL_LENGTH - 1] + "…"
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Bare addresses become links by themselves in most renderers: break the scheme apart.
    text = re.sub(r"(?i)\b(https?|ftp|www)(:|\.)", r"\1&#8203;\2", text)
    return _SPECIAL.sub(r"\\\1", text)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Render a markdown table; headers are ours, cells are escaped."""
    lines = ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
    lines += ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
