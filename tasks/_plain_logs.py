"""Errors written to be read are logged as they are, without the stack under them.

Prefect logs every failed run with its traceback. For our own errors the message says what was seen and what to do, and
the stack only hides it from the people who read logs in the UI. Any other error keeps its traceback, and
``PREFECT_MLOPS_DEBUG=1`` keeps all of them.
"""

from __future__ import annotations

import logging

from prefect_mlops.core.errors import MLOpsError
from prefect_mlops.core.settings import Settings

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class PlainErrors(logging.Filter):
    """Take the traceback off records of our own errors; lets every record through."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record where it carries one of our errors."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, MLOpsError) and not Settings().debug:
            record.msg, record.args = f"{type(error).__name__}: {error}", ()
            record.exc_info = record.exc_text = None
        return True


def install() -> None:
    """Put the filter on Prefect's run loggers, once."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, PlainErrors) for known in logger.filters):
            logger.addFilter(PlainErrors())
