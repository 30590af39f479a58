"""Deploy a project: plan what has to change on the Prefect server, and apply it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect_mlops.deployments.connection import connected, refusals
from prefect_mlops.deployments.rollout.entries import automation_for, read_entries
from prefect_mlops.deployments.rollout.inventory import (
    DECLARED_LABEL,
    PROJECT_LABEL,
    find_others,
    find_present,
    missing_pools,
)
from prefect_mlops.deployments.rollout.plan import ABSENT, DeploymentPlan, Plan, plan_deployment

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from prefect_mlops.deployments.rollout.entries import DeploymentEntry


def plan_rollout(project: Path, *, prune: bool = False, reset: bool = False) -> Plan:
    """Plan what deploying a project would change; the project is the current folder and on ``sys.path``.

    Args:
        project: folder that holds the ``prefect.yaml``.
        prune: remove what was deployed from here and is no longer in the file.
        reset: let the file win everywhere, also over changes made on the server.

    Returns:
        The plan.

    Raises:
        ConfigError: when the file is wrong, or no server is configured.
        BackendError: when the server does not answer.
    """
    with connected() as client, refusals("looking up what is deployed"):
        name, entries = read_entries(project)
        plans = [
            plan_deployment(entry, find_present(client, entry), project=name, prune=prune, reset=reset)
            for entry in entries
        ]
        known = {plan.present.id for plan in plans if plan.present.id}
        others = [DeploymentPlan(None, other, (), {}, name, prune) for other in find_others(client, name, known)]
        pools = missing_pools(client, {entry.pool for entry in entries})
        return Plan(name, tuple(pools), (*plans, *others))


def carry_out(plan: Plan, *, tell: Callable[[str], None]) -> None:
    """Apply a plan. Idempotent: after an interruption, applying again completes it.

    Args:
        plan: what `plan_rollout` returned.
        tell: called with one line after each deployment.

    Raises:
        ConfigError: when the server refuses something.
        BackendError: when the server does not answer.
    """
    from prefect.client.schemas.actions import WorkPoolCreate

    with connected() as client:
        for pool in plan.pools:
            with refusals(f"work pool {pool!r}"):
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        for deployment in plan.deployments:
            name = deployment.present.full_name
            if not deployment.acts:
                continue
            with refusals(f"deployment {name!r}"):
                if deployment.entry:
                    _apply(client, deployment, deployment.entry)
                elif deployment.present.id:
                    _remove(client, deployment.present.id)
            tell(f"{name}: done")


def _apply(client: SyncPrefectClient, plan: DeploymentPlan, entry: DeploymentEntry) -> None:
    """Write what the file said last: whatever happens before that, the next deploy then finds more to do, not less."""
    flow = client.create_flow_from_name(entry.flow)
    number = plan.present.id or _write(client, plan, entry, flow=flow, labels={})
    _write_automations(client, plan, entry, number)
    labels = {PROJECT_LABEL: plan.project, DECLARED_LABEL: json.dumps(dict(plan.digests), sort_keys=True)}
    _write(client, plan, entry, flow=flow, labels={**plan.present.labels, **labels})


def _write(
    client: SyncPrefectClient, plan: DeploymentPlan, entry: DeploymentEntry, *, flow: UUID, labels: dict[str, Any]
) -> UUID:
    """Write fields, schedules and labels in one request, which is one transaction.

    Prefect's update request takes no labels; this one replaces all schedules, so those that stay are sent too.
    """
    schedules: dict[str, Any] = dict(plan.present.schedules)  # among them those that people made in the UI
    for part in plan.parts:
        if part.kind == "schedule":
            schedules[part.name] = part.after
    body = {
        "name": entry.name,
        "flow_id": str(flow),
        **{part.name: part.after for part in plan.parts if part.kind == "field" and part.after is not ABSENT},
        "schedules": [schedule for schedule in schedules.values() if schedule is not ABSENT],
        "labels": labels,
    }
    return UUID(client.request("POST", "/deployments/", json=body).json()["id"])


def _write_automations(
    client: SyncPrefectClient, plan: DeploymentPlan, entry: DeploymentEntry, deployment: UUID
) -> None:
    for part in plan.parts:
        if part.kind != "automation" or not part.acts:
            continue
        if part.verb == "remove":
            client.delete_automation(plan.present.ids[part.name])
            continue
        automation = automation_for(entry.triggers[part.name], deployment)
        if part.verb == "create":
            client.create_automation(automation)
        else:  # keeps its id, so its history stays in one place; the client's own method sends what the server refuses
            names = {"name", "description", "enabled", "trigger", "actions"}
            body, number = automation.model_dump(mode="json", include=names), plan.present.ids[part.name]
            client.request("PUT", "/automations/{id}", path_params={"id": number}, json=body)


def _remove(client: SyncPrefectClient, deployment: UUID) -> None:
    client.delete_resource_owned_automations(f"prefect.deployment.{deployment}")
    client.delete_deployment(deployment)


def enter_project(project: Path) -> None:
    """Make a project the current folder and importable, as Prefect's entrypoints and its own settings expect it.

    Args:
        project: folder that holds the ``prefect.yaml``.
    """
    os.chdir(project)
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
