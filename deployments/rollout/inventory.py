"""What a Prefect server has of a project: deployments, their schedules, and the automations that run them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect_mlops.deployments.rollout.entries import DeploymentEntry, automation_value, schedule_key, schedule_value

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

PAGE = 200  # the most rows Prefect's API gives in one answer
PROJECT_LABEL = "prefect-mlops.project"
DECLARED_LABEL = "prefect-mlops.declared"


@dataclass(frozen=True)
class Present:
    """A deployment as the server has it; an empty one stands for a deployment that is not there.

    Attributes:
        id: its id; None where it is not there.
        full_name: ``flow/deployment``.
        fields: what the API calls its fields.
        schedules: by slug, or by what they are where they have none.
        automations: the ones that run it, by name.
        ids: ids of those, by name.
        digests: of each part, what the file said when it was last deployed from here.
        labels: all its labels.
    """

    id: UUID | None = None
    full_name: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    automations: dict[str, dict[str, Any]] = field(default_factory=dict)
    ids: dict[str, UUID] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)


def find_present(client: SyncPrefectClient, entry: DeploymentEntry) -> Present:
    """Look up a deployment of the file by its name.

    Args:
        client: of the Prefect API.
        entry: what the file says.

    Returns:
        What the server has, or an empty one.
    """
    from prefect.exceptions import ObjectNotFound

    try:
        found = client.read_deployment_by_name(entry.full_name)
    except ObjectNotFound:
        return Present(full_name=entry.full_name)
    return _present(client, found, entry.full_name)


def find_others(client: SyncPrefectClient, project: str, known: set[UUID]) -> list[Present]:
    """List what was deployed from a project before and is not among the known ones.

    Args:
        client: of the Prefect API.
        project: the project's name.
        known: ids of the deployments its file still lists.
    """
    others = [row for row in _all(client) if row.labels.get(PROJECT_LABEL) == project and row.id not in known]
    return [_present(client, row, f"{client.read_flow(row.flow_id).name}/{row.name}") for row in others]


def missing_pools(client: SyncPrefectClient, names: set[str]) -> list[str]:
    """Say which work pools are not there."""
    from prefect.exceptions import ObjectNotFound

    missing = []
    for name in sorted(names):
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            missing.append(name)
    return missing


def _present(client: SyncPrefectClient, row: DeploymentResponse, full_name: str) -> Present:
    related = client.read_resource_related_automations(f"prefect.deployment.{row.id}")
    found = sorted(related, key=lambda automation: automation.id, reverse=True)  # the oldest of one name comes last
    limit = row.global_concurrency_limit
    schedules = [schedule_value(schedule) for schedule in row.schedules]
    return Present(
        id=row.id,
        full_name=full_name,
        fields={**row.model_dump(mode="json"), "concurrency_limit": limit.limit if limit else None},
        schedules={schedule_key(schedule): schedule for schedule in schedules},
        automations={automation.name: automation_value(automation) for automation in found},
        ids={automation.name: automation.id for automation in found},
        digests=_digests(row.labels.get(DECLARED_LABEL)),
        labels={name: value for name, value in row.labels.items() if not name.startswith("prefect.")},
    )


def _digests(label: object) -> dict[str, str]:
    try:
        found = json.loads(str(label))
    except ValueError:
        return {}  # never deployed from here, or the label was changed: as if never
    return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}


def _all(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    offset = 0
    while page := client.read_deployments(limit=PAGE, offset=offset):
        yield from page
        offset += len(page)
