"""Three-way comparison for each part of a deployment: the file, the last deployed file, and the server.

A part is a field of a deployment, one of its schedules or one of its automations. A change made in the Prefect
UI survives, unless the file's own entry for that part changed since the last deploy: then the file wins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prefect_mlops.deployments.rollout.entries import DeploymentEntry, automation_for, automation_value

if TYPE_CHECKING:
    from prefect_mlops.deployments.rollout.inventory import Present

PartKind = Literal["field", "schedule", "automation"]
Verb = Literal["same", "create", "change", "kept", "left", "remove"]

DIGEST = 12  # characters; tells one version of an entry from the last one, guards nothing
FROM_CODE = ("entrypoint", "parameter_openapi_schema", "pull_steps")  # not changed in the UI
DEFAULTS = {  # what a field goes back to when the file no longer has it
    "paused": False,
    "enforce_parameter_schema": True,
    "concurrency_limit": None,
    "concurrency_options": None,
}


class _Absent:
    """Stands for what is not there."""

    def __repr__(self) -> str:
        return "(none)"


ABSENT = _Absent()


@dataclass(frozen=True)
class PlanPart:
    """What becomes of one part of a deployment.

    Attributes:
        kind: a field, a schedule or an automation.
        name: its name.
        verb: ``create`` and ``change`` make it what the file says, ``kept`` leaves a change made on the
            server, ``left`` leaves what the file no longer has, ``remove`` deletes that.
        server: its value on the server.
        file: its value in the file.
    """

    kind: PartKind
    name: str
    verb: Verb
    server: Any
    file: Any

    @property
    def key(self) -> str:
        """Name under which its digest is kept."""
        return f"{self.kind} {self.name}"

    @property
    def acts(self) -> bool:
        """Whether anything has to be done."""
        return self.verb in {"create", "change", "remove"}

    @property
    def after(self) -> Any:
        """Its value on the server once all is done."""
        return self.file if self.acts else self.server

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Say where server and file differ, by the smallest name there is for it."""
        if self.verb not in {"change", "kept"}:
            return {}
        if self.kind == "field" or ABSENT in (self.server, self.file):
            return {self.name if self.kind == "field" else "": (self.server, self.file)}
        server, file = _flat(self.server), _flat(self.file)
        return {name: (server.get(name, ABSENT), file[name]) for name in file if server.get(name) != file[name]}


@dataclass(frozen=True)
class DeploymentPlan:
    """What becomes of one deployment.

    Attributes:
        entry: what the file says; None where it no longer lists it.
        present: what the server has.
        parts: what becomes of each part.
        digests: what to remember of the file's entry.
        project: name of the project it belongs to.
        prune: whether it is removed, where the file no longer lists it.
    """

    entry: DeploymentEntry | None
    present: Present
    parts: tuple[PlanPart, ...]
    digests: Mapping[str, str]
    project: str
    prune: bool = False

    @property
    def verb(self) -> Literal["create", "change", "adopt", "same", "left", "remove"]:
        """What happens to the deployment as a whole."""
        if self.entry is None:
            return "remove" if self.prune else "left"
        if self.present.id is None:
            return "create"
        if any(part.acts for part in self.parts):
            return "change"
        return "adopt" if self.digests != self.present.digests else "same"

    @property
    def acts(self) -> bool:
        """Whether anything has to be done."""
        return self.verb not in {"same", "left"}


@dataclass(frozen=True)
class Plan:
    """What deploying a project would do.

    Attributes:
        project: its name.
        pools: work pools to make.
        deployments: what becomes of each deployment.
    """

    project: str
    pools: tuple[str, ...]
    deployments: tuple[DeploymentPlan, ...]

    @property
    def acts(self) -> bool:
        """Whether anything has to be done."""
        return bool(self.pools) or any(deployment.acts for deployment in self.deployments)


def plan_deployment(
    entry: DeploymentEntry, present: Present, *, project: str, prune: bool = False, reset: bool = False
) -> DeploymentPlan:
    """Compare the file, the last deployed file and the server.

    Args:
        entry: what the file says.
        present: what the server has.
        project: name of the project.
        prune: remove schedules and automations that were deployed from here and are no longer in the file.
        reset: let the file win everywhere, also over changes made on the server.

    Returns:
        What becomes of each part.
    """
    gone = {key.partition(" ")[2] for key in present.digests if key.startswith("field ")} - entry.fields.keys()
    fields = {**{name: DEFAULTS[name] for name in gone if name in DEFAULTS}, **entry.fields}
    automations = {name: automation_value(automation_for(trigger)) for name, trigger in entry.triggers.items()}
    sides: tuple[tuple[PartKind, Mapping[str, Any], Mapping[str, Any]], ...] = (
        ("field", fields, {name: present.fields[name] for name in fields if name in present.fields}),
        ("schedule", entry.schedules, present.schedules),
        ("automation", automations, present.automations),
    )
    parts: list[PlanPart] = []
    for kind, wanted, there in sides:
        for name, value in wanted.items():
            known = None if reset or name in FROM_CODE else present.digests.get(f"{kind} {name}")
            parts.append(_part(kind, name, value, there.get(name, ABSENT), known=known))
        for name in there.keys() - wanted.keys():
            if f"{kind} {name}" in present.digests:
                verb: Verb = "remove" if prune or name in entry.replaced else "left"
                parts.append(PlanPart(kind, name, verb, there[name], ABSENT))
    return DeploymentPlan(entry, present, tuple(parts), _digests(parts, entry, present), project)


def _part(kind: PartKind, name: str, wanted: Any, there: Any, *, known: str | None) -> PlanPart:
    if _canonical(wanted) == _canonical(_comparable(kind, wanted, there)):
        return PlanPart(kind, name, "same", there, wanted)
    if known == _digest(wanted):
        return PlanPart(kind, name, "kept", there, wanted)
    return PlanPart(kind, name, "create" if there is ABSENT else "change", there, wanted)


def _digests(parts: list[PlanPart], entry: DeploymentEntry, present: Present) -> dict[str, str]:
    """Say what to remember: what the file says now, and that what it no longer has came from it."""
    left = {part.key: present.digests[part.key] for part in parts if part.verb == "left"}
    fields = {f"field {name}" for name in entry.fields if name not in FROM_CODE}
    declared = [part for part in parts if part.file is not ABSENT and (part.kind != "field" or part.key in fields)]
    return {**left, **{part.key: _digest(part.file) for part in declared}}


def _comparable(kind: PartKind, wanted: Any, there: Any) -> Any:
    """Leave out what the server added to a schedule of which the file says nothing, such as where it counts from."""
    if kind != "schedule" or there is ABSENT:
        return there
    return {**there, "schedule": {key: there["schedule"].get(key) for key in wanted["schedule"]}}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()[:DIGEST]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    found: dict[str, Any] = {}
    for key, part in value.items():
        name = f"{prefix}{key}"
        found |= _flat(part, f"{name}.") if isinstance(part, dict) and part else {name: part}
    return found
