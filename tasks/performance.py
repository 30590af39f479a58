"""Has the live model degraded? Its stored predictions, scored with the labels as they arrive."""

from __future__ import annotations

from typing import Any

from prefect_mlops.core.live import evaluation
from prefect_mlops.tasks._step import step


def _run_name(parameters: dict[str, Any]) -> str:
    subject = parameters.get("subject") or evaluation.subject_of(parameters["predictions"], parameters.get("version"))
    return f"evaluate-live-{subject}"


evaluate_live = step(_run_name, backend=True)(evaluation.evaluate_live)
