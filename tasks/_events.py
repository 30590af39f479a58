"""Events for automations: names, resources, and what stands in them."""

from __future__ import annotations

import re
from typing import Any


def emit(what: str, about: str, payload: dict[str, Any], *, named: str = "") -> None:
    """Emit ``prefect-mlops.<what>``, about the resource ``prefect-mlops.<first word of what>.<about>``.

    Args:
        what: e.g. ``data.committed``.
        about: model or dataset; in lower case and dashes in the resource.
        payload: plain JSON.
        named: the resource's name for people; `about` when empty.
    """
    from prefect.events import emit_event

    resource_id = f"prefect-mlops.{what.partition('.')[0]}.{slug(about)}"
    emit_event(
        event=f"prefect-mlops.{what}",
        resource={"prefect.resource.id": resource_id, "prefect.resource.name": named or about},
        payload=payload,
    )


def slug(text: str) -> str:
    """Reduce text to what Prefect allows in artifact keys and resource ids."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:100] or "report"
