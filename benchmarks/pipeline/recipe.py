"""The domain part of every contestant: what a flight is, what is good data, and which model learns from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

TARGET = "late"
CATEGORIES = ["carrier", "origin", "dest"]
FEATURES = [*CATEGORIES, "hour", "weekday", "distance", "temp", "humid", "wind_speed", "precip", "pressure", "visib"]
METRICS = ["roc_auc", "average_precision", "neg_log_loss"]
TEST_SHARE = 0.2
FLOOR, MAY_LOSE = 0.62, 0.02  # of the gate, in ROC AUC

REQUIRED = ["scheduled_departure", "carrier", "flight", "origin", "dest", "distance", "sched_dep_time"]
ORIGINS = ["EWR", "JFK", "LGA"]
CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
RANGES = {
    "sched_dep_time": (1, 2359),
    "distance": (10, 6000),
    "arr_delay": (-180, 2880),
    "temp": (-40, 130),
    "humid": (0, 100),
    "wind_speed": (0, 150),
    "visib": (0, 10),
}


def expectations() -> list[Any]:
    """Say what good data is: the 16 expectations of the example's suite."""
    from great_expectations import expectations as gxe

    return [
        *(gxe.ExpectColumnValuesToNotBeNull(column=column) for column in REQUIRED),
        gxe.ExpectColumnValuesToBeInSet(column="origin", value_set=ORIGINS),
        gxe.ExpectColumnValuesToBeInSet(column="carrier", value_set=CARRIERS),
        *(
            gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)
            for column, (low, high) in RANGES.items()
        ),
        gxe.ExpectColumnValuesToNotBeNull(column="temp", mostly=0.75, severity="warning"),
    ]


def prepare(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out flights that never arrived; add the target and what repeats in time; put the rows in order."""
    arrived = rows[rows["arr_delay"].notna()].sort_values("scheduled_departure", kind="stable", ignore_index=True)
    return arrived.assign(
        late=(arrived["arr_delay"] > 15).astype("int64"),  # noqa: PLR2004 - minutes
        hour=arrived["sched_dep_time"] // 100,
        weekday=arrived["scheduled_departure"].dt.dayofweek,
    )


def estimator() -> Any:
    """Build the example's estimator, with a seed."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, CATEGORIES), remainder="passthrough")
    trees = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, categorical_features=[0, 1], random_state=0
    )
    return make_pipeline(columns, trees)
