from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_mlops.core.tables import digests
from prefect_mlops.core.tables.digests import column_kinds, table_digest


@pytest.fixture
def table() -> pd.DataFrame:
    rows = 20_000
    return pd.DataFrame(
        {
            "number": np.arange(rows, dtype="int64"),
            "share": np.linspace(0, 1, rows),
            "flag": np.arange(rows) % 2 == 0,
            "word": [f"w{i % 7}" for i in range(rows)],
            "when": pd.date_range("2013-01-01", periods=rows, freq="min"),
        }
    )


@pytest.mark.parametrize("column", ["number", "share", "flag", "word", "when"])
def test_any_cell_changes_the_digest(table: pd.DataFrame, column: str) -> None:
    before = table_digest(table)
    changed = table.copy()
    place = changed.columns.get_loc(column)
    changed.iloc[15_000, place] = changed.iloc[14_999, place]
    if column == "flag":
        changed.iloc[15_000, place] = not table.iloc[15_000, place]

    assert table_digest(changed) != before


def test_a_year_later_is_another_table(table: pd.DataFrame) -> None:
    assert table_digest(table.assign(when=table["when"] + pd.DateOffset(years=1))) != table_digest(table)


def test_missing_differs_from_any_value(table: pd.DataFrame) -> None:
    zero, gone = table.copy(), table.copy()
    zero.loc[3, "share"] = 0.0
    gone.loc[3, "share"] = np.nan
    assert table_digest(zero) != table_digest(gone)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda t: t.assign(number=t["number"].astype("int32")), id="narrow integers"),
        pytest.param(lambda t: t.assign(number=t["number"].astype("Int64")), id="nullable integers"),
        pytest.param(lambda t: t.assign(flag=t["flag"].astype("boolean")), id="nullable booleans"),
        pytest.param(lambda t: t.assign(word=t["word"].astype("category")), id="categories"),
        pytest.param(lambda t: t.assign(word=t["word"].astype(object)), id="objects"),
        pytest.param(lambda t: t.assign(when=t["when"].astype("datetime64[us]")), id="microseconds"),
        pytest.param(lambda t: t.assign(when=t["when"].astype("datetime64[s]")), id="seconds"),
        pytest.param(lambda t: t.set_index(t.index[::-1]), id="another index"),
        pytest.param(lambda t: t.convert_dtypes(), id="all nullable"),
    ],
)
def test_storage_does_not_matter(table: pd.DataFrame, other) -> None:
    assert table_digest(other(table)) == table_digest(table)


def test_parquet_and_delta_give_the_rows_back(table: pd.DataFrame, tmp_path) -> None:
    from deltalake import DeltaTable, write_deltalake

    table.to_parquet(tmp_path / "t.parquet", use_dictionary=False)
    write_deltalake(tmp_path / "delta", table)

    assert table_digest(pd.read_parquet(tmp_path / "t.parquet")) == table_digest(table)
    assert table_digest(DeltaTable(tmp_path / "delta").to_pandas()) == table_digest(table)


def test_chunks_leave_no_trace(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = table_digest(table)
    monkeypatch.setattr(digests, "CHUNK_ROWS", 777)
    assert table_digest(table) == whole


def test_order_of_rows_and_columns_and_names_count(table: pd.DataFrame) -> None:
    assert table_digest(table.iloc[::-1]) != table_digest(table)
    assert table_digest(table[table.columns[::-1]]) != table_digest(table)
    assert table_digest(table.rename(columns={"word": "words"})) != table_digest(table)


def test_text_does_not_run_together() -> None:
    assert table_digest(pd.DataFrame({"a": ["ab", "c"]})) != table_digest(pd.DataFrame({"a": ["a", "bc"]}))


def test_time_zone_counts() -> None:
    naive = pd.Series(pd.to_datetime(["2013-01-01"]))
    digests_seen = {table_digest(pd.DataFrame({"t": t})) for t in (naive, naive.dt.tz_localize("UTC"))}
    assert len(digests_seen) == 2


def test_mixed_objects_and_repeated_names_have_a_digest() -> None:
    mixed = pd.DataFrame({"a": [1, "x", None, b"\xff", [1, 2]]})
    assert table_digest(mixed) == table_digest(mixed.copy())
    assert table_digest(mixed) != table_digest(pd.DataFrame({"a": ["1", "x", None, b"\xff", [1, 2]]}))
    twice = pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])
    assert table_digest(twice) != table_digest(twice.iloc[:, ::-1])


def test_kinds_are_named_by_meaning(table: pd.DataFrame) -> None:
    extra = table.assign(gone=None, group=table["word"].astype("category"))
    assert column_kinds(extra) == {
        "number": "integer",
        "share": "float",
        "flag": "boolean",
        "word": "string",
        "when": "datetime",
        "gone": "empty",
        "group": "categorical",
    }


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=1, max_size=30),
    st.integers(min_value=0, max_value=29),
    st.text(max_size=5),
)
def test_two_texts_share_a_digest_only_when_equal(words: list[str | None], place: int, other: str) -> None:
    place %= len(words)
    changed = [*words]
    changed[place] = other
    same = table_digest(pd.DataFrame({"a": pd.Series(words, dtype="string")})) == table_digest(
        pd.DataFrame({"a": pd.Series(changed, dtype="string")})
    )
    assert same == (words == changed)


@pytest.mark.parametrize(
    "values", [[1, 2, None], [True, None, False], [0.5, None, 1.0], ["a", None, "b"], [None, None, None]]
)
def test_categories_with_gaps_equal_the_same_values(values: list) -> None:
    plain = pd.Series(values, dtype=object)
    assert table_digest(pd.DataFrame({"a": plain.astype("category")})) == table_digest(pd.DataFrame({"a": plain}))
