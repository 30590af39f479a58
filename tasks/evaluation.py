"""Score a model, and judge a challenger against the champion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.evaluation import models
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.metrics import Metric
    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.values import Evaluation, Gate


def _evaluate_name(parameters: dict[str, Any]) -> str:
    return f"evaluate-{models.model_title(parameters['estimator'])}-on-{len(parameters['X'])}-rows"


def _judge_name(parameters: dict[str, Any]) -> str:
    return f"judge-{models.model_title(parameters['challenger'])}-on-{len(parameters['X'])}-rows"


@step(_evaluate_name)
def evaluate_model(
    estimator: Any,
    X: pd.DataFrame,
    y: pd.Series,
    *,
    metrics: Sequence[Metric],
    order_by: str | None = None,
    group_by: str | None = None,
) -> Evaluation:
    """Score a fitted model on rows it has not seen.

    Args:
        estimator: fitted scikit-learn compatible estimator, or a `LoadedModel`.
        X: features, (rows, columns); columns the model does not know are left out.
        y: truth, (rows,), in the order of ``X``.
        metrics: scikit-learn scorer names, and functions ``f(estimator, X, y) -> float``; larger is better for each.
        order_by: column of time in ``X``; the intervals then rest on blocks in time.
        group_by: column in ``X`` whose groups are independent of each other; the intervals then rest on groups.

    Returns:
        The scores, how many rows they rest on, and a 95 % interval for each. A metric that only scikit-learn or its
        author knows is computed up to 200 times for that (`core.evaluation.estimates`).

    Raises:
        ConfigError: unknown metric, or one that does not fit model or target; a column that is not there.
        DataCheckError: no rows, or a score that is not defined on these rows.

    Source: `sklearn.metrics.get_scorer`; the intervals as in `core.evaluation.influence_functions`.
    """
    return models.evaluate_model(estimator, X, y, metrics=metrics, order_by=order_by, group_by=group_by)


@step(_judge_name)
def judge_model(
    challenger: Any,
    champion: Any | None,
    X: pd.DataFrame,
    y: pd.Series,
    *,
    gates: Sequence[Gate],
    order_by: str | None = None,
    group_by: str | None = None,
    seed: int = 0,
) -> Report:
    """Compare a challenger with the champion on the same rows, which neither was trained on.

    Differences are judged by their interval, so that luck on few rows decides nothing: ``may_lose`` and ``must_gain``
    hold where the lower bound lies above minus the margin, or above the gain. docs/gates.md tells which interval
    belongs to which metric. Predictions are made once; a metric that only its author knows is computed up to
    200 times for each model.

    Args:
        challenger: fitted estimator that wants to be promoted.
        champion: `LoadedModel` or fitted estimator that is live now; None where there is none, then only ``at_least``
            and ``max_gap`` count.
        X: the test rows, (rows, columns): the features of both, and the columns named by the options and slices.
        y: truth, (rows,), in the order of ``X``.
        gates: conditions; all have to hold.
        order_by: column of time; rows close in time are then taken together, in up to 50 blocks.
        group_by: column whose groups are independent of each other; rows of one group are then taken together.
        seed: of the resamples.

    Returns:
        A ``gate`` report with one check for each condition, and for the groups of the slices.

    Raises:
        ConfigError: no gates, unknown metric or column, a slice with too many values, or a champion that needs other
            columns than ``X`` has.
        DataCheckError: no rows, or a score that is not defined on these rows.

    Source: `sklearn.metrics.get_scorer`; `influence_functions`, `intervals`, `gates` of `core.evaluation` name theirs.
    """
    return models.judge_model(challenger, champion, X, y, gates=gates, order_by=order_by, group_by=group_by, seed=seed)
