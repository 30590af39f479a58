"""Look for good parameters of an estimator on its training rows, before it is trained."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydantic import Field

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.evaluation.positive_class import require_positive
from prefect_mlops.core.lineage.training_data import estimator_name, training_digest
from prefect_mlops.core.metrics import Metric, metric_name, require_metrics
from prefect_mlops.core.specs.fingerprints import described
from prefect_mlops.core.specs.model import MAX_SEED, described_parameters
from prefect_mlops.core.tables.digests import columns_digest
from prefect_mlops.core.text import one_line
from prefect_mlops.core.training.estimators import require_classes, require_rows, seeded_copy
from prefect_mlops.core.training.folds import cut_rows
from prefect_mlops.core.values import Value
from prefect_mlops.tasks import flow_context
from prefect_mlops.tasks._events import slug
from prefect_mlops.tasks._progress import Progress
from prefect_mlops.tasks._search import Question, Search, shown_params
from prefect_mlops.tasks._space import distributions_of
from prefect_mlops.tasks._step import run_logger, step
from prefect_mlops.tracking import runs
from prefect_mlops.tracking.client import backend, mlflow_client, page
from prefect_mlops.tracking.trials import SearchStore

if TYPE_CHECKING:
    import pandas as pd
    from optuna.distributions import BaseDistribution

    from prefect_mlops.core.specs.policies import Tune

MAX_JOBS = 4  # beyond it a search asks for the next trial before it has learned from the last ones


class Tuned(Value):
    """What a search found.

    Attributes:
        params: best value by parameter name.
        score: its mean over the folds.
        metric: scorer name.
        trials: combinations that were scored, in this call and before.
        failed: combinations whose training or scoring raised.
        known: how many of both were taken over from before.
        seconds: how long this call took.
        run_id: MLflow run of the best trial.
        url: MLflow page of that run; None where MLflow has no server.
    """

    params: dict[str, bool | int | float | str | None]
    score: float
    metric: str
    trials: int = Field(ge=1)
    failed: int = 0
    known: int = 0
    seconds: float
    run_id: str
    url: str | None = None

    def applied_to(self, estimator: Any) -> Any:
        """Return an unfitted copy of an estimator with the best parameters set."""
        from sklearn.base import clone

        return clone(estimator).set_params(**self.params)


def _run_name(parameters: dict[str, Any]) -> str:
    return f"tune-{estimator_name(parameters['estimator'])}-on-{len(parameters['X'])}-rows"


@step(_run_name, backend=True)
def tune_model(  # noqa: PLR0913 - keyword-only but for estimator and rows
    estimator: Any,
    X: pd.DataFrame,
    y: pd.Series,
    *,
    tune: Tune,
    experiment: str,
    metric: Metric | None = None,
    ordered: bool = False,
    groups: pd.Series | None = None,
    positive: object = None,
    seed: int = 0,
    jobs: int | None = None,
) -> Tuned:
    """Search for the parameters with the best cross-validated score.

    Give it training rows only: what it has seen cannot judge the model any more. Each combination is a child of the
    flow run's run in MLflow, and MLflow is also the memory: a search that was killed goes on after its last finished
    trial, in whichever flow run, and one that is complete is answered at once. The same search means the same
    estimator, space, metric, folds, seed, rows and version of scikit-learn; trials and seconds may differ.
    With ``jobs=1`` it tries the same combinations each time, interrupted or not; with more, the order in which trials
    end decides what is tried next.

    Args:
        estimator: scikit-learn compatible estimator or pipeline; it is cloned, never changed.
        X: features of the training rows, (rows, columns).
        y: target, (rows,), in the order of ``X``.
        tune: what to try, how often, how long, in how many folds.
        experiment: MLflow experiment; made when it is new.
        metric: scikit-learn scorer name, or a function ``f(estimator, X, y) -> float``; larger is better. None takes
            that of ``tune``.
        ordered: the rows are in order of time: each fold is scored on rows after those it was trained on.
        groups: (rows,), in the order of ``X``; rows with one value stay in one fold.
        positive: the positive one of two classes, for a scorer's name; None leaves classes as they are.
        seed: for the choice of combinations, the folds, and everything in the estimator that has no seed yet.
        jobs: trials at a time, in threads that share the cores; None for the number of cores, at most four.

    Returns:
        The best parameters and their score; `Tuned.applied_to` sets them.

    Raises:
        ConfigError: a wrong space or option, rows that cannot be cut into folds, no trial worked, or a metric and a
            target that do not go together with this positive class.
        DataCheckError: no rows, or one class only.
        BackendError: MLflow failed; retried, and the retry goes on where it stopped.

    Source: `optuna.samplers.TPESampler`; scikit-learn's splitters and scorers.
    """
    began = time.monotonic()
    scorer, workers = _scorer(tune, metric), _jobs(jobs)
    seeded = seeded_copy(estimator, _seed(seed))
    require_rows(X, y)
    require_classes(seeded, y)
    require_positive(scorer, y, positive)
    warn = run_logger().warning
    rows = cut_rows(seeded, X, y, folds=tune.folds, ordered=ordered, groups=groups, seed=seed, warn=warn)
    question = Question(seeded, *rows, scorer, positive)
    distributions = distributions_of(tune.space, seeded)
    key = _key(question, distributions, seed=seed, ordered=ordered, groups=groups, folds=tune.folds)
    search = Search(
        place=_place(experiment, key, metric_name(scorer)),
        question=question,
        space=distributions,
        seed=seed,
        jobs=workers,
        log=run_logger(),
    )
    known = search.take_over()
    progress = Progress(slug(f"tuning-{experiment}"))
    with _warnings_in_the_log():
        search.run(trials=tune.trials, seconds=tune.seconds, progress=progress)
    return _tuned(search, known, time.monotonic() - began)


def _scorer(tune: Tune, metric: Metric | None) -> Metric:
    """Check what a spec may declare in the same words as the spec does; return what is scored with."""
    if tune.problem:
        raise ConfigError(f"tune_model: {tune.problem}")
    if metric is None and not tune.metric:
        raise ConfigError("tune_model: metric: name a scorer, here or in tune, e.g. Tune(..., metric='roc_auc')")
    (scorer,) = require_metrics([tune.metric if metric is None else metric])
    return scorer


def _jobs(jobs: int | None) -> int:
    import joblib

    if jobs is None:
        return min(MAX_JOBS, int(joblib.cpu_count()))
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise ConfigError(f"tune_model: jobs is 1 or more, or None for the number of cores, got {jobs!r:.80}")
    return jobs


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"tune_model: seed is a whole number from 0 to {MAX_SEED}, got {seed!r:.80}")
    return seed


def _key(
    question: Question,
    space: Mapping[str, BaseDistribution],
    *,
    seed: int,
    ordered: bool,
    groups: pd.Series | None,
    folds: int,
) -> str:
    """Name a search by everything its scores depend on, so that it is found again."""
    import pandas as pd
    from optuna.distributions import distribution_to_json

    parts = {
        "scikit-learn": version("scikit-learn"),
        "estimator": [repr(type(question.estimator)), described_parameters(question.estimator)],
        "space": {name: distribution_to_json(distribution) for name, distribution in space.items()},
        "metric": described(question.metric),
        "folds": folds,
        "ordered": ordered,
        "groups": None if groups is None else columns_digest([("groups", pd.Series(groups))]),
        "seed": seed,
        "rows": training_digest(question.X, question.y),
        **({} if question.positive is None else {"positive": described(question.positive)}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _place(experiment: str, key: str, metric: str) -> SearchStore:
    client = mlflow_client()
    with backend(f"opening experiment {experiment!r}"):
        return SearchStore(client, runs.experiment_id(client, experiment), key, metric, flow_context.caller())


def _tuned(search: Search, known: int, seconds: float) -> Tuned:
    best, failed = search.best, [trial for trial in search.trials if trial.score is None]
    if best is None or best.score is None:
        name = estimator_name(search.question.estimator)
        raise ConfigError(
            f"tune_model: none of {len(failed)} trials of {name} worked. The first, with "
            f"{shown_params(failed[0].params)}: {failed[0].reason}"
        )
    metric = search.place.metric
    run_logger().info(
        "best of %d trials (%d known from before): %s %.4f with %s",
        len(search.trials),
        known,
        metric,
        best.score,
        shown_params(best.params),
    )
    return Tuned(
        params=best.params,
        score=best.score,
        metric=metric,
        trials=len(search.trials) - len(failed),
        failed=len(failed),
        known=known,
        seconds=seconds,
        run_id=best.run_id,
        url=page(f"experiments/{search.place.experiment}/runs/{best.run_id}"),
    )


@contextmanager
def _warnings_in_the_log() -> Iterator[None]:
    """Show each warning of the fits once, in the run's log, instead of once a fold on stderr."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    shown = [item for item in caught if not issubclass(item.category, ExperimentalWarning)]
    for message in dict.fromkeys(one_line(item.message) for item in shown):
        run_logger().warning(message)
