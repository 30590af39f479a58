"""Emit events of a dataset, committed and late files, and of a loop that has stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefect_mlops.tasks._events import emit
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    from prefect_mlops.core.lake.ledger import Arrival
    from prefect_mlops.core.reports import Report

MAX_PATHS = 100  # an event is a message, not a ledger


@step("emit-data-{dataset}")
def emit_data_event(dataset: str, arrivals: Sequence[Arrival]) -> None:
    """Emit ``prefect-mlops.data.committed``, for automations to act on.

    The event's resource is ``prefect-mlops.data.<dataset>``; the payload has the data version, counts and paths.

    Args:
        dataset: dataset of the lake.
        arrivals: what was just committed; others among them are left out.
    """
    new = [arrival for arrival in arrivals if arrival.version is not None and not arrival.again]
    payload = {
        "dataset": dataset,
        "version": max((arrival.version or 0 for arrival in new), default=None),
        "files": len(new),
        "rows": sum(arrival.rows for arrival in new),
        "refused": sum(arrival.refused for arrival in new),
        "paths": [arrival.path for arrival in new[:MAX_PATHS]],
    }
    emit("data.committed", dataset, payload)


@step("emit-late-{dataset}")
def emit_late_event(dataset: str, report: Report) -> None:
    """Emit ``prefect-mlops.data.late``: a freshness promise is broken.

    The event's resource is ``prefect-mlops.data.<dataset>``.

    Args:
        dataset: dataset of the lake.
        report: what was promised and what was seen.
    """
    emit("data.late", dataset, {"dataset": dataset, "summary": report.summary})


@step("emit-stop-{model_name}")
def emit_stop_event(model_name: str, reason: str) -> None:
    """Emit ``prefect-mlops.loop.stopped``: no training starts by itself until a person has looked.

    The event's resource is ``prefect-mlops.loop.<model name>``, in lower case and dashes.

    Args:
        model_name: registered model.
        reason: why, in a sentence.
    """
    emit("loop.stopped", model_name, {"model": model_name, "reason": reason})
