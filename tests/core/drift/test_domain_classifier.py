"""A classifier sees what changes between columns, and is seldom wrong about tables that are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from prefect_mlops.core.drift.domain_classifier import classify_domains

KINDS: Any = {"a": "numeric", "b": "numeric", "c": "categorical", "t": "text", "at": "datetime", "e": "empty"}


def pair(rows: int, seed: int, together: float = 0.0) -> pd.DataFrame:
    """Two numbers that each look the same, however much they go together."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, rows))
    frame = pd.DataFrame({"a": a, "b": together * a + (1 - together**2) ** 0.5 * b})
    return frame.assign(
        c=random.choice(["x", "y", None], rows), t=["word " * n for n in random.integers(1, 9, rows)],
        at=pd.Timestamp("2026-01-01") + pd.to_timedelta(seed, unit="D"), e=None,
    )  # fmt: skip


def test_a_change_between_columns_is_seen() -> None:
    found = classify_domains(current=pair(2000, 1, together=0.9), reference=pair(4000, 2), kinds=KINDS)
    assert found is not None
    assert found.low > 0.7
    assert found.rows == 3000


def test_the_interval_holds_one_half_when_nothing_changed() -> None:
    found = [
        classify_domains(current=pair(300, seed), reference=pair(900, 1000 + seed), kinds=KINDS) for seed in range(60)
    ]
    outside = sum(one is not None and not one.low <= 0.5 <= one.high for one in found)
    assert outside <= 9  # of 60 at 5 %: more come about once in 1,000 times


def test_the_same_rows_give_the_same_answer_and_dates_tell_nothing() -> None:
    sides = {"current": pair(200, 1), "reference": pair(400, 2)}
    first, second = (classify_domains(**sides, kinds=KINDS) for _ in range(2))
    assert first == second
    assert classify_domains(**sides, kinds={"at": "datetime", "e": "empty"}) is None


@pytest.mark.parametrize(("rows", "reference_rows"), [(29, 400), (400, 29), (0, 0)])
def test_too_few_rows_are_not_told_apart(rows: int, reference_rows: int) -> None:
    assert classify_domains(current=pair(rows, 1), reference=pair(reference_rows, 2), kinds=KINDS) is None


def test_awkward_cells_are_taken_as_they_are() -> None:
    frame = pair(200, 1).assign(
        a=np.inf, b=pd.array([None, 1] * 100, dtype="Int64"), c=pd.Series(["\ud800", True] * 100, dtype=object)
    )
    assert classify_domains(current=frame, reference=pair(400, 2), kinds=KINDS) is not None
