"""The command ``prefect-mlops``: its frame, its errors, and where commands are registered."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from prefect_mlops.cli._terminal import escaped
from prefect_mlops.cli.commands.audit import audit
from prefect_mlops.cli.commands.backfill import backfill
from prefect_mlops.cli.commands.compare import compare
from prefect_mlops.cli.commands.decide import decide
from prefect_mlops.cli.commands.demo import demo
from prefect_mlops.cli.commands.deploy import deploy
from prefect_mlops.cli.commands.drift import drift
from prefect_mlops.cli.commands.files import files
from prefect_mlops.cli.commands.history import history
from prefect_mlops.cli.commands.ingest import ingest
from prefect_mlops.cli.commands.lake import lake
from prefect_mlops.cli.commands.promote import promote
from prefect_mlops.cli.commands.quarantine import quarantine
from prefect_mlops.cli.commands.reproduce import reproduce
from prefect_mlops.cli.commands.rollback import rollback
from prefect_mlops.cli.commands.status import status
from prefect_mlops.cli.commands.trace import trace
from prefect_mlops.cli.commands.up import up
from prefect_mlops.cli.commands.watch import watch
from prefect_mlops.core.errors import ConfigError, MLOpsError
from prefect_mlops.core.imports import end_quickly
from prefect_mlops.core.settings import Settings

DEBUG = "PREFECT_MLOPS_DEBUG"

HELP = f"""Carry scikit-learn models through their whole life on Prefect.

Start here, then open the address it prints:

    prefect-mlops up

It runs a Prefect server, MLflow and a worker on this machine, until Ctrl-C.
Every command explains itself with --help. Set {DEBUG}=1 to see where an error came from.
"""

app = typer.Typer(
    name="prefect-mlops",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"prefect-mlops {version('prefect-mlops')}")
        raise typer.Exit


@app.callback()
def _frame(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Take the options that belong to no command; Typer shows the application's own help instead of this."""


# One line for each command, in the order --help lists them. A command's module imports nothing heavy at its top.
app.command()(demo)
app.command()(up)
app.command()(deploy)
app.command()(watch)
app.command()(files)
app.command()(ingest)
app.add_typer(quarantine, name="quarantine")
app.add_typer(lake, name="lake")
app.command()(status)
app.command()(drift)
app.command()(history)
app.command()(compare)
app.command()(trace)
app.add_typer(audit, name="audit")
app.command()(reproduce)
app.command()(backfill)
app.command()(rollback)
app.command()(promote)
app.command()(decide)


def main() -> None:
    """Run the command line: an error a person can act on is one message, not a traceback.

    Exit codes: 0 done, 1 the work or a server failed, 2 the request was wrong.
    """
    end_quickly()  # a command that asks MLflow saves more than a second
    try:
        app()
    except MLOpsError as error:
        if Settings().debug:
            raise
        print(f"error: {_lines(error)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def _lines(error: MLOpsError) -> str:
    """Keep the lines of a message, which may end with a log, and nothing else that steers a terminal."""
    return "\n".join(escaped(line) for line in str(error).splitlines())


if __name__ == "__main__":
    main()
