"""``prefect-mlops quarantine``: list, show and replay refused rows and files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefect_mlops.cli._terminal import columns, counted, escaped, moment, say, short_digest, shortened
from prefect_mlops.core.errors import ConfigError

if TYPE_CHECKING:
    from prefect_mlops.core.lake.ledger import Arrival, Ledger
    from prefect_mlops.core.lake.quarantine import Held
    from prefect_mlops.core.lake.replay import Replay
    from prefect_mlops.core.specs.dataset import DatasetSpec
    from prefect_mlops.flows.replay import Replayed

HELP = """Show rows and files that were refused, and commit them after the suite was corrected.

List what is refused, show the rows of one file, correct the suite or the data, and replay:

    prefect-mlops quarantine list flights
    prefect-mlops quarantine show flights 2013-04.csv
    prefect-mlops quarantine replay flights --dry-run
"""
MAX_ROW = 1000  # characters of a row on the terminal; the whole one is in --json

Dataset = Annotated[str, typer.Argument(help="Plain name as in the prefect.yaml, or dotted name of the spec.")]
Project = Annotated[Path, typer.Option(help="Folder of the project; its landing places are under it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

quarantine = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)


@quarantine.command(name="list")
def list_held(
    dataset: Dataset,
    limit: Annotated[int, typer.Option(min=1, help="Show so many files of each kind, the newest.")] = 50,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """List the files that have rows in quarantine, and those that were refused as a whole.

    A row that came in since is no longer listed, nor is a refused file of which a later content was taken. Reads
    only, and needs no Prefect server.

    Example: prefect-mlops quarantine list flights

    With --json all of them are listed.
    """
    from prefect_mlops.core.lake.quarantine import find_held, find_refused

    target = _find_target(dataset, project)
    held, refused = find_held(target.spec.name, target.ledger), find_refused(target.spec, target.ledger)
    if as_json:
        typer.echo(json.dumps({"dataset": target.spec.name, **_listed_json(held, refused)}))
    else:
        typer.echo("\n".join(_listed(held, refused, limit)))


@quarantine.command()
def show(
    dataset: Dataset,
    path: Annotated[str, typer.Argument(help="The file, as `quarantine list` names it.")],
    limit: Annotated[int, typer.Option(min=1, help="Show so many rows of each content of the file.")] = 50,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Show the rows of a file that are in quarantine: number in the file, reasons and values.

    Example: prefect-mlops quarantine show flights 2013-04.csv --limit 5
    """
    from prefect_mlops.core.lake.quarantine import find_held, find_refused

    target = _find_target(dataset, project)
    name = target.arrived(path)
    held, refused = (
        find_held(target.spec.name, target.ledger, paths=[name]),
        find_refused(target.spec, target.ledger, paths=[name]),
    )
    if as_json:
        typer.echo(json.dumps({"dataset": target.spec.name, "path": name, **_shown_json(held, refused, limit)}))
    else:
        typer.echo("\n".join(_shown(name, held, refused, limit)))


@quarantine.command()
def replay(
    dataset: Dataset,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="Files, as `quarantine list` names them. [default: all]"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, and write nothing.")] = False,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Check what was refused with today's suite, and bring in what passes, each row once.

    Rows are checked together with what the dataset has of the same file, and come in with one commit. A file that was
    refused as a whole is ingested again, where the same content still lies in the landing place. What still fails
    stays as it was. Runs the flow `replay` here, on the Prefect server that PREFECT_API_URL names, or on one of its
    own. Exit code 0: nothing of it is refused any more; 1: something still is; 2: the request was wrong.

    See what a corrected suite would accept:

        prefect-mlops quarantine replay flights --dry-run

    Bring in one file's rows:

        prefect-mlops quarantine replay flights 2013-04.csv
    """
    from prefect_mlops.cli._project import run

    target = _find_target(dataset, project)
    named = [target.arrived(path) for path in paths or ()]
    say(f"checking {counted(len(named), 'file') if named else 'what was refused'} of {target.spec.name} again")
    with run("replaying"):
        from prefect_mlops.flows.replay import replay as flow

        done = flow(target.name, named, dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps({"dataset": target.spec.name, **_replayed_json(done)}))
    else:
        typer.echo("\n".join(_replayed(done)))
    if not done.complete:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Target:
    """What a command is about: a dataset as it is now, and the folder the command was started in."""

    name: str
    spec: DatasetSpec
    ledger: Ledger
    started: Path

    def arrived(self, path: str) -> str:
        """Find the name the ledger has for a file that a person typed; the file itself may be gone.

        Raises:
            ConfigError: no such file has arrived.
        """
        from prefect_mlops.cli.commands.ingest import landed_name
        from prefect_mlops.core.lake.quarantine import require_arrived

        if not any(line.path == path for line in self.ledger.lines):
            with contextlib.suppress(ConfigError):  # what is wrong with the name is said by the ledger
                path = landed_name(self.spec, path, self.started)
        require_arrived(self.spec.name, self.ledger, [path])
        return path


def _find_target(dataset: str, project: Path) -> _Target:
    from prefect_mlops.cli._project import enter, quieten
    from prefect_mlops.core.lake.ledger import read_ledger
    from prefect_mlops.deployments.project import resolve_dataset

    quieten()
    started = enter(project)
    name, spec = resolve_dataset(dataset)
    return _Target(name, spec, read_ledger(spec.name), started)


def _listed(held: Sequence[Held], refused: Sequence[Arrival], limit: int) -> Iterator[str]:
    if not held and not refused:
        yield "Nothing is in quarantine."
    if held:
        yield f"{counted(sum(len(file.rows) for file in held), 'row')} of {counted(len(held), 'file')} in quarantine:"
        yield from _more(len(held), limit)
    newest = held[-limit:]
    rows = [(f"{len(file.rows):,}", _when(file.arrival), *_name(file.arrival)) for file in newest]
    yield from columns(("ROWS>", "WHEN", "DIGEST", "FILE"), rows, [_reasons(file) for file in newest])
    if refused:
        yield f"{counted(len(refused), 'file')} refused as a whole:"
        yield from _more(len(refused), limit)
    names = [(_when(arrival), *_name(arrival)) for arrival in refused[-limit:]]
    yield from columns(("WHEN", "DIGEST", "FILE"), names, [arrival.reason for arrival in refused[-limit:]])


def _more(count: int, limit: int) -> Iterator[str]:
    if count > limit:
        yield f"{count - limit:,} older are not shown; --limit {count} shows them all"


def _when(arrival: Arrival) -> str:
    return moment(arrival.at)


def _name(arrival: Arrival) -> tuple[str, str]:
    return short_digest(arrival.digest), arrival.path


def _reasons(file: Held) -> str:
    parts = [f"{reason} ({count:,})" for reason, count in file.counted().items()]
    if file.missing:
        parts.append(f"the ledger counts {counted(file.missing, 'more row')} as refused than quarantine has")
    return "; ".join(parts)


def _listed_json(held: Sequence[Held], refused: Sequence[Arrival]) -> dict[str, Any]:
    def entry(arrival: Arrival) -> dict[str, Any]:
        return arrival.model_dump(mode="json", include={"path", "digest", "flow_run", "at"})

    return {
        "rows": sum(len(file.rows) for file in held),
        "files": [
            {**entry(file.arrival), "rows": len(file.rows), "missing": file.missing, "reasons": file.counted()}
            for file in held
        ],
        "refused": [{**entry(arrival), "reason": arrival.reason} for arrival in refused],
    }


def _shown(path: str, held: Sequence[Held], refused: Sequence[Arrival], limit: int) -> Iterator[str]:
    if not held and not refused:
        yield f"Nothing of {escaped(path)} is in quarantine."
    for arrival in refused:
        yield f"{escaped(path)} ({short_digest(arrival.digest)}) was refused as a whole, so no row of it is kept here:"
        yield f"    {escaped(arrival.reason)}"
    for file in held:
        yield f"{escaped(path)} ({short_digest(file.arrival.digest)}): {counted(len(file.rows), 'row')} in quarantine"
        for row in file.rows.slice(0, limit).to_pylist():
            yield f"row {row['number']:,}: {escaped(row['reasons'])}"
            yield f"    {shortened(_readable(row['row']), MAX_ROW)}"
        if len(file.rows) > limit:
            yield f"{len(file.rows) - limit:,} more; --limit {len(file.rows)} shows them all"


def _readable(row: str) -> str:
    """Write a row with its letters as letters; quarantine keeps them as escapes."""
    from prefect_mlops.core.lake.quarantine import values_of

    return json.dumps(values_of(row), ensure_ascii=False)


def _shown_json(held: Sequence[Held], refused: Sequence[Arrival], limit: int) -> dict[str, Any]:
    from prefect_mlops.core.lake.quarantine import values_of

    return {
        "rows": [
            {
                "digest": file.arrival.digest,
                "number": row["number"],
                "reasons": row["reasons"].split("; "),
                "values": values_of(row["row"]),
            }
            for file in held
            for row in file.rows.slice(0, limit).to_pylist()
        ],
        "more": sum(max(len(file.rows) - limit, 0) for file in held),
        "refused": [{"digest": arrival.digest, "reason": arrival.reason} for arrival in refused],
    }


def _replayed(done: Replayed) -> Iterator[str]:
    from prefect_mlops.cli.commands.ingest import cells, reason

    yield from map(_replay_line, done.rows)
    headers = ("STATE", "ROWS>", "REFUSED>", "VERSION>", "DIGEST", "FILE")
    yield from columns(headers, map(cells, done.files), map(reason, done.files))
    yield from (f"Left: {escaped(sentence)}" for sentence in done.left)
    if not (done.rows or done.files or done.left):
        yield "Nothing is in quarantine; nothing was changed."
    elif not done.changed:
        yield "Nothing was changed: nothing of it passes today's suite."
    elif done.dry_run:
        yield f"{counted(done.count, 'row')} would come in. Nothing was written: this was a dry run."
    else:
        yield f"{counted(done.count, 'row')} came in."


def _replay_line(replay: Replay) -> str:
    stay = f", {replay.left:,} stay: {shortened(replay.why)}" if replay.left else ""
    return f"{escaped(replay.path)} ({short_digest(replay.digest)}): {counted(replay.rows, 'row')} in{stay}"


def _replayed_json(done: Replayed) -> dict[str, Any]:
    return {
        "dry_run": done.dry_run,
        "changed": done.changed and not done.dry_run,
        "rows": [
            {
                **replay.model_dump(mode="json", exclude={"arrival"}),
                "version": replay.arrival.version if replay.arrival else None,
            }
            for replay in done.rows
        ],
        "files": [arrival.model_dump(mode="json", exclude={"dataset", "stamp"}) for arrival in done.files],
        "left": list(done.left),
    }
