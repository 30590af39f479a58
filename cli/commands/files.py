"""``prefect-mlops files``: what waits in a landing place, and what became of everything that arrived."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefect_mlops.cli._terminal import age, columns, counted, escaped, moment, say, short_digest
from prefect_mlops.core.errors import ConfigError

if TYPE_CHECKING:
    from prefect_mlops.core.lake.landing import Landed
    from prefect_mlops.core.lake.ledger import Arrival
    from prefect_mlops.core.lake.pending import DatasetBacklog
    from prefect_mlops.core.specs.dataset import DatasetSpec

HEADERS = ("STATE", "ROWS>", "REFUSED>", "VERSION>", "WHEN", "DIGEST", "RUN", "FILE")
MAX_LEFT = 10  # sentences about what is left alone; all of them are in --json
SHORT_RUN = 8


class FileState(str, Enum):
    """What a file can be: waiting, or what the ledger calls it."""

    pending = "pending"
    committed = "committed"
    partly = "partly"
    refused = "refused"
    duplicate = "duplicate"


def files(
    dataset: Annotated[str, typer.Argument(help="Plain name as in the prefect.yaml, or dotted name of the spec.")],
    state: Annotated[FileState | None, typer.Option(help="Show files in this state only.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show so many, the newest.")] = 50,
    project: Annotated[Path, typer.Option(help="Folder of the project; its landing places are under it.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with whole digests.")] = False,
) -> None:
    """Show which files of a dataset wait, and what became of those that arrived.

    On top what waits in the landing place and what is left alone there; below the ledger, newest last. A file is
    pending, committed, partly committed (its bad rows are in quarantine), refused as a whole, or a duplicate. What
    came in from quarantine later has a line of its own. Reads only, and needs no Prefect server.

    See what became of the last files:

        prefect-mlops files flights

    See why files were refused:

        prefect-mlops files flights --state refused

    Bring in what was refused, after the suite was corrected:

        prefect-mlops quarantine replay flights
    """
    from prefect_mlops.cli._project import enter
    from prefect_mlops.core.lake.ledger import read_ledger
    from prefect_mlops.deployments.project import resolve_dataset

    enter(project)
    _, spec = resolve_dataset(dataset)
    ledger = read_ledger(spec.name)
    backlog, problem = _backlog(spec, ledger)
    found: list[Arrival | Landed] = [line for line in ledger.lines if state is None or line.state == state.value]
    if backlog is not None and state in (None, FileState.pending):
        found += _by_time(backlog)
    shown = found[-limit:]
    if as_json:
        typer.echo(json.dumps(_as_json(spec, backlog, problem, shown, more=len(found) - len(shown))))
    else:
        typer.echo("\n".join([*_top(spec, backlog, problem), *_lines(shown, more=len(found) - len(shown))]))


def _by_time(backlog: DatasetBacklog) -> list[Landed]:
    return sorted(backlog.pending, key=lambda file: file.modified)


def _backlog(spec: DatasetSpec, ledger: Any) -> tuple[DatasetBacklog | None, str]:
    """Find pending files; a landing zone that cannot be listed is reported beside the ledger."""
    from prefect_mlops.core.errors import BackendError
    from prefect_mlops.core.lake.pending import find_backlog

    try:
        return find_backlog(spec, ledger), ""
    except (ConfigError, BackendError) as error:
        say(f"what waits is not known: {error}")
        return None, str(error)


def _top(spec: DatasetSpec, backlog: DatasetBacklog | None, problem: str) -> Iterator[str]:
    from prefect_mlops.core.tables.errors import masked

    yield f"{spec.name}: files arrive in {escaped(masked(spec.landing_place))}"
    if backlog is None:
        yield f"What waits is not known: {escaped(problem)}"
        return
    if backlog.oldest is None:
        yield "No file waits."
    else:
        waits = "waits" if len(backlog.pending) == 1 else "wait"
        yield f"{counted(len(backlog.pending), 'file')} {waits}, the oldest for {age(backlog.oldest)}."
    for sentence in backlog.left[:MAX_LEFT]:
        yield f"Left alone: {escaped(sentence)}"
    if len(backlog.left) > MAX_LEFT:
        yield f"Left alone: {len(backlog.left) - MAX_LEFT:,} more; --json has them all"


def _lines(shown: list[Arrival | Landed], *, more: int) -> Iterator[str]:
    yield ""
    if more:
        yield f"{more:,} older are not shown; --limit {more + len(shown)} shows them all"
    if not shown:
        yield "Nothing to show: nothing of the kind has arrived."
    yield from columns(HEADERS, map(_cells, shown), [getattr(file, "reason", "") for file in shown])


def _cells(file: Arrival | Landed) -> tuple[str, ...]:
    from prefect_mlops.core.lake.landing import Landed

    if isinstance(file, Landed):
        return ("pending", "", "", "", moment(file.modified), "", "", file.path)
    version = "" if file.version is None else str(file.version)
    counts = (f"{file.rows:,}", f"{file.refused:,}", version)
    return (file.state, *counts, moment(file.at), short_digest(file.digest), file.flow_run[:SHORT_RUN], file.path)


def _as_json(
    spec: DatasetSpec, backlog: DatasetBacklog | None, problem: str, shown: list[Arrival | Landed], *, more: int
) -> dict[str, Any]:
    from prefect_mlops.core.tables.errors import masked

    waiting = backlog and {
        "pending": len(backlog.pending),
        "oldest": backlog.oldest and backlog.oldest.isoformat(),
        "left": list(backlog.left),
    }
    return {
        "dataset": spec.name,
        "landing": masked(spec.landing_place),
        "backlog": waiting,
        "problem": problem,
        "files": [_entry(file) for file in shown],
        "more": more,
    }


def _entry(file: Arrival | Landed) -> dict[str, Any]:
    from prefect_mlops.core.lake.landing import Landed

    if isinstance(file, Landed):
        return {"state": "pending", "path": file.path, "size": file.size, "modified": file.modified.isoformat()}
    return file.model_dump(mode="json", exclude={"dataset", "stamp", "again"})
