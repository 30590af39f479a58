"""A row's side depends on nothing but what identifies the row."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lineage import sides
from prefect_mlops.core.lineage.sides import SideRule
from prefect_mlops.core.tables.read import read_table

VALUES = [
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: float(f"{number:.6g}")),
    st.booleans(),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1).filter(
        lambda text: text.strip()
    ),
    st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)),
]


def hashes(values: object, **parts: object) -> list[int]:
    frame = pd.DataFrame({"x": values})
    return SideRule(**({"by": "key", "columns": ("x",), "share": 0.2} | parts)).hashes(frame).tolist()


def test_the_hash_is_what_it_was_in_earlier_releases() -> None:
    """Another value moves rows to another side, so that models learned from what judges them."""
    frame = pd.DataFrame(
        {
            "number": [1, -7, None],
            "share": [0.5, 1e300, -0.0],
            "word": ["a", None, "zürich"],
            "time": pd.to_datetime(["2024-01-01", None, "1969-12-31 23:59:59.25"], format="mixed"),
        }
    )
    rule = SideRule(by="features", columns=tuple(frame), share=0.2, seed=3)
    assert [f"{number:016x}" for number in rule.hashes(frame)] == PINNED


PINNED = ["35818ee01ccdaa53", "c76cf8200073c2e0", "d54f9f616ca13a38"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equal_values_have_one_hash_in_every_type(data: st.DataObject) -> None:
    values = data.draw(st.lists(data.draw(st.sampled_from(VALUES)), min_size=1, max_size=20, unique=True))
    gap = data.draw(st.booleans())
    plain = pd.Series([*values, None] if gap else values, dtype=object)
    expected = hashes(plain)
    assert len(set(expected)) == len(expected)
    for kind in [pd.CategoricalDtype(), *_types(values)]:
        assert hashes(plain.astype(kind)) == expected, kind


def _types(values: list) -> list[object]:
    if isinstance(values[0], bool):
        return ["boolean", "bool[pyarrow]"]
    if isinstance(values[0], int):
        return ["Int64", "int64[pyarrow]"]
    if isinstance(values[0], float):
        return ["float64", "Float64", "double[pyarrow]"]
    if isinstance(values[0], str):
        return ["string", "str"]
    return ["datetime64[us]"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pd.Series([1, 2, 300], dtype="int16"), pd.Series([1.0, 2.0, 300.0])),
        (pd.Series([1, 0], dtype="uint8"), pd.Series([True, False])),
        (pd.Series([2**63 + 1], dtype="uint64"), pd.Series([2**63 + 1], dtype="UInt64")),
        (pd.Series([1.0, np.nan]), pd.Series([1, None], dtype="Int32")),
        (pd.Series([0.0]), pd.Series([-0.0])),
        (
            pd.Series(pd.to_datetime(["2024-01-01"])).dt.as_unit("s"),
            pd.Series(pd.to_datetime(["2024-01-01"])).dt.as_unit("ns"),
        ),
        (pd.Series(pd.to_datetime(["2024-01-01T01:00+01:00"])), pd.Series(pd.to_datetime(["2024-01-01"]))),
        (pd.Series(pd.to_timedelta(["1s"])), pd.Series([dt.timedelta(seconds=1)], dtype=object)),
        (
            pd.Series(pd.period_range("2024-01", periods=2, freq="M")),
            pd.Series(pd.to_datetime(["2024-01-01", "2024-02-01"])),
        ),
    ],
    ids=str,
)
def test_values_that_mean_the_same_have_one_hash(one: pd.Series, other: pd.Series) -> None:
    assert hashes(one) == hashes(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([2**53 + 1], [2**53]),
        ([0.1], [0.1000000001]),
        (["1"], [1]),
        ([None], [0]),
        ([None], [""]),
        ([Decimal("1.5")], [Decimal("1.6")]),
        ([dt.date(2024, 1, 1)], [dt.date(2024, 1, 2)]),
        (pd.to_datetime(["2024-01-01"]), pd.to_datetime(["2024-01-01 00:00:00.000000001"])),
    ],
    ids=str,
)
def test_other_values_have_another_hash(one: object, other: object) -> None:
    assert hashes(one) != hashes(other)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_side_is_the_same_from_every_file_format(tmp_path: Path, kind: str) -> None:
    chance = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "id": chance.integers(0, 10_000, 500),
            "count": pd.array(np.where(chance.random(500) < 0.1, None, chance.integers(0, 50, 500)), dtype="Int64"),
            "price": chance.normal(size=500) * 10.0 ** chance.integers(-5, 9, 500),
            "shop": chance.choice(["Zürich", "Oslo", "Köln"], 500),
            "open": chance.random(500) < 0.5,
        }
    )
    rule = SideRule(by="features", columns=tuple(table), share=0.3)
    file = tmp_path / f"table.{kind}"
    if kind == "parquet":
        table.to_parquet(file)
    elif kind == "csv":
        table.to_csv(file, index=False)
    else:
        file.write_text(
            "\n".join(json.dumps(row) for row in table.astype(object).where(table.notna(), None).to_dict("records"))
        )
    assert rule.on_test_side(read_table(file)).tolist() == rule.on_test_side(table).tolist()


def test_chunks_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    words = pd.Series(["a", "b", "a", None, "c"] * 20)
    whole = hashes(words)
    monkeypatch.setattr(sides, "CHUNK_ROWS", 7)
    assert hashes(words) == whole


def test_columns_are_found_by_their_name_as_text() -> None:
    frame = pd.DataFrame({0: [1, 2], 1: [3, 4]})
    assert SideRule(by="features", columns=("0", "1"), share=0.5).hashes(frame).shape == (2,)
    with pytest.raises(ConfigError, match="no column that says on which side a row is is called '2'"):
        SideRule(by="key", columns=("2",), share=0.5).hashes(frame)
    with pytest.raises(ConfigError, match="column 'x' cannot say on which side a row is: unhashable type: 'list'"):
        hashes([[1], [2]])


def test_the_share_is_met_and_shares_are_nested() -> None:
    ids = pd.DataFrame({"id": np.arange(100_000)})
    small = SideRule(by="key", columns=("id",), share=0.2).on_test_side(ids)
    large = SideRule(by="key", columns=("id",), share=0.3).on_test_side(ids)
    other = SideRule(by="key", columns=("id",), share=0.2, seed=1).on_test_side(ids)
    assert small.mean() == pytest.approx(0.2, abs=0.004)  # three standard errors
    assert (small <= large).all()
    assert (small & other).mean() == pytest.approx(0.04, abs=0.002)


def test_a_rule_by_features_knows_some_of_its_test_rows_again() -> None:
    rows = pd.DataFrame({"x": np.random.default_rng(0).normal(size=2_000)})
    rule = SideRule(by="features", columns=("x",), share=0.2)
    kept = rule.with_sample(rule.hashes(rows))
    assert len(kept.sample) == sides.MAX_SAMPLE
    assert SideRule.model_validate_json(kept.model_dump_json()) == kept
    test = rows[kept.on_test_side(rows)]
    assert kept.found(kept.hashes(test)) == (64, True)
    assert kept.found(kept.hashes(test.sample(frac=0.95, random_state=0))) == (62, True)
    assert kept.found(kept.hashes(test.sample(frac=0.5, random_state=0)))[1] is False
    assert kept.found(kept.hashes(np.log(np.abs(test)))) == (0, False)
    by_key = SideRule(by="key", columns=("x",), share=0.2)
    assert by_key.with_sample(by_key.hashes(rows)) == by_key
