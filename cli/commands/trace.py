"""``prefect-mlops trace``: from a model version to rows, code, environment, checks and who decided."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.tree import Tree

    from prefect_mlops.core.trace.tree import Branch


def trace(
    model: Annotated[
        str, typer.Argument(metavar="MODEL[@ALIAS|/VERSION]", help="Which version; without one, the champion.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with whole digests and all files.")
    ] = False,
) -> None:
    """Show where a model version comes from, down to its training rows.

    The dataset with version, digest and files; commit and uncommitted changes; environment; parameters and seed;
    checks, scores and gates; the decision, who approved it and what it replaced. The digest is over every cell of the
    training rows: one that differs gives another digest. What is gone is listed as not known. Reads only, and needs
    no Prefect server; MLflow has to be there.

    Trace the champion:

        prefect-mlops trace flights-late

    Trace version 3, for a script:

        prefect-mlops trace flights-late/3 --json
    """
    from prefect_mlops.cli._names import find_trace
    from prefect_mlops.cli._terminal import drawn
    from prefect_mlops.core.trace.tree import tree

    found = find_trace(model)
    typer.echo(json.dumps(found.model_dump(mode="json")) if as_json else drawn(_grown(tree(found))))


def _grown(branch: Branch, under: Tree | None = None) -> Tree:
    """Hang a branch under another; texts are plain, whatever brackets they hold."""
    from rich.text import Text
    from rich.tree import Tree

    from prefect_mlops.cli._terminal import escaped

    text = Text(escaped(branch.text), overflow="fold")
    grown = Tree(text) if under is None else under.add(text)
    for below in branch.below:
        _grown(below, grown)
    return grown
