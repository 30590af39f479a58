"""Summaries of tables: as exact as they say, the same in parts, the same again, and bounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from prefect_mlops.core.drift.column_drift import Change
from prefect_mlops.core.drift.column_profile import MAX_COUNTED, profile_column
from prefect_mlops.core.drift.quantiles import PIECE, STORED_POINTS, Quantiles
from prefect_mlops.core.drift.table_drift import compare_profiles
from prefect_mlops.core.drift.table_profile import SAMPLE_ROWS, TableProfile, merge_profiles, profile_chunks
from prefect_mlops.core.errors import ConfigError


def filled(values: Any, pieces: int = 1) -> Quantiles:
    found = Quantiles()
    for piece in np.array_split(np.asarray(values, "float64"), pieces):
        found.add(piece)
    return found


def worst_rank(found: Quantiles, values: Any) -> float:
    """The largest error of any rank, as a share of the rows."""
    ordered, whole = np.sort(values), found.distribution()
    ranks = np.cumsum(whole.weights)
    return float(np.abs(np.searchsorted(ordered, whole.points, "right") - ranks).max() / len(ordered))


RNG = np.random.default_rng(0)
LAWS = {
    "normal": RNG.normal(size=700_000),
    "sorted": np.sort(RNG.normal(size=700_000)),
    "skewed": RNG.lognormal(3, 2, 700_000),
    "periodic": np.tile(np.arange(16.0), 43_750),  # in step with the pieces
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("pieces", [1, 7, 400])
def test_ranks_are_as_exact_as_the_summary_says(law: str, pieces: int) -> None:
    values = LAWS[law]
    found = filled(values, pieces)
    assert 0 < found.error / found.rows < 2e-4
    ties = 0 if law != "periodic" else 1 / 16  # ranks within equal values are anybody's
    assert worst_rank(found, values) <= found.error / found.rows + ties + 1e-12
    stored = found.compacted()
    assert len(stored.distribution().points) == STORED_POINTS
    assert worst_rank(stored, values) <= stored.error / stored.rows + ties + 1e-12
    assert stored.distribution().rows == found.distribution().rows == found.rows == len(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.spread == pytest.approx(values.std())
    assert (found.low, found.high) == (values.min(), values.max())


def test_a_small_column_is_kept_as_it_is() -> None:
    values = RNG.normal(size=PIECE - 1)
    found = filled(values, 5)
    assert found.error == 0
    assert (found.distribution().points == np.sort(values)).all()


def test_the_same_rows_give_the_same_summary() -> None:
    first, second = (filled(LAWS["skewed"], 3).distribution() for _ in range(2))
    assert (first.points == second.points).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3 * PIECE), min_size=1, max_size=5), st.integers(0, 2**32))
def test_merged_parts_know_every_rank_as_exactly_as_they_say(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = [random.normal(place, 1, size) for place, size in enumerate(sizes)]
    merged = Quantiles()
    for part in parts:
        merged.merge(filled(part, 2))
    values = np.concatenate(parts)
    assert merged.rows == len(values)
    if len(values):
        assert worst_rank(merged, values) <= merged.error / merged.rows + 1e-12
        assert (merged.low, merged.high) == (values.min(), values.max())
        assert merged.mean == pytest.approx(values.mean(), abs=1e-9)


def table(rows: int, seed: int = 0, moved: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "n": random.normal(moved, 1, rows),
            "ties": random.integers(0, 5, rows),
            "gaps": np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows)),
            "c": pd.Series(random.choice(list("abc"), rows), dtype="str"),
            "b": random.random(rows) < 0.3,
            "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(rows), unit="min"),
            "text": [f"order {n} of anna" for n in range(rows)],
        }
    )


def parts_of(frame: pd.DataFrame, count: int) -> list[pd.DataFrame]:
    return [frame.iloc[places] for places in np.array_split(np.arange(len(frame)), count)]


def sizes(now: TableProfile, before: TableProfile) -> dict[tuple[str, str], float]:
    changes: tuple[Change, ...] = compare_profiles(current=now, reference=before).changes
    return {(change.column, change.aspect): change.measure.size for change in changes}


def test_chunks_and_parts_give_what_the_whole_gives() -> None:
    now, before = table(60_000, seed=1, moved=0.3), profile_chunks([table(50_000)])
    whole = profile_chunks([now])
    chunked = profile_chunks(now.iloc[start : start + 7_000] for start in range(0, len(now), 7_000))
    halves = [now.iloc[:25_000], now.iloc[25_000:]]
    merged = merge_profiles(profile_chunks([half], part=place) for place, half in enumerate(halves))
    expected = sizes(whole, before)
    assert expected[("n", "distribution")] == pytest.approx(
        stats.ks_2samp(now["n"], table(50_000)["n"]).statistic, abs=1e-12
    )
    for found in (chunked, merged):
        assert found.rows == 60_000
        assert sizes(found, before) == pytest.approx(expected)


def test_large_columns_are_compared_within_the_stated_error() -> None:
    now, before = (table(400_000, seed=seed, moved=moved)[["n"]] for seed, moved in ((1, 0.2), (2, 0.0)))
    profiles = [profile_chunks([side]) for side in (now, before)]
    found = compare_profiles(current=profiles[0], reference=profiles[1])
    exact = stats.ks_2samp(now["n"], before["n"]).statistic
    assert 0 < found.error < 1e-3
    assert abs(found.changes[0].measure.size - exact) <= found.error


def test_a_sample_is_seeded_in_order_bounded_and_fair() -> None:
    frame = pd.DataFrame({"n": np.arange(100_000)})
    first, second = (profile_chunks(parts_of(frame, 9)).sample for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert len(first) == SAMPLE_ROWS
    assert first["n"].is_monotonic_increasing
    assert abs(first["n"].mean() - 50_000) < 5 * 28_868 / SAMPLE_ROWS**0.5
    parts = [profile_chunks([half], part=place) for place, half in enumerate(parts_of(frame, 2))]
    merged = merge_profiles(parts).sample
    assert len(merged) == SAMPLE_ROWS
    assert abs((merged["n"] < 50_000).mean() - 0.5) < 5 * 0.5 / SAMPLE_ROWS**0.5


def test_parts_are_not_changed_by_being_merged() -> None:
    parts = [profile_chunks([table(2_000, seed=seed)], part=seed) for seed in (0, 1)]
    once, twice = merge_profiles(parts), merge_profiles(parts)
    assert once.rows == twice.rows == 4_000
    assert sizes(once, twice) == dict.fromkeys(sizes(once, twice), 0.0)


def test_a_stored_sample_cannot_be_merged() -> None:
    part = profile_chunks([table(100)])
    with pytest.raises(ConfigError, match="cannot be merged"):
        merge_profiles([part, TableProfile(part.columns, part.rows, part.sample)])


def test_strings_that_are_too_many_to_count_become_text_and_keep_their_rows() -> None:
    names = pd.Series([f"id {n}" for n in range(MAX_COUNTED + 10)])
    found = profile_column(names)
    assert found.counts is None
    assert found.text is not None
    assert found.text.lengths.sum() == len(names)
    found.add(pd.Series(["id 1", "id 2", None]))
    assert (found.rows, found.nulls, found.text.lengths.sum()) == (len(names) + 3, 1, len(names) + 2)
    slowly = profile_column(names[:100])
    for start in range(100, len(names), 5_000):
        slowly.add(names[start : start + 5_000])
    assert (slowly.words() == profile_column(names).words()).all()
    assert (slowly.lengths().points == profile_column(names).lengths().points).all()


def test_half_a_surrogate_pair_is_counted_like_any_letter() -> None:
    found = profile_column(pd.Series([f"\ud800 {n}" for n in range(MAX_COUNTED + 1)], dtype=object))
    assert found.text is not None
    assert found.text.words.sum() == 2 * (MAX_COUNTED + 1)
    names = pd.DataFrame({"k": ["\ud800", "b"] * 50}, dtype=object)
    assert compare_profiles(current=profile_chunks([names]), reference=profile_chunks([names])).drifted_columns == ()


def test_parts_that_disagree_about_a_type_are_a_finding() -> None:
    parts = [pd.DataFrame({"n": [1.0, 2.0] * 50}), pd.DataFrame({"n": ["x", "y"] * 50})]
    torn = profile_chunks(parts)
    found = compare_profiles(current=torn, reference=profile_chunks(parts[:1]))
    assert [(item.what, item.observed, item.broken) for item in found.findings] == [
        ("type is unchanged", "several types in one column", True)
    ]


def test_numbers_that_are_names_on_one_side_are_compared_as_numbers() -> None:
    plain = pd.DataFrame({"k": [1, 2, 3] * 100})
    found = compare_profiles(current=profile_chunks([plain.astype("category")]), reference=profile_chunks([plain]))
    assert found.kinds == {"k": "numeric"}
    assert {change.measure.size for change in found.changes} == {0.0}


CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=4),
    st.datetimes(min_value=pd.Timestamp("1900-01-01"), max_value=pd.Timestamp("2100-01-01")),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(CELLS, min_size=1, max_size=3), min_size=2, max_size=4), st.integers(0, 120), st.randoms())
def test_no_table_breaks_a_profile_and_nothing_is_judged_without_rows(columns: Any, rows: int, random: Any) -> None:
    frames = [
        pd.DataFrame({n: pd.Series([random.choice(cells) for _ in range(rows)], dtype=object) for n, cells in enumerate(columns)})
        for _ in range(2)
    ]  # fmt: skip
    profiles = [profile_chunks(parts_of(frame, 2) if rows > 1 else [frame]) for frame in frames]
    found = compare_profiles(current=profiles[0], reference=profiles[1])
    assert profiles[0].rows == rows
    if rows < 30:
        assert found.judged_columns == ()
        assert not any(change.drifted for change in found.changes)
