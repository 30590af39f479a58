from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from prefect_mlops.core.drift.table_drift import compare_profiles
from prefect_mlops.core.drift.table_profile import TableProfile
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.tables.chunks import read_chunks
from prefect_mlops.core.values import TableRef
from prefect_mlops.tasks.loop import merge_profiles
from prefect_mlops.tasks.profiles import _run_name, profile_table

profile: Callable[..., TableProfile] = profile_table.fn


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    import shop

    return shop


def test_rows_are_prepared_as_they_are_for_training(shop: Any, tmp_path: Path) -> None:
    shop.sales(1).to_parquet(tmp_path / "day.parquet")
    ref = TableRef(uri=str(tmp_path / "day.parquet"))
    found = profile(ref, spec=shop.model, columns=["hour", "kind", "returned"])
    assert list(found.columns) == ["kind", "returned", "hour"]
    assert found.rows == 400
    by_row = profile(ref, spec=replace(shop.model, row_wise=True), columns=["hour", "kind", "returned"])
    assert {change.measure.size for change in compare_profiles(current=by_row, reference=found).changes} == {0.0}


def test_only_a_preparation_that_looks_at_rows_alone_gets_them_in_parts(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "prefect_mlops.core.tables.chunks.read_chunks.__kwdefaults__", {**read_chunks.__kwdefaults__, "rows": 100}
    )
    shop.sales(1).to_parquet(tmp_path / "day.parquet")
    ref, seen = TableRef(uri=str(tmp_path / "day.parquet")), []

    def prepare(rows: pd.DataFrame) -> pd.DataFrame:
        seen.append(len(rows))
        return rows

    profile(ref, spec=replace(shop.model, prepare=prepare))
    profile(ref, spec=replace(shop.model, prepare=prepare, row_wise=True))
    assert seen == [400, 100, 100, 100, 100]


def test_without_a_spec_rows_are_taken_as_they_are_and_absent_names_are_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(10.0), "b": "x"})
    assert list(profile(frame).columns) == ["a", "b"]
    frame.to_parquet(tmp_path / "t.parquet")
    assert list(profile(TableRef(uri=str(tmp_path / "t.parquet")), columns=["a"]).columns) == ["a"]
    for name in ("t.parquet", "t.csv"):
        frame.to_csv(tmp_path / "t.csv", index=False)
        found = profile(TableRef(uri=str(tmp_path / name)), columns=["a", "c"])
        assert list(found.columns) == ["a"], "what is not there is a finding of the comparison"
        assert found.rows == 10
    assert profile(TableRef(uri=str(tmp_path / "t.parquet")), columns=["c"]).columns == {}


def test_a_preparation_that_fails_is_told_in_a_sentence(shop: Any, tmp_path: Path) -> None:
    shop.sales(1).drop(columns="sold_at").to_parquet(tmp_path / "day.parquet")
    for spec in (shop.model, shop.by_row):
        with pytest.raises(ConfigError, match=r"shop: its prepare failed on day.parquet: KeyError: 'sold_at'"):
            profile(TableRef(uri=str(tmp_path / "day.parquet")), spec=spec)


def test_parts_make_a_whole(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=30_000)})
    parts = [profile(frame.iloc[start : start + 10_000], part=place) for place, start in enumerate((0, 10_000, 20_000))]
    whole = merge_profiles.fn(parts)
    assert whole.rows == 30_000
    assert len(whole.sample) == 10_000
    assert compare_profiles(current=whole, reference=profile(frame)).changes[0].measure.size == 0


def test_task_runs_are_named_after_table_and_part() -> None:
    table = TableRef(uri="lake/datasets/flights")
    assert _run_name({"table": table}) == "profile-flights"
    assert _run_name({"table": table, "part": 2}) == "profile-flights-part-2"
