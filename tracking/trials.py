"""The trials of a search as MLflow keeps them: one run each, found again by the key of the search."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from prefect_mlops.core import tags as mlflow_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from prefect_mlops.tracking.runs import Caller

ABANDONED_AFTER_S = 24 * 3600  # of another flow run, which may be alive; this old it is taken for killed
MAX_PARAM_LENGTH = 500
PAGE = 1000


Scalar: TypeAlias = "bool | int | float | str | None"


@dataclass(frozen=True)
class SearchStore:
    """Where the trials of one search are written.

    Attributes:
        client: door to MLflow.
        experiment: id of the experiment.
        key: of the search.
        metric: scorer name.
        who: the Prefect run that searches.
    """

    client: MlflowClient
    experiment: str
    key: str
    metric: str
    who: Caller


@dataclass(frozen=True)
class Trial:
    """One combination and what came of it.

    Attributes:
        number: counted from 0 over all runs of the search.
        params: value by parameter name.
        run_id: MLflow run; empty while it has none.
        scores: of the folds; empty where it failed, or where only the mean was read back.
        score: mean over the folds; None where it failed.
        reason: why it failed.
        seconds: how long it took.
    """

    number: int
    params: dict[str, Scalar]
    run_id: str = ""
    scores: tuple[float, ...] = ()
    score: float | None = None
    reason: str = ""
    seconds: float = 0.0


def read_trials(place: SearchStore) -> list[Trial]:
    """Return the ended trials of a search in their order, of every flow run, and end those of killed runs.

    Failed ones count only where another one worked: when all failed, the cause may have gone since.
    """
    runs = _runs(place)
    for run in runs:
        if run.info.status == "RUNNING" and _left_behind(run, place.who):
            place.client.set_terminated(run.info.run_id, "KILLED")
    trials = [trial for run in runs if (trial := _read(run, place.metric))]
    if all(trial.score is None for trial in trials):
        return []
    return sorted(trials, key=lambda trial: (trial.number, trial.run_id))


def open_trial(place: SearchStore, number: int, params: dict[str, Scalar], parent: str | None) -> str:
    """Make the run of a trial that starts now; return its id."""
    tags = {
        mlflow_tags.SEARCH: place.key,
        mlflow_tags.SEARCH_TRIAL: str(number),
        mlflow_tags.SEARCH_PARAMS: json.dumps(params, sort_keys=True),
        "mlflow.source.type": "JOB",
        "mlflow.source.name": place.who.flow_name or "prefect-mlops",
        **({mlflow_tags.PARENT: parent} if parent else {}),
        **({mlflow_tags.SEARCH_FLOW_RUN: place.who.flow_run_id} if place.who.flow_run_id else {}),
        **({mlflow_tags.FLOW_RUN_URL: place.who.url} if place.who.url else {}),
    }
    return str(place.client.create_run(place.experiment, tags=tags, run_name=f"trial-{number}").info.run_id)


def end_trial(place: SearchStore, trial: Trial) -> None:
    """Write what came of a trial and end its run. The status comes last: only a whole trial counts."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    metrics = [Metric("seconds", trial.seconds, now, 0)]
    if trial.score is not None:
        metrics.append(Metric(place.metric, trial.score, now, 0))
        metrics += [Metric(f"{place.metric}_fold", score, now, fold) for fold, score in enumerate(trial.scores)]
    place.client.log_batch(
        trial.run_id,
        metrics=metrics,
        params=[Param(name, str(value)[:MAX_PARAM_LENGTH]) for name, value in trial.params.items()],
        tags=[RunTag(mlflow_tags.SEARCH_REASON, trial.reason)] if trial.reason else [],
    )
    place.client.set_terminated(trial.run_id, "FINISHED" if trial.score is not None else "FAILED")


def _runs(place: SearchStore) -> list[Run]:
    found: list[Run] = []
    token = None
    while True:
        page = place.client.search_runs(
            [place.experiment], f"tags.`{mlflow_tags.SEARCH}` = '{place.key}'", max_results=PAGE, page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def _left_behind(run: Run, who: Caller) -> bool:
    """Tell whether a trial that says it runs cannot: one flow run searches once at a time, and no trial takes a day."""
    ours = who.flow_run_id is not None and run.data.tags.get(mlflow_tags.SEARCH_FLOW_RUN) == who.flow_run_id
    return ours or time.time() - run.info.start_time / 1000 > ABANDONED_AFTER_S


def _read(run: Run, metric: str) -> Trial | None:
    """Read a trial back; None for one that has not ended by itself, or whose tags were edited in MLflow."""
    tags, score = run.data.tags, run.data.metrics.get(metric)
    failed = run.info.status == "FAILED" and mlflow_tags.SEARCH_REASON in tags
    if not failed and (run.info.status != "FINISHED" or score is None):
        return None
    try:
        number, params = int(tags[mlflow_tags.SEARCH_TRIAL]), json.loads(tags[mlflow_tags.SEARCH_PARAMS])
    except (KeyError, ValueError):
        return None
    return Trial(
        number=number,
        params=params,
        run_id=str(run.info.run_id),
        score=None if failed else score,
        reason=tags.get(mlflow_tags.SEARCH_REASON, ""),
    )
