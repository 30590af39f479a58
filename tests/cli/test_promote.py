"""`prefect-mlops promote` and `prefect-mlops decide`, on models that were really trained and stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from prefect_mlops.cli.app import main
from prefect_mlops.core.promotion.history import Entry, champion_entry, read_history, read_rows, record
from prefect_mlops.core.promotion.tampering import audit_history
from prefect_mlops.core.values import Decision, Evaluation, ModelVersion
from prefect_mlops.tasks import find_version, log_run, promote_model, register_model, train_model
from prefect_mlops.tracking.anchors import noted

pytestmark = pytest.mark.slow
X, Y = load_breast_cancer(as_frame=True, return_X_y=True)
ROWS = X.head(20)
Told = tuple[int, str, str]
PROJECT = """
name: hospital
deployments:
  - {name: train, entrypoint: prefect_mlops.flows.train.train, parameters: {model: guarding.model}}
"""
SPEC = """
from dataclasses import replace

from bundled import cancer

model = replace(cancer, approval="required", approvers=["anna", "@risk"])
"""


def registered(strength: float = 1.0, rows: pd.DataFrame | None = ROWS) -> ModelVersion:
    """Train and register a model, with rows to rehearse or, as old versions are, without."""
    model = train_model.fn(LogisticRegression(C=strength, max_iter=50), X, Y)
    run = log_run.fn(model, Evaluation(metrics={"roc_auc": 0.9}, rows=9), experiment="cancer", example=rows)
    return register_model.fn(run, "cancer")


@pytest.fixture
def run(
    mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Told]:
    """Commands. Returns exit code, stdout and stderr."""
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    monkeypatch.syspath_prepend(str(tmp_path))

    def called(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["prefect-mlops", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        return int(left.value.code or 0), shown.out, shown.err

    return called


@pytest.fixture
def guarded(run: Callable[..., Told], tmp_path: Path) -> Callable[..., Told]:
    """The commands in a project that says who may promote."""
    (tmp_path / "prefect.yaml").write_text(PROJECT)
    (tmp_path / "guarding.py").write_text(SPEC)
    return run


def state() -> tuple[int | None, int | None]:
    champion, alias = champion_entry(read_history("cancer")), find_version.fn("cancer")
    return (champion.version if champion else None), (alias.version if alias else None)


def test_a_version_is_rehearsed_and_then_champion_by_a_persons_word(run: Callable[..., Told]) -> None:
    promote_model.fn(registered())
    second = registered(0.1)
    kept = Decision(model="cancer", version=2, decision="refused", reason="too low", metrics={"roc_auc": 0.7})
    record(Entry(model="cancer", kind="refused", version=2, recipe="sha256:r", details={"decision": kept.model_dump()}))
    arguments = ("promote", "cancer", "2", "--why", "recall counts more", "--by", "anna")
    code, shown, _ = run(*arguments, "--dry-run")
    assert (code, state()) == (0, (1, 1))
    assert "v2 would be champion, in place of v1; it passed 2 checks of its rehearsal. Nothing was written." in shown
    code, shown, told = run(*arguments)
    assert (code, shown) == (0, "cancer: v2 is champion, in place of v1; it passed 2 checks of its rehearsal.\n")
    assert "rehearsing cancer v2 in a clean process" in told
    entry = champion_entry(read_history("cancer"))
    assert (entry.version, entry.replaced, entry.reason, entry.by) == (2, 1, "recall counts more", "anna")
    assert (entry.recipe, entry.details["decision"]["metrics"]) == ("sha256:r", {"roc_auc": 0.7})
    assert not entry.details["approval"]["without_rehearsal"]
    assert state() == (2, 2)
    client = MlflowClient()
    assert noted(client, "cancer") == {entry.sequence: entry.hash}
    assert audit_history("cancer", read_rows("cancer"), noted(client, "cancer")).passed
    assert "reports/smoke-test.md" in [file.path for file in client.list_artifacts(second.run_id, "reports")]
    again = json.loads(run(*arguments, "--json")[1])
    assert (again["again"], again["by"]) == (True, "anna")
    assert [one.kind for one in read_history("cancer")].count("promoted") == 2


def test_a_version_that_does_not_pass_its_rehearsal_needs_another_word(run: Callable[..., Told]) -> None:
    registered(rows=None)
    code, out, error = run("promote", "cancer", "1", "--why", "it is the old one", "--by", "anna")
    assert (code, out, read_history("cancer")) == (1, "", [])
    assert "has stored rows to rehearse" in error
    assert "--without-rehearsal" in error
    assert run("promote", "cancer", "1", "--why", "it is the old one", "--without-rehearsal", "--by", "anna")[0] == 0
    assert champion_entry(read_history("cancer")).details["approval"]["without_rehearsal"]
    assert state() == (1, 1)


def test_an_alias_moved_by_hand_is_taken_over_or_set_back(run: Callable[..., Told]) -> None:
    promote_model.fn(registered())
    registered(0.1)
    MlflowClient().set_registered_model_alias("cancer", "champion", "2")
    code, shown, _ = run("promote", "cancer", "1", "--why", "stays", "--without-rehearsal")
    assert (code, state()) == (0, (1, 1))
    assert "v1 is the champion already" in shown
    assert "moved to v2 by hand" in shown
    MlflowClient().set_registered_model_alias("cancer", "champion", "2")
    assert run("promote", "cancer", "2", "--why", "meant so", "--without-rehearsal")[0] == 0
    assert state() == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("cancre", "1", "--why", "x"), "no registered model is called 'cancre': did you mean 'cancer'?"),
        (("cancer", "9", "--why", "x"), "registered model 'cancer' has no version 9"),
        (("cancer", "1", "--why", ""), "--why is empty"),
        (("cancer", "1"), "Missing option '--why'"),
        (("a/b", "1", "--why", "x"), "cannot be addressed"),
    ],
)
def test_wrong_requests_are_answered_in_a_sentence(
    run: Callable[..., Told], arguments: tuple[str, ...], says: str
) -> None:
    MlflowClient().create_registered_model("cancer")
    code, out, error = run("promote", *arguments)
    assert (code, out) == (2, "")
    assert says in error


def test_who_the_spec_does_not_name_may_not_promote(
    guarded: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    registered()
    arguments = ("promote", "cancer", "1", "--why", "x", "--without-rehearsal", "--by")
    code, _, error = guarded(*arguments, "eve")
    assert (code, read_history("cancer")) == (2, [])
    assert "cancer: 'eve' may not promote it; who may: anna, @risk" in error
    assert guarded(*arguments, "@risk")[0] == 2
    monkeypatch.setenv("PREFECT_MLOPS_GROUPS", '{"risk": ["ben"]}')
    assert guarded(*arguments, "ben")[0] == 0


def test_a_spec_that_cannot_be_imported_promotes_nobody(guarded: Callable[..., Told], tmp_path: Path) -> None:
    registered()
    (tmp_path / "prefect.yaml").write_text(PROJECT.replace("guarding.model", "missing.model"))
    code, _, error = guarded("promote", "cancer", "1", "--why", "x", "--without-rehearsal", "--by", "anna")
    assert (code, read_history("cancer")) == (2, [])
    assert "who may promote cancer is not known" in error


def test_a_request_is_answered_from_the_command_line(guarded: Callable[..., Told], prefect_api: None) -> None:
    registered()
    record(Entry(model="cancer", kind="requested", version=1))
    code, _, error = guarded("decide", "cancer", "refuse", "--name", "eve")
    assert code == 2
    assert "'eve' may not answer for v1; who may: anna, @risk" in error
    code, shown, error = guarded("decide", "cancer", "refuse", "--name", "anna", "--comment", "not yet")
    assert (code, shown) == (0, "cancer: v1 refused, anna said refuse. refused by anna: not yet\n"), error
    code, _, error = guarded("decide", "cancer", "approve", "--name", "anna")
    assert code == 2
    assert "no version waits for approval; the last decision is: refused v1" in error
