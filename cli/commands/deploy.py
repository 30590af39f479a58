"""``prefect-mlops deploy``: make a Prefect server what the project's file says, and no more than that."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefect_mlops.cli._terminal import escaped
from prefect_mlops.core.errors import ConfigError

if TYPE_CHECKING:
    from prefect_mlops.deployments.rollout.plan import DeploymentPlan, Plan, PlanPart

MAX_SHOWN = 60  # characters of a value; the whole one is in --json
SIGNS = {"create": "+", "change": "~", "adopt": "~", "remove": "-", "left": "?", "kept": "=", "same": "="}


def deploy(
    project: Annotated[Path, typer.Option(help="Folder with the prefect.yaml.")] = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before changing anything.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also remove what was deployed from here and is no longer in the file.")
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Let the file win everywhere, also over what was changed in the Prefect UI.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as one JSON object on one line.")] = False,
) -> None:
    """Deploy what the prefect.yaml lists: work pools, deployments, their schedules and automations.

    Shows what would change and asks. Idempotent: a second run changes nothing. What was changed in the Prefect UI, such
    as a schedule switched off or an automation paused, stays as it is unless the file's own entry for it changed
    since the last deploy. What the file no longer lists is shown, and stays without --prune.

    See what would change:

        prefect-mlops deploy --dry-run

    Deploy from a pipeline, to the server that PREFECT_API_URL names:

        prefect-mlops deploy --project ~/churn --yes --json
    """
    from prefect_mlops.deployments.project import read_file
    from prefect_mlops.deployments.rollout.apply import carry_out, enter_project, plan_rollout

    project = project.expanduser().absolute()
    read_file(project)  # a wrong folder is refused before Prefect is imported
    enter_project(project)  # before that too: Prefect reads settings from the current folder
    plan = plan_rollout(project, prune=prune, reset=reset)
    if not as_json:
        typer.echo("\n".join(_lines(plan)))
    acts = plan.acts and not dry_run
    if acts:
        _confirm(yes)
        carry_out(plan, tell=lambda sentence: typer.echo(escaped(sentence), err=True))
    if as_json:
        typer.echo(json.dumps({"project": plan.project, "applied": acts, **_as_json(plan)}))
    else:
        typer.echo(_closing(plan, acts=acts, dry_run=dry_run))


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask on: look at the plan with --dry-run, then deploy with --yes")
    typer.confirm("Change this on the server?", abort=True, err=True)


def _closing(plan: Plan, *, acts: bool, dry_run: bool) -> str:
    if acts:
        return "Deployed."
    return "Nothing was changed: this was a dry run." if dry_run and plan.acts else "Nothing to change."


def _lines(plan: Plan) -> Iterator[str]:
    yield f"Project {escaped(plan.project)}"
    yield from (f"  + work pool {escaped(pool)}, of type process" for pool in plan.pools)
    for deployment in plan.deployments:
        yield f"  {SIGNS[deployment.verb]} {escaped(deployment.present.full_name)}{_remark(deployment)}"
        for part in deployment.parts:
            yield from (f"      {line}" for line in _part_lines(part, new=deployment.verb == "create"))


def _remark(deployment: DeploymentPlan) -> str:
    remarks = {
        "create": ": new",
        "adopt": ": is as the file says; only what the file says is noted on it",
        "same": ": unchanged",
        "left": ": no longer in the file; --prune removes it",
        "remove": ": no longer in the file, removed with its automations",
    }
    return remarks.get(deployment.verb, "")


def _part_lines(part: PlanPart, *, new: bool) -> Iterator[str]:
    what = f"{SIGNS[part.verb]} {part.kind} {escaped(part.name)}"
    if part.verb == "same" or (new and part.kind == "field"):
        return
    if part.verb in {"left", "remove"}:
        yield f"{what}: no longer in the file{'' if part.verb == 'remove' else '; --prune removes it'}"
    elif part.verb == "create" and part.kind != "field":
        yield what
    for name, (server, file) in part.differences().items():
        inner = f" {name}" if part.kind != "field" and name else ""
        if part.verb == "kept":
            yield f"{what}{inner}: kept as on the server, {_shown(server)}; the file says {_shown(file)}"
        else:
            yield f"{what}{inner}: {_shown(server)} -> {_shown(file)}"


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, (str, int, float, bool, dict, list, type(None))) else json.dumps(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _as_json(plan: Plan) -> dict[str, Any]:
    return {
        "pools": list(plan.pools),
        "deployments": [
            {
                "name": deployment.present.full_name,
                "verb": deployment.verb,
                "parts": [
                    {"kind": part.kind, "name": part.name, "verb": part.verb, "differences": _differences(part)}
                    for part in deployment.parts
                    if part.verb != "same"
                ],
            }
            for deployment in plan.deployments
        ],
    }


def _differences(part: PlanPart) -> dict[str, dict[str, str]]:
    from prefect_mlops.deployments.rollout.plan import ABSENT

    def value(of: Any) -> Any:
        return None if of is ABSENT else of

    return {name: {"server": value(server), "file": value(file)} for name, (server, file) in part.differences().items()}
