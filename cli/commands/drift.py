"""``prefect-mlops drift``: compare recent data with what the champion was trained on, now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefect_mlops.cli._terminal import columns, counted, escaped, paragraph, say, shortened

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Check, Report

HEADERS = ("", "COLUMN", "CHECK", "SEEN")
MAX_SHOWN = 20  # failed checks; all of them are in --json and on the page
MAX_SEEN = 140


def drift(
    model: Annotated[str, typer.Argument(help="Plain name as in the prefect.yaml, or dotted name of the spec.")],
    current: Annotated[
        str,
        typer.Option("--current", metavar="TABLE", help="@3 or an address. [default: the files committed last]"),
    ] = "",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    project: Annotated[Path, typer.Option(help="Folder of the project, with its prefect.yaml.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with all checks.")] = False,
) -> None:
    """Compare recent data with what the champion was trained on.

    Runs the flow `monitor` here, on the Prefect server that PREFECT_API_URL names, or on one of its own that ends with
    it. It is a look like any other: kept, numbered, announced when the data has drifted; the same rows again are the
    same look. Exit code 0: no drift, or nothing to compare yet; 1: drift; 2: the request was wrong.

    Look at what arrived last:

        prefect-mlops drift flights-late --open

    Look at a file before it is delivered:

        prefect-mlops drift flights-late --current outbox/2013-08.csv
    """
    from prefect_mlops.cli._project import enter, quieten, run
    from prefect_mlops.cli._promotion import open_registry
    from prefect_mlops.deployments.project import resolve_model

    quieten()
    started = enter(project)
    open_registry()
    dotted, spec = resolve_model(model)
    if current and not current.startswith("@") and "://" not in current and (started / current).exists():
        current = str((started / current).resolve())  # as the person sees it, not as the project does
    say(f"comparing {current or 'what arrived last'} with the training data of {spec.name}'s champion")
    with run("comparing"):
        from prefect_mlops.flows.monitor import monitor

        report = monitor(dotted, current=current)
    page = _page(spec.name) if report else None
    if as_json:
        dumped = report.model_dump(mode="json") | {"passed": report.passed} if report else None
        typer.echo(json.dumps({"model": spec.name, "report": dumped, "page": str(page) if page else None}))
    else:
        typer.echo("\n".join(_lines(spec.name, report, page)))
    if page is not None and open_page:
        typer.launch(page.as_uri())
    if report is not None and not report.passed:
        raise typer.Exit(1)


def _page(model: str) -> Path | None:
    """Find the page that was drawn last."""
    from prefect_mlops.core.settings import Settings

    pages = (Settings().home / "reports").glob(f"drift-{model}-*.html")
    return max(pages, key=lambda page: page.stat().st_mtime, default=None)


def _lines(model: str, report: Report | None, page: Path | None) -> Iterator[str]:
    if report is None:
        yield escaped(f"{model}: nothing to compare yet: there is no champion, or nothing has arrived.")
        return
    yield escaped(f"{report.subject}: {'no drift' if report.passed else 'DRIFT'}")
    failed = report.failures
    shown = failed[:MAX_SHOWN]
    if shown:
        yield ""
        yield from columns(HEADERS, [_cells(check) for check in shown])
    passed = counted(len(report.checks) - len(failed), "check")
    more = (
        f", {len(failed) - len(shown):,} failed ones are not shown (--json has all)" if len(failed) > MAX_SHOWN else ""
    )
    yield f"{passed} passed{more}."
    for note in report.notes:
        yield from paragraph(note)
    if page is not None:
        yield escaped(f"Page: {page}")


def _cells(check: Check) -> tuple[str, ...]:
    seen = check.observed + (f" (e.g. {', '.join(check.examples[:3])})" if check.examples else "")
    return ("alarm" if check.severity == "error" else "note", check.subject, check.name, shortened(seen, MAX_SEEN))
