from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_series_equal
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.lineage.sides import SideRule
from prefect_mlops.core.lineage.training_data import HOLDOUT_ATTRIBUTE
from prefect_mlops.core.tables.read import read_table, source_of
from prefect_mlops.core.training.split import both_sides
from prefect_mlops.core.training.split import split_table as split

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

    from prefect_mlops.core.values import Split

RULE = SideRule(by="key", columns=("km",), share=0.2)


@pytest.fixture
def rides() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "hour": np.repeat(np.arange(20), 5),
            "driver": generator.integers(0, 10, 100),
            "km": pd.array([None if n % 7 == 0 else n for n in range(100)], dtype="Int64"),
            "kind": pd.Categorical(generator.choice(["a", "b"], 100)),
            "late": pd.array(generator.random(100) < 0.3, dtype="boolean"),
        },
        index=np.arange(100) // 2,
    )
    return frame.sample(frac=1, random_state=0)


def whole(result: Split) -> pd.DataFrame:
    train = result.X_train.assign(late=result.y_train)
    return pd.concat([train, result.X_test.assign(late=result.y_test)])


def test_by_features_keeps_every_row_once_with_order_index_and_types(rides: pd.DataFrame) -> None:
    rides["row"] = range(100)
    before = rides.copy()
    result = split(rides, "late", test_share=0.3, seed=3)
    assert 20 <= len(result.X_test) == 100 - len(result.X_train) <= 40
    both = whole(result).sort_values("row")
    assert_frame_equal(both[rides.columns], rides)
    for side in (result.X_train, result.X_test):
        assert side["row"].is_monotonic_increasing
        assert side.dtypes.equals(rides.drop(columns="late").dtypes)
    assert_series_equal(result.y_test, rides.iloc[result.X_test["row"].tolist()]["late"])
    assert_frame_equal(rides, before)
    assert_frame_equal(split(rides, "late", test_share=0.3, seed=3).X_test, result.X_test)
    assert split(rides, "late", test_share=0.3, seed=4).X_test["row"].tolist() != result.X_test["row"].tolist()


def test_order_holds_back_the_last_rows_and_ties_do_not_straddle(rides: pd.DataFrame) -> None:
    result = split(rides, "late", order_by="hour", test_share=0.18)
    hours = rides["hour"]
    assert "hour" not in result.X_train
    # 18 rows asked for; the boundary falls inside hour 16, and all of it goes to the test side.
    assert len(result.y_test) == (hours >= 16).sum() == 20
    named = split(rides, "late", order_by="hour", features=["hour", "km"], test_share=0.18)
    assert named.X_train["hour"].max() == 15
    assert named.X_test["hour"].min() == 16
    assert named.X_test.columns.tolist() == ["hour", "km"]


def test_order_by_dates_and_text(rides: pd.DataFrame) -> None:
    rides["day"] = pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(rides["hour"], unit="D")
    rides["code"] = rides["hour"].map("{:03d}".format)
    by_day = split(rides, "late", order_by="day", features=["km"])
    by_code = split(rides, "late", order_by="code", features=["km"])
    assert_frame_equal(by_day.X_test, by_code.X_test)
    assert len(by_day.X_test) == 20


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (
            "%d/%m/%Y",
            r"rows can be ordered: saw text such as '\d\d/01/2013', which sorts by its letters and not by time",
        ),
        ("%d-%b-%Y", r"text such as '\d\d-Jan-2013'"),
        ("%m/%d/%y", r"text such as '01/\d\d/13'"),
        ("%Y-%m-%d", ""),
        ("%Y-%m-%dT%H:%M:%SZ", ""),
        ("%Y%m%d", ""),
    ],
)
def test_text_that_does_not_sort_in_order_of_time_is_refused(rides: pd.DataFrame, written: str, says: str) -> None:
    days = pd.Timestamp("2013-01-01") + pd.to_timedelta(rides["hour"], unit="D")
    rides["day"] = days.dt.strftime(written)
    if says:
        with pytest.raises(DataCheckError, match=says) as refused:
            split(rides, "late", order_by="day")
        assert "pd.to_datetime" in str(refused.value)
    else:
        test = split(rides, "late", order_by="day", features=["hour", "km"]).X_test
        assert test["hour"].min() == 16


@pytest.mark.parametrize("texts", [["9", "10"], ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00+01:00"], ["b", "a"]])
def test_text_of_several_lengths_or_offsets_is_refused(rides: pd.DataFrame, texts: list[str]) -> None:
    rides["day"] = [texts[row % 2] for row in range(len(rides))]
    with pytest.raises(DataCheckError, match="sorts by its letters"):
        split(rides, "late", order_by="day")


def test_periods_are_ordered_by_when_they_begin(rides: pd.DataFrame) -> None:
    days = pd.Timestamp("2013-01-01") + pd.to_timedelta(rides["hour"], unit="D")
    for kind in (days.dt.to_period("D"), days.dt.to_period("D").astype(object)):
        test = split(rides.assign(day=kind), "late", order_by="day", features=["hour"]).X_test
        assert test["hour"].min() == 16


def test_times_so_few_that_far_more_is_held_back_are_refused(rides: pd.DataFrame) -> None:
    rides["year"] = [2011, 2012, 2013, 2013, 2013] * (len(rides) // 5)
    with pytest.raises(DataCheckError, match="3 values of 'year', so that 60% of the rows would be held back"):
        split(rides, "late", order_by="year", test_share=0.2)
    assert len(split(rides, "late", order_by="year", test_share=0.4).X_test) == 0.6 * len(rides)


@pytest.mark.parametrize("by", ["group_by", "key"])
def test_groups_and_keys_stay_whole(rides: pd.DataFrame, by: str) -> None:
    result = split(rides, "late", **{by: "driver"}, features=["driver", "km"], test_share=0.3)
    train, test = set(result.X_train["driver"]), set(result.X_test["driver"])
    assert not train & test
    assert train
    assert test
    assert "driver" not in split(rides, "late", **{by: "driver"}).X_train


def test_with_a_time_and_a_group_the_time_decides(rides: pd.DataFrame) -> None:
    result = split(rides, "late", order_by="hour", group_by="driver", features=["hour", "driver"])
    assert result.X_train["hour"].max() < result.X_test["hour"].min()
    assert set(result.X_train["driver"]) & set(result.X_test["driver"])


@settings(max_examples=40, deadline=None)
@given(data=st.data(), by=st.sampled_from([{}, {"key": ["driver", "km"]}, {"key": "km"}, {"group_by": "driver"}]))
def test_a_side_stays_when_rows_come_go_repeat_or_change_places(data: st.DataObject, by: dict) -> None:
    chance = np.random.default_rng(data.draw(st.integers(0, 1000)))
    table = pd.DataFrame({"driver": chance.integers(0, 30, 300), "km": chance.normal(size=300).round(3)})
    table["late"], table["x"] = np.arange(300) % 2, chance.normal(size=300)
    seed = data.draw(st.integers(0, 5))
    before = split(table.iloc[:200], "late", **by, seed=seed)
    order = data.draw(st.permutations(range(300)))
    grown = pd.concat([table.iloc[order], table.iloc[:50]])[["late", "km", "x", "driver"]]
    after = split(grown, "late", **by, seed=seed)
    tested = set(before.X_test.index)
    assert tested == set(after.X_test.index) & set(range(200))
    assert not set(after.X_test.index) & set(after.X_train.index)


def test_the_sides_of_another_model_are_drawn_again_by_its_rule(rides: pd.DataFrame) -> None:
    first = split(rides, "late", features=["km", "kind"], seed=3, test_share=0.3)
    rule = SideRule.model_validate(json.loads(first.X_train.attrs[HOLDOUT_ATTRIBUTE])["rule"])
    assert rule.columns == ("kind", "km")
    again = split(rides, "late", features=["km", "kind", "hour"], seed=9, sides=rule)
    assert_series_equal(again.y_test, first.y_test)
    assert_frame_equal(again.X_test[["km", "kind"]], first.X_test)


def test_a_refit_learns_from_both_sides_and_knows_where_they_end(rides: pd.DataFrame) -> None:
    for by, known in (({"order_by": "hour"}, {"until": 19, "order_by": "hour"}), ({"key": "driver"}, {})):
        table = rides.copy()
        sides = split(table, "late", features=["km", "kind"], in_place=True, **by)
        X, y = both_sides(table, sides, order_by=by.get("order_by"))
        assert_frame_equal(X, pd.concat([sides.X_train, sides.X_test]))
        assert_series_equal(y, pd.concat([sides.y_train, sides.y_test]))
        assert json.loads(X.attrs[HOLDOUT_ATTRIBUTE]) == known


def test_stratify_asks_for_each_value_on_both_sides(rides: pd.DataFrame) -> None:
    result = split(rides, "late", stratify=True, test_share=0.5)
    assert set(result.y_train) == set(result.y_test) == {True, False}


def test_features_that_hardly_tell_rows_apart_are_refused(rides: pd.DataFrame) -> None:
    with pytest.raises(DataCheckError, match=r"rows can be told apart: saw 36 combinations .*on the test side") as few:
        split(rides.assign(half=rides["hour"] // 10), "late", features=["driver", "kind", "half"])
    assert "with key or group_by" in str(few.value)


def test_a_reference_is_read(tmp_path: Path, rides: pd.DataFrame) -> None:
    rides.to_parquet(tmp_path / "rides.parquet")
    ref = source_of(read_table(tmp_path / "rides.parquet"))
    assert ref is not None
    assert_frame_equal(split(ref, "late").X_test, split(rides.reset_index(drop=True), "late").X_test)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "lat"}, r"no target of table is called 'lat': did you mean 'late'\?"),
        ({"features": ["kms"]}, r"no feature of table is called 'kms': did you mean 'km'\?"),
        ({"order_by": "hours"}, r"no column of table is called 'hours': did you mean 'hour'\?"),
        ({"group_by": "drivers"}, r"no column of table is called 'drivers': did you mean 'driver'\?"),
        ({"features": ["km", "late"]}, "the target 'late' is among the features"),
        ({"features": "km"}, "features is a list of names, got the text 'km'"),
        ({"features": []}, "at least one"),
        ({"features": ["km", "km"]}, "once"),
        ({"test_share": 0}, r"test_share is a share above 0 and below 1, e\.g\. 0\.2, got 0"),
        ({"test_share": 1.0}, "got 1.0"),
        ({"test_share": float("nan")}, "got nan"),
        ({"test_share": True}, "got True"),
        ({"test_share": "0.2"}, "got '0.2'"),
        ({"order_by": "hour", "sides": RULE}, "order_by and sides exclude each other"),
        (
            {"sides": RULE.model_copy(update={"columns": ("x",)})},
            "no column that says on which side a row is is called",
        ),
        ({"key": ["km", "kmm"]}, "no column of table is called 'kmm'"),
        ({"key": "late"}, "key is the target 'late'"),
        ({"order_by": "hour", "stratify": True}, "order_by and stratify exclude each other"),
        ({"group_by": "driver", "stratify": True}, "group_by and stratify exclude each other"),
        ({"group_by": "late"}, "group_by is the target 'late'"),
        ({"order_by": "late"}, "order_by is the target 'late'"),
    ],
)
def test_wrong_requests_are_said_in_words(rides: pd.DataFrame, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split(rides, **{"target": "late", **options})


def broken(rides: pd.DataFrame, case: str) -> tuple[pd.DataFrame, dict[str, object]]:
    n = len(rides)
    cases: dict[str, tuple[pd.DataFrame, dict[str, object]]] = {
        "gaps in target": (rides.assign(late=[None, None, True] + [False] * (n - 3)), {}),
        "constant target": (rides.assign(late=1), {}),
        "one row": (rides.head(1), {}),
        "gaps in order": (rides.assign(hour=[np.nan] * 3 + [1.0] * (n - 3)), {"order_by": "hour"}),
        "gaps in group": (rides.assign(driver=[None] * 2 + [1] * (n - 2)), {"group_by": "driver"}),
        "gaps in key": (rides, {"key": ["driver", "km"]}),
        "one moment": (rides.assign(hour=1), {"order_by": "hour"}),
        "one group": (rides.assign(driver=1), {"group_by": "driver"}),
        "no order": (rides.assign(hour=["x", 1] * (n // 2)), {"order_by": "hour"}),
        "single strata": (rides.assign(late=["x", "y", *["z"] * (n - 2)]), {"stratify": True}),
        "many strata": (rides.assign(late=list(range(n // 2)) * 2), {"stratify": True, "test_share": 0.1}),
        "one value in training": (rides.assign(late=(rides["hour"] >= 16).astype(int)), {"order_by": "hour"}),
        "empty features": (rides.assign(a=None, b=np.nan), {}),
        "repeated names": (pd.concat([rides, rides["km"]], axis=1), {}),
    }
    return cases[case]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("gaps in target", "target is known: saw 2 of 100 rows without 'late'"),
        ("constant target", "target varies: saw 100 rows, all with 'late' = .*1"),
        ("one row", "both sides have rows: saw 1 rows"),
        ("gaps in order", "every row has its place: saw 3 of 100 rows without 'hour'"),
        ("gaps in group", "every row has its place: saw 2 of 100 rows without 'driver'"),
        ("one moment", "both sides have rows: saw 0 training and 100 test rows"),
        ("gaps in key", "every row has its place: saw 15 of 100 rows without 'km'"),
        ("one group", "both sides have rows: saw 1 values of driver in 100 rows, none on the test side"),
        ("no order", r"rows can be ordered: saw values of 'hour' \(type object\) that have no order"),
        ("single strata", "strata can be split: saw 2 values of 'late' on one side only: 'x', 'y'"),
        ("many strata", r"strata can be split: saw \d+ values of 'late' on one side only: \d+, .* and \d+ more"),
        ("one value in training", "target varies in training: saw only 'late' = .*0.* in 80 training rows"),
        ("empty features", "saw 2 columns without any value in 78 training rows: 'a', 'b'"),
        ("repeated names", "column names are unique: saw 'km' more than once"),
    ],
)
def test_rows_that_cannot_be_split_are_said_in_words(rides: pd.DataFrame, case: str, message: str) -> None:
    frame, options = broken(rides, case)
    with pytest.raises(DataCheckError, match=message) as caught:
        split(frame, "late", **options)
    assert caught.value.report is not None
    assert not caught.value.report.passed


def test_a_feature_that_is_empty_only_in_training_is_refused(rides: pd.DataFrame) -> None:
    frame = rides.assign(new=rides["hour"].where(rides["hour"] >= 16))
    with pytest.raises(DataCheckError, match="saw 1 columns without any value in 80 training rows: 'new'"):
        split(frame, "late", order_by="hour")


BY = [{"order_by": "hour"}, {"group_by": "driver"}, {"key": ["driver", "kind"]}, {"stratify": True}, {}]


@pytest.mark.parametrize("by", BY, ids=str)
def test_in_place_the_sides_are_the_same_and_views_of_the_table(rides: pd.DataFrame, by: dict) -> None:
    rides["row"] = range(100)
    before, copied = rides.copy(), split(rides, "late", features=["km", "kind", "hour"], seed=1, **by)
    assert_frame_equal(rides, before)
    viewed = split(rides, "late", features=["km", "kind", "hour"], seed=1, in_place=True, **by)
    for side in ("X_train", "X_test"):
        assert_frame_equal(getattr(viewed, side), getattr(copied, side))
        assert np.shares_memory(getattr(viewed, side)["hour"].to_numpy(), rides["hour"].to_numpy())
        assert_series_equal(getattr(viewed, side.replace("X", "y")), getattr(copied, side.replace("X", "y")))
    assert viewed.X_train.attrs == copied.X_train.attrs
    rows = np.argsort(np.isin(before["row"], rides["row"].iloc[len(viewed.X_train) :]), kind="stable")
    assert_frame_equal(rides, before.iloc[rows])


def test_rows_that_stand_in_order_are_not_copied(rides: pd.DataFrame) -> None:
    ordered = rides.sort_values("hour", kind="stable")
    result = split(ordered, "late", order_by="hour", features=["hour", "km"])
    assert np.shares_memory(result.X_train["hour"].to_numpy(), ordered["hour"].to_numpy())
    assert np.shares_memory(result.X_test["hour"].to_numpy(), ordered["hour"].to_numpy())
    result.X_train["hour"] = 0  # a user may change a side: pandas copies first
    assert ordered["hour"].max() == 19


@pytest.mark.parametrize("blocks", ["one", "one a column"])
@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        Ridge(solver="cholesky"),
        LinearRegression(),
        SGDClassifier(random_state=0),
        RandomForestClassifier(n_estimators=5, random_state=0),
        HistGradientBoostingClassifier(max_iter=5),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_what_is_learned_from_views_is_what_is_learned_from_copies_to_the_last_bit(
    estimator: BaseEstimator, blocks: str
) -> None:
    chance = np.random.default_rng(0)
    table = pd.DataFrame(chance.normal(size=(5_003, 7)), columns=list("abcdefg"))
    table["late"] = (table["a"] + chance.normal(size=len(table)) > 0).astype("float64")
    if blocks == "one a column":
        table = pd.DataFrame(dict(table.items()), copy=False)
    table["hour"] = chance.permutation(len(table))
    held_back = (table["hour"] >= table["hour"].nlargest(1_001).min()).to_numpy()
    chosen = ["a", "c", "d", "e", "g"]
    sides = [table.loc[rows, chosen].copy() for rows in (~held_back, held_back)]
    copies = estimator.fit(sides[0], table.loc[~held_back, "late"].copy()).predict(sides[1])
    views = split(table, "late", order_by="hour", features=chosen, in_place=True)
    assert len(views.X_test) == held_back.sum()
    np.testing.assert_array_equal(estimator.fit(views.X_train, views.y_train).predict(views.X_test), copies)
