"""``prefect-mlops status``: the champion, pending files, retrain guards that hold, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefect_mlops.cli._terminal import age, escaped, say, shortened
from prefect_mlops.core.errors import BackendError, ConfigError, MLOpsError

if TYPE_CHECKING:
    from prefect_mlops.cli._data_status import DatasetStatus
    from prefect_mlops.core.promotion.history import Entry
    from prefect_mlops.core.promotion.status import ModelStatus
    from prefect_mlops.core.specs.model import ModelSpec

LABEL = 14


@dataclass(frozen=True)
class Status:
    """A model, and the dataset it learns from.

    Attributes:
        dotted: name of its spec.
        model: how the model stands.
        data: how its dataset stands; None where it is an address.
        source: what it learns from.
    """

    dotted: str
    model: ModelStatus
    data: DatasetStatus | None
    source: str

    @property
    def todo(self) -> list[str]:
        """What a person can do about model and data."""
        return [*self.model.todo, *(self.data.todo if self.data else ())]


def status(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Plain name as in the prefect.yaml, or dotted name of the spec. [default: all it declares]"
        ),
    ] = None,
    project: Annotated[Path, typer.Option(help="Folder of the project, with its prefect.yaml.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the champion, pending files, retrain guards that hold, and what to do.

    For each model: the champion and since when, the last decision and why, what holds automatic trainings and until
    when, the last drift. For its dataset: what waits in the landing place, the last commit, what was refused. Reads
    only, and needs no Prefect server; MLflow is asked which version its alias points at.

    See how everything stands:

        prefect-mlops status

    See one model, for a script:

        prefect-mlops status flights-late --json
    """
    from prefect_mlops.cli._project import enter, quieten, use_registry

    quieten()
    enter(project)
    asked = use_registry()
    if not asked:
        say("which version is live is not asked: set MLFLOW_TRACKING_URI, or PREFECT_MLOPS_HOME to the stack's home")
    found, problems = _specs(model)
    shown = [_status(dotted, spec, asked=asked) for dotted, spec in found.items()]
    if as_json:
        typer.echo(json.dumps({"models": [_as_json(one) for one in shown], "problems": problems}))
    else:
        parts = ["\n".join(_lines(one)) for one in shown]
        typer.echo("\n\n".join([*parts, *(f"Not shown: {escaped(problem)}" for problem in problems)]))
    if problems:
        raise typer.Exit(1)


def _specs(model: str | None) -> tuple[dict[str, ModelSpec], list[str]]:
    """Find the specs; one that cannot be imported is reported beside the others."""
    from prefect_mlops.deployments.project import declared, resolve_model

    if model is not None:
        dotted, spec = resolve_model(model)
        return {dotted: spec}, []
    names = declared().models
    if not names:
        raise ConfigError("the prefect.yaml declares no model: give a deployment the parameter model, or name one here")
    found: dict[str, ModelSpec] = {}
    problems = []
    for name in names:
        try:
            found[name] = resolve_model(name)[1]
        except MLOpsError as error:
            problems.append(str(error))
    return found, problems


def _status(dotted: str, spec: ModelSpec, *, asked: bool) -> Status:
    from prefect_mlops.cli._data_status import find_dataset_status
    from prefect_mlops.core.promotion.history import read_history
    from prefect_mlops.core.promotion.status import find_status
    from prefect_mlops.core.specs.model import is_address

    alias, known = _alias(spec.name) if asked else (None, False)
    found = find_status(
        spec.name,
        read_history(spec.name),
        spec.retrain,
        datetime.now(timezone.utc),
        alias=alias,
        alias_known=known,
    )
    data = None if is_address(spec.dataset) else find_dataset_status(spec.dataset)
    return Status(dotted, found, data, spec.dataset)


def _alias(model_name: str) -> tuple[int | None, bool]:
    from prefect_mlops.tracking.registry import find_version

    try:
        found = find_version(model_name)
    except (BackendError, ConfigError) as error:
        say(f"which version of {model_name} is live is not known: {error}")
        return None, False
    return (found.version if found else None), True


def _lines(one: Status) -> Iterator[str]:
    state = one.model
    yield f"{escaped(state.model)}  ({escaped(one.dotted)})"
    yield _line("Champion", _champion(state))
    if state.difference:
        yield _line("Alias", state.difference)
    if state.decision:
        yield _line("Last decision", _described(state.decision))
    if state.request:
        yield _line("Waits", f"{_described(state.request)}")
    if state.work:
        yield _line("At work", f"flow run {state.work.flow_run}, for {age(state.work.at)}")
    for guard in state.brakes:
        yield _line("Braked", f"{guard.kind}: {guard.reason}")
    if state.failure:
        yield _line("Last failure", _described(state.failure))
    yield _line("Last drift", _described(state.drift) if state.drift else "none was found")
    if one.data is None:
        yield _line("Data", f"{one.source}, an address without arrivals")
    else:
        yield from (_line("Data" if first else "", line) for first, line in _numbered(one.data.lines))
    todo = one.todo or ["nothing"]
    yield from (_line("To do" if first else "", line) for first, line in _numbered(todo))


def _numbered(lines: list[str]) -> Iterator[tuple[bool, str]]:
    return ((place == 0, line) for place, line in enumerate(lines))


def _line(name: str, text: str) -> str:
    return f"  {name:<{LABEL}}{shortened(text)}"


def _champion(state: ModelStatus) -> str:
    if state.champion is None:
        return f"v{state.alias}, says MLflow; the history knows none" if state.alias else "none yet"
    entry = state.champion
    replaced = f", replaced v{entry.replaced}" if entry.replaced else ""
    live = "" if state.alias_known else "; MLflow was not asked"
    return f"v{entry.version} for {age(entry.at)}{replaced}, by {entry.by}{live}. {entry.reason}".rstrip()


def _described(entry: Entry) -> str:
    version = f"v{entry.version} " if entry.version else ""
    return f"{version}{entry.kind} {age(entry.at)} ago. {entry.reason}".rstrip()


def _as_json(one: Status) -> dict[str, Any]:
    return {
        "spec": one.dotted,
        **one.model.model_dump(mode="json", exclude={"todo"}),
        "dataset": one.data.model_dump(mode="json", exclude={"todo"}) if one.data else {"address": one.source},
        "todo": one.todo,
    }
