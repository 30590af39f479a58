"""``prefect-mlops ingest``: ingest arriving files now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefect_mlops.cli._terminal import columns, counted, escaped, say, short_digest
from prefect_mlops.core.errors import ConfigError

if TYPE_CHECKING:
    from prefect_mlops.core.lake.ledger import Arrival
    from prefect_mlops.core.specs.dataset import DatasetSpec

HEADERS = ("STATE", "ROWS>", "REFUSED>", "VERSION>", "DIGEST", "FILE")


def ingest(
    dataset: Annotated[str, typer.Argument(help="Plain name as in the prefect.yaml, or dotted name of the spec.")],
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="Files in the landing place. [default: everything that waits there]"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the files, and write nothing.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read also files that look exactly as they did when they were taken.")
    ] = False,
    project: Annotated[Path, typer.Option(help="Folder of the project; its landing places are under it.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check arriving files, put bad rows into quarantine and good ones into the lake.

    Runs the flow `ingest` here, on the Prefect server that PREFECT_API_URL names, or on one of its own that ends with
    it. Idempotent, also beside a worker that ingests the same files: a file is known by path and content. Exit code
    0: all files were taken or are known; 1: some were refused or left; 2: the request was wrong.

    Take everything that waits:

        prefect-mlops ingest flights

    See what would become of one file:

        prefect-mlops ingest flights 2013-05.csv --dry-run
    """
    from prefect_mlops.cli._project import enter, quieten, run
    from prefect_mlops.deployments.project import resolve_dataset

    quieten()
    started = enter(project)
    name, spec = resolve_dataset(dataset)
    named = [landed_name(spec, path, started) for path in paths or ()]
    say(f"looking into {counted(len(named), 'file') if named else 'everything that waits'} of {spec.name}")
    with run("ingesting"):
        from prefect_mlops.flows.ingest import ingest as flow

        taken = flow(name, named, verify=verify, dry_run=dry_run)
    done, left = taken.arrivals, taken.left
    if as_json:
        typer.echo(json.dumps(_as_json(spec, done, left, dry_run=dry_run)))
    else:
        typer.echo("\n".join(_lines(done, left, dry_run=dry_run)))
    if left or any(arrival.state == "refused" for arrival in done):
        raise typer.Exit(1)


def landed_name(spec: DatasetSpec, path: str, folder: Path) -> str:
    """Find the name under the landing place of a file that a person typed.

    Args:
        spec: whose landing place.
        path: absolute, under the landing place, or relative to the folder.
        folder: the one the person is in; counts where the landing place has no such file.

    Raises:
        ConfigError: no such file, or one that is not in the landing place.
    """
    from prefect_mlops.core.lake.landing import look

    try:
        return look(spec, path).path
    except ConfigError:
        if "\x00" in path or "://" in spec.landing_place or not (folder / path).exists():
            raise
    typed = folder / path
    return look(spec, str(typed.parent.resolve() / typed.name if ".." in typed.parts else typed)).path


def _lines(done: Sequence[Arrival], left: Sequence[str], *, dry_run: bool) -> Iterator[str]:
    yield from columns(HEADERS, map(cells, done), [reason(arrival) for arrival in done])
    yield from (f"Left: {escaped(sentence)}" for sentence in left)
    new = [arrival for arrival in done if not arrival.again]
    rows, bad = sum(arrival.rows for arrival in new), sum(arrival.refused for arrival in new)
    if not new:
        yield "Nothing new has arrived." if not left else "Nothing was taken."
        return
    would = "would be " if dry_run else ""
    yield f"{counted(rows, 'row')} {would}committed, {bad:,} {would}put into quarantine."
    if dry_run:
        yield "Nothing was written: this was a dry run."


def cells(arrival: Arrival) -> tuple[str, ...]:
    """Return a file's line in a list of what became of files."""
    version = "" if arrival.version is None else str(arrival.version)
    state = f"{arrival.state}, known" if arrival.again else arrival.state
    return (state, f"{arrival.rows:,}", f"{arrival.refused:,}", version, short_digest(arrival.digest), arrival.path)


def reason(arrival: Arrival) -> str:
    """Say why a file is not simply committed, and what to do about a refused one that is still the same."""
    hint = (
        " To check it again: prefect-mlops quarantine replay." if arrival.again and arrival.state == "refused" else ""
    )
    return f"{arrival.reason}{hint}"


def _as_json(spec: DatasetSpec, done: Sequence[Arrival], left: Sequence[str], *, dry_run: bool) -> dict[str, Any]:
    return {
        "dataset": spec.name,
        "dry_run": dry_run,
        "files": [arrival.model_dump(mode="json", exclude={"dataset", "stamp"}) for arrival in done],
        "left": list(left),
    }
