"""Signs of target leakage: what is named, and what is not."""

from __future__ import annotations

import datetime as dt
import uuid

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.evaluation import leakage
from prefect_mlops.core.evaluation.leakage import check_leakage
from prefect_mlops.core.reports import Check

ROWS = 1_500
CHANCE = np.random.default_rng(0)
STARTS = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.sort(CHANCE.uniform(0, 300, ROWS)), unit="D")


def honest(rows: int = ROWS) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Five columns that tell a little of a class and of a number."""
    chance = np.random.default_rng(1)
    X = pd.DataFrame(chance.normal(size=(rows, 4)), columns=["a", "b", "c", "d"])
    X["town"] = chance.choice(["north", "south", "west"], rows)
    number = X["a"] + 0.5 * X["b"] + 0.5 * (X["town"] == "west") + chance.normal(0, 1.5, rows)
    return X, (number > number.median()).astype(int).rename("late"), number.rename("delay")


def find_leakage(X: pd.DataFrame, y: pd.Series, **options: object) -> tuple[Check, ...]:
    return check_leakage(X, y, **options).checks


def named(checks: tuple[Check, ...]) -> dict[str, str]:
    """The columns that were warned of, by the sign of it."""
    assert all(check.severity == "warning" for check in checks if not check.passed), "it never refuses"
    return {check.subject: check.id for check in checks if not check.passed}


def test_honest_columns_give_one_passed_check_that_counts_them() -> None:
    X, late, delay = honest()
    report = check_leakage(X, late, order=pd.Series(STARTS, name="start"))
    assert (report.kind, report.passed, report.rows) == ("leakage", True, ROWS)
    (check,) = report.checks
    assert (check.id, check.passed) == ("leakage", True)
    assert check.observed.startswith("5 columns: none gives the target away, none is newer than its row, none numbers")
    assert not named(find_leakage(X, delay))


def classes(X: pd.DataFrame, delay: pd.Series) -> dict[str, pd.Series]:
    """Columns that know the answer, in all the forms a table has."""
    noisy = delay + np.random.default_rng(2).normal(0, 0.5, len(X))
    late = delay > delay.median()
    return {
        "number": noisy,
        "nullable number": noisy.astype("Float64").mask(X["c"] > 1),
        "text": pd.Series(np.where(late, "paid back", "written off")),
        "category of numbers": pd.Series(np.where(late, 7, 3)).astype("category"),
        "boolean": late.astype("boolean"),
        "date": pd.Series([dt.date(2024, 1, 1) + dt.timedelta(days=int(day)) for day in (noisy * 30 + 900)]),
        "date as text": pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(noisy, unit="D")).dt.strftime(
            "%Y-%m-%d"
        ),
        "only missing where late": pd.Series(CHANCE.normal(size=len(X))).mask(late),
        "many zeros": noisy.where(late, 0.0),
        "objects": pd.Series([("x", bool(one)) for one in late]),
    }


KINDS = list(classes(*honest()[::2]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_knows_the_class_is_named_whatever_it_holds(kind: str) -> None:
    X, late, delay = honest()
    checks = find_leakage(X.assign(told=classes(X, delay)[kind]), late)
    assert named(checks) == {"told": "leakage-single-feature"}
    (check,) = checks
    assert check.threshold == 0.85
    assert 0.85 <= check.value <= 1
    assert f"ROC AUC {check.value:.2f} from it alone, 0.7" in check.observed, "and what the others reach"
    assert "leave it out of the features" in check.expected


def test_a_column_that_knows_the_number_is_named() -> None:
    X, _, delay = honest()
    (check,) = find_leakage(X.assign(minutes=delay * 60), delay)
    assert (check.subject, check.id, check.threshold) == ("minutes", "leakage-single-feature", 0.75)
    assert check.value > 0.95
    assert "R² " in check.observed


def test_classes_that_are_text_and_more_than_two() -> None:
    X, _, delay = honest()
    size = pd.qcut(delay, 4, labels=["none", "short", "long", "lost"]).astype(str)
    assert named(find_leakage(X.assign(told=delay), size)) == {"told": "leakage-single-feature"}
    assert not named(find_leakage(X, size))


def test_copies_of_a_leak_do_not_cover_for_each_other() -> None:
    X, late, delay = honest()
    noise = np.random.default_rng(3).normal(0, 0.3, (2, ROWS))
    both = X.assign(
        **{f"x{place}": X["c"] for place in range(4)}, hours=delay + noise[0], minutes=60 * (delay + noise[1])
    )
    checks = find_leakage(both, late)
    assert named(checks) == dict.fromkeys(("hours", "minutes"), "leakage-single-feature")
    assert "(without minutes)" in next(check.observed for check in checks if check.subject == "hours")


def test_two_columns_whose_difference_is_the_answer_are_named_together() -> None:
    X, late, delay = honest()
    plan = np.random.default_rng(4).uniform(0, 200, ROWS)
    checks = find_leakage(X.assign(planned=plan, actual=plan + delay), late)
    assert list(named(checks).values()) == ["leakage-difference"]
    assert set(checks[0].subject.split(" and ")) == {"planned", "actual"}
    assert "from their difference alone" in checks[0].observed
    times = X.assign(opened=STARTS, closed=STARTS + pd.to_timedelta(delay, unit="h"))
    assert set(find_leakage(times, late)[0].subject.split(" and ")) == {"opened", "closed"}


@pytest.mark.parametrize("load", [load_breast_cancer, load_iris, load_wine, load_digits, load_diabetes])
def test_strong_honest_columns_of_well_known_tables_are_not_named(load) -> None:
    """`worst area` alone reaches a ROC AUC of 0.97; without it, the others reach 0.99."""
    X, y = load(as_frame=True, return_X_y=True)
    assert not named(find_leakage(X, y))


def test_the_better_of_two_strong_columns_is_not_named() -> None:
    chance = np.random.default_rng(7)
    cause, *errors = chance.normal(size=(3, ROWS))
    y = pd.Series(cause > 0).astype(int)
    X = honest()[0].assign(a=cause + 0.6 * errors[0], b=cause + errors[1])
    assert not named(find_leakage(X, y)), "a alone reaches 0.89, the others 0.81"
    assert named(find_leakage(X.drop(columns="b"), y)) == {"a": leakage.SINGLE_FEATURE}


def test_the_target_by_another_name_is_named_also_where_the_others_come_near_it() -> None:
    X, y = load_breast_cancer(as_frame=True, return_X_y=True)
    chance = np.random.default_rng(0)
    assert named(find_leakage(X.assign(told=y + chance.normal(0, 0.05, len(y))), y)) == {"told": leakage.SINGLE_FEATURE}
    assert not named(find_leakage(X.assign(told=y + chance.normal(0, 0.5, len(y))), y))


def test_rows_too_few_to_tell_are_said_and_not_judged() -> None:
    X, late, delay = honest(90)
    (check,) = find_leakage(X.assign(told=delay), late)
    assert check.passed
    assert "90 rows are too few to tell what one column predicts" in check.observed
    rare = pd.Series(np.arange(ROWS) < 20).astype(int)
    assert not named(find_leakage(honest()[0].assign(told=rare), rare)), "20 rows of a class are no evidence"


# Time.


def times_after(share: float, by: str = "2h") -> pd.Series:
    later = np.arange(ROWS) < share * ROWS
    return pd.Series(STARTS + pd.Timedelta(by) * np.where(later, 1, -1))


def test_times_after_the_row_are_named_with_their_share() -> None:
    X, late, _ = honest()
    order = pd.Series(STARTS, name="start")
    for closed in (
        times_after(0.4),
        times_after(0.4).dt.strftime("%Y-%m-%dT%H:%M:%S"),
        times_after(0.4).astype(object),
    ):
        (check,) = find_leakage(X.assign(closed=closed), late, order=order)
        assert (check.id, check.subject, check.passed) == ("leakage-newer-than-order", "closed", False)
        assert check.value == pytest.approx(0.4, abs=0.001)
        assert "40.0% of the rows hold a time after start, half of these by more than 2.0 hours" in check.observed
    assert not named(find_leakage(X.assign(opened=times_after(0)), late, order=order))
    assert not named(find_leakage(X.assign(closed=times_after(0.005)), late, order=order)), "late corrections"
    assert not named(find_leakage(X.assign(closed=times_after(0.4)), late)), "nothing to compare with"


def test_hours_of_the_same_day_are_not_newer_than_a_day_nor_than_times_of_another_zone() -> None:
    X, late, _ = honest()
    days = pd.Series(STARTS.normalize(), name="day")
    at = pd.Series(STARTS)
    assert not named(find_leakage(X.assign(at=at), late, order=days))
    assert named(find_leakage(X.assign(at=at + pd.Timedelta("1D")), late, order=days)) == {"at": leakage.NEWER}
    zoned = at.dt.tz_localize("UTC")
    assert not named(find_leakage(X.assign(at=at + pd.Timedelta("5h")), late, order=zoned))
    assert named(find_leakage(X.assign(at=zoned + pd.Timedelta("5h")), late, order=zoned)) == {"at": leakage.NEWER}


@pytest.mark.parametrize("order", [np.arange(ROWS), pd.Series(np.arange(ROWS)).map("{:06d}".format).to_numpy()])
def test_an_order_that_is_no_time_orders_the_rows_and_judges_no_time(order: np.ndarray) -> None:
    X, late, delay = honest()
    X = X.assign(opened=STARTS, told=delay)
    assert named(find_leakage(X, late, order=pd.Series(order, name="number"))) == {"told": leakage.SINGLE_FEATURE}


# Keys.


def keys(rows: int) -> dict[str, pd.Series]:
    chance = np.random.default_rng(5)
    return {
        "counter": pd.Series(np.arange(rows)),
        "counter out of order": pd.Series(chance.permutation(rows) + 10_000),
        "counter of a part of the rows": pd.Series(np.sort(chance.choice(rows * 5, rows, replace=False))),
        "counter with gaps": pd.Series(np.arange(rows, dtype="float64")).mask(np.arange(rows) % 50 == 0),
        "seconds since 1970": pd.Series(1_700_000_000 + np.cumsum(chance.integers(1, 10_000, rows))),
        "ten digits": pd.Series(chance.choice(9_000_000_000, rows, replace=False) + 1_000_000_000),
        "token": pd.Series([f"A-{number:07d}" for number in chance.permutation(rows)]),
        "uuid": pd.Series([uuid.UUID(int=int(number)) for number in chance.permutation(rows)]),
    }


@pytest.mark.parametrize("kind", list(keys(100)))
def test_a_key_of_the_rows_is_named(kind: str) -> None:
    X, late, _ = honest()
    (check,) = find_leakage(X.assign(key=keys(ROWS)[kind]), late)
    assert (check.subject, check.id, check.passed) == ("key", "leakage-row-id", False)
    assert f"different values in {int(keys(ROWS)[kind].notna().sum()):,} rows" in check.observed
    few = X.iloc[:40].assign(key=keys(40)[kind])
    assert not named(find_leakage(few, late[:40])), "40 rows that differ are no evidence"


@pytest.mark.parametrize(
    "values",
    [
        CHANCE.normal(1e9, 1e8, ROWS),
        np.round(CHANCE.lognormal(16, 2, ROWS)),  # populations: whole, all different, and no key
        CHANCE.integers(0, 500, ROWS),
        STARTS,
        [f"I was {place} minutes late" for place in range(ROWS)],
        [[place] for place in range(ROWS)],
        [None] * ROWS,
    ],
    ids=["fractions", "populations", "repeated", "times", "sentences", "lists", "empty"],
)
def test_what_differs_in_each_row_and_is_no_key_is_not_named(values) -> None:
    X, late, _ = honest()
    assert not named(find_leakage(X.assign(key=values), late))


def test_a_key_that_predicts_the_target_is_named_once_as_a_key() -> None:
    X, late, _ = honest()
    ordered = late.sort_values(ignore_index=True)
    assert named(find_leakage(X.assign(id=np.arange(ROWS)), ordered)) == {"id": leakage.ROW_ID}


# Rows.


def test_a_column_that_names_the_group_is_tried_on_other_groups() -> None:
    """Each customer has one answer and one birthday: known customers are no evidence for new ones."""
    customers = np.repeat(np.arange(75), 20)
    chance = np.random.default_rng(6)
    answer, birthday = chance.integers(0, 2, 75)[customers], chance.permutation(75)[customers]
    X = honest()[0].assign(birthday=[f"day {day}" for day in birthday])
    y, groups = pd.Series(answer), pd.Series(customers)
    assert named(find_leakage(X, y)) == {"birthday": leakage.SINGLE_FEATURE}
    assert not named(find_leakage(X, y, groups=groups))


def test_a_sample_of_many_rows_tells_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    X, late, delay = honest()
    X = X.assign(told=delay, key=np.arange(ROWS), closed=times_after(0.4))
    whole = find_leakage(X, late, order=pd.Series(STARTS, name="start"))
    monkeypatch.setattr(leakage, "MAX_ROWS", 800)
    part = find_leakage(X, late, order=pd.Series(STARTS, name="start"))
    assert named(part) == named(whole) != {}
    assert part == find_leakage(X, late, order=pd.Series(STARTS, name="start")), "the sample has a seed"
    key = next(check for check in part if check.subject == "key")
    assert "1,500 different values in 1,500 rows" in key.observed, "keys are counted in all rows"


def test_rows_without_a_target_are_left_out_and_sides_that_do_not_match_are_refused() -> None:
    X, late, delay = honest()
    with_gaps = late.astype("Int64").mask(np.arange(ROWS) % 3 == 0)
    assert named(find_leakage(X.assign(told=delay), with_gaps)) == {"told": leakage.SINGLE_FEATURE}
    with pytest.raises(ConfigError, match="check_leakage: X has 1,500 rows and y has 1,400: they have to match"):
        check_leakage(X, late[:1400])


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.dates(),
    st.datetimes(),
    st.decimals(allow_nan=False),
)


@given(
    st.lists(
        st.one_of(
            st.lists(cells, min_size=4, max_size=4),
            st.lists(st.floats(), min_size=4, max_size=4),
            st.lists(st.datetimes() | st.none(), min_size=4, max_size=4),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["class", "number", "cells"]),
    st.booleans(),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_table_holds_is_answered(columns: list[list], target: str, timed: bool) -> None:
    """Each cell 30 times, so that the rows suffice for all signs."""
    X = pd.DataFrame({f"x{place}": pd.Series(values * 30) for place, values in enumerate(columns)})
    y = pd.Series({"class": [0, 0, 1, 1], "number": [1.5, 2.5, 3.5, 4.5], "cells": columns[0]}[target] * 30)
    checks = find_leakage(X, y, order=X["x0"].rename("when") if timed else None)
    assert checks
    assert {check.severity for check in checks if not check.passed} <= {"warning"}
