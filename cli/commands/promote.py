"""``prefect-mlops promote``: make a version champion without gates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefect_mlops.cli._terminal import counted, moment, say
from prefect_mlops.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect_mlops.core.promotion.decisions import Approval
    from prefect_mlops.core.promotion.history import Entry
    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.specs.model import ModelSpec
    from prefect_mlops.core.specs.policies import Limits
    from prefect_mlops.core.values import Decision, ModelVersion


def promote(
    model_name: Annotated[str, typer.Argument(metavar="MODEL", help="Registered model.")],
    version: Annotated[int, typer.Argument(min=1, help="The version that becomes champion.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="A sentence for those who ask later.")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who wants it. [default: your login name]")] = "",
    without_rehearsal: Annotated[
        bool, typer.Option("--without-rehearsal", help="Skip the smoke test: for versions older than stored rows.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run the smoke test, show what would be done, and write nothing.")
    ] = False,
    project: Annotated[Path, typer.Option(help="Folder of the project, with its prefect.yaml.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a version champion without gates, after a smoke test.

    It is loaded in a clean process first, and has to predict again what it predicted at training. Where the project's
    spec of the model names approvers, you have to be one of them. Then it is written into the history, and MLflow's
    alias moved. Idempotent: killed and started again, it completes the promotion. Needs no Prefect server. Exit
    code 1: the version did not pass its smoke test, or another one became champion meanwhile.

    Put a version live that the gates refused:

        prefect-mlops promote flights-late 5 --why "agreed with the airline: recall counts more for now"
    """
    from prefect_mlops.cli._project import enter, quieten
    from prefect_mlops.cli._promotion import answer, open_registry, reason, who

    quieten()
    enter(project)
    open_registry()
    why, by = reason(why), who(by)
    from prefect_mlops.core.promotion.history import champion_entry, read_history
    from prefect_mlops.tracking.registry import find_version, require_version

    chosen, entries, specs = require_version(model_name, version), read_history(model_name), _specs(model_name)
    approval = _signed(model_name, specs, by=by, why=why, without_rehearsal=without_rehearsal)
    champion = champion_entry(entries)
    if champion is not None and champion.version == version:
        again = {"model": model_name, "version": version, "by": champion.by, "again": True, "dry_run": dry_run}
        answer(again, _finished(chosen, champion, dry_run=dry_run), as_json=as_json)
        return
    rehearsal = (
        None if without_rehearsal else _smoke_tested(chosen, next((spec.limits for spec in specs if spec.limits), None))
    )
    replaced = champion or find_version(model_name)  # the alias counts where there is no history yet
    decision = _decision(entries, chosen, why, replaced.version if replaced else None)
    if not dry_run:
        _promote(chosen, decision, entries, approval=approval, rehearsal=rehearsal)
    values = {**decision.model_dump(mode="json"), "by": by, "again": False, "dry_run": dry_run}
    values["rehearsal"] = rehearsal.model_dump(mode="json") if rehearsal else None
    answer(values, _sentence(decision, rehearsal, dry_run=dry_run), as_json=as_json)


def _specs(model_name: str) -> list[ModelSpec]:
    """Return the specs of a model that the project declares.

    Raises:
        ConfigError: a spec of the project cannot be imported, so that the approvers are unknown.
    """
    from prefect_mlops.deployments.project import PROJECT_FILE, declared, resolve_model

    found = []
    for dotted in declared().models if Path(PROJECT_FILE).exists() else ():
        try:
            found.append(resolve_model(dotted)[1])
        except ConfigError as error:
            raise ConfigError(f"who may promote {model_name} is not known: {error}") from error
    return [spec for spec in found if spec.name == model_name]


def _signed(model_name: str, specs: Sequence[ModelSpec], *, by: str, why: str, without_rehearsal: bool) -> Approval:
    """Sign the promotion in the name of a person; where several specs make the model, all have to allow it.

    Raises:
        ConfigError: the person may not promote the model.
    """
    from prefect_mlops.core.promotion.decisions import sign

    signed = [
        sign(model_name, by=by, approvers=approvers, comment=why, without_rehearsal=without_rehearsal)
        for approvers in [spec.approvers for spec in specs] or [()]
    ]
    return signed[-1]


def _finished(chosen: ModelVersion, champion: Entry, *, dry_run: bool) -> str:
    """Finish what a crash may have left of the promotion that made the version champion."""
    from prefect_mlops.core.promotion.lock import decision_of
    from prefect_mlops.tracking.decisions import record_decision
    from prefect_mlops.tracking.registry import repair_alias

    since = f"{chosen.name}: v{chosen.version} is the champion already, since {moment(champion.at)} by {champion.by}."
    if dry_run:
        return f"{since} Nothing was done."
    repair = repair_alias(chosen.name)
    if (decision := decision_of(champion)) is not None:
        record_decision(chosen, decision, recipe=champion.recipe)
    return f"{since} {repair.sentence if repair else 'Nothing was left to do.'}"


def _smoke_tested(chosen: ModelVersion, limits: Limits | None) -> Report:
    from prefect_mlops.tracking.smoke_test import STORED_ROWS, smoke_test_model

    say(f"rehearsing {chosen.name} v{chosen.version} in a clean process")
    report = smoke_test_model(chosen, limits)
    if [check.id for check in report.failures] == [STORED_ROWS["id"]]:
        say("to promote a version that is older than stored rows, without trying it: --without-rehearsal")
    report.raise_for_failure()
    return report


def _decision(entries: Sequence[Entry], chosen: ModelVersion, why: str, replaced: int | None) -> Decision:
    """Keep what is known of the version from when it was judged."""
    from prefect_mlops.core.promotion.lock import decision_of
    from prefect_mlops.core.values import Decision

    known = next(
        (one for entry in reversed(entries) if entry.version == chosen.version if (one := decision_of(entry))), None
    )
    start = known or Decision(model=chosen.name, decision="promoted", reason="")
    made = {"version": chosen.version, "decision": "promoted", "reason": why, "replaced": replaced, "url": chosen.url}
    return start.model_copy(update=made)


def _promote(
    chosen: ModelVersion, decision: Decision, entries: Sequence[Entry], *, approval: Approval, rehearsal: Report | None
) -> None:
    from prefect_mlops.tracking import registry
    from prefect_mlops.tracking.decisions import record_decision

    known = [entry.recipe for entry in entries if entry.version == chosen.version and entry.recipe]
    recipe = known[-1] if known else ""
    replaced = chosen.model_copy(update={"version": decision.replaced}) if decision.replaced else None
    registry.promote(chosen, decision=decision, recipe=recipe, replaces=replaced, approval=approval)
    record_decision(chosen, decision, recipe=recipe, reports=[rehearsal] if rehearsal else [])


def _sentence(decision: Decision, rehearsal: Report | None, *, dry_run: bool) -> str:
    tried = f"passed {counted(len(rehearsal.checks), 'check')} of its rehearsal" if rehearsal else "was not rehearsed"
    place = f"in place of v{decision.replaced}" if decision.replaced else "the first one"
    verb = "would be" if dry_run else "is"
    end = " Nothing was written." if dry_run else ""
    return f"{decision.model}: v{decision.version} {verb} champion, {place}; it {tried}.{end}"
