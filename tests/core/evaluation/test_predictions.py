"""Answers in blocks are the answers to all rows."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from prefect_mlops.core.evaluation import predictions
from prefect_mlops.core.evaluation.predictions import CachedPredictions
from prefect_mlops.core.values import Gate
from prefect_mlops.tasks.evaluation import judge_model

ROWS = 1_003
GATES = [Gate(name, may_lose=0.1, slices=("shop",)) for name in ("roc_auc", "accuracy", "neg_log_loss")]


@pytest.fixture
def rows() -> pd.DataFrame:
    chance = np.random.default_rng(0)
    table = pd.DataFrame(chance.normal(size=(ROWS, 4)), columns=list("abcd"), index=chance.permutation(ROWS))
    return table.assign(shop=chance.integers(0, 3, ROWS))


@pytest.mark.parametrize("words", [False, True], ids=["numbers", "words"])
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        RandomForestClassifier(n_estimators=5, random_state=0),
        HistGradientBoostingClassifier(max_iter=5),
    ],
    ids=lambda model: type(model).__name__,
)
def test_blocks_give_the_same_figures_as_all_rows_at_once(
    rows: pd.DataFrame, model: BaseEstimator, words: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    y = (rows["a"] + rows["b"] ** 2 > 0.5).astype("int64")
    y = y.map({0: "no", 1: "yes"}) if words else y
    model.fit(rows, y)
    champion = LogisticRegression().fit(rows[["a"]], y)
    judge = partial(judge_model.fn, model, champion, rows, y, gates=GATES, group_by="shop", set_apart=True)
    whole = judge()
    monkeypatch.setattr(predictions, "BLOCK_ROWS", 100)
    assert judge() == whole
    assert len(whole.checks) > len(GATES)


def test_no_more_than_a_block_is_asked_about_at_once(rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Counting(DummyClassifier):
        def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
            asked.append(len(X))
            return super().predict_proba(X)

    model = Counting().fit(rows, rows["shop"])
    monkeypatch.setattr(predictions, "BLOCK_ROWS", 400)
    assert CachedPredictions(model, rows).all("predict_proba").shape == (ROWS, 3)
    assert asked == [400, 400, 203]
