"""A progress bar on the run's page, from wherever it is called; outside a run there is none."""

from __future__ import annotations

import contextlib
import time
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import get_run_context
from prefect.exceptions import MissingContextError

EVERY_S = 1.0  # each update is a request to the server


class Progress:
    """One progress artifact. A server that does not answer costs the bar, never the work."""

    def __init__(self, key: str) -> None:
        self._artifact: UUID | None = None
        self._shown = time.monotonic()
        try:
            get_run_context()
        except MissingContextError:
            return
        with contextlib.suppress(Exception):
            # In a synchronous task the call returns the id itself; its declared type also covers coroutines.
            made = create_progress_artifact(0.0, key=key)
            self._artifact = made if isinstance(made, UUID) else None

    def show(self, percent: float, text: str, *, at_once: bool = False) -> None:
        """Show how far it is.

        Args:
            percent: from 0 to 100.
            text: what to say beside it.
            at_once: also where it was shown less than a second ago.
        """
        now = time.monotonic()
        if self._artifact is None or (now - self._shown < EVERY_S and not at_once):
            return
        self._shown = now
        with contextlib.suppress(Exception):
            update_progress_artifact(self._artifact, min(percent, 100.0), description=text)
