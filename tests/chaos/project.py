"""What the chaos test works on: a dataset of small files and a model of it, as a user would declare them."""

from __future__ import annotations

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from sklearn.linear_model import LogisticRegression

from prefect_mlops.core import DatasetSpec, Gate, ModelSpec

events = DatasetSpec(
    name="chaos",
    suite=ExpectationSuite(
        name="chaos",
        expectations=[
            gxe.ExpectTableColumnsToMatchSet(column_set=["id", "x", "y"]),
            gxe.ExpectColumnValuesToNotBeNull(column="id"),
            gxe.ExpectColumnValuesToBeBetween(column="x", min_value=-100, max_value=100),
        ],
    ),
    settle_seconds=1.0,
)
model = ModelSpec(
    name="chaos",
    dataset=events.name,
    target="y",
    features=["x"],
    suite=events.suite,
    estimator=LogisticRegression(),
    gates=[Gate("roc_auc", at_least=0.5)],
)
