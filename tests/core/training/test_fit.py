from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.lineage.training_data import lineage_of
from prefect_mlops.core.tables.digests import columns_digest
from prefect_mlops.core.training.fit import fit_estimator as train


@pytest.fixture(scope="module")
def rows() -> tuple[pd.DataFrame, pd.Series]:
    return load_breast_cancer(as_frame=True, return_X_y=True)


def test_the_users_estimator_is_left_alone(rows) -> None:
    mine = LogisticRegression(solver="liblinear")
    fitted = train(mine, *rows)
    assert fitted is not mine
    assert not hasattr(mine, "coef_")
    assert fitted.predict(rows[0]).shape == (569,)


def test_random_estimators_without_a_seed_become_repeatable(rows) -> None:
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=5))
    first, second = (train(forest, *rows).predict_proba(rows[0]) for _ in range(2))
    other = train(forest, *rows, seed=1).predict_proba(rows[0])
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert train(RandomForestClassifier(random_state=7), *rows).random_state == 7


def test_the_model_says_what_it_was_trained_on(rows) -> None:
    X, y = rows
    lineage = lineage_of(train(LogisticRegression(solver="liblinear"), X, y, seed=3))
    assert lineage.digest == columns_digest([*((str(c), X[c]) for c in X), ("target", y)])
    assert (lineage.rows, lineage.target, lineage.seed) == (569, "target", 3)
    assert lineage.columns["mean radius"] == "float"
    changed = X.copy()
    changed.iloc[500, 0] += 1e-9
    assert lineage_of(train(LogisticRegression(solver="liblinear"), changed, y)).digest != lineage.digest


@pytest.mark.parametrize(
    ("estimator", "says"),
    [
        ("RandomForrestClassifier", "did you mean 'RandomForestClassifier'"),
        (LogisticRegression, "give an instance, LogisticRegression()"),
        (42, "no scikit-learn estimator is called 'int'"),
    ],
)
def test_what_is_not_an_estimator_is_refused_by_name(rows, estimator, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        train(estimator, *rows)
    assert says in str(refused.value)


def test_missing_values_name_their_columns_and_the_cure(rows) -> None:
    X = rows[0].copy()
    X.loc[3, "mean radius"] = np.nan
    with pytest.raises(ConfigError, match="Columns with missing values: 'mean radius'; add an imputer"):
        train(LogisticRegression(), X, rows[1])
    train(HistGradientBoostingClassifier(max_iter=2), X, rows[1])


def test_words_name_their_columns_and_the_cure(rows) -> None:
    with pytest.raises(ConfigError, match="Columns that are not numbers: 'lab'; add an encoder"):
        train(LogisticRegression(), rows[0].assign(lab="north"), rows[1])


@pytest.mark.parametrize(
    "estimator", [LogisticRegression(), HistGradientBoostingClassifier(), RandomForestClassifier()]
)
def test_one_class_is_nothing_to_learn(rows, estimator) -> None:
    ones = rows[1] == 1
    with pytest.raises(DataCheckError, match="one class only, 1, in 357 rows") as refused:
        train(estimator, rows[0][ones], rows[1][ones])
    assert refused.value.report.failures[0].name == "target has two classes"


def test_no_rows_and_rows_that_do_not_match(rows) -> None:
    with pytest.raises(DataCheckError, match="no rows to train on"):
        train(Ridge(), rows[0].iloc[:0], rows[1].iloc[:0])
    with pytest.raises(ConfigError, match="X has 569 rows and y has 568"):
        train(Ridge(), rows[0], rows[1].iloc[1:])


def test_plain_arrays_work_too(rows) -> None:
    fitted = train(Ridge(), rows[0].to_numpy(), rows[1].to_numpy())
    assert lineage_of(fitted).rows == 569
