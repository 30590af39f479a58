"""Every private name of Prefect that this project uses, and what happens where one is missing.

Private is what Prefect does not document: an underscore in the name or in the module, a function that is replaced in
the running process, a variable that a run is started with. Any release may change it. So before each use the installed
Prefect is asked for the names, the parameters they are called with and the attributes they set. Where one is missing,
Prefect's stock way is taken, and one line in the log says what was missing. No other module of the project uses
private names; the tests compare this table with the code.

===============  ====================================================================  ==============================
use              private names, below ``prefect.``                                     without one of them
===============  ====================================================================  ==============================
FORKED_RUNS      runner._flow_run_executor: FlowRunExecutorContext                     runs start as those
(starter, run)   runner._control_channel: ControlChannel                               of a process worker
                 runner._process_manager: ProcessHandle,
                 create_isolated_termination_scope
                 runner._workspace_runtime: WorkspaceSupervisorConfig,
                 write_private_model
                 runner._workspace_starter: WorkspaceResolvingEngineCommandStarter
                 runner._workspace_supervisor: main, _launch_engine (replaced),
                 _RUNNER_OWNED_ENV_KEYS
                 utilities.processutils: sanitize_subprocess_env
                 context: refresh_global_settings_context
                 logging.configuration: setup_logging
                 logging.handlers: APILogWorker
                 variables: PREFECT__FLOW_RUN_ID, PREFECT__CONTROL_PORT,
                 PREFECT__CONTROL_TOKEN,
                 PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS
KNOWN_RUN        runner._workspace_supervisor:                                         a run looks itself and its
(run)            prepare_workspace_for_flow_run (replaced)                             deployment up again
                 runner._workspace_resolver: PreparedWorkspace, prepare_workspace
                 context: AsyncClientContext
LATER_LOGS       runner._workspace_supervisor: APILogHandler (replaced)                a run waits until the log of
(run)                                                                                  its pull steps is sent
ONE_CLIENT       context: SyncClientContext                                            a run opens two clients
(run)
HEARTBEATS       flow_engine: _send_heartbeats (replaced)                              a run waits up to a second
(run)                                                                                  for its heartbeats
LABELS           workers.base: BaseWorker._give_worker_labels_to_flow_run              a run starts after it is
(worker)         (replaced)                                                            labelled
UI_FORM          server.api.collections: get_collection_view (replaced)                the form for new work pools
(worker)                                                                               does not offer the type
TURNS            server.database.configurations: SQLITE_BEGIN_MODE,                    writers that meet on SQLite
(server start)   AioSqliteConfiguration.begin_transaction (replaced)                   are refused and come back
===============  ====================================================================  ==============================

Source: read in Prefect 3.8.5, 3.8.8 and 3.9.1; the tests run on the oldest and the newest release of the bounds.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Name:
    """One name inside Prefect.

    Attributes:
        module: where it stands, without the leading ``prefect.``.
        path: name in that module, dotted for what belongs to a class.
        parameters: names it is called with.
        holds: attributes that its code uses, or members of a set; this project uses them too.
    """

    module: str
    path: str
    parameters: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()

    def lack(self) -> str | None:
        """Say what the installed Prefect lacks of it; None where it has everything."""
        shown = f"prefect.{self.module}.{self.path}"
        try:
            found: Any = importlib.import_module(f"prefect.{self.module}")
            found = functools.reduce(getattr, self.path.split("."), found)
            known = inspect.signature(found).parameters if self.parameters else ()
        except Exception:  # noqa: BLE001 - whatever an internal module does when it is imported, it cannot be used
            return shown
        if lacking := [name for name in self.parameters if name not in known]:
            return f"{shown}({', '.join(lacking)})"
        code = getattr(found, "__code__", None)
        held = code.co_names if code else found if isinstance(found, set) else ()
        if lacking := [name for name in self.holds if name not in held]:
            return f"{', '.join(lacking)} in {shown}"
        return None


@dataclass(frozen=True)
class Use:
    """What private names are used for.

    Attributes:
        names: what it needs; all or none is used.
        otherwise: what happens without them, as a sentence for the log.
    """

    names: tuple[Name, ...]
    otherwise: str


PER_RUN = "PREFECT__"  # begins the variables that are set for one flow run
RUN_ID, CONTROL_PORT, CONTROL_TOKEN, RUN_HOOKS = RUN_VARIABLES = (
    "PREFECT__FLOW_RUN_ID",
    "PREFECT__CONTROL_PORT",
    "PREFECT__CONTROL_TOKEN",
    "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS",
)
EXECUTOR, SUPERVISOR = "runner._flow_run_executor", "runner._workspace_supervisor"
STARTER = "WorkspaceResolvingEngineCommandStarter"

FORKED_RUNS = Use(
    (
        Name(EXECUTOR, "FlowRunExecutorContext.__aenter__", holds=("control_channel",)),
        Name(EXECUTOR, "FlowRunExecutorContext.call_after_exit", ("callback",)),
        Name(
            EXECUTOR,
            "FlowRunExecutorContext.create_executor",
            ("flow_run", "starter", "propose_submitting", "hook_runner"),
        ),
        Name("runner._control_channel", "ControlChannel.register", ("flow_run_id",)),
        Name("runner._process_manager", "ProcessHandle", ("termination_scope",)),
        Name("runner._process_manager", "create_isolated_termination_scope", ("pid",)),
        Name(
            "runner._workspace_runtime", "WorkspaceSupervisorConfig", ("flow_run_id", "workspace_root", "manifest_path")
        ),
        Name("runner._workspace_runtime", "write_private_model", ("path", "model")),
        Name(
            "runner._workspace_starter",
            STARTER,
            ("workspace_root", "stream_output", "control_channel", "source_cwd", "environment"),
        ),
        Name("runner._workspace_starter", f"{STARTER}.__init__", holds=("_config_path", "_manifest_path")),
        Name("runner._workspace_starter", f"{STARTER}.start", ("flow_run", "task_status")),
        Name("runner._workspace_starter", f"{STARTER}.hook_runner"),
        Name("runner._workspace_starter", f"{STARTER}.close"),
        Name(SUPERVISOR, "main", ("argv",)),
        Name(SUPERVISOR, "_launch_engine", ("command", "cwd", "environment")),
        Name(SUPERVISOR, "_RUNNER_OWNED_ENV_KEYS", holds=RUN_VARIABLES),
        Name("utilities.processutils", "sanitize_subprocess_env", ("env",)),
        Name("context", "refresh_global_settings_context"),
        Name("logging.configuration", "setup_logging", ("incremental",)),
        Name("logging.handlers", "APILogWorker.drain_all", ("timeout",)),
    ),
    "runs start as those of a process worker",
)
KNOWN_RUN = Use(
    (
        Name(SUPERVISOR, "prepare_workspace_for_flow_run", ("flow_run_id", "workspace_root")),
        Name("runner._workspace_resolver", "PreparedWorkspace"),
        Name("runner._workspace_resolver", "prepare_workspace", ("client", "flow_run", "deployment", "workspace_root")),
        Name("context", "AsyncClientContext"),
    ),
    "a forked run looks itself and its deployment up again",
)
LATER_LOGS = Use(
    (Name(SUPERVISOR, "APILogHandler.aflush"),), "a forked run waits until the log of its pull steps is sent"
)
ONE_CLIENT = Use((Name("context", "SyncClientContext"),), "a forked run opens two clients")
HEARTBEATS = Use(
    (Name("flow_engine", "_send_heartbeats", ("engine", "join_on_exit")),),
    "a forked run waits for its heartbeats, up to a second",
)
LABELS = Use(
    (Name("workers.base", "BaseWorker._give_worker_labels_to_flow_run", ("flow_run_id",)),),
    "a run starts after it is labelled",
)
UI_FORM = Use(
    (Name("server.api.collections", "get_collection_view", ("view",)),),
    "the form for new work pools does not offer this type",
)
TURNS = Use(
    (
        Name("server.database.configurations", "SQLITE_BEGIN_MODE.get"),
        Name(
            "server.database.configurations", "AioSqliteConfiguration.begin_transaction", ("session", "with_for_update")
        ),
    ),
    "writers that meet on SQLite are refused and come back after seconds",
)

OF_RUNS = (KNOWN_RUN, LATER_LOGS, ONE_CLIENT, HEARTBEATS)  # what a forked run does faster than a new process


def missing(use: Use) -> str | None:
    """Say what the installed Prefect lacks for a use, and what happens instead.

    Args:
        use: one of the uses above.

    Returns:
        One line for the log; None where nothing is missing.
    """
    if lacking := [lack for name in use.names if (lack := name.lack())]:
        return f"Prefect {_version()} has no {', '.join(lacking)}: {use.otherwise}."
    return None


def _version() -> str:
    import prefect

    return str(prefect.__version__)
