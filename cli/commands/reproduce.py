"""``prefect-mlops reproduce``: make a model version again, and prove that it is the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefect_mlops.cli._terminal import escaped, say

if TYPE_CHECKING:
    from prefect_mlops.reproduction.reproduce import Reproduced

PARTS = ("data", "code", "environment", "seed", "hardware", "predictions", "content")
LABEL = max(map(len, PARTS)) + 2


def reproduce(
    model: Annotated[
        str, typer.Argument(metavar="MODEL/VERSION", help="Registered model and version, or MODEL@alias.")
    ],
    spec: Annotated[
        str, typer.Option(metavar="DOTTED", help="Dotted name of the spec. [default: what the version says]")
    ] = "",
    project: Annotated[Path, typer.Option(help="Folder of the project, in its git repository.")] = Path(),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder with the commit's code where it is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a model version again from its records, and say whether the result is identical.

    Reads the data version it was trained on, checks its commit out into a folder of its own (your branches and files
    stay as they are), brings back what was not committed, compares what is installed with what was, trains with the
    same seed and as many threads, and compares predictions bit for bit and what both model files hold. This runs the
    code of that commit, and imports the spec that the version names, on this machine. Nothing is registered.

    Exit codes: 0 identical; 1 not, with what differs of data, code, environment, seed and hardware; 2 wrong request.

    Prove a version:

        prefect-mlops reproduce flights-late/3

    Prove the champion, for a script:

        prefect-mlops reproduce flights-late@champion --json

    An older version that does not say which spec made it:

        prefect-mlops reproduce flights-late/1 --spec flights.model
    """
    from prefect_mlops.cli._project import enter, quieten, use_registry
    from prefect_mlops.core.errors import ConfigError
    from prefect_mlops.reproduction.reproduce import named_version, reproduce_model

    quieten()
    name, which = named_version(model)
    enter(project)
    if not use_registry():
        raise ConfigError("no MLflow is configured: set MLFLOW_TRACKING_URI, or PREFECT_MLOPS_HOME to a stack's home")
    made = reproduce_model(name, which, spec=spec, keep=keep, progress=say)
    if as_json:
        typer.echo(json.dumps({**made.model_dump(mode="json"), "sentence": made.sentence}))
    else:
        typer.echo("\n".join(_lines(made)))
    if not made.identical:
        raise typer.Exit(1)


def _lines(made: Reproduced) -> Iterator[str]:
    yield escaped(made.sentence)
    for name in PARTS:
        part = getattr(made, name)
        yield f"  {name:<{LABEL}}{part.state:<9}{escaped(part.sentence)}"
    if made.worktree:
        yield f"The commit's code is in {escaped(made.worktree)}; git worktree remove takes it away."
