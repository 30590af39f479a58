"""Will a parcel be sent back? A small shop whose sales arrive in daily files: times, a category, numbers with gaps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from prefect_mlops.core import DatasetSpec, Gate, ModelSpec

KINDS = ["shoes", "shirt", "hat"]
NUMBERS = ["price", "weight", "hour"]


def sales(day: int, rows: int = 400, *, price: float = 40.0) -> pd.DataFrame:
    """The sales of one day of 2024; shoes and dear things are sent back more often."""
    random = np.random.default_rng(day)
    table = pd.DataFrame(
        {
            "sold_at": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(day * 86_400 + np.sort(random.integers(0, 86_400, rows)), unit="s"),
            "kind": random.choice(KINDS, rows),
            "price": random.normal(price, 10.0, rows).clip(1.0, 500.0).round(2),
            "weight": random.gamma(2.0, 0.5, rows).round(3),
        }
    )
    chance = 1 / (1 + np.exp(-(2.5 * (table["kind"] == "shoes") + (table["price"] - 40) / 8 - 1)))
    return table.assign(returned=(random.random(rows) < chance).astype("int64"))


def prepare(rows: pd.DataFrame) -> pd.DataFrame:
    """Text from files becomes times, and the hour of the day a number."""
    times = pd.to_datetime(rows["sold_at"])
    return rows.assign(sold_at=times, hour=times.dt.hour)


def prepare_otherwise(rows: pd.DataFrame) -> pd.DataFrame:
    """The same columns with another meaning, as after an edit."""
    return prepare(rows).assign(hour=lambda table: table["hour"] % 12)


suite = ExpectationSuite(
    name="shop",
    expectations=[
        gxe.ExpectTableColumnsToMatchSet(column_set=["sold_at", "kind", "price", "weight", "returned"]),
        gxe.ExpectColumnValuesToNotBeNull(column="sold_at"),
        gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=KINDS),
        gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, max_value=1000),
    ],
)
sales_files = DatasetSpec(name="shop", landing="landing", suite=suite, settle_seconds=0)
model = ModelSpec(
    name="shop",
    dataset="shop",
    target="returned",
    order_by="sold_at",
    prepare=prepare,
    suite=suite,
    estimator=make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["kind"]), (StandardScaler(), NUMBERS)),
        LogisticRegression(),
    ),
    gates=[Gate("roc_auc", at_least=0.6, may_lose=0.05)],
)
by_row = dataclasses.replace(model, row_wise=True)
changed = dataclasses.replace(model, prepare=prepare_otherwise)
from_a_file = dataclasses.replace(model, dataset="shop.csv")
