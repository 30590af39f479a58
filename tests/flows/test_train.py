from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.models import Model
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort

from prefect_mlops.core.cards.card import Card
from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError
from prefect_mlops.core.specs.policies import Tune
from prefect_mlops.core.values import Gate
from prefect_mlops.flows.train import train


def champion_of(name: str) -> int:
    return int(MlflowClient().get_model_version_by_alias(name, "champion").version)


def artifacts_of(run_name: str) -> list:
    """The artifacts of the newest flow run of that name, in the order they were made."""
    with get_client(sync_client=True) as client:
        names = FlowRunFilter(name=FlowRunFilterName(any_=[run_name]))
        run = client.read_flow_runs(flow_run_filter=names, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        made = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])),
            sort=ArtifactSort.CREATED_DESC,
        )
    return made[::-1]


@pytest.mark.parametrize("name", ["cancer", "wine", "diabetes"])
def test_binary_many_classes_and_regression(project, name: str) -> None:
    decision = train(f"bundled.{name}")
    assert decision.decision == "promoted", decision.reason
    assert decision.version == 1
    assert set(decision.metrics) == set(getattr(project, name).metrics)
    assert champion_of(name) == 1


@pytest.mark.slow
def test_the_same_recipe_on_the_same_rows_is_decided_once(project, tmp_path: Path) -> None:
    first = train("bundled.cancer")
    again = train("bundled.cancer")
    assert again.again
    assert again.model_copy(update={"again": False}) == first
    assert len(MlflowClient().search_model_versions("name = 'cancer'")) == 1
    assert "decided before" in artifacts_of("train-bundled.cancer")[0].data

    table = project.TABLES["cancer"].copy()
    table.iloc[300, 0] += 1e-6
    table.to_parquet(tmp_path / "cancer.parquet")
    changed = train("bundled.cancer")
    assert not changed.again
    assert changed.version == 2
    assert train("bundled.cancer", force=True).version == 3


def test_a_worse_challenger_is_registered_and_refused(trained) -> None:
    refused = train("bundled.cancer_blind")
    assert (refused.decision, refused.version, refused.replaced) == ("refused", 2, 1)
    assert "not worse than the champion" in refused.reason
    assert champion_of("cancer") == 1
    better = train("bundled.cancer_forest")
    assert (better.decision, better.version, better.replaced) == ("promoted", 3, 1)


def test_a_dry_run_writes_nothing(project) -> None:
    decision = train("bundled.cancer", dry_run=True)
    assert decision.dry_run
    assert (decision.decision, decision.version) == ("promoted", None)
    client = MlflowClient()
    assert client.search_registered_models() == []
    assert [experiment.name for experiment in client.search_experiments()] == ["Default"]


def test_with_a_time_and_groups_later_rows_judge_and_known_groups_are_told_apart(project, declare) -> None:
    spec = declare("diabetes", group_by="decade", prepare=lambda table: table.assign(decade=table["age"].round(2)))
    assert train(spec, dry_run=True).decision == "promoted"
    said = artifacts_of("train-bundled.changed")[0].data
    assert "known by bp after" in said
    assert "Rows of one decade count together" in said
    assert "Rows of a known decade: " in said


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(target=table["target"].map({0: "malignant", 1: "benign"}))


def test_classes_that_are_text_are_judged_by_the_positive_one(project, declare) -> None:
    gates = [Gate("average_precision", at_least=0.5), Gate("f1", at_least=0.5)]
    known = train(declare("cancer", gates=gates), dry_run=True)
    decision = train(declare("cancer", gates=gates, prepare=in_words, positive="benign"), dry_run=True)
    assert decision.decision == "promoted", decision.reason
    assert decision.metrics == pytest.approx(known.metrics, abs=1e-3)  # what is fitted differs in the last digits
    with pytest.raises(ConfigError, match="positive='benign' or positive='malignant'"):
        train(declare("cancer", gates=gates, prepare=in_words), dry_run=True)


@pytest.mark.slow
def test_search_card_and_profile_know_the_positive_class_too(project, declare) -> None:
    tune = Tune(space={"logisticregression__C": [0.5, 1.0]}, trials=2, folds=2)
    gate = Gate("average_precision", at_least=0.5)
    decision = train(declare("cancer", gates=[gate], prepare=in_words, positive="benign", tune=tune))
    assert (decision.decision, decision.version) == ("promoted", 1), decision.reason
    client = MlflowClient()
    run = client.get_model_version("cancer", "1").run_id
    card = Card.model_validate_json(Path(client.download_artifacts(run, "card.json")).read_text())
    assert card.calibration is not None
    assert card.calibration.positive == "benign"
    assert card.importances is not None
    assert card.importances.columns[0].drop > 0
    assert "Metrics by name take 'benign' as the positive class." in card.notes


def test_the_first_artifact_is_the_verdict_in_ten_lines(project) -> None:
    train("bundled.cancer")
    verdict, *evidence = artifacts_of("train-bundled.cancer")
    assert verdict.key == "verdict-train-cancer"
    assert verdict.data.startswith("# cancer: v1 promoted")
    assert len([line for line in verdict.data.splitlines() if line.startswith("-")]) <= 10
    assert [artifact.key for artifact in evidence] == ["data-cancer", "gate-cancer", "card-cancer"]


def test_a_champion_is_judged_only_on_rows_after_its_training(project, tmp_path: Path) -> None:
    """Three batches in time: the champion of the first two may not be judged on rows it learned from."""
    whole = project.TABLES["diabetes"].sort_values("bp", ignore_index=True)
    whole.iloc[:300].to_parquet(tmp_path / "early.parquet")
    whole.to_parquet(tmp_path / "all.parquet")
    train("bundled.diabetes", data=str(tmp_path / "all.parquet"))
    older = train("bundled.diabetes", data=str(tmp_path / "early.parquet"))
    assert older.decision == "refused"
    assert "unseen rows, saw 0 of 66 rows, without 66 that the champion may have learned from" in older.reason
    newer = train("bundled.diabetes", data=str(tmp_path / "all.parquet"), force=True)
    assert newer.rows > older.rows
    assert "Judged on 91 of 91 rows; known by bp after" in artifacts_of("train-bundled.diabetes")[0].data


def damaged(project, tmp_path: Path, name: str) -> None:
    table = project.TABLES["cancer"].copy()
    path = tmp_path / "cancer.csv"
    changes = {
        "empty file": lambda: path.write_text(""),
        "header only": lambda: table.iloc[:0].to_csv(path, index=False),
        "wrong delimiter": lambda: table.to_csv(path, index=False, sep=";"),
        "duplicated column": lambda: table.rename(columns={"mean texture": "mean radius"}).to_csv(path, index=False),
        "all-null column": lambda: table.assign(**{"mean radius": None}).to_csv(path, index=False),
        "target missing": lambda: table.drop(columns="target").to_csv(path, index=False),
        "target constant": lambda: table.assign(target=1).to_csv(path, index=False),
        "target with gaps": lambda: table.assign(target=table["target"].where(table.index > 5)).to_csv(
            path, index=False
        ),
        "one row": lambda: table.iloc[:1].to_csv(path, index=False),
    }
    changes[name]()


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        ("empty file", DataCheckError, "cancer.csv"),
        ("header only", DataCheckError, "0 rows"),
        ("wrong delimiter", DataCheckError, "looks like a semicolon"),
        ("duplicated column", DataCheckError, "mean radius"),
        ("all-null column", DataCheckError, "mean radius"),
        ("target missing", DataCheckError, "target"),
        ("target constant", DataCheckError, "target"),
        ("target with gaps", DataCheckError, "target"),
        ("one row", DataCheckError, "row"),
    ],
)
def test_damaged_tables_stop_with_a_plain_error(
    project, tmp_path: Path, damage: str, error: type[Exception], says: str
) -> None:
    damaged(project, tmp_path, damage)
    with pytest.raises(error) as stopped:
        train("bundled.cancer", data=str(tmp_path / "cancer.csv"))
    assert says in str(stopped.value)
    assert "Traceback" not in str(stopped.value)
    assert len(str(stopped.value)) < 700
    verdict = artifacts_of("train-bundled.cancer")[0]
    assert verdict.data.startswith("# cancer: stopped by a check")
    assert MlflowClient().search_registered_models() == []


@pytest.mark.parametrize(
    ("model", "data", "says"),
    [
        ("bundled.cancr", "", "did you mean 'cancer'"),
        ("bundeld.cancer", "", "there is no module 'bundeld' to import (did you mean 'bundled'?)"),
        ("cancer", "", "is not a dotted name"),
        ("bundled.not_a_spec", "", "is a dict, not a ModelSpec"),
        ("bundled.cancer", "nowhere.parquet", "nowhere.parquet"),
        ("bundled.cancer", "x.docx", "x.docx"),
    ],
)
def test_wrong_requests_name_what_was_seen(project, model: str, data: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        train(model, data=data)
    assert says in str(refused.value)


def test_a_suite_naming_a_column_that_is_not_there(project) -> None:
    with pytest.raises(DataCheckError, match="no column 'mean radios'; did you mean 'mean radius'"):
        train("bundled.missing_column")


def test_mlflow_out_of_reach(project, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect_mlops.tasks import find_model

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(find_model, "retry_delay_seconds", [0.1, 0.1])
    with pytest.raises(BackendError, match="Is it running"):
        train("bundled.cancer")
    assert "# cancer: stopped" in artifacts_of("train-bundled.cancer")[0].data


def test_parameters_make_a_good_form(project) -> None:
    form = train.parameters.model_dump()["properties"]
    assert [form[name]["title"] for name in ("model", "data", "dry_run", "force", "automatic")] == [
        "Model",
        "Data",
        "Dry run",
        "Decide again",
        "Started by a trigger or schedule",
    ]
    assert all(field.get("description") for field in form.values())
    assert train.parameters.required == ["model"]
    assert {name: field.get("default") for name, field in form.items()} == {
        "model": None,
        "data": "",
        "dry_run": False,
        "force": False,
        "automatic": False,
    }


def test_nullable_tables_train_and_keep_their_signature(project, tmp_path: Path) -> None:
    table = pd.DataFrame(project.TABLES["diabetes"]).convert_dtypes()
    table["gaps"] = pd.array([None, *range(len(table) - 1)], dtype="Int64")
    table.to_parquet(tmp_path / "nullable.parquet")
    decision = train("bundled.diabetes", data=str(tmp_path / "nullable.parquet"))
    assert decision.version == 1
    (described,) = tmp_path.rglob("MLmodel")
    kinds = {column.name: column.type.name for column in Model.load(described).signature.inputs}
    assert (kinds["gaps"], kinds["age"]) == ("double", "double")
