"""Which flow run calls: read from Prefect's runtime, also inside task threads and processes."""

from __future__ import annotations

import functools
from pathlib import Path

import prefect.runtime
from prefect.utilities.urls import url_for

from prefect_mlops.core.lineage.environment import CodeState, code_state
from prefect_mlops.tracking.runs import Caller


def caller() -> Caller:
    """Return the calling run, as MLflow runs name it."""
    flow = prefect.runtime.flow_run
    flow_run_id = flow.id
    return Caller(
        flow_run_id=flow_run_id,
        flow_run_name=flow.name if flow_run_id else None,
        flow_name=flow.flow_name if flow_run_id else None,
        task_run_id=prefect.runtime.task_run.id,
        url=url_for("flow-run", flow_run_id) if flow_run_id else None,
    )


def flow_run_id() -> str:
    """Return the id of the calling flow run; empty outside of one."""
    return str(prefect.runtime.flow_run.id or "")


def code_of_run() -> CodeState:
    """Return the state of the checkout as the calling flow run found it; each call starts a git process."""
    flow_run = prefect.runtime.flow_run.id
    return _code_of(str(flow_run), Path.cwd()) if flow_run else code_state()


@functools.lru_cache(maxsize=8)  # as many flow runs as one process has at a time
def _code_of(_flow_run: str, folder: Path) -> CodeState:
    return code_state(folder)
