from __future__ import annotations

import datetime as dt
import time
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from prefect_mlops.core.drift import statistical_tests
from prefect_mlops.core.drift.table_drift import Change, TableDrift, compare_profiles
from prefect_mlops.core.drift.table_profile import profile_chunks
from prefect_mlops.core.drift.thresholds import MIN_ROWS
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.tables.columns import read_column

REPETITIONS = 200


def compare_tables(*, current: pd.DataFrame, reference: pd.DataFrame, **options: Any) -> TableDrift:
    return compare_profiles(current=profile_chunks([current]), reference=profile_chunks([reference]), **options)


def unchanging(rng: np.random.Generator, rows: int, columns: int) -> pd.DataFrame:
    """Columns of every kind, drawn from the same laws each time: skewed, tied, rare, with gaps."""
    frequent_first = 1 / np.arange(1, 101)
    laws = (
        lambda: rng.normal(size=rows),
        lambda: rng.lognormal(size=rows) * np.where(rng.random(rows) < 0.1, np.nan, 1),
        lambda: rng.integers(0, 8, rows),
        lambda: rng.choice(list("abcdefghijkl"), rows, p=[0.4, 0.3, 0.1, *[0.2 / 9] * 9]),
        lambda: rng.choice([f"k{n}" for n in range(100)], rows, p=frequent_first / frequent_first.sum()),
        lambda: rng.random(rows) < 0.02,
    )
    return pd.DataFrame({f"c{n}": laws[n % len(laws)]() for n in range(columns)})


def change(outcome: TableDrift, column: str, aspect: str = "distribution") -> Change:
    return next(item for item in outcome.changes if (item.column, item.aspect) == (column, aspect))


@pytest.mark.parametrize(
    ("rows", "reference_rows", "columns", "repetitions"),
    [
        (500, 500, 10, 200),
        (60, 2000, 10, 100),
        (2000, 60, 10, 100),
        pytest.param(500, 500, 30, 120, marks=pytest.mark.slow),
    ],
)
def test_data_without_change_rarely_alarms(rows: int, reference_rows: int, columns: int, repetitions: int) -> None:
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(repetitions):
        outcome = compare_tables(
            current=unchanging(rng, rows, columns), reference=unchanging(rng, reference_rows, columns)
        )
        alarms += any(item.drifted for item in outcome.changes) or bool(outcome.findings)
    assert alarms / repetitions < 0.05


def test_the_p_values_alone_hold_their_level() -> None:
    rng = np.random.default_rng(11)
    low = 0
    for _ in range(REPETITIONS):
        outcome = compare_tables(current=unchanging(rng, 300, 6), reference=unchanging(rng, 300, 6))
        low += any(item.corrected_p is not None and item.corrected_p < 0.05 for item in outcome.changes)
    assert low / REPETITIONS < 0.09  # 0.05, and three standard errors of 200 repetitions


def test_pooling_rare_categories_does_not_depend_on_the_side() -> None:
    rng = np.random.default_rng(3)
    names = np.array([f"k{n}" for n in range(200)])
    low = 0
    for _ in range(REPETITIONS):
        sides = [pd.Series(rng.choice(names, 150)).value_counts() for _ in range(2)]
        low += (statistical_tests.measure_categories(current=sides[0], reference=sides[1]).p_value or 0) < 0.05
    assert low / REPETITIONS < 0.1


def test_many_categories_alone_are_no_large_change() -> None:
    rng = np.random.default_rng(5)
    sides = [pd.Series(rng.integers(0, 800, 5000).astype(str)).value_counts() for _ in range(2)]
    assert statistical_tests.measure_categories(current=sides[0], reference=sides[1]).size < 0.02


def test_unseen_p_value_agrees_with_simulation() -> None:
    rng = np.random.default_rng(1)
    outside = np.array([_rows_outside(rng) for _ in range(4000)])
    for unseen in (1, 5, 15):
        p_value = statistical_tests.measure_unseen(unseen=unseen, rows=100, reference_rows=80, seen_once=1).p_value
        assert p_value == pytest.approx((outside >= unseen).mean(), abs=0.03)


def _rows_outside(rng: np.random.Generator) -> int:
    reference, current = rng.normal(size=80), rng.normal(size=100)
    return int(((current < reference.min()) | (current > reference.max())).sum())


RNG = np.random.default_rng(0)
SHIFTS: dict[str, tuple[Any, Any]] = {
    "numeric": (RNG.normal(0.5, 1, 1000), RNG.normal(0, 1, 5000)),
    "spread": (RNG.normal(0, 2, 1000), RNG.normal(0, 1, 5000)),
    "integer": (RNG.integers(2, 9, 1000), RNG.integers(0, 7, 5000)),
    "boolean": (RNG.random(1000) < 0.4, RNG.random(5000) < 0.2),
    "categorical": (RNG.choice(["a", "b"], 1000, p=[0.7, 0.3]), RNG.choice(["a", "b"], 5000)),
    "category": (pd.Categorical(["x"] * 700 + ["y"] * 300), pd.Categorical(["x"] * 2500 + ["y"] * 2500)),
    "nullable": (
        pd.array(RNG.integers(3, 12, 1000), dtype="Int64"),
        pd.array([None, *RNG.integers(0, 9, 4999)], dtype="Int64"),
    ),
    "datetime": (  # only in the mornings
        pd.Timestamp("2026-02-01")
        + pd.to_timedelta(np.floor(RNG.uniform(0, 30, 1000)) + RNG.uniform(0, 0.5, 1000), unit="D"),
        pd.Timestamp("2026-01-01") + pd.to_timedelta(RNG.uniform(0, 30, 5000), unit="D"),
    ),
    "zoned": (
        pd.Timestamp("2026-02-02", tz="Europe/Berlin")  # Mondays, and whole weeks
        + pd.to_timedelta(
            7 * (RNG.integers(0, 5, 1000) // RNG.integers(1, 3, 1000)) + RNG.uniform(0, 3, 1000), unit="D"
        ),
        pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(RNG.uniform(0, 30, 5000), unit="D"),
    ),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_known_shifts_are_found_among_quiet_columns(name: str) -> None:
    now, before = SHIFTS[name]
    rng = np.random.default_rng(2)
    current = unchanging(rng, 1000, 6).assign(moved=now)
    reference = unchanging(rng, 5000, 6).assign(moved=before)
    outcome = compare_tables(current=current, reference=reference)
    assert {item.column for item in outcome.changes if item.drifted} == {"moved"}


def test_sizes_are_in_units_people_know() -> None:
    current = pd.DataFrame(
        {"c": ["a"] * 750 + ["b"] * 250, "n": np.arange(1000) + 300.0, "k": [None] * 500 + [1.0] * 500}
    )
    reference = pd.DataFrame({"c": ["a", "b"] * 500, "n": np.arange(1000.0), "k": [1.0] * 1000})
    outcome = compare_tables(current=current, reference=reference)
    moved = change(outcome, "c").measure
    assert moved.size == pytest.approx(0.25 - 0.0217, abs=1e-3)
    assert moved.words == "'a' 50.0% → 75.0%, 'b' 50.0% → 25.0%"
    assert change(outcome, "n").measure.size == pytest.approx(0.3)
    assert change(outcome, "n").measure.words == "mean 499.5 → 799.5 (+1.04 standard deviations)"
    assert change(outcome, "k", "missing values").measure.size == pytest.approx(0.5)
    assert change(outcome, "k", "missing values").measure.words == "0.0% → 50.0% of the rows"


def test_a_trifle_stays_a_trifle_however_many_rows_there_are() -> None:
    rng = np.random.default_rng(4)
    rows = 300_000

    def table(by: float) -> pd.DataFrame:
        numbers = rng.normal(by, 1, rows)
        return pd.DataFrame(
            {
                "n": numbers,
                "c": np.where(rng.random(rows) < 0.5 + by / 4, "a", "b"),
                "gaps": np.where(rng.random(rows) < by / 4, np.nan, numbers),
            }
        )

    outcome = compare_tables(current=table(0.1), reference=table(0.0))
    assert not [item for item in outcome.changes if item.drifted]
    tested = [item for item in outcome.changes if item.aspect in ("distribution", "missing values")]
    assert max(item.corrected_p or 0 for item in tested) < 1e-6


def test_large_tables_are_compared_quickly() -> None:
    rng = np.random.default_rng(0)
    current, reference = (unchanging(rng, rows, 10) for rows in (80_000, 300_000))
    compare_tables(current=current.head(100), reference=reference.head(100))  # imports scipy
    start = time.perf_counter()
    compare_tables(current=current, reference=reference)
    assert time.perf_counter() - start < 1.5


def quiet(rows: int = 500, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"n": rng.normal(size=rows), "c": rng.choice(["a", "b"], rows), "b": rng.random(rows) < 0.5})


@pytest.mark.parametrize(
    ("damage", "column", "what", "broken"),
    [
        (lambda frame: frame.drop(columns="n"), "n", "column is there", True),
        (lambda frame: frame.assign(extra=1), "extra", "column is known", False),
        (lambda frame: frame.assign(n=frame["n"].astype(str)), "n", "type is unchanged", True),
        (lambda frame: frame.assign(b=frame["b"].astype(int)), "b", "type is unchanged", True),
        (lambda frame: frame.assign(n=frame["n"].astype(object).mask(frame["n"] > 0, "?")), "n", "type is unchanged", True),
        (lambda frame: frame.assign(n=np.nan), "n", "has values", True),
        (lambda frame: frame.assign(c=None), "c", "has values", True),
        (lambda frame: pd.concat([frame, frame[["n"]]], axis=1), "n", "one column for one name", True),
        (lambda frame: frame.assign(n=frame["n"].where(frame["n"] < 2, np.inf)), "n", "values are finite", False),
        (lambda frame: frame.assign(n=1.5), "n", "has more than one value", False),
        (lambda frame: frame.assign(c="a"), "c", "has more than one value", False),
    ],
)  # fmt: skip
def test_each_damage_has_its_finding(damage: Any, column: str, what: str, broken: bool) -> None:
    outcome = compare_tables(current=damage(quiet()), reference=quiet(seed=1))
    assert [(item.column, item.what, item.broken) for item in outcome.findings] == [(column, what, broken)]


def test_half_missing_is_found() -> None:
    current = quiet()
    current.loc[::2, "n"] = np.nan
    outcome = compare_tables(current=current, reference=quiet(seed=1))
    assert change(outcome, "n", "missing values").drifted
    assert not change(outcome, "n").drifted


def test_new_categories_are_shown_and_many_of_them_are_drift() -> None:
    aspect = "values not seen before"
    current = quiet()
    current.loc[:0, "c"] = "<new>"
    one = change(compare_tables(current=current, reference=quiet(seed=1)), "c", aspect)
    assert not one.drifted
    assert one.examples == ("<new>",)
    assert one.measure.words == "1 new, in 0.2% of the rows"
    current.loc[:40, "c"] = "<new>"
    assert change(compare_tables(current=current, reference=quiet(seed=1)), "c", aspect).drifted


def test_values_out_of_range_are_found() -> None:
    current = quiet()
    current.loc[:39, "n"] = 99.0
    found = change(compare_tables(current=current, reference=quiet(seed=1)), "n", "values out of range")
    assert found.drifted
    assert found.measure.words.startswith("9.0% of the rows outside -")


def test_one_rare_value_less_is_not_called_constant() -> None:
    reference = pd.DataFrame({"b": [True] * 2 + [False] * 998})
    outcome = compare_tables(current=pd.DataFrame({"b": [False] * 200}), reference=reference)
    assert not outcome.findings
    assert not outcome.drifted_columns


def test_a_sparse_column_without_values_in_a_small_batch_is_not_called_broken() -> None:
    reference = pd.DataFrame({"n": [1.0] * 30 + [np.nan] * 970})
    outcome = compare_tables(current=pd.DataFrame({"n": [np.nan] * 60}), reference=reference)
    assert not outcome.findings
    assert not any(item.drifted for item in outcome.changes)


def test_text_is_compared_by_length_and_identifiers_do_not_drift() -> None:
    ids = [f"id-{n:06d}" for n in range(2000)]
    long = [f"{name} {'word ' * 9}" for name in ids]
    outcome = compare_tables(
        current=pd.DataFrame({"id": ids[1000:], "note": long[1000:]}),
        reference=pd.DataFrame({"id": ids[:1000], "note": ids[:1000]}),
    )
    assert outcome.kinds == {"id": "text", "note": "text"}
    assert outcome.drifted_columns == ("note",)
    assert change(outcome, "note", "length of text").drifted


def test_storage_of_the_same_meaning_is_no_change() -> None:
    words = ["a", "b", None] * 100
    numbers = [1, 2, None] * 100
    moments = pd.to_datetime(["2026-01-01", "2026-01-02", None] * 100)
    plain = pd.DataFrame({"w": pd.Series(words, dtype=object), "n": pd.Series(numbers, dtype="float32"), "t": moments})
    other = pd.DataFrame(
        {"w": pd.Series(words).astype("category"), "n": pd.array(numbers, dtype="Int64"), "t": moments.astype(object)}
    )
    for current, reference in ((plain, other), (other, plain)):
        outcome = compare_tables(current=current, reference=reference)
        assert not outcome.findings
        assert {item.measure.size for item in outcome.changes} == {0.0}


def hourly(start: str, rows: int = 1000) -> pd.DataFrame:
    return quiet(rows).assign(at=pd.date_range(start, periods=rows, freq="h"))


def test_that_time_goes_on_is_no_change() -> None:
    outcome = compare_tables(current=hourly("2026-03-01"), reference=hourly("2026-01-01"))
    assert [item.aspect for item in outcome.changes if item.column == "at"] == ["hour of the day", "day of the week"]
    assert "at" in outcome.judged_columns
    assert outcome.drifted_columns == ()


def test_what_repeats_in_time_drifts() -> None:
    nights = hourly("2026-03-01", 4000).loc[lambda frame: frame["at"].dt.hour < 8]
    weekends = hourly("2026-03-01", 4000).loc[lambda frame: frame["at"].dt.dayofweek >= 5]
    reference = hourly("2026-01-01")
    assert change(compare_tables(current=nights, reference=reference), "at", "hour of the day").drifted
    found = compare_tables(current=weekends, reference=reference)
    assert change(found, "at", "day of the week").drifted
    assert not change(found, "at", "hour of the day").drifted
    assert "'Sat'" in change(found, "at", "day of the week").measure.words


def test_a_short_time_is_not_compared_with_a_long_one_and_says_so() -> None:
    outcome = compare_tables(current=hourly("2026-03-01", 100), reference=hourly("2026-01-01"))
    assert not [item for item in outcome.changes if item.column == "at"]
    assert outcome.remarks == (
        "at spans 4.1 days on one side: its hours are compared from 7 days on, its weekdays from 28.",
    )


@pytest.mark.parametrize(
    ("rows", "reference_rows"), [(0, 500), (500, 0), (0, 0), (1, 500), (29, 500), (500, 29), (1, 1)]
)
def test_too_few_rows_are_never_judged(rows: int, reference_rows: int) -> None:
    outcome = compare_tables(current=quiet(rows), reference=quiet(reference_rows, seed=1))
    assert outcome.judged_columns == ()
    assert outcome.findings == ()
    assert len(outcome.changes) == 3
    assert all("too few rows to judge" in item.measure.words for item in outcome.changes)


@pytest.mark.parametrize(
    "wrong", [{"columns": []}, {"columns": "n"}, {"columns": ["m"]}, {"alpha": 0}, {"min_change": 1}]
)
def test_wrong_requests_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        compare_tables(current=quiet(), reference=quiet(), **wrong)


@pytest.mark.parametrize(
    ("cells", "kind", "nulls"),
    [
        ([1, 2.5, None], "numeric", 1),
        ([Decimal("1.5"), None], "numeric", 1),
        ([10**400, 1], "mixed", 0),
        ([1j, 2], "mixed", 0),
        ([True, None], "boolean", 1),
        (["a", 1, None, [1], {"x": 2}], "mixed", 1),
        ([dt.date(2026, 1, 1), None], "datetime", 1),
        ([dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), None], "datetime with time zone", 1),
        ([dt.timedelta(1), None], "numeric", 1),
        ([b"a"], "mixed", 0),
        ([None, None], "empty", 2),
        ([], "empty", 0),
    ],
)
def test_columns_of_python_objects_are_read_by_meaning(cells: list[Any], kind: str, nulls: int) -> None:
    column = read_column(pd.Series(cells, dtype=object))
    assert (column.kind, column.nulls, column.rows) == (kind, nulls, len(cells))


@pytest.mark.parametrize(
    ("cells", "kind", "nulls"),
    [
        (pd.array([1, None], dtype="Int64"), "numeric", 1),
        (pd.array([1.0, None], dtype="float64[pyarrow]"), "numeric", 1),
        (pd.array([True, None], dtype="boolean"), "boolean", 1),
        (pd.array(["a", None], dtype="string"), "string", 1),
        (pd.arrays.SparseArray([0.0, np.nan]), "numeric", 1),
        (pd.period_range("2026", periods=2, freq="M"), "mixed", 0),
        (pd.interval_range(0, 2), "mixed", 0),
        (pd.to_timedelta([1, None], unit="s"), "numeric", 1),
        (pd.Categorical([1, 2, None]), "numeric", 1),
        (pd.Categorical([None, None]), "empty", 2),
        (pd.array([dt.date(2026, 1, 1)], dtype="date32[pyarrow]"), "datetime", 0),
        (np.array(["9999-01-01", "0001-01-01"], dtype="datetime64[s]"), "datetime", 0),
    ],
)
def test_every_dtype_is_read(cells: Any, kind: str, nulls: int) -> None:
    column = read_column(pd.Series(cells))
    assert (column.kind, column.nulls) == (kind, nulls)


CELLS = {
    "float64": st.floats(width=64),
    "int64": st.integers(-(2**62), 2**62),
    "Int64": st.none() | st.integers(-5, 5),
    "boolean": st.none() | st.booleans(),
    "bool": st.booleans(),
    "category": st.none() | st.sampled_from(["a", "b", ""]),
    "string": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    "datetime64[ns]": st.none() | st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)),
    "datetime64[us, UTC]": st.none() | st.datetimes(timezones=st.just(dt.timezone.utc)),
    "timedelta64[us]": st.none() | st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999)),
    "object": st.none() | st.integers() | st.text(max_size=3) | st.floats() | st.booleans() | st.lists(st.integers()),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.sampled_from([0, 1, 2, 29, 60]))
    columns = {}
    for name in draw(st.lists(st.sampled_from("abcde"), max_size=4, unique=True)):
        dtype = draw(st.sampled_from(sorted(CELLS)))
        few = draw(st.lists(CELLS[dtype], min_size=1, max_size=6))  # repeated: as many draws as cells would be slow
        columns[name] = pd.Series([few[n % len(few)] for n in range(rows)], dtype=dtype)
    return pd.DataFrame(columns, index=range(rows))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(current=tables(), reference=tables())
@example(current=pd.DataFrame({"a": np.array([], dtype="float64")}), reference=pd.DataFrame({"a": ["x"]}))
def test_no_table_breaks_the_comparison(current: pd.DataFrame, reference: pd.DataFrame) -> None:
    outcome = compare_tables(current=current, reference=reference)
    few = min(len(current), len(reference)) < MIN_ROWS
    seen = {item.column for item in outcome.changes} | {item.column for item in outcome.findings}
    left = {*current, *reference} - seen - {name for name, kind in outcome.kinds.items() if kind == "empty"}
    assert all(any(remark.startswith(f"{name} ") for remark in outcome.remarks) for name in left), "a remark says why"
    for item in outcome.changes:
        assert 0 <= item.measure.size <= 1
        assert item.corrected_p is None or 0 <= item.corrected_p <= 1
        assert not (few and (item.judged or item.drifted))
