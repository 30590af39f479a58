"""Which project and MLflow a command works on, and running a flow from the command line without its log."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect_mlops.cli._terminal import say
from prefect_mlops.core.errors import BackendError, MLOpsError
from prefect_mlops.core.settings import Settings

PROGRESS_MODULES = {"ingestion", "quarantine"}  # modules of ours that log the progress of a run
DRAIN_SECONDS = 10  # events and logs are sent in the background, and have to be out before the process ends


def enter(project: Path) -> Path:
    """Make a project the current folder, as for its flows; the addresses of lake and home stay the same.

    Args:
        project: folder that holds the ``prefect.yaml``.

    Returns:
        The folder the command was started in: paths a person typed are relative to it.
    """
    from prefect_mlops.core.errors import ConfigError

    started, settings = Path.cwd(), Settings()
    os.environ["PREFECT_MLOPS_HOME"] = str(settings.home.expanduser().absolute())
    if settings.lake and "://" not in settings.lake:
        os.environ["PREFECT_MLOPS_LAKE"] = str(Path(settings.lake).expanduser().absolute())
    try:
        os.chdir(project.expanduser())
    except OSError as error:
        raise ConfigError(f"the project folder {str(project)!r} cannot be entered: {error.strerror}") from error
    return started


def quieten() -> None:
    """Silence Prefect's log on the console; call it before Prefect is imported, as a project's own modules may do."""
    if not Settings().debug:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


@contextmanager
def run(what: str) -> Iterator[None]:
    """Run a flow in the block, print its progress on stderr, and wait until Prefect has its logs and events.

    Args:
        what: what is run, for error messages.

    Raises:
        BackendError: Prefect or its server failed; errors of ours stay what they are.
    """
    import prefect.main  # noqa: F401 - configures logging on import, which would remove our handler

    handler = _ProgressHandler()
    logger = logging.getLogger("prefect.task_runs")
    logger.addHandler(handler)
    try:
        yield
        _drain()
    except MLOpsError:
        _drain()
        raise
    except Exception as error:  # Prefect's own, or a bug of ours: one line instead of a traceback
        brief = " ".join(str(error).split())[:300]
        raise BackendError(
            f"{what} failed: {type(error).__name__}: {brief}; is the Prefect server up that PREFECT_API_URL names? "
            "Set PREFECT_MLOPS_DEBUG=1 to see where it came from"
        ) from error
    finally:
        logger.removeHandler(handler)


class _ProgressHandler(logging.Handler):
    """Prints the log lines of our own tasks; Prefect's lines about states are left to its UI."""

    def __init__(self) -> None:
        super().__init__(level=logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        if record.module in PROGRESS_MODULES:
            say(record.getMessage())


def _drain() -> None:
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=DRAIN_SECONDS)


MLFLOW_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "_MLFLOW_SERVER_ARTIFACT_ROOT")


def use_registry() -> bool:
    """Take the MLflow of the home when none is configured.

    Without either, MLflow would make a database in the current folder, in which nothing is.

    Returns:
        Whether there is one to ask.
    """
    from prefect_mlops.deployments.local.stack import embedded_environment

    if os.environ.get("MLFLOW_TRACKING_URI"):
        return True
    home = Settings().home
    if not (home / "mlflow.db").exists():
        return False
    environment = embedded_environment(home)
    os.environ.update({name: environment[name] for name in MLFLOW_VARIABLES})
    return True
