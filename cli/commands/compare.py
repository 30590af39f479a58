"""``prefect-mlops compare``: what differs between two model versions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from prefect_mlops.cli._terminal import drawn, escaped, paragraph

if TYPE_CHECKING:
    from rich.text import Text

    from prefect_mlops.core.trace.comparison import Compared, Difference

MAX_SHOWN = 15  # differences of one section; all of them are in --json
ABSENT = "-"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def compare(
    first: Annotated[str, typer.Argument(metavar="MODEL/3", help="The one version, or MODEL@alias.")],
    second: Annotated[str, typer.Argument(metavar="MODEL/4", help="The other one; of any model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with all differences.")] = False,
) -> None:
    """Show what differs between two model versions, and count what is equal.

    Data, code, environment, packages, parameters and seed, scores, checks, gates, decision. What is not known of a
    version is shown as such; see `prefect-mlops trace`. Exit code 0, whether they differ or not.

    Compare two versions:

        prefect-mlops compare flights-late/3 flights-late/4

    Compare a challenger with the champion:

        prefect-mlops compare flights-late@champion flights-late/5
    """
    from prefect_mlops.cli._names import find_trace
    from prefect_mlops.core.trace.comparison import compare as compared

    found = compared(find_trace(first), find_trace(second))
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json")))
        return
    for section, differences in groupby(found.differences, key=lambda one: one.section):
        typer.echo("\n".join(_section(section, list(differences), found)))
    typer.echo("\n".join(_ending(found)))


def _section(section: str, differences: list[Difference], found: Compared) -> Iterator[str]:
    """Draw a section as a table, whose cells are broken into lines where they have to be."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=True, header_style=None)
    scores = section == "scores"
    for header in (section.upper(), found.first, found.second, *(["CHANGE"] if scores else [])):
        table.add_column(_text(header), justify="right" if header == "CHANGE" else "left", overflow="fold")
    for one in differences[:MAX_SHOWN]:
        change = "" if one.change is None else f"{one.change:+.4f}"
        cells = [one.name, _shown(one.first, one), _shown(one.second, one), *([change] if scores else [])]
        table.add_row(*map(_text, cells))
    yield drawn(table)
    if len(differences) > MAX_SHOWN:
        yield f"and {len(differences) - MAX_SHOWN:,} more; --json has them all"
    yield ""


def _text(cell: str) -> Text:
    from rich.text import Text

    return Text(escaped(cell))


def _shown(text: str, one: Difference) -> str:
    """Write a value as it fits a cell: digests by their first figures, a diff by what it changes."""
    from prefect_mlops.core.trace.tree import changes, short

    if one.section == "code" and text.startswith("diff --git "):
        return changes(text)
    if one.change is not None:
        return f"{float(text):.4f}"
    return _DIGEST.sub(lambda found: short(found[0]), text) or ABSENT


def _ending(found: Compared) -> Iterator[str]:
    if not found.differences:
        yield f"{escaped(found.first)} and {escaped(found.second)} differ in nothing that is known."
    equal = ", ".join(f"{count:,} of {section}" for section, count in found.equal.items())
    yield from paragraph(f"Equal: {equal or 'nothing'}.")
