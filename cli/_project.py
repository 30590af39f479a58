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

TELLING = {"ingestion", "quarantine"}  # modules of ours whose lines say how far a run is
DRAIN_SECONDS = 10  # events and logs are sent in the background, and have to be out before the process ends


def enter(project: Path) -> Path:
    """Make a project the current folder, as it is for its flows; lake and home stay where they were.

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
    """Leave Prefect's log to its page. Takes effect only before Prefect is imported, as by a project's own modules."""
    if not Settings().debug:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


@contextmanager
def run(what: str) -> Iterator[None]:
    """Run a flow in the block, tell on stderr how it goes, and wait until Prefect has its logs and events.

    Args:
        what: what is done, for messages.

    Raises:
        BackendError: Prefect or its server failed; errors of ours stay what they are.
    """
    import prefect.main  # noqa: F401 - sets logging up when it is imported, and would take our handler away

    telling = _Telling()
    logger = logging.getLogger("prefect.task_runs")
    logger.addHandler(telling)
    try:
        yield
        _drain()
    except MLOpsError:
        _drain()
        raise
    except Exception as error:  # Prefect's own, or a bug of ours: a person gets a sentence either way
        brief = " ".join(str(error).split())[:300]
        raise BackendError(
            f"{what} failed: {type(error).__name__}: {brief}; is the Prefect server up that PREFECT_API_URL names? "
            "Set PREFECT_MLOPS_DEBUG=1 to see where it came from"
        ) from error
    finally:
        logger.removeHandler(telling)


class _Telling(logging.Handler):
    """Passes on what our own tasks say; Prefect's lines about states go to its page only."""

    def __init__(self) -> None:
        super().__init__(level=logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one line."""
        if record.module in TELLING:
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
