"""Which parcels are sent back? The project of the stored home; frozen: its commit and its digests are in the home."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pandas as pd
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from prefect_mlops.core import DatasetSpec, Gate, ModelSpec, Retrain, Tune

KINDS = ["shoes", "shirt", "hat"]
NUMBERS = ["price", "weight"]
FOR_EVER = timedelta(days=100 * 365)


def suite_for(kinds: list[str]) -> ExpectationSuite:
    """What good rows are, for a shop that sells these kinds."""
    return ExpectationSuite(
        name="parcels",
        expectations=[
            gxe.ExpectTableColumnsToMatchSet(column_set=["sold_at", "kind", "price", "weight", "returned"]),
            gxe.ExpectColumnValuesToNotBeNull(column="sold_at"),
            gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=kinds),
            gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, max_value=1000),
        ],
    )


def prepare(rows: pd.DataFrame) -> pd.DataFrame:
    """Text becomes times, and the hour of the day a number."""
    times = pd.to_datetime(rows["sold_at"])
    return rows.assign(sold_at=times, hour=times.dt.hour)


def scaled(numbers: list[str], **options: float) -> object:
    """A pipeline of the kinds and some numbers."""
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["kind"]), (StandardScaler(), numbers))
    return make_pipeline(columns, LogisticRegression(**options))


files = DatasetSpec(name="parcels", suite=suite_for(KINDS), settle_seconds=0)
mended = dataclasses.replace(files, suite=suite_for([*KINDS, "scarf"]))
promised = dataclasses.replace(files, late_after=timedelta(microseconds=1))

model = ModelSpec(
    name="parcels",
    dataset="parcels",
    target="returned",
    order_by="sold_at",
    prepare=prepare,
    suite=mended.suite,
    estimator=scaled([*NUMBERS, "hour"]),
    gates=[Gate("roc_auc", at_least=0.6, may_lose=0.1)],
    metrics=["average_precision"],
    retrain=Retrain(refused_in_a_row=1),
    purpose="Which parcels will be sent back.",
)
worse = dataclasses.replace(model, features=["weight"], estimator=LogisticRegression())
failing = dataclasses.replace(model, estimator=scaled([*NUMBERS, "hour"], C=-1.0))
early = dataclasses.replace(model, estimator=scaled([*NUMBERS, "hour"], C=0.5))

# Its name is one that addresses of tables have to spell out.
careful = ModelSpec(
    name="Parcels.Careful",
    dataset="parcels",
    target="returned",
    features=NUMBERS,
    stratify=True,
    suite=mended.suite,
    estimator=make_pipeline(StandardScaler(), LogisticRegression()),
    gates=[Gate("roc_auc", at_least=0.55, may_lose=0.2)],
    approval="required",
    approvers=["anna", "@risk"],
    approval_expires=FOR_EVER,
)
hasty = dataclasses.replace(
    careful,
    estimator=make_pipeline(StandardScaler(), LogisticRegression(C=2.0)),
    approval_expires=timedelta(seconds=1),
)
tuned = dataclasses.replace(careful, tune=Tune(space={"logisticregression__C": (0.01, 10.0)}, trials=4, folds=3))
