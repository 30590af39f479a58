"""The entries of a ``prefect.yaml`` as Prefect understands them: filled in, checked, with defaults from the flow."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.deployments.project import POOL, PROJECT_FILE, read_file

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.events import DeploymentTriggerTypes

ABSENT_ID = UUID(int=0)  # stands for a deployment that is not there yet
COPIED = ("version", "paused", "enforce_parameter_schema")  # left as they are on the server where the file is silent
SETS = ("expect", "after", "for_each")  # order means nothing there, and differs from one process to the next


@dataclass(frozen=True)
class DeploymentEntry:
    """A deployment as the file wants it.

    Attributes:
        flow: name of the flow.
        name: name of the deployment.
        pool: its work pool.
        fields: what the API calls its fields.
        schedules: by slug, or by what they are where they have none.
        triggers: by name.
        replaced: slugs that schedules of the file take the place of.
    """

    flow: str
    name: str
    pool: str
    fields: dict[str, Any]
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    triggers: dict[str, DeploymentTriggerTypes] = field(default_factory=dict)
    replaced: frozenset[str] = frozenset()

    @property
    def full_name(self) -> str:
        """The name people call it by."""
        return f"{self.flow}/{self.name}"


def read_entries(project: Path) -> tuple[str, tuple[DeploymentEntry, ...]]:
    """Read a project's deployments; imports its flows, so the project is the current folder and on ``sys.path``.

    Args:
        project: folder that holds the ``prefect.yaml``.

    Returns:
        The project's name, and an entry for each deployment of the file.

    Raises:
        ConfigError: when the file, an entry, a schedule, a trigger or a flow is wrong; it names which.
    """
    content = read_file(project)
    entries = tuple(_entry(raw, content) for raw in content["deployments"])
    names = [entry.full_name for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{project / PROJECT_FILE} lists {twice[0]!r} twice: give each deployment a name of its own")
    return str(content.get("name") or project.absolute().name), entries


def schedule_value(schedule: DeploymentScheduleCreate | Any) -> dict[str, Any]:
    """Bring a schedule into a form that can be compared and sent."""
    names = {"schedule", "active", "parameters", "slug", "max_scheduled_runs"}
    return dict(schedule.model_dump(mode="json", include=names))


def schedule_key(schedule: dict[str, Any]) -> str:
    """Name a schedule so that it is found again: by its slug, or by what it is."""
    return str(schedule["slug"] or json.dumps(schedule["schedule"], sort_keys=True))


def automation_value(automation: Any) -> dict[str, Any]:
    """Bring an automation into a form that can be compared: without ids, sets in order."""
    names = {"name", "description", "enabled", "trigger", "actions"}
    value = _ordered(automation.model_dump(mode="json", include=names))
    for action in value["actions"]:
        action.pop("deployment_id", None)
    return dict(value)


def automation_for(trigger: DeploymentTriggerTypes, deployment: UUID = ABSENT_ID) -> Any:
    """Make the automation that runs a deployment when its trigger fires."""
    trigger.set_deployment_id(deployment)
    return trigger.as_automation()


def _entry(raw: dict[str, Any], content: dict[str, Any]) -> DeploymentEntry:
    where = f"{PROJECT_FILE}: deployment {raw['name']!r}"
    if any(raw.get(steps, content.get(steps)) for steps in ("build", "push")):
        raise ConfigError(
            f"{where} has build or push steps, which this command does not run: use `prefect deploy` for it, or build "
            "the image beforehand and name it under work_pool.job_variables.image"
        )
    from prefect.utilities.templating import apply_values

    filled = _filled(raw, where)
    triggers = filled.pop("triggers", None) or []  # their parameters hold templates of the event: not filled in
    filled = dict(apply_values(filled, {}, skip_prefixes=["ctx."]))
    flow = _flow(filled, where)
    pool = filled.get("work_pool") or {}
    schedules = [_schedule(given, where) for given in _listed(filled, "schedules", where)]
    return DeploymentEntry(
        flow=flow.name,
        name=filled["name"],
        pool=str(pool.get("name") or POOL),
        fields=_fields(filled, flow, pool=pool, pull=_pull(raw, content)),
        schedules={schedule_key(schedule): schedule for schedule in schedules},
        triggers=dict(_triggers(filled["name"], triggers, where)),
        replaced=frozenset(given["replaces"] for given in filled.get("schedules") or () if given.get("replaces")),
    )


def _filled(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """Fill in blocks, variables and environment as `prefect deploy` does."""
    from prefect.utilities.templating import apply_values, resolve_block_document_references, resolve_variables

    async def resolve() -> Any:
        return await resolve_variables(await resolve_block_document_references(raw))

    try:
        filled: Any = apply_values(asyncio.run(resolve()), dict(os.environ), remove_notset=False)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    return dict(filled)


def _flow(filled: dict[str, Any], where: str) -> Flow[..., Any]:
    from prefect.flows import load_flow_from_entrypoint

    if not filled.get("entrypoint"):
        raise ConfigError(
            f"{where} has no entrypoint: name its flow, e.g. `entrypoint: prefect_mlops.flows.train.train`"
        )
    try:
        return load_flow_from_entrypoint(str(filled["entrypoint"]))
    except Exception as error:  # the flow is the user's own code, and may raise anything while it is imported
        problem = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{where}: its flow {filled['entrypoint']!r} cannot be imported: {problem}") from error


def _fields(filled: dict[str, Any], flow: Flow[..., Any], *, pool: dict[str, Any], pull: Any) -> dict[str, Any]:
    from prefect.utilities.callables import parameter_schema

    limit = filled.get("concurrency_limit")
    strategy = {key: value for key, value in limit.items() if key != "limit"} if isinstance(limit, dict) else {}
    optional = {
        **{name: filled.get(name) for name in COPIED},
        "work_queue_name": pool.get("work_queue_name"),
        "concurrency_limit": limit.get("limit") if isinstance(limit, dict) else limit,
        "concurrency_options": strategy or None,
    }
    return {
        "entrypoint": filled["entrypoint"],
        "description": filled.get("description") or flow.description,
        "tags": [str(tag) for tag in filled.get("tags") or ()],
        "parameters": filled.get("parameters") or {},
        "parameter_openapi_schema": parameter_schema(flow).model_dump(mode="json", exclude_unset=True),
        "pull_steps": pull,
        "work_pool_name": str(pool.get("name") or POOL),
        "job_variables": pool.get("job_variables") or {},
        **{name: value for name, value in optional.items() if value is not None},
    }


def _pull(raw: dict[str, Any], content: dict[str, Any]) -> list[Any]:
    pull = raw["pull"] if "pull" in raw else content.get("pull")
    if pull is None:  # as `prefect deploy` has it: the folder, which a process worker on this machine can enter
        return [{"prefect.deployments.steps.set_working_directory": {"directory": str(Path.cwd().resolve())}}]
    return [pull] if isinstance(pull, dict) and pull else list(pull)


def _schedule(given: dict[str, Any], where: str) -> dict[str, Any]:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

    kinds = {"cron": CronSchedule, "interval": IntervalSchedule, "rrule": RRuleSchedule}
    parts = {name: given[name] for name in ("timezone", "anchor_date", "day_or") if given.get(name) is not None}
    kind = next((name for name in kinds if given.get(name)), None)
    called = f"{where}: schedule {given.get('slug') or given!r:.120}"
    if kind is None:
        raise ConfigError(f"{called}: expected one of cron, interval (seconds) and rrule")
    when = timedelta(seconds=given[kind]) if isinstance(given[kind], (int, float)) else given[kind]
    own = {name: given[name] for name in ("active", "parameters", "slug") if given.get(name) is not None}
    try:
        value = schedule_value(DeploymentScheduleCreate(schedule=kinds[kind](**{kind: when}, **parts), **own))
    except ValueError as error:  # pydantic's is one
        raise ConfigError(f"{called}: {_reasons(error)}") from error
    if "anchor_date" not in given:  # Prefect would count from the moment of deploying, and never deploy the same twice
        value["schedule"].pop("anchor_date", None)
    return value


def _triggers(name: str, given: list[dict[str, Any]], where: str) -> Iterator[tuple[str, DeploymentTriggerTypes]]:
    from prefect.events import DeploymentTriggerTypes
    from pydantic import TypeAdapter

    adapter: TypeAdapter[DeploymentTriggerTypes] = TypeAdapter(DeploymentTriggerTypes)
    seen = set()
    for number, spec in enumerate(given, start=1):
        called = str((spec.get("name") if isinstance(spec, dict) else None) or f"{name}__automation_{number}")
        try:
            trigger = adapter.validate_python({**spec, "name": called})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}: trigger {called!r}: {_reasons(error)}") from error
        if called in seen:
            raise ConfigError(f"{where}: two triggers are called {called!r}: give each a name of its own")
        seen.add(called)
        yield called, trigger


def _listed(filled: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    given = filled.get(key) or []
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise ConfigError(f"{where}: {key}: expected a list of mappings, got {given!r:.80}")
    return given


def _reasons(error: Exception) -> str:
    """Say what pydantic has against a value, without its links and its count of errors."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())


def _ordered(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _ordered(part, key) for key, part in value.items() if key != "id"}
    if isinstance(value, list):
        return sorted(value) if name in SETS else [_ordered(part) for part in value]
    return value
