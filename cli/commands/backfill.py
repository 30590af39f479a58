"""``prefect-mlops backfill``: train again on every data version of a range."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefect_mlops.cli._terminal import columns, counted, moment, say

if TYPE_CHECKING:
    from prefect_mlops.core.values import Backfilled


def backfill(
    model: Annotated[str, typer.Argument(help="Plain name as in the prefect.yaml, or dotted name of the spec.")],
    start: Annotated[
        str, typer.Option("--from", help="First data version, as @3, or day of commit, as 2024-01-31. [default: first]")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="Last data version or day, likewise. [default: newest]")] = "",
    promote: Annotated[
        bool, typer.Option("--promote", help="Judge against the champion, and replace it by each version that passes.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be trained, and train nothing.")] = False,
    project: Annotated[Path, typer.Option(help="Folder of the project, with its prefect.yaml.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train on every data version of a range, in order, and show how good the model would have been.

    Each version is trained, judged against the best one before it, and registered, so that it can be looked at in
    MLflow. The champion is not replaced unless --promote is given. Idempotent: stopped and started again, it
    continues, and versions that were trained with the same recipe are not trained again. Runs the flow `backfill`
    here, on the Prefect server that PREFECT_API_URL names, or on one of its own that ends with it. Exit code 1: the
    data of a version was refused.

    See which data versions there are, and what would be trained:

        prefect-mlops backfill flights-late --dry-run

    Train on what was committed since January 2024, up to version 9:

        prefect-mlops backfill flights-late --from 2024-01-01 --to @9
    """
    from prefect_mlops.cli._project import enter, quieten, run, use_registry
    from prefect_mlops.core.errors import ConfigError
    from prefect_mlops.deployments.project import resolve_model

    quieten()
    enter(project)
    if not use_registry() and not dry_run:
        raise ConfigError("no MLflow is configured: set MLFLOW_TRACKING_URI, or PREFECT_MLOPS_HOME to a stack's home")
    name, spec = resolve_model(model)
    say(f"backfilling {spec.name}")
    with run("the backfill"):
        from prefect_mlops.flows.backfill import backfill as flow

        with _progress():
            done = flow(name, start=start, end=end, promote=promote, dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(_as_json(spec.name, done, promote=promote, dry_run=dry_run)))
    else:
        typer.echo("\n".join(_lines(done, promote=promote, dry_run=dry_run)))
    if any(line.state == "failed" for line in done):
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[None]:
    """Print the progress that the flow logs; Prefect is imported by now and has configured its loggers."""
    handler, logger = _ProgressHandler(level=logging.INFO), logging.getLogger("prefect.flow_runs")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _ProgressHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Print one line of the flow; Prefect's lines about states are left to its UI."""
        if record.module == "backfill":
            say(record.getMessage())


def _lines(done: Sequence[Backfilled], *, promote: bool, dry_run: bool) -> Iterator[str]:
    metrics = list(dict.fromkeys(name for line in done for name in line.metrics))
    headers = ("DATA", "COMMITTED", "STATE", "MODEL", "ROWS>", *(f"{name}>" for name in metrics))
    yield from columns(headers, [_cells(line, metrics) for line in done], [_why(line) for line in done])
    states = {state: sum(line.state == state for line in done) for state in dict.fromkeys(line.state for line in done)}
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    yield f"{counted(len(done), 'data version')}: {counts}."
    if dry_run:
        yield "Nothing was trained: this was a dry run."
    elif not promote:
        yield "The champion stays who it is; 'passed' means that it would have been replaced."


def _cells(line: Backfilled, metrics: Sequence[str]) -> tuple[str, ...]:
    scores = (f"{line.metrics[name]:.4f}" if name in line.metrics else "" for name in metrics)
    version = f"v{line.version}" if line.version else ""
    state = f"{line.state}, known" if line.again else line.state
    return (f"@{line.data}", moment(line.at), state, version, f"{line.rows:,}" if line.rows else "", *scores)


def _why(line: Backfilled) -> str:
    return "" if line.state in ("passed", "promoted") else line.reason


def _as_json(model: str, done: Sequence[Backfilled], *, promote: bool, dry_run: bool) -> dict[str, object]:
    lines = [line.model_dump(mode="json") for line in done]
    return {"model": model, "promote": promote, "dry_run": dry_run, "versions": lines}
