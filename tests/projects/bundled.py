"""Specs for scikit-learn's bundled sets: binary, many classes, regression; none of them knew this project."""

from __future__ import annotations

import pandas as pd
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.values import Gate
from prefect_mlops.data_checks import infer_suite

TABLES = {
    "cancer": load_breast_cancer(as_frame=True).frame,
    "wine": load_wine(as_frame=True).frame.assign(
        target=lambda table: table["target"].map({0: "red", 1: "white", 2: "rosé"}),
        strong=lambda table: pd.array(table["alcohol"] > 13, dtype="boolean"),
    ),
    "diabetes": load_diabetes(as_frame=True).frame,
}


def _spec(name: str, estimator: object, gate: Gate, **more: object) -> ModelSpec:
    return ModelSpec(
        name=name,
        dataset=f"{name}.parquet",
        target="target",
        estimator=estimator,
        suite=infer_suite(TABLES[name], name=name),
        gates=[gate],
        **more,
    )


cancer = _spec(
    "cancer",
    make_pipeline(StandardScaler(), LogisticRegression()),
    Gate("roc_auc", at_least=0.9, may_lose=0.01),
    stratify=True,
)
cancer_forest = _spec("cancer", RandomForestClassifier(n_estimators=20), Gate("roc_auc", at_least=0.9, may_lose=0.1))
cancer_blind = _spec(
    "cancer", LogisticRegression(), Gate("roc_auc", at_least=0.9, may_lose=0.01), features=["mean symmetry"]
)
wine = _spec("wine", RandomForestClassifier(n_estimators=30), Gate("roc_auc_ovr", at_least=0.9), metrics=["f1_macro"])
diabetes = _spec(
    "diabetes",
    HistGradientBoostingRegressor(max_iter=50),
    Gate("neg_root_mean_squared_error", at_least=-80, may_lose=5),
    metrics=["r2"],
    order_by="bp",
)
not_a_spec = {"name": "cancer"}
missing_column = ModelSpec(
    name="cancer",
    dataset="cancer.parquet",
    target="target",
    estimator=LogisticRegression(),
    suite=ExpectationSuite(name="x", expectations=[gxe.ExpectColumnValuesToNotBeNull(column="mean radios")]),
    gates=[Gate("roc_auc", at_least=0.5)],
)
