"""Flows of one's own made of the stages of `TrainingRun`, and what is judged anew without being trained anew."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.evaluation import cross_validation
from prefect_mlops.core.promotion.history import read_history
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.specs.policies import Limits
from prefect_mlops.core.training.fit import fit_estimator
from prefect_mlops.core.values import Decision, Gate, LoadedModel, ModelVersion, Split
from prefect_mlops.flows.train import train
from prefect_mlops.flows.training_run import TrainingRun
from prefect_mlops.tasks import find_version


def summary_of(run_name: str) -> str:
    """The summary of the newest flow run of that name."""
    with get_client(sync_client=True) as client:
        names = FlowRunFilter(name=FlowRunFilterName(any_=[run_name]))
        (run,) = client.read_flow_runs(flow_run_filter=names, sort=FlowRunSort.START_TIME_DESC, limit=1)
        made = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])),
            sort=ArtifactSort.CREATED_DESC,
        )
    return str(made[-1].data)


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
    enough = Check(name="enough rows", passed=len(run.test_rows) == 143)
    return Report(kind="rows", subject="test rows", checks=(enough,), notes=("counted",))


def export(version: ModelVersion) -> None:
    with Path("exported.txt").open("a") as file:
        file.write(f"v{version.version}\n")


def test_a_flow_of_ones_own_with_a_check_a_split_and_a_step_after_promotion(project, tmp_path: Path) -> None:
    @flow
    def my_train(model: str) -> Decision:
        with TrainingRun(model) as run:
            if run.load(split=by_size):
                run.train()
                run.judge(set_apart=True)
                run.check(enough_rows)
                run.register()
                run.smoke_test()
            decision = run.conclude()
        if decision.decision == "promoted" and not decision.again:
            assert len(run.test_rows) == 143, "what was loaded stays there"
            export(run.version)
        return decision

    mine = my_train("bundled.cancer")
    assert (mine.decision, mine.version) == ("promoted", 1), mine.reason
    assert my_train("bundled.cancer") == mine.model_copy(update={"again": True})
    assert train("bundled.cancer").version == 2, "the ready flow has not decided on these sides"
    assert (tmp_path / "exported.txt").read_text() == "v1\n"
    client = MlflowClient()
    flows = [client.get_run(client.get_model_version("cancer", one).run_id).data.tags for one in ("1", "2")]
    assert [tags.get("prefect_mlops.flow") for tags in flows] == ["my-train", None]


@flow
def stricter(model: str, most: float = 0.1) -> Decision:
    with TrainingRun(model) as run:
        if run.load():
            run.train()
            run.judge()
            run.check(equal_rates)
            run.register()
        return run.conclude()


@pytest.mark.slow
def test_a_step_of_ones_own_that_changed_decides_again(project, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = stricter("bundled.cancer")
    assert refused.decision == "refused"
    assert stricter("bundled.cancer").again
    source = inspect.getsource(equal_rates).replace("gap <= 0.1", "gap <= 1.1")
    exec(source, globals(), changed := {})  # noqa: S102 - the module, edited
    monkeypatch.setitem(globals(), "equal_rates", changed["equal_rates"])
    assert (stricter("bundled.cancer").decision, versions()) == ("promoted", 2)


def sides(one: Callable, other: Callable) -> Callable:
    """A split whose sides are cut out of features and target."""

    def by_position(table: pd.DataFrame, spec: ModelSpec) -> Split:
        X, y = table.drop(columns=spec.target), table[spec.target]
        return Split(X_train=one(X), X_test=other(X), y_train=one(y), y_test=other(y))

    return by_position


def features_with_target(table: pd.DataFrame, spec: ModelSpec) -> Split:
    one, other = table.iloc[:400], table.iloc[400:]
    return Split(X_train=one, X_test=other, y_train=one[spec.target], y_test=other[spec.target])


def other_rows(table: pd.DataFrame, spec: ModelSpec) -> Split:
    X, y = table.drop(columns=spec.target), table[spec.target]
    return Split(X_train=X[:400], X_test=X[400:], y_train=y[100:500], y_test=y[400:])


@pytest.mark.parametrize(
    ("split", "says"),
    [
        (sides(lambda rows: rows[:400], lambda rows: rows[350:]), "50 rows are on both sides"),
        (sides(lambda rows: rows[:400], lambda rows: rows[400:].reset_index(drop=True)), "169 rows are on both sides"),
        (sides(lambda rows: rows[:400], lambda rows: rows[:0]), "has no test rows"),
        (lambda table, spec: train_test_split(table), "answered with list: return a Split"),
        (
            lambda table, spec: table["region"],
            "cannot be made: KeyError: 'region'. The table has the columns mean radius",
        ),
        (features_with_target, "the target 'target' is among the features of X_train: leakage"),
        (other_rows, "X_train and y_train are not of the same rows"),
    ],
)
def test_what_is_no_split_of_the_table_is_refused_in_words(project, split: Callable, says: str) -> None:
    @flow
    def trying() -> None:
        with TrainingRun("bundled.cancer") as run:
            run.load(split=split)

    with pytest.raises(ConfigError, match=re.escape(says)) as refused:
        trying()
    assert str(refused.value).startswith("cancer: the split ")
    assert kinds() == []


def test_an_estimator_of_ones_own_and_another_judge(project) -> None:
    def never(run: TrainingRun) -> Report:
        return Report(kind="gate", subject="cancer", checks=(Check(name="is liked", passed=False),))

    @flow
    def trying() -> Decision:
        with TrainingRun("bundled.cancer", dry_run=True) as run:
            run.load()
            run.train(RandomForestClassifier(n_estimators=10))  # without a pipeline: unfitted, it has no length
            assert run.judge(against=None).passed
            run.challenger = DummyClassifier().fit(run.split.X_train, run.split.y_train)
            assert [check.id for check in run.judge().failures] == ["unseen-rows"], "it has no lineage"
            assert [check.id for check in run.judge(set_apart=True).failures] == ["minimum-score"]
            run.train()
            assert [check.name for check in run.judge(never).failures] == ["is liked"]
            assert [report.kind for report in run.summary.reports] == ["data", "gate"], "of the last challenger"
            return run.conclude()

    decision = trying()
    assert (decision.decision, decision.dry_run, decision.reason) == ("refused", True, "is liked")
    assert MlflowClient().search_registered_models() == []


def test_signs_of_leakage_are_warnings_in_verdict_and_report_and_refuse_nothing(project, tmp_path: Path) -> None:
    table = project.TABLES["cancer"]
    table.assign(told=table["target"] * 7, patient=range(569)).to_parquet(tmp_path / "cancer.parquet")

    @flow(flow_run_name="leaking")
    def trying() -> Decision:
        with TrainingRun("bundled.cancer", dry_run=True) as run:
            run.load()
            run.train(RandomForestClassifier(n_estimators=10))
            first = run.judge()
            assert {check.subject: check.id for check in first.failures} == {
                "patient": "leakage-row-id",
                "told": "leakage-single-feature",
            }
            assert "leakage-single-feature" in {check.id for check in run.judge().failures}, "also when judged again"
            return run.conclude()

    decision = trying()
    assert (decision.decision, "leak" in decision.reason) == ("promoted", False)
    summary = summary_of("leaking").replace("\\", "")
    assert "- Warning: told: the target is not given away by one column, saw ROC AUC 1.00 from it alone" in summary
    assert "- Warning: patient: no feature numbers the rows" in summary


@pytest.mark.slow
def test_a_small_table_gets_a_decision_by_cross_validation(
    declare: Callable[..., str], project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_validation, "REPEATS", 2)
    small = project.TABLES["cancer"].sample(60, random_state=0)
    small.to_parquet(tmp_path / "small.parquet")
    gate = Gate("roc_auc", at_least=0.6, must_gain=0.0)

    @flow(flow_run_name="small")
    def trying(spec: str) -> Report:
        with TrainingRun(spec, str(tmp_path / "small.parquet"), dry_run=True) as run:
            run.load()
            run.train()
            columns = ["mean symmetry"]
            weak = fit_estimator(LogisticRegression(), run.split.X_train[columns], run.split.y_train)
            version = ModelVersion(name="cancer", version=1, run_id="a", model_uri="models:/cancer/1")
            report = run.judge(against=LoadedModel(version=version, estimator=weak))
            run.conclude()
        return report

    held_back = trying(declare("cancer", gates=[gate], stratify=False))
    assert not held_back.passed
    assert "below 400 judging rows, evaluation='cross_validation' in the spec" in held_back.to_markdown().replace(
        "\\", ""
    )
    crossed = trying(declare("cancer", gates=[gate], stratify=False, evaluation="cross_validation"))
    assert crossed.passed
    assert [check.id for check in crossed.checks[:3]] == ["unseen-rows", "minimum-score", "minimum-improvement"]
    summary = summary_of("small").replace("\\", "")
    assert "- Judged on 60 rows in 20 folds: both recipes were trained anew for each" in summary
    assert "60 rows in 20 folds, corrected resampled t" in crossed.checks[2].observed


def raises(run: TrainingRun) -> Check:
    return Check(name=run.table["no such column"].name, passed=True)


def answers_yes(run: TrainingRun) -> bool:
    return True


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (raises, "cancer: the check 'raises' cannot be computed: KeyError: 'no such column'"),
        (answers_yes, "cancer: the check 'answers_yes' answered with bool: return a Check or a Report"),
    ],
)
def test_a_check_that_cannot_be_computed_stops_the_run_and_frees_the_lock(
    declare: Callable[..., str], check: Callable, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        train(declare("cancer", checks=[check]))
    assert kinds() == ["leased", "failed"]
    assert versions() == 0


def left(run: TrainingRun, *stages: str) -> None:
    for stage in stages:
        getattr(run, stage)()


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        (("train",), "cancer: the training run has no rows yet: call load() first"),
        (("load", "judge"), "cancer: the training run has no challenger yet: call train() first"),
        (("load", "train", "conclude"), "cancer: the training run has no report yet: call judge() first"),
        (("load",), "cancer: the flow ended without a decision: it did not call conclude()"),
    ],
)
def test_a_stage_that_was_left_out_is_named_and_the_lock_is_freed(project, stages: tuple[str, ...], says: str) -> None:
    @flow
    def forgetful() -> None:
        with TrainingRun("bundled.cancer") as run:
            left(run, *stages)

    with pytest.raises(ConfigError, match=re.escape(says)):
        forgetful()
    assert kinds() == (["leased", "failed"] if "load" in stages else [])


@pytest.mark.slow
def test_stages_after_a_load_that_found_nothing_to_do_are_refused(project) -> None:
    @flow
    def careless() -> None:
        with TrainingRun("bundled.cancer") as run:
            left(run, "load", "train", "judge", "register", "conclude")

    careless()
    with pytest.raises(
        ConfigError, match=r"there is nothing to train \(promoted\): train only where load\(\) returned True"
    ):
        careless()
    assert versions() == 1


def test_a_run_outside_of_a_flow_or_that_was_not_opened_says_what_to_do(project) -> None:
    with pytest.raises(ConfigError, match="cancer: a TrainingRun needs a flow run: open it in a function with @flow"):
        TrainingRun("bundled.cancer").__enter__()
    with pytest.raises(ConfigError, match=r"cancer: open the run first: with TrainingRun\(...\) as run"):
        TrainingRun("bundled.cancer").load()


def test_the_summary_names_an_error_that_is_none_of_ours(project) -> None:
    @flow(name="broken", flow_run_name="broken")
    def broken() -> None:
        with TrainingRun("bundled.cancer") as run:
            run.load()
            raise RuntimeError("my own fault")

    with pytest.raises(RuntimeError, match="my own fault"):
        broken()
    assert summary_of("broken").startswith("# cancer: stopped\n\n- RuntimeError: my own fault")
    assert read_history("cancer")[-1].reason == "RuntimeError: my own fault"


@pytest.mark.slow
def test_a_check_that_was_put_back_answers_what_was_decided_and_who_is_champion(declare: Callable[..., str]) -> None:
    strict, loose = Limits(size_mb=0.0001), Limits(size_mb=100)
    assert train(declare("cancer", limits=strict)).decision == "refused"
    assert train(declare("cancer", limits=loose)).decision == "promoted"
    again = train(declare("cancer", limits=strict))
    assert (again.decision, again.again) == ("refused", True)
    summary = summary_of("train-bundled.changed").replace("\\", "")
    assert summary.startswith("# cancer: v1 refused (decided before)")
    assert "v1 is the champion: promoted v1" in summary
    refused = next(entry for entry in read_history("cancer") if entry.kind == "refused")
    assert f"/flow-run/{refused.flow_run})" in summary


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


@pytest.mark.slow
def test_approval_that_is_not_required_any_more_promotes_the_version_that_waits(declare: Callable[..., str]) -> None:
    asked = train(declare("cancer", approval="required", approval_expires=timedelta(days=2)))
    assert asked.decision == "requested"
    decision = train(declare("cancer", approval="none"))
    assert (decision.decision, decision.version) == ("promoted", asked.version)
    assert versions() == 1


@pytest.mark.slow
def test_gates_that_changed_judge_the_same_version_again(
    declare: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = trained_once(monkeypatch)
    assert train(declare("cancer", gates=[Gate("roc_auc", at_least=0.9999)])).decision == "refused"
    decision = train(declare("cancer", gates=[Gate("accuracy", at_least=0.8)]))
    assert (decision.decision, decision.version, "accuracy" in decision.metrics) == ("promoted", 1, True)
    assert (fits, versions()) == (["fit"], 1)


def test_the_champion_is_not_judged_against_itself(trained, declare: Callable[..., str]) -> None:
    promoted = train("bundled.cancer")
    again = train(declare("cancer", gates=[Gate("roc_auc", must_gain=0.01)]))
    assert again == promoted.model_copy(update={"again": True})
    assert kinds() == ["leased", "promoted", "released"]
    summary = summary_of("train-bundled.changed")
    assert "The champion came of this training" in summary
    assert "The same recipe" not in summary, "the gates are others"


@pytest.mark.slow
def test_a_version_that_was_deleted_is_trained_anew(declare: Callable[..., str]) -> None:
    train(declare("cancer", limits=Limits(size_mb=0.0001)))
    MlflowClient().delete_model_version("cancer", "1")
    decision = train("bundled.cancer")
    assert (decision.decision, decision.version) == ("promoted", 2)
