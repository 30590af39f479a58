from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.evaluation.resampling_units import codes_of, resampling_units


def units(rows: pd.DataFrame, *, order_by: str | None = None, group_by: str | None = None) -> np.ndarray:
    return resampling_units(rows, order_by=order_by, group_by=group_by).of


@pytest.mark.parametrize(("rows", "blocks"), [(30, 10), (200, 10), (400, 20), (1000, 50), (5000, 50)])
def test_rows_are_cut_into_blocks_of_equal_size_in_order_of_time(rows: int, blocks: int) -> None:
    times = np.random.default_rng(0).permutation(rows)
    made = resampling_units(pd.DataFrame({"time": times}), order_by="time", group_by=None)
    of = made.of
    assert ("fewer than 50" in made.note) == (blocks < 50)
    assert (np.diff(of[np.argsort(times)]) >= 0).all()
    sizes = np.bincount(of)
    assert len(sizes) == blocks
    assert sizes.max() - sizes.min() <= 1


def test_rows_of_one_time_stamp_are_one_block_and_missing_times_are_the_last() -> None:
    times = [1.0] * 70 + [None] * 5 + list(range(2, 27))
    of = units(pd.DataFrame({"time": times}), order_by="time")
    assert set(of[:70]) == {0}
    assert set(of[70:75]) == {of.max()}
    assert of.max() < 10


def test_rows_of_a_group_are_one_unit_and_missing_groups_another() -> None:
    made = resampling_units(pd.DataFrame({"g": ["b", None, "a", "b", None]}), order_by=None, group_by="g")
    assert (made.kind, made.of.tolist()) == ("groups", [0, 2, 1, 0, 2])
    assert "3 groups were compared" in made.note
    timed = resampling_units(pd.DataFrame({"g": ["b", "a"], "t": [1, 2]}), order_by="t", group_by="g")
    assert timed.kind == "groups"
    alone = resampling_units(pd.DataFrame({"g": [1, 1]}), order_by=None, group_by=None)
    assert (alone.kind, alone.of.tolist(), alone.note) == ("rows", [0, 1], "")


def test_rows_of_one_identity_are_one_unit_where_they_repeat() -> None:
    rows = pd.DataFrame({"x": [1.0, 2.0, 1.0]})
    repeated = resampling_units(rows, order_by=None, group_by=None, identities=np.array([7, 9, 7], np.uint64))
    assert (repeated.kind, repeated.of.tolist()) == ("groups", [0, 1, 0])
    assert "2 were compared, in 3 rows" in repeated.note
    each = resampling_units(rows, order_by=None, group_by=None, identities=np.array([7, 9, 8], np.uint64))
    assert each.kind == "rows"


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (pd.DataFrame({"time": [1]}), {"order_by": "tme"}, r"\(order_by\).*'tme'.*did you mean 'time'"),
        (pd.DataFrame([[1, 2]], columns=["g", "g"]), {"group_by": "g"}, "2 columns called 'g'"),
        (pd.DataFrame({"g": [[1], [2]]}), {"group_by": "g"}, "column 'g' cannot be used to put rows together"),
        (pd.DataFrame({"t": ["2024-01-01", "x"]}), {"order_by": "t"}, "make a time of it first"),
    ],
)
def test_columns_that_make_no_units_are_refused(rows: pd.DataFrame, options: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        units(rows, **options)


def test_values_are_numbered_as_they_come_or_in_order() -> None:
    column = pd.Series(["b", None, "a", "b"])
    assert [part if isinstance(part, list) else part.tolist() for part in codes_of(column, "c")] == [
        [0, 2, 1, 0],
        ["b", "a", None],
    ]
    codes, names = codes_of(column, "c", sort=True)
    assert (codes.tolist(), names) == ([1, 2, 0, 1], ["a", "b", None])
    assert codes_of(pd.Series([1, 1]), "c")[1] == [1]
    with pytest.raises(ConfigError, match="cannot be used to put rows"):
        codes_of(pd.Series([1, "a"], dtype=object), "c", sort=True)
