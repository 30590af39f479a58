"""``prefect-mlops audit``: show the history of a model, and verify that no entry was changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from prefect_mlops.cli._terminal import columns, counted, escaped, paragraph
from prefect_mlops.core.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from prefect_mlops.core.promotion.tampering import Audit

HEADERS = ("NO>", "AT (UTC)", "KIND", "V", "BY", "RUN", "HASH", "AFTER")
SHORT = 7  # figures of a hash, to follow the chain by eye; whole ones are in --json
INDENT = 4
NOT_ASKED = "MLflow was not asked"

T = TypeVar("T")


class _ShowByDefault(TyperGroup):
    """Takes ``audit MODEL`` for ``audit show MODEL``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command before what is not a command."""
        if args and args[0] not in (*self.commands, "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


audit = typer.Typer(
    cls=_ShowByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Show everything that happened to a model, and find entries that were changed.

The history only grows: each entry carries the hash of the one before, and MLflow's model versions carry the hash of
each decision on them.

See all of it; `audit show MODEL` is the same, also for a model called verify:

    prefect-mlops audit flights-late

Verify that no entry was changed:

    prefect-mlops audit verify flights-late
""",
)


@audit.command()
def show(
    model: Annotated[str, typer.Argument(help="Registered model, or the dotted name of its spec.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with whole hashes.")] = False,
) -> None:
    """Show every entry of a model's history, oldest first; `audit MODEL` is short for it.

    Number, time in UTC, kind, version, who, flow run, and the first figures of its hash and of the hash of the entry
    it comes after. Reads the lake only; needs neither MLflow nor a Prefect server.

    See everything:

        prefect-mlops audit flights-late

    Keep it elsewhere, with whole hashes and details:

        prefect-mlops audit flights-late --json > flights-late.json
    """
    from prefect_mlops.cli._names import find_rows

    name, rows = find_rows(model)
    if as_json:
        typer.echo(json.dumps({"model": name, "entries": [_plain(row) for row in rows]}))
    else:
        typer.echo("\n".join(_entries(rows)))


@audit.command()
def verify(
    model: Annotated[
        str | None, typer.Argument(help="Registered model. [default: every model that has a history]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look for history entries that were changed after they were written; exit code 1 when there are any.

    Three checks: the hash that each entry carries of the one before; the log of the table, where this library only
    adds entries; and MLflow's model versions, where the hash of each decision was noted when it was made. Without
    MLflow the first two are made. Write access to both lake and MLflow is enough to forge all three: keep `audit MODEL
    --json` elsewhere from time to time.

    Check everything, as in a nightly job:

        prefect-mlops audit verify

    Check one model:

        prefect-mlops audit verify flights-late --json
    """
    anchors = _Anchors()
    names = anchors.models() if model is None else [_known(model, anchors)]
    found = [_audited(name, anchors) for name in names]
    if as_json:
        dumped = [{**one.model_dump(mode="json"), "passed": one.passed} for one in found]
        typer.echo(json.dumps({"models": dumped, "mlflow_asked": anchors.asked, "mlflow_problem": anchors.problem}))
    else:
        typer.echo("\n".join(_verdicts(found, anchors)))
    if not all(one.passed for one in found):
        raise typer.Exit(1)


class _Anchors:
    """Anchors of history entries, read from MLflow; after a failure MLflow is not asked again."""

    def __init__(self) -> None:
        from prefect_mlops.cli._project import quieten, use_registry

        quieten()
        self.asked = use_registry()
        self.problem = "" if self.asked else "set MLFLOW_TRACKING_URI, or PREFECT_MLOPS_HOME to the stack's home"

    def of(self, model: str) -> dict[int, str]:
        """Return the hashes MLflow noted of a model's history."""
        from prefect_mlops.tracking import anchors

        return self._ask(lambda client: anchors.noted(client, model), {})

    def models(self) -> list[str]:
        """Return every model that has a history, or had one: a whole one can be deleted, too."""
        from prefect_mlops.core.lake.compaction import models_with_history
        from prefect_mlops.tracking.registry import registered_names

        there = models_with_history()
        none: list[str] = []
        registered = self._ask(registered_names, none)
        return sorted({*there, *(name for name in registered if name not in there and self.of(name))})

    def _ask(self, question: Callable[[MlflowClient], T], nothing: T) -> T:
        if not self.asked:
            return nothing
        from prefect_mlops.tracking.client import mlflow_client

        try:
            return question(mlflow_client())
        except (BackendError, ConfigError) as error:
            self.asked, self.problem = False, str(error)
            return nothing


def _known(model: str, anchors: _Anchors) -> str:
    """Return the registered name; one whose history was deleted is known by what MLflow noted."""
    from prefect_mlops.cli._names import find_rows, only_model

    try:
        return find_rows(model)[0]
    except ConfigError:
        if anchors.of(only_model(model)):
            return only_model(model)
        raise


def _audited(name: str, anchors: _Anchors) -> Audit:
    from prefect_mlops.core.promotion.history import read_rows
    from prefect_mlops.core.promotion.tampering import audit_history, find_rewrites

    noted = anchors.of(name)  # first: an entry that is written and noted meanwhile would look as if it were gone
    found = audit_history(name, read_rows(name), noted)
    return found.model_copy(update={"problems": (*found.problems, *find_rewrites(name))})


def _verdicts(found: Sequence[Audit], anchors: _Anchors) -> Iterator[str]:
    if not found:
        yield "No model has a history in this lake."
    for one in found:
        seen = counted(one.entries, "entry") if one.entries == 1 else f"{one.entries:,} entries"
        verdict = "nothing was changed by hand" if one.passed else f"CHANGED: {counted(len(one.problems), 'problem')}"
        yield f"{escaped(one.model)}: {verdict}; {seen}, {one.witnessed:,} of them noted in MLflow"
        for problem in one.problems:
            yield from paragraph(problem, indent=INDENT)
        if one.unchained:
            yield from paragraph(f"{one.unchained:,} are older than hashes and cannot be checked", indent=INDENT)
    if found and not anchors.asked:
        yield from paragraph(f"Only the chain and the table's log were checked; {NOT_ASKED}: {anchors.problem}")


def _entries(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    header, *lines = columns(HEADERS, map(_cells, rows))
    yield header
    for line, row in zip(lines, rows, strict=True):
        yield line
        if row.get("reason"):
            yield from paragraph(str(row["reason"]), indent=INDENT)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    at = row.get("at")
    return (
        str(row.get("sequence", "")),
        at.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M") if isinstance(at, datetime) else "",
        str(row.get("kind", "")),
        f"v{row['version']}" if row.get("version") else "",
        str(row.get("by", "")),
        str(row.get("flow_run", ""))[:8],
        _short(row.get("hash")),
        _short(row.get("previous")),
    )


def _short(value: object) -> str:
    return str(value or "").removeprefix("sha256:")[:SHORT]


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
