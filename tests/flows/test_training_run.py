"""Flows of one's own made of the stages of `TrainingRun`, and what is judged anew without being trained anew."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pandas as pd
import pytest
from mlflow import MlflowClient
from prefect import flow
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.promotion.history import read_history
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.specs.policies import Limits
from prefect_mlops.core.values import Decision, Gate, Split
from prefect_mlops.flows.train import train
from prefect_mlops.flows.training_run import TrainingRun
from prefect_mlops.tasks import find_version


def kinds() -> list[str]:
    return [entry.kind for entry in read_history("cancer")]


def versions() -> int:
    return len(MlflowClient().search_model_versions("name = 'cancer'"))


def equal_rates(run: TrainingRun) -> Check:
    """Small and large tumours have to be found alike often, which no model of any use does."""
    small = run.test_rows["mean radius"] < run.test_rows["mean radius"].median()
    found = run.challenger.predict(run.split.X_test)
    gap = abs(found[small].mean() - found[~small].mean())
    return Check(name="equal rates", passed=bool(gap <= 0.1), observed=f"a gap of {gap:.2f}", expected="at most 0.1")


def test_a_check_of_the_spec_refuses_a_challenger_that_passes_every_gate(declare: Callable[..., str]) -> None:
    decision = train(declare("cancer", checks=[equal_rates]))
    assert decision.decision == "refused"
    assert decision.reason.startswith("equal rates, saw a gap of 0.")
    assert find_version.fn("cancer") is None
    assert kinds() == ["leased", "refused"]


def test_a_flow_of_ones_own_with_a_check_a_split_and_a_step_after_promotion(project) -> None:
    exported: list[int] = []

    def by_size(table: pd.DataFrame, spec: ModelSpec) -> Split:
        ordered = table.sort_values("mean area")
        test = ordered.iloc[::4]
        rows = ordered.drop(test.index)
        return Split(
            X_train=rows.drop(columns=spec.target),
            X_test=test.drop(columns=spec.target),
            y_train=rows[spec.target],
            y_test=test[spec.target],
        )

    def enough_rows(run: TrainingRun) -> Report:
        enough = Check(name="enough rows", passed=len(run.test_rows) == 143, severity="error")
        return Report(kind="data", subject="test rows", checks=(enough,), notes=("counted",))

    @flow
    def my_train(model: str) -> Decision:
        with TrainingRun(model) as run:
            if run.load(split=by_size):
                run.train()
                run.judge()
                run.check(enough_rows)
                run.register()
                run.smoke_test()
            decision = run.conclude()
        if decision.decision == "promoted" and not decision.again:
            exported.append(run.version.version)
        return decision

    mine = my_train("bundled.cancer")
    assert (mine.decision, mine.version) == ("promoted", 1), mine.reason
    assert exported == [1]
    assert my_train("bundled.cancer") == mine.model_copy(update={"again": True})
    assert train("bundled.cancer").version == 2, "the ready flow has not decided on these sides"
    assert exported == [1]


@pytest.mark.parametrize(
    ("split", "says"),
    [
        (lambda table: (table.index[:100], table.index[50:]), "each row of the table to one side at most"),
        (lambda table: (table.index[:100], table.index[100:]), ""),
    ],
)
def test_no_row_stands_on_both_sides_of_a_split_of_ones_own(project, split: Callable, says: str) -> None:
    def sides(table: pd.DataFrame, spec: ModelSpec) -> Split:
        X, y = table.drop(columns=spec.target), table[spec.target]
        one, other = split(table)
        return Split(X_train=X.loc[one], X_test=X.loc[other], y_train=y.loc[one], y_test=y.loc[other])

    with TrainingRun("bundled.cancer", dry_run=True) as run:
        if says:
            with pytest.raises(ConfigError, match=says):
                run.load(split=sides)
        else:
            assert run.load(split=sides)
            assert list(run.test_rows.index) == list(run.split.X_test.index)


def test_an_estimator_of_ones_own_and_another_judge(project) -> None:
    def never(run: TrainingRun) -> Report:
        return Report(kind="gate", subject="cancer", checks=(Check(name="is liked", passed=False),))

    with TrainingRun("bundled.cancer", dry_run=True) as run:
        run.load()
        run.train(LogisticRegression(C=0.5, max_iter=5_000))
        assert run.judge(against=None).passed
        run.challenger, run.scores = DummyClassifier().fit(run.split.X_train, run.split.y_train), None
        assert not run.judge().passed
        run.train()
        assert [check.name for check in run.judge(never).failures] == ["is liked"]
        decision = run.conclude()
    assert (decision.decision, decision.dry_run, decision.reason) == ("refused", True, "is liked")
    assert MlflowClient().search_registered_models() == []


def raises(run: TrainingRun) -> Check:
    return Check(name=run.table["no such column"].name, passed=True)


def answers_yes(run: TrainingRun) -> bool:
    return True


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (raises, "cancer: the check raises cannot be computed: KeyError: 'no such column'"),
        (answers_yes, "cancer: the check answers_yes answered with bool: return a Check or a Report"),
    ],
)
def test_a_check_that_cannot_be_computed_stops_the_run_and_frees_the_lock(
    declare: Callable[..., str], check: Callable, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        train(declare("cancer", checks=[check]))
    assert kinds() == ["leased", "failed"]
    assert versions() == 0


def test_a_stage_that_was_left_out_is_named_and_the_lock_is_freed(project) -> None:
    @flow
    def forgetful() -> None:
        with TrainingRun("bundled.cancer") as run:
            run.load()
            run.train()
            run.conclude()

    with pytest.raises(ConfigError, match=r"has no report yet: call judge\(\) first"):
        forgetful()
    with TrainingRun("bundled.cancer") as run:
        assert run.load()
    assert kinds() == ["leased", "failed"] * 2
    assert "did not call conclude()" in read_history("cancer")[-1].reason


# The training and the decision have digests of their own.


def trained_once(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each fit of a pipeline."""
    from sklearn.pipeline import Pipeline

    fits, real = [], Pipeline.fit
    monkeypatch.setattr(Pipeline, "fit", lambda model, *rows, **more: fits.append("fit") or real(model, *rows, **more))
    return fits


def test_a_limit_that_was_loosened_after_a_refusal_is_judged_anew_and_not_trained_anew(
    declare: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = trained_once(monkeypatch)
    refused = train(declare("cancer", limits=Limits(size_mb=0.0001)))
    assert refused.decision == "refused"
    loose = declare("cancer", limits=Limits(size_mb=100))
    decision = train(loose)
    assert (decision.decision, decision.version, decision.again) == ("promoted", 1, False), decision.reason
    assert find_version.fn("cancer").version == 1
    assert (fits, versions()) == (["fit"], 1)
    assert kinds() == ["leased", "refused", "leased", "promoted", "released"]
    assert train(loose) == decision.model_copy(update={"again": True})


def test_approval_that_is_not_required_any_more_promotes_the_version_that_waits(declare: Callable[..., str]) -> None:
    asked = train(declare("cancer", approval="required", approval_expires=timedelta(days=2)))
    assert asked.decision == "requested"
    decision = train(declare("cancer", approval="none"))
    assert (decision.decision, decision.version) == ("promoted", asked.version)
    assert versions() == 1


def test_gates_that_changed_judge_the_same_version_again(
    declare: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = trained_once(monkeypatch)
    assert train(declare("cancer", gates=[Gate("roc_auc", at_least=0.9999)])).decision == "refused"
    decision = train(declare("cancer", gates=[Gate("accuracy", at_least=0.8)]))
    assert (decision.decision, decision.version, "accuracy" in decision.metrics) == ("promoted", 1, True)
    assert (fits, versions()) == (["fit"], 1)


def test_the_champion_is_not_judged_against_itself(declare: Callable[..., str]) -> None:
    promoted = train("bundled.cancer")
    again = train(declare("cancer", gates=[Gate("roc_auc", must_gain=0.01)]))
    assert again == promoted.model_copy(update={"again": True})
    assert kinds() == ["leased", "promoted", "released"]


def test_a_version_that_was_deleted_is_trained_anew(declare: Callable[..., str]) -> None:
    train(declare("cancer", limits=Limits(size_mb=0.0001)))
    MlflowClient().delete_model_version("cancer", "1")
    decision = train("bundled.cancer")
    assert (decision.decision, decision.version) == ("promoted", 2)
