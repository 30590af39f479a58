"""What may be written to a terminal."""

from __future__ import annotations


def plain(text: str) -> str:
    """Keep what others named from moving the cursor, colouring the terminal or breaking the line."""
    return "".join(character if character.isprintable() else "?" for character in text)
