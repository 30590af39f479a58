"""What to do with a report: stop on it, emit an event, publish an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_mlops.tasks._events import emit, slug
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report


@step("require-{report.kind}")
def require(report: Report) -> Report:
    """Stop the flow unless the report passed.

    Args:
        report: any verdict.

    Returns:
        The report itself, so that calls can be chained.

    Raises:
        CheckError: of the report's kind, e.g. `GateError`; it carries the report.
    """
    report.raise_for_failure()
    return report


@step("emit-{report.kind}")
def emit_event(report: Report, about: str = "") -> None:
    """Emit the event ``prefect-mlops.<kind>.<passed|failed>``, for automations to act on.

    The event's resource is ``prefect-mlops.<kind>.<about>``, in lower case and dashes.

    Args:
        report: any verdict.
        about: what automations know it by, e.g. the model's name; empty for the report's subject.
    """
    payload = {"summary": report.summary, "passed": report.passed, "failures": len(report.failures)}
    what = f"{report.kind}.{'passed' if report.passed else 'failed'}"
    emit(what, about or report.subject, payload, named=report.subject)


@step("publish-{report.kind}-report")
def publish_report(report: Report) -> str:
    """Show the report as a markdown artifact of the run, failures first, every value escaped.

    Args:
        report: any verdict.

    Returns:
        The artifact's id.
    """
    from prefect.artifacts import create_markdown_artifact

    key = slug(f"{report.kind}-{report.subject}")
    # In a synchronous task the call returns the id itself; its declared type also covers coroutines.
    return str(create_markdown_artifact(markdown=report.to_markdown(), key=key, description=report.summary[:200]))
