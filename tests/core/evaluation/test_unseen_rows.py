"""Rows that a model may have learned from never judge it, whatever is known of the models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from prefect_mlops.core.evaluation.models import judge_model
from prefect_mlops.core.evaluation.unseen_rows import CHECK_ID, find_unseen_rows
from prefect_mlops.core.lineage.training_data import attach, lineage_of
from prefect_mlops.core.training.fit import fit_estimator
from prefect_mlops.core.training.split import split_table
from prefect_mlops.core.values import Gate, Split

GATES = [Gate("accuracy", at_least=0.1, may_lose=0.5)]
WAYS: list[dict] = [
    {},
    {"features": ["a", "b"]},
    {"key": "id"},
    {"key": ["id", "shop"], "seed": 3},
    {"group_by": "shop"},
    {"order_by": "at"},
    {"order_by": "at", "group_by": "shop"},
    {"order_by": "day"},
    {"order_by": "text"},
    {"test_share": 0.4},
]


def table(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    made = pd.DataFrame(
        {"a": chance.normal(size=rows), "b": chance.normal(size=rows), "c": chance.integers(0, 9, rows)}
    )
    made["id"], made["shop"] = np.arange(rows) // 2, chance.integers(0, 25, rows)
    made["at"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(chance.permutation(rows), unit="h")
    made["day"], made["text"] = made["at"].dt.to_period("D"), made["at"].dt.strftime("%Y-%m-%d")
    return made.assign(y=(made["a"] + chance.normal(size=rows) > 0).astype(int))


def trained(rows: pd.DataFrame, **way: object) -> tuple[object, Split]:
    way = {"features": ["a", "b", "c"], **way}
    split = split_table(rows, "y", **way)
    return fit_estimator(DummyClassifier(), split.X_train, split.y_train), split


def elsewhere(rows: pd.DataFrame) -> object:
    return DummyClassifier().fit(rows[["a"]], rows["y"])


def refitted(rows: pd.DataFrame) -> object:
    model, _ = trained(rows)
    attach(model, lineage_of(model).model_copy(update={"refit_of": 3}))
    return model


def own_split(rows: pd.DataFrame) -> object:
    return fit_estimator(DummyClassifier(), rows[["a", "b"]][:100], rows["y"][:100])


@settings(max_examples=60, deadline=None)
@given(
    ways=st.tuples(st.sampled_from([*WAYS, None, "own"]), st.sampled_from([*WAYS, None, "own"])),
    sizes=st.tuples(st.sampled_from([200, 300, 400]), st.sampled_from([200, 300, 400])),
    judged=st.sampled_from(["all rows", "test rows", "test features"]),
    order=st.integers(0, 3),
)
def test_no_row_that_a_model_has_learned_from_judges_it(
    ways: tuple[dict | str | None, ...], sizes: tuple[int, ...], judged: str, order: int
) -> None:
    whole = table()
    models, learned, columns = {}, set(), list(whole.columns)
    rows = whole
    for role, way, size in zip(("challenger", "champion"), ways, sizes, strict=True):
        if not isinstance(way, dict):
            models[role] = elsewhere(whole) if way is None else own_split(whole)
            learned |= set(whole.index)  # nothing says which
            continue
        models[role], split = trained(whole.iloc[:size], **way)
        learned |= set(split.X_train.index)
        if role == "challenger" and judged != "all rows":
            rows = whole.loc[split.X_test.index]
            columns = columns if judged == "test rows" else list(split.X_test.columns)
    rows = rows.sample(frac=1, random_state=order)
    unseen = find_unseen_rows(models, rows[columns])
    kept = set(rows.index[unseen.mask])
    assert not kept & learned
    assert unseen.check.id == CHECK_ID
    if not isinstance(ways[0], dict) or not isinstance(ways[1], dict):
        assert not unseen.check.passed
        assert not kept
    report = judge_model(models["challenger"], models["champion"], rows[columns], rows["y"], gates=GATES)
    assert report.checks[0] == unseen.check
    assert report.rows == len(kept) or not unseen.check.passed
    assert (len(report.checks) > 1) == unseen.check.passed


@pytest.mark.parametrize("way", [way for way in WAYS if "order_by" not in way], ids=str)
def test_after_growth_all_test_rows_judge_both(way: dict) -> None:
    whole = table()
    champion, _ = trained(whole[:200], **way)
    challenger, split = trained(whole, **way)
    rows = whole.loc[split.X_test.index]
    found = find_unseen_rows({"challenger": challenger, "champion": champion}, rows)
    assert found.mask.all()
    assert found.check.observed.startswith(f"{len(rows)} of {len(rows)} rows; known by a hash of their ")


def test_what_was_left_out_is_counted_and_how_it_is_known_is_said() -> None:
    whole = table()
    champion, _ = trained(whole, key="id", seed=1)
    challenger, split = trained(whole, key="id")
    rows = whole.loc[split.X_test.index]
    check = find_unseen_rows({"challenger": challenger, "champion": champion}, rows).check
    left = int(check.value)
    assert check.passed
    assert check.observed == (
        f"{left} of {len(rows)} rows, without {len(rows) - left} that the champion may have learned from; "
        "known by a hash of their key (id)"
    )
    by_time, _ = trained(whole, order_by="at")
    last = pd.Timestamp(by_time.trained_on_["until"])
    seen = find_unseen_rows({"challenger": by_time}, whole).check.observed
    assert (
        seen
        == f"80 of 400 rows, without 320 that the challenger may have learned from; known by at after {last.isoformat()}"
    )


@pytest.mark.parametrize(
    ("champion", "says"),
    [
        (elsewhere, "cannot tell for the champion: it has no lineage, as it was not fitted by train_model"),
        (
            own_split,
            "cannot tell for the champion: its lineage does not say how its rows were split off: use split_table",
        ),
        (
            lambda rows: trained(rows, group_by="shop")[0],
            "its sides go by a hash of their group (shop), and the test rows have no column 'shop': table.loc",
        ),
        (
            lambda rows: trained(rows, order_by="at")[0],
            "and the test rows have no column 'at'",
        ),
        (
            lambda rows: trained(rows.assign(d=rows["a"]), features=["a", "d"])[0],
            "its sides go by a hash of their features, and the test rows have no column 'd': give all features",
        ),
        (refitted, "it was trained on all rows after v3 was judged: compare with that one"),
        (
            lambda rows: trained(rows.assign(a=rows["a"] * 2))[0],
            "0 of 64 rows that it was tested on before are among these: their features are computed in another way now",
        ),
        (
            lambda rows: trained(rows.assign(at=np.arange(len(rows))), order_by="at")[0],
            "cannot be compared with datetime64[",
        ),
    ],
)
def test_where_it_cannot_be_told_nothing_is_compared(champion: object, says: str) -> None:
    whole = table(1000)
    challenger, split = trained(whole)
    rows = whole.loc[split.X_test.index].drop(columns="y")
    if "have no column" in says:
        rows = rows.drop(columns=["shop", "at"])
    given = champion(whole)
    report = judge_model(challenger, given, rows, split.y_test, gates=GATES)
    assert not report.passed
    assert [check.id for check in report.checks] == [CHECK_ID]
    assert says in report.checks[0].observed
    assert "promote makes the challenger champion without this comparison" in report.checks[0].expected
    if "give all features" in says:
        return
    vouched = judge_model(challenger, given, rows, split.y_test, gates=GATES, set_apart=True)
    assert vouched.checks[0].observed.endswith("of the champion only the caller says so (set_apart)")
    assert len(vouched.checks) == 3


def test_the_caller_vouches_only_for_what_the_lineage_does_not_say() -> None:
    whole = table()
    challenger, split = trained(whole)
    report = judge_model(challenger, elsewhere(whole), whole, whole["y"], gates=GATES, set_apart=True)
    assert report.rows == len(split.X_test)
    known = find_unseen_rows({"challenger": challenger}, whole, set_apart=True).check.observed
    assert known.endswith("known by a hash of their features"), "nothing had to be vouched for"


def test_too_few_rows_are_a_refusal_with_that_reason() -> None:
    whole = table()
    by_key, split = trained(whole, key="id")
    some = [*split.X_train.index[:50], *split.X_test.index[:4]]
    report = judge_model(by_key, None, whole.loc[some], whole["y"][some], gates=GATES)
    assert not report.passed
    assert "saw 4 of 54 rows, without 50 that the challenger may have learned from" in report.summary
    assert "expected at least 5 rows that neither model has learned from" in report.summary
    some = [*split.X_train.index[:50], *split.X_test.index[:5]]
    assert find_unseen_rows({"challenger": by_key}, whole.loc[some]).check.passed


def test_rows_of_one_group_count_together_though_nobody_asked() -> None:
    whole = table(2000)
    challenger, split = trained(whole, group_by="shop")
    rows = whole.loc[split.X_test.index]
    report = judge_model(challenger, None, rows, split.y_test, gates=GATES)
    assert f"{len(rows)} rows in {rows['shop'].nunique()} groups" in report.checks[1].observed


def test_known_and_new_groups_are_scored_apart() -> None:
    whole = table(1000).sort_values("at", ignore_index=True)
    whole.loc[900:, "shop"] = 99
    split = split_table(whole, "y", features=["a", "b"], order_by="at", group_by="shop")
    model = fit_estimator(LogisticRegression(), split.X_train, split.y_train)
    rows, known = whole.loc[split.X_test.index], whole.loc[split.X_train.index, "shop"].unique()
    report = judge_model(
        model, None, rows, split.y_test, gates=GATES, order_by="at", group_by="shop", known_groups=known
    )
    assert f"200 rows in {rows['shop'].nunique()} groups" in report.checks[1].observed
    scores = [model.score(part[["a", "b"]], part["y"]) for part in (rows[:100], rows[100:])]
    assert report.notes[1].startswith(f"Rows of a known shop: 100; accuracy {scores[0]:.4f} (95 % from ")
    assert report.notes[2] == f"Rows of a new shop: 100; accuracy {scores[1]:.4f}."


def test_features_changed_after_the_split_leave_no_rule() -> None:
    split = split_table(table(), "y", features=["a", "b"])
    said: list[str] = []
    model = fit_estimator(DummyClassifier(), split.X_train * 2, split.y_train, warn=said.append)
    assert model.trained_on_["rule"] is None
    assert "not as they were split" in said[0]
