"""Look for good parameters: ask Optuna what to try, try it in threads, tell MLflow and Optuna what came of it.

Only the threads' fits run beside each other. Asking, telling, MLflow, progress and log lines stay in the thread that
searches, so that nothing is shared, and Ctrl-C arrives where the records can still be put in order.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import MLOpsError
from prefect_mlops.core.evaluation.scoring import score_model
from prefect_mlops.core.lineage.training_data import estimator_name
from prefect_mlops.core.text import one_line
from prefect_mlops.tasks._space import combinations, identity, listed
from prefect_mlops.tracking import runs, trials
from prefect_mlops.tracking.client import backend
from prefect_mlops.tracking.trials import SearchStore, Trial

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from optuna.distributions import BaseDistribution

    from prefect_mlops.core.metrics import Metric
    from prefect_mlops.core.training.folds import Places
    from prefect_mlops.tasks._progress import Progress

MAX_SEED = 2**32


@dataclass(frozen=True)
class Question:
    """What is asked of each combination: its mean score over the folds.

    Attributes:
        estimator: unfitted, with its seeds set.
        X: features, (rows, columns).
        y: target, (rows,).
        folds: places of the rows to train on and to score on, for each fold.
        metric: scorer name or function.
        positive: the positive one of two classes, for a scorer's name.
    """

    estimator: Any
    X: pd.DataFrame
    y: pd.Series
    folds: Sequence[tuple[Places, Places]]
    metric: Metric
    positive: object = None

    def score(self, params: Mapping[str, Any], stop: threading.Event) -> tuple[float, ...]:
        """Score a combination on each fold.

        scikit-learn's `cross_validate` sets the process's warning filters for each fold, which threads must not do.
        """
        from sklearn.base import clone

        scores: list[float] = []
        for train, test in self.folds:
            if stop.is_set():
                raise CancelledError
            model = clone(self.estimator).set_params(**params).fit(self.X.iloc[train], self.y.iloc[train])
            on_test = self.X.iloc[test], self.y.iloc[test]
            scores += score_model(model, *on_test, metrics=[self.metric], positive=self.positive).values()
        return tuple(scores)


@dataclass
class Search:
    """One search, with all that is known of it so far.

    Attributes:
        place: where its trials are kept.
        question: what is asked of each combination.
        space: what may be tried.
        seed: of what is tried.
        jobs: trials at a time.
        log: the run's log.
        trials: what has ended, with what was taken over.
    """

    place: SearchStore
    question: Question
    space: dict[str, BaseDistribution]
    seed: int
    jobs: int
    log: logging.Logger | logging.LoggerAdapter[Any]
    trials: list[Trial] = field(default_factory=list)
    _pending: dict[Future[Trial], tuple[Trial, optuna.Trial]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _parent: str | None = None
    _next: int = 0

    def __post_init__(self) -> None:
        import optuna

        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells the terminal of each new study
        self._study = optuna.create_study(direction="maximize")
        optuna.logging.set_verbosity(verbosity)

    @property
    def best(self) -> Trial | None:
        """The trial with the highest score, the first of equals."""
        scored = [trial for trial in self.trials if trial.score is not None]
        return max(scored, key=lambda trial: (trial.score or 0.0, -trial.number), default=None)

    def take_over(self) -> int:
        """Take over what MLflow has of this search; return how many trials."""
        from optuna.trial import TrialState, create_trial

        with backend("reading the trials of before"):
            known = trials.read_trials(self.place)
        for trial in known:
            state = TrialState.FAIL if trial.score is None else TrialState.COMPLETE
            with contextlib.suppress(
                ValueError, TypeError, KeyError, AttributeError
            ):  # a tag that was edited in MLflow
                self._study.add_trial(
                    create_trial(state=state, value=trial.score, params=trial.params, distributions=self.space)
                )
                self.trials.append(trial)
        self._next = max((trial.number + 1 for trial in self.trials), default=0)
        return len(self.trials)

    def run(self, *, trials: int, seconds: float | None, progress: Progress) -> None:
        """Try until there are enough trials, the space is used up, or the time is."""
        wanted = min(trials, combinations(self.space) or trials)
        began = time.monotonic()
        pool = _pool(self.jobs)
        try:
            with _blas_threads(self.jobs):
                while self._start_some(pool, wanted, None if seconds is None else began + seconds):
                    for future in wait(self._pending, return_when=FIRST_COMPLETED).done:
                        self._finish(future)
                        spent = 0.0 if seconds is None else (time.monotonic() - began) / seconds
                        progress.show(100 * max(len(self.trials) / wanted, spent), self._summary(wanted))
            self._settle()
        except BaseException:
            self._give_up()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        progress.show(100.0, self._summary(wanted), at_once=True)

    def _start_some(self, pool: Executor, wanted: int, until: float | None) -> bool:
        """Keep every worker busy; tell whether any is. The first trial is made however short the time."""
        while len(self._pending) < self.jobs and len(self.trials) + len(self._pending) < wanted:
            started = bool(self.trials or self._pending)
            if started and until is not None and time.monotonic() >= until:
                break
            self._start(pool)
        return bool(self._pending)

    def _start(self, pool: Executor) -> None:
        from sklearn import get_config

        asked = self._ask()
        trial = Trial(number=self._next, params=dict(asked.params))
        with backend(f"opening trial {trial.number}"):
            self._parent = self._parent or runs.open_parent(self.place.client, self.place.experiment, self.place.who)
            run_id = trials.open_trial(self.place, trial.number, trial.params, self._parent)
        self._next += 1
        trial = replace(trial, run_id=run_id)
        waiting: Future[Trial] = Future()  # what is interrupted before the pool has it is ended all the same
        self._pending[waiting] = (trial, asked)
        work = contextvars.copy_context().run  # Prefect's run, so that an estimator's own log lines arrive
        begun = pool.submit(work, _try, self.question, trial, self._stop, get_config(), _threads_each(self.jobs))
        self._pending[begun] = self._pending.pop(waiting)

    def _ask(self) -> optuna.Trial:
        """Choose what to try next, seeded by the trial's number, so that a resumed search goes on as it would have."""
        import optuna

        seed = (self.seed * 1_000_003 + self._next) % MAX_SEED
        # With others under way, what they try counts as bad, or all of them would try the same.
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=self.jobs > 1)
        asked = self._study.ask(self.space)
        tried = {identity(trial.params) for trial in (*self.trials, *(trial for trial, _ in self._pending.values()))}
        if identity(asked.params) not in tried or combinations(self.space) is None:
            return asked
        self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        left = [params for params in listed(self.space) if identity(params) not in tried]
        self._study.enqueue_trial(random.Random(seed).choice(left))  # noqa: S311 - a search, not a secret
        return self._study.ask(self.space)

    def _finish(self, future: Future[Trial]) -> None:
        import optuna

        _, asked = self._pending[future]
        ended = future.result()
        best = self.best
        with backend(f"writing trial {ended.number}"):
            trials.end_trial(self.place, ended)
        del self._pending[future]
        self.trials.append(ended)
        if ended.score is None:
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
            self.log.warning("trial %d failed with %s: %s", ended.number, shown_params(ended.params), ended.reason)
            return
        self._study.tell(asked, ended.score)
        if best is None or best.score is None or ended.score > best.score:
            metric = self.place.metric
            self.log.info(
                "trial %d is the best so far: %s %.4f with %s",
                ended.number,
                metric,
                ended.score,
                shown_params(ended.params),
            )

    def _settle(self) -> None:
        """Leave one parent where two workers made one each in the same moment."""
        if self._parent:
            with backend("settling the parent run"):
                runs.adopt(self.place.client, self.place.experiment, self.place.who, self.trials[-1].run_id)

    def _give_up(self) -> None:
        """End what is under way; a fit cannot be stopped, but its thread ends with the fold."""
        self._stop.set()
        for trial, _ in self._pending.values():
            with contextlib.suppress(Exception):  # the error that stopped the search is the one to report
                self.place.client.set_terminated(trial.run_id, "KILLED")

    def _summary(self, wanted: int) -> str:
        best = self.best
        score = f", best {self.place.metric} {best.score:.4f}" if best and best.score is not None else ""
        return f"{estimator_name(self.question.estimator)}: {len(self.trials)} of {wanted} trials{score}"


def shown_params(params: Mapping[str, Any]) -> str:
    """Write a combination of parameters on one line."""
    return ", ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value!r:.80}" for name, value in params.items()
    )


def _try(question: Question, trial: Trial, stop: threading.Event, config: dict[str, Any], threads: int | None) -> Trial:
    """Score one combination; what its estimator raises is an answer too."""
    from sklearn import config_context
    from threadpoolctl import threadpool_limits

    if threads:
        # OpenMP keeps this limit for each thread, and a new thread has none: trials would fight for the cores.
        threadpool_limits(threads, user_api="openmp")
    began = time.monotonic()
    try:
        with config_context(**config):  # scikit-learn's settings are those of a thread
            scores = question.score(trial.params, stop)
    except CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - estimators raise what they like; it is written down
        why = str(error) if isinstance(error, MLOpsError) else f"{type(error).__name__}: {error}"
        return replace(trial, reason=one_line(why), seconds=time.monotonic() - began)
    return replace(trial, scores=scores, score=sum(scores) / len(scores), seconds=time.monotonic() - began)


class _SameThread(Executor):
    """Work at once, in the caller's thread, where Ctrl-C reaches it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def _pool(jobs: int) -> Executor:
    return _SameThread() if jobs == 1 else ThreadPoolExecutor(jobs, thread_name_prefix="trial")


def _threads_each(jobs: int) -> int | None:
    """How many threads a fit may take when trials share the cores; None leaves it to the libraries."""
    import joblib

    return None if jobs == 1 else max(1, int(joblib.cpu_count()) // jobs)


@contextlib.contextmanager
def _blas_threads(jobs: int) -> Iterator[None]:
    """Share the cores in BLAS too, whose limit is the process's: set once, and set back."""
    from threadpoolctl import threadpool_limits

    threads = _threads_each(jobs)
    if threads is None:
        yield
        return
    with threadpool_limits(threads, user_api="blas"):
        yield
