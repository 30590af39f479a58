"""`prefect-mlops migrate-stages`, on stages that MLflow itself has set."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from prefect_mlops.cli.app import main
from prefect_mlops.core import leases
from prefect_mlops.core.history import read_history
from prefect_mlops.core.values import Decision
from prefect_mlops.tasks import find_version, promote_model, repair_alias

Told = tuple[int, str, str]
pytestmark = pytest.mark.filterwarnings("ignore:.*transition_model_version_stage.*:FutureWarning")


def staged(model: str, *stages: str) -> None:
    """Register a version for each stage."""
    client = MlflowClient()
    client.create_registered_model(model)
    for number, stage in enumerate(stages, 1):
        client.create_model_version(model, source=f"file:///nowhere/{number}")
        if stage != "None":
            client.transition_model_version_stage(model, str(number), stage)


def aliases(model: str) -> dict[str, int]:
    return {name: int(number) for name, number in MlflowClient().get_registered_model(model).aliases.items()}


@pytest.fixture
def run(
    mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Told]:
    """The command. Returns exit code, stdout and stderr."""
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")

    def called(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["prefect-mlops", "migrate-stages", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        return int(left.value.code or 0), shown.out, shown.err

    return called


def test_stages_become_aliases_with_a_history_once(run: Callable[..., Told]) -> None:
    staged("churn", "Archived", "Production", "Staging", "None")
    staged("plain", "None")
    assert run("--by", "anna")[0] == 0
    assert aliases("churn") == {"champion": 2, "challenger": 3}
    assert aliases("plain") == {}
    made, released = read_history("churn")
    assert (made.kind, made.version, made.reason, made.by) == ("promoted", 2, "was in stage Production", "anna")
    assert made.details["approval"]["without_rehearsal"]
    assert (leases.decision_of(made).decision, released.kind) == ("promoted", "released")
    assert (
        Decision.model_validate_json(
            MlflowClient().get_model_version("churn", "2").tags["prefect_mlops.decision"]
        ).version
        == 2
    )
    assert MlflowClient().get_model_version("churn", "2").current_stage == "Production"

    code, shown, _ = run("--by", "ben")
    assert code == 0
    assert "v2 is champion by its history" in shown
    assert "the alias points at v3 already" in shown
    assert read_history("churn") == [made, released]
    assert repair_alias.fn("churn") == ""


def test_of_several_in_production_the_newest_is_taken_and_that_is_said(run: Callable[..., Told]) -> None:
    staged("churn", "Production", "Production", "Production")
    code, shown, _ = run("--dry-run")
    assert (code, aliases("churn"), read_history("churn")) == (0, {}, [])
    assert "v3, v2, v1 are in Production: the newest is taken" in shown
    assert shown.endswith("Nothing was written: this was a dry run.\n")
    run()
    assert aliases("churn") == {"champion": 3}


def test_who_is_champion_already_stays(run: Callable[..., Told]) -> None:
    staged("known", "Production", "Staging")
    promote_model.fn(find_version.fn("known", version=2))
    staged("byhand", "Production", "None")
    MlflowClient().set_registered_model_alias("byhand", "champion", "2")
    told = json.loads(run("--json")[1])
    states = {(line["model"], line["stage"]): (line["state"], line["note"]) for line in told["models"]}
    assert states["known", "Production"] == ("kept", "v2 is champion by its history")
    assert states["known", "Staging"][0] == "set"
    assert states["byhand", "Production"] == (
        "kept",
        "the alias points at v2 already, set by hand; prefect-mlops promote takes it over",
    )
    assert (aliases("known"), aliases("byhand")) == ({"champion": 2, "challenger": 2}, {"champion": 2})
    assert read_history("byhand") == []


def test_only_the_models_that_are_named(run: Callable[..., Told]) -> None:
    staged("one", "Production")
    staged("two", "Production")
    run("two")
    assert (aliases("one"), aliases("two")) == ({}, {"champion": 1})
    code, _, error = run("three")
    assert code == 2
    assert "no registered model is called 'three': there are: 'one', 'two'" in error


def test_nothing_to_migrate_is_said(run: Callable[..., Told]) -> None:
    assert run()[1] == "No version is in stage Production or Staging: there is nothing to migrate.\n"


def test_a_model_that_cannot_have_a_history_keeps_nobody_from_the_others(run: Callable[..., Told]) -> None:
    staged("Ü" * 120, "Production")
    staged("churn", "Production")
    code, shown, _ = run()
    assert code == 1
    assert "its history has no table" in shown
    assert aliases("churn") == {"champion": 1}
