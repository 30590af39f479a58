"""``prefect-mlops migrate-stages``: make aliases and a history out of the stages of older MLflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from prefect_mlops.cli.listings import columns
from prefect_mlops.core.errors import ConfigError, ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect_mlops.tasks.stages import Staged

CHALLENGER = "challenger"
WHY = "was in stage Production"
Line = dict[str, object]


def migrate_stages(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Registered models. [default: all]")
    ] = None,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who does it. [default: your login name]")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make aliases out of the stages of older MLflow.

    The version in stage Production becomes champion, with an entry in the model's history; the one in Staging gets the
    alias `challenger`. Of several the newest is taken. A model that has a champion already keeps it, and so does one
    with a challenger. The stages stay as they are, for whoever still reads them. Run again, it changes nothing. Exit
    code 1: some models could not be migrated.

    See what would be done:

        prefect-mlops migrate-stages --dry-run
    """
    from prefect_mlops.cli.decisions import open_registry, who
    from prefect_mlops.cli.running import quieten

    quieten()
    open_registry()
    name = who(by)
    from prefect_mlops.tasks.stages import list_stages

    lines = [line for one in list_stages(models or ()) for line in _migrated(one, by=name, dry_run=dry_run)]
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "models": lines}))
    else:
        typer.echo("\n".join(_shown(lines, dry_run=dry_run)))
    if any(line["state"] == "failed" for line in lines):
        raise typer.Exit(1)


def _migrated(one: Staged, *, by: str, dry_run: bool) -> Iterator[Line]:
    """Migrate a model's two roles; one that fails keeps nobody from the others."""
    for alias, stage, versions in (("champion", "Production", one.production), (CHALLENGER, "Staging", one.staging)):
        if not versions:
            continue
        line: Line = {"model": one.model, "stage": stage, "version": versions[0], "alias": alias}
        several = ", ".join(f"v{number}" for number in versions)
        note = f"{several} are in {stage}: the newest is taken" if len(versions) > 1 else ""
        try:
            kept = _champion(one) if alias == "champion" else _kept(one.aliases.get(alias))
            if not kept and not dry_run:
                _set(one.model, versions[0], alias, by=by)
        except (ConfigError, ConflictError) as error:
            yield {**line, "state": "failed", "note": str(error)}
            continue
        yield {**line, "state": "kept" if kept else "planned" if dry_run else "set", "note": kept or note}


def _champion(one: Staged) -> str:
    """Say who is champion already; empty where nobody is."""
    from prefect_mlops.core.history import champion_entry, read_history

    champion, alias = champion_entry(read_history(one.model)), one.aliases.get("champion")
    if champion is not None:
        return f"v{champion.version} is champion by its history"
    return f"{_kept(alias)}, set by hand; prefect-mlops promote takes it over" if alias else ""


def _kept(version: int | None) -> str:
    return f"the alias points at v{version} already" if version else ""


def _set(model: str, version: int, alias: str, *, by: str) -> None:
    from prefect_mlops.core.promotions import Approval
    from prefect_mlops.core.values import Decision
    from prefect_mlops.tasks.history import record_decision
    from prefect_mlops.tasks.registry import promote_model, require_version

    found = require_version(model, version)
    if alias != "champion":
        promote_model.fn(found, alias)
        return
    decision = Decision(model=model, version=version, decision="promoted", reason=WHY)
    approval = Approval(by=by, typed=by, comment=WHY, without_rehearsal=True)
    promote_model.fn(found, decision=decision, replaces=None, approval=approval)
    record_decision.fn(found, decision, recipe="")


def _shown(lines: list[Line], *, dry_run: bool) -> Iterator[str]:
    if not lines:
        yield "No version is in stage Production or Staging: there is nothing to migrate."
        return
    cells = [
        (str(one["model"]), str(one["stage"]), f"v{one['version']}", str(one["alias"]), str(one["state"]))
        for one in lines
    ]
    yield from columns(("MODEL", "STAGE", "VERSION", "ALIAS", "STATE"), cells, [str(one["note"]) for one in lines])
    if dry_run:
        yield "Nothing was written: this was a dry run."
