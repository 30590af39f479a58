from __future__ import annotations

import great_expectations as gx
import pandas as pd
import pytest
from great_expectations import expectations as gxe
from great_expectations.expectations.row_conditions import Column
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.data_checks import split_bad_rows


@pytest.fixture
def rides() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [1, 2, 3, 3, 5, 6],
            "km": pd.array([1, None, -3, 4, 5, 6], dtype="Int64"),
            "kind": pd.Categorical(["a", "b", "a", "c", "a", "a"]),
            "start": [1, 2, 3, 4, 5, 9],
            "end": [2, 3, 4, 5, 6, 8],
        },
        index=[7, 7, 3, 3, 7, 0],
    )


def test_every_failing_row_is_refused_with_its_reasons(rides: pd.DataFrame) -> None:
    before = rides.copy()
    suite = gx.ExpectationSuite(
        name="rides",
        expectations=[
            gxe.ExpectColumnValuesToBeBetween(column="km", min_value=0, mostly=0.1),
            gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=["a", "b"]),
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="end", column_B="start"),
            gxe.ExpectColumnValuesToBeUnique(column="id"),
            gxe.ExpectMulticolumnSumToEqual(column_list=["start", "end"], sum_total=17, severity="warning"),
            gxe.ExpectColumnMeanToBeBetween(column="km", min_value=1000),
            gxe.ExpectTableRowCountToEqual(value=1),
        ],
    )
    checked = split_bad_rows(rides, suite)
    accepted, refused = checked.accepted, checked.refused
    assert_frame_equal(accepted, rides.iloc[[0, 1, 4]])
    assert_frame_equal(refused.drop(columns="_reasons"), rides.iloc[[2, 3, 5]])
    assert refused["_reasons"].tolist() == [
        "km: values at least 0; id: values are unique",
        "kind: values in a, b; id: values are unique",
        "end, start: end above start",
    ]
    assert_frame_equal(rides, before)


@pytest.mark.parametrize(
    ("expectation", "places"),
    [
        (gxe.ExpectMulticolumnSumToEqual(column_list=["start", "end"], sum_total=17), [0, 1, 2, 3, 4]),
        (gxe.ExpectCompoundColumnsToBeUnique(column_list=["id", "kind"]), []),
        (gxe.ExpectSelectColumnValuesToBeUniqueWithinRecord(column_list=["id", "km"]), [0, 4, 5]),
        (gxe.ExpectColumnPairValuesToBeEqual(column_A="id", column_B="start"), [3, 5]),
        (gxe.ExpectColumnValuesToNotBeNull(column="km"), [1]),
        (
            gxe.ExpectColumnValuesToBeBetween(column="km", min_value=5, row_condition=Column("kind") == "a"),
            [0, 2],
        ),
        (gxe.ExpectColumnValuesToNotBeNull(column="km", severity="warning"), []),
    ],
)
def test_rows_of_one_pair_and_several_columns(rides: pd.DataFrame, expectation: object, places: list[int]) -> None:
    checked = split_bad_rows(rides, [expectation])
    accepted, refused = checked.accepted, checked.refused
    assert_frame_equal(refused.drop(columns="_reasons"), rides.iloc[places])
    assert len(accepted) + len(refused) == len(rides)


def test_types_of_single_values_are_judged_row_by_row() -> None:
    frame = pd.DataFrame({"a": pd.Series(["x", 1, None, "y"], dtype=object)})
    refused = split_bad_rows(frame, [gxe.ExpectColumnValuesToBeOfType(column="a", type_="str")]).refused
    assert refused["a"].tolist() == [1]


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        (
            gxe.ExpectColumnValuesToNotBeNull(column="kms"),
            r"no row can be judged: .*no column 'kms'; did you mean 'km'",
        ),
        (gxe.ExpectColumnValuesToBeBetween(column="kind", min_value=1), "no row can be judged: .*cannot be computed"),
    ],
)
def test_a_suite_that_cannot_be_computed_judges_no_row(rides: pd.DataFrame, expectation: object, message: str) -> None:
    suite = [gxe.ExpectColumnValuesToNotBeNull(column="km"), expectation]
    with pytest.raises(DataCheckError, match=message) as caught:
        split_bad_rows(rides, suite, subject="rides.csv")
    assert caught.value.report is not None
    assert caught.value.report.subject == "rides.csv"
    assert len(caught.value.report.checks) == 1


def test_reserved_and_repeated_names_and_empty_suites_are_refused(rides: pd.DataFrame) -> None:
    suite = [gxe.ExpectColumnValuesToNotBeNull(column="km")]
    with pytest.raises(DataCheckError, match="a column '_reasons', expected no column of that name"):
        split_bad_rows(rides.assign(_reasons=""), suite)
    with pytest.raises(DataCheckError, match="km more than once"):
        split_bad_rows(pd.concat([rides, rides["km"]], axis=1), suite)
    with pytest.raises(ConfigError, match="the suite has no expectations"):
        split_bad_rows(rides, [])


def test_no_rows_give_no_rows(rides: pd.DataFrame) -> None:
    checked = split_bad_rows(rides.head(0), [gxe.ExpectColumnValuesToNotBeNull(column="km")])
    accepted, refused = checked.accepted, checked.refused
    assert len(accepted) == len(refused) == 0
    assert accepted.dtypes.equals(rides.dtypes)
    assert refused.columns.tolist() == [*rides.columns, "_reasons"]


rows = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(-5, 15)), st.sampled_from(["a", "b", "", None]), st.integers(0, 3)),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=rows, nullable=st.booleans(), mostly=st.sampled_from([0.1, 0.9, 1.0]))
def test_every_row_is_in_exactly_one_part(rows: list[tuple[object, ...]], nullable: bool, mostly: float) -> None:
    frame = pd.DataFrame(
        {
            "n": pd.array([row[0] for row in rows], dtype="Int64" if nullable else "Float64"),
            "s": pd.Series([row[1] for row in rows], dtype=object),
            "place": range(len(rows)),
        }
    )
    frame.index = pd.Index([row[2] for row in rows], dtype="int64")
    suite = [
        gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0, max_value=10, mostly=mostly),
        gxe.ExpectColumnValuesToBeInSet(column="s", value_set=["a", "b"]),
        gxe.ExpectColumnValuesToNotBeNull(column="s", mostly=mostly),
    ]
    checked = split_bad_rows(frame, suite)
    accepted, refused = checked.accepted, checked.refused
    assert sorted([*accepted["place"], *refused["place"]]) == list(range(len(rows)))
    assert_frame_equal(accepted, frame.iloc[accepted["place"].tolist()])
    assert_frame_equal(refused.drop(columns="_reasons"), frame.iloc[refused["place"].tolist()])
    bad = [
        (row[0] is not None and not 0 <= int(str(row[0])) <= 10) or row[1] not in ("a", "b")  # null text: second rule
        for row in rows
    ]
    assert refused["place"].tolist() == [place for place, is_bad in enumerate(bad) if is_bad]
    assert all(refused["_reasons"].str.len() > 0)
