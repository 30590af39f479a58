"""What every task of this library has in common."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from prefect import Task, get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingContextError

from prefect_mlops.core.errors import BackendError
from prefect_mlops.core.imports import end_quickly

if TYPE_CHECKING:
    from typing import Literal, overload

    from prefect.client.schemas.objects import State, TaskRun
    from prefect.futures import PrefectFuture

RETRIES = 2
RETRY_DELAYS_S = [1.0, 5.0]  # a restarting server is back within seconds; longer outages are the schedule's business
MAX_RUN_NAME_LENGTH = 120  # file names and model names go into run names; the UI cuts longer ones anyway

end_quickly()

P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:

    class Step(Task[P, R]):
        """A task of this library as type checkers see it; at run time it is a `prefect.Task`.

        Prefect's own overloads are told apart by whether the result is a coroutine. With an argument of type Any, such
        as an estimator, several of them match and the call has no type. Ours are told apart by ``wait_for`` and
        ``return_state`` alone, so a result needs no annotation where the task is called.
        """

        @overload  # type: ignore[override]
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        @overload
        def __call__(self, *args: Any, wait_for: Any, **kwargs: Any) -> R: ...
        @overload
        def __call__(self, *args: Any, return_state: Literal[True], **kwargs: Any) -> State[R]: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

        @overload  # type: ignore[override]
        def submit(self, *args: P.args, **kwargs: P.kwargs) -> PrefectFuture[R]: ...
        @overload
        def submit(self, *args: Any, return_state: Literal[True], **kwargs: Any) -> State[R]: ...
        @overload  # futures of other tasks as arguments, wait_for
        def submit(self, *args: Any, **kwargs: Any) -> PrefectFuture[R]: ...
        def submit(self, *args: Any, **kwargs: Any) -> Any: ...

        def with_options(self, **options: Any) -> Step[P, R]: ...


def step(
    run_name: str | Callable[[dict[str, Any]], str], *, backend: bool = False, name: str = ""
) -> Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a task.

    Tables and models stay in the process: nothing is cached, hashed or written to the result storage.

    Args:
        run_name: name of a run, as a template of the parameters or made from them.
        backend: the task talks to MLflow or storage, so it is retried when one of those failed.
        name: of the task; that of the function, with dashes, where it is empty.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[P, R]) -> Step[P, R]:
        made: Any = Task(
            function,
            name=name or function.__name__.replace("_", "-"),
            task_run_name=run_name if isinstance(run_name, str) else cast("Any", _bounded(run_name)),
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=RETRIES if backend else 0,
            retry_delay_seconds=RETRY_DELAYS_S if backend else 0,
            retry_condition_fn=backend_failed if backend else None,
        )
        return cast("Step[P, R]", made)

    return decorate


def _bounded(run_name: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
    # Prefect hands over the parameters when the callable has exactly one argument of this name.
    def named(parameters: dict[str, Any]) -> str:
        # Names of files may hold line breaks and what steers a terminal, and these names stand in logs.
        return "".join(letter if letter.isprintable() else "?" for letter in run_name(parameters))[:MAX_RUN_NAME_LENGTH]

    return named


def run_logger() -> logging.Logger | logging.LoggerAdapter[Any]:
    """Return the logger whose lines appear on the run's page; a plain one outside of a run."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("prefect_mlops")


def backend_failed(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Retry only when a backend failed: a wrong request or a refused table stays wrong."""
    try:
        state.result()
    except BackendError:
        return True
    except Exception:  # noqa: BLE001 - any other failure is final, whatever it is
        return False
    return False
