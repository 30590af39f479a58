"""``prefect-mlops watch``: announce arriving files as events, which start the flow `ingest`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefect_mlops.cli._terminal import escaped

if TYPE_CHECKING:
    from prefect_mlops.deployments.watch.announcements import Announcement


def watch(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DATASET]...", help="Plain or dotted names. [default: all the prefect.yaml declares]"),
    ] = None,
    project: Annotated[
        Path, typer.Option(help="Folder with the prefect.yaml; relative landing places are under it.")
    ] = Path(),
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two listings of a bucket.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line for each announcement.")] = False,
) -> None:
    """Notice files that arrive and announce them to Prefect, until Ctrl-C.

    A folder on this machine is watched, a bucket is listed every interval. What arrives is announced with the event
    prefect-mlops.data.arrived, which starts the deployments that are triggered by it: one event for the first file at
    once, few for many. Hidden files are not announced. `prefect-mlops up` runs a watcher of its own. Nothing is lost
    while none runs: the schedule of the ingest deployment lists the landing zone too.

    Watch what the project declares:

        prefect-mlops watch

    Watch one dataset that arrives in a bucket, listed once a minute:

        prefect-mlops watch flights --interval 60
    """
    import asyncio

    from prefect_mlops.deployments.watch.addresses import find_landing_addresses
    from prefect_mlops.deployments.watch.watcher import watch as watch_places

    places = find_landing_addresses(datasets or (), project.expanduser().absolute())

    def done(announcement: Announcement) -> None:
        _say(f"{announcement.dataset}: announced {announcement.count} {'file' if announcement.count == 1 else 'files'}")
        if as_json:
            typer.echo(json.dumps({"event": announcement.event()["event"], **announcement.event()["payload"]}))

    try:
        asyncio.run(watch_places(places, interval=interval, done=done, tell=_say))
    except KeyboardInterrupt:  # Ctrl-C: this is how it is meant to end
        _say("stopped")


def _say(sentence: str) -> None:
    typer.echo(escaped(sentence), err=True)
