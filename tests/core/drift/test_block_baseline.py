"""What changes between neighbours is usual, and is no drift."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prefect_mlops.core.drift.block_baseline import BlockBaseline, measure_block_baseline
from prefect_mlops.core.drift.table_drift import TableDrift, compare_profiles
from prefect_mlops.core.drift.table_profile import profile_chunks
from prefect_mlops.core.drift.training_profile import (
    TrainingProfile,
    make_training_profile,
    read_training_profile,
    write_training_profile,
)


def days(count: int, first: int = 0, *, warmer: float = 0.0) -> pd.DataFrame:
    """Rows of days: 500 share one temperature each, and go on with themselves in another column."""
    random = np.random.default_rng([7, first])
    temperature = np.repeat(random.normal(warmer, 1, count), 500)
    return pd.DataFrame(
        {
            "temperature": temperature + random.normal(0, 0.05, len(temperature)),
            "own": random.normal(size=len(temperature)),
        }
    )


def look(reference: TrainingProfile, new: pd.DataFrame, *, usual: bool = True) -> TableDrift:
    known = reference.usual.of(len(new)) if usual else None
    return compare_profiles(current=profile_chunks([new]), reference=reference.profile, usual=known)


def test_a_day_like_other_days_is_no_drift_though_its_rows_say_so() -> None:
    reference = make_training_profile(days(60))
    blind = [look(reference, days(1, first), usual=False).drifted_columns for first in range(100, 130)]
    assert sum(found == ("temperature",) for found in blind) > 25, "rows of one day are not independent"
    seen = [look(reference, days(1, first)).drifted_columns for first in range(100, 130)]
    assert sum(bool(found) for found in seen) <= 5  # a day beyond the largest of 25: one in 26


def test_what_is_larger_than_usual_is_found() -> None:
    reference = make_training_profile(days(60))
    assert look(reference, days(1, 101).assign(own=lambda table: table["own"] + 0.5)).drifted_columns == ("own",)
    month = look(reference, days(30, 100, warmer=2.0))
    assert month.drifted_columns == ("temperature",)


def test_rows_that_do_not_go_together_have_no_habits() -> None:
    table = pd.DataFrame({"n": np.random.default_rng(0).normal(size=30_000), "c": list("ab") * 15_000})
    sizes = measure_block_baseline(table, profile_chunks([table])).sizes
    assert [rows for rows, _ in sizes["n"]["distribution"]] == [250, 500, 1000, 2000, 4000]
    assert sizes["n"]["distribution"][-1][1] < 0.04
    assert sizes["n"]["distribution"][0][1] < 0.15
    assert sizes["c"]["distribution"][-1][1] < 0.02


def test_the_size_of_the_batch_chooses_the_habit() -> None:
    usual = BlockBaseline({"n": {"distribution": [(250, 0.5), (1000, 0.2)]}, "short": {"distribution": []}})
    found = {rows: usual.of(rows)["n", "distribution"] for rows in (10, 500, 1999, 2000, 8000)}
    assert found == pytest.approx({10: 0.5, 500: 0.5, 1999: 0.5, 2000: 0.2, 8000: 0.1})


def test_what_a_classifier_finds_between_parts_is_usual_too() -> None:
    trend = pd.DataFrame({"n": np.arange(4000.0) + np.random.default_rng(0).normal(0, 500, 4000)})
    assert make_training_profile(trend).usual.auc > 0.9
    assert make_training_profile(trend.sample(frac=1, random_state=0)).usual.auc < 0.6
    assert make_training_profile(trend.head(40)).usual.auc == 0.5


@pytest.mark.parametrize("rows", [0, 1, 999])
def test_a_short_table_has_no_habits(rows: int) -> None:
    table = pd.DataFrame({"n": np.arange(float(rows))})
    assert measure_block_baseline(table, profile_chunks([table])).sizes == {}


def test_a_name_that_stands_twice_has_no_habits() -> None:
    table = pd.concat([days(10), days(10)[["own"]]], axis=1)
    assert set(measure_block_baseline(table, profile_chunks([table])).sizes) == {"temperature"}


def test_habits_are_kept(tmp_path: Path) -> None:
    reference = make_training_profile(days(10))
    write_training_profile(reference, tmp_path)
    assert read_training_profile(tmp_path).usual == reference.usual
    assert reference.usual.of(500)["temperature", "distribution"] > 0.3
