"""`prefect-mlops rollback`, on a real registry and a real lake."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from prefect_mlops.cli.app import main
from prefect_mlops.core.promotion.history import read_history
from prefect_mlops.tasks import find_version, promote_model

Told = tuple[int, str, str]
COMMAND = str(Path(sys.executable).with_name("prefect-mlops"))


@pytest.fixture
def run(
    mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Told]]:
    """The command, with three champions after one another in `shop`. Returns exit code, stdout and stderr."""
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    client = MlflowClient()
    client.create_registered_model("shop")
    for number in (1, 2, 3):
        client.create_model_version("shop", source=f"file:///nowhere/{number}")
        promote_model.fn(find_version.fn("shop", version=number))

    def called(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["prefect-mlops", "rollback", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        return int(left.value.code or 0), shown.out, shown.err

    yield called
    gc.enable()  # the command leaves it to the end of its process


def live() -> int:
    return find_version.fn("shop").version


def test_it_goes_back_and_for_another_reason_further_back(run: Callable[..., Told]) -> None:
    assert run("shop", "--why", "late since noon", "--by", "anna") == (
        0,
        "shop: v2 is champion again; v3 was taken back by anna.\n",
        "",
    )
    assert live() == 2
    code, shown, _ = run("shop", "--why", "late since noon", "--by", "anna")
    assert code == 0
    assert "v2 is champion again since" in shown
    assert "name the version with --to, or give another reason" in shown
    assert live() == 2
    assert "v1 is champion again" in run("shop", "--why", "worse since one", "--by", "anna")[1]
    assert run("shop", "--to", "3", "--why", "it was the data")[0] == 0
    assert live() == 3
    assert [entry.reason for entry in read_history("shop") if entry.kind == "rolled_back"] == [
        "late since noon",
        "worse since one",
        "it was the data",
    ]


def test_who_asks_is_the_login_name_unless_they_say_so(
    run: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "berta")
    assert json.loads(run("shop", "--why", "bad", "--json")[1])["by"] == "berta"


def test_a_dry_run_says_what_would_be_done(run: Callable[..., Told]) -> None:
    before = read_history("shop")
    assert (
        run("shop", "--why", "bad", "--dry-run")[1] == "shop: v2 would be champion, now it is v3. Nothing was done.\n"
    )
    told = json.loads(run("shop", "--why", "bad", "--to", "1", "--dry-run", "--json")[1])
    assert told == {"model": "shop", "version": 1, "dry_run": True}
    assert (read_history("shop"), live()) == (before, 3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("shpo", "--why", "bad"), "no model with a history is called 'shpo': did you mean 'shop'?"),
        (("shop", "--why", " "), "--why is empty"),
        (("shop", "--why", "bad", "--to", "3"), "v3 is the champion already"),
        (("shop", "--why", "bad", "--to", "9"), "v9 was never champion, only v1, v2, v3 were"),
        (("../shop", "--why", "bad"), "no model with a history is called '../shop'"),
        (("sh\x1b[2Jop", "--why", "bad"), r"'sh\x1b[2Jop'"),
        (("shop",), "Missing option '--why'"),
        (("shop", "--why", "bad", "--to", "0"), "Invalid value for '--to'"),
    ],
)
def test_wrong_requests_are_answered_in_a_sentence(
    run: Callable[..., Told], arguments: tuple[str, ...], says: str
) -> None:
    before = read_history("shop")
    code, out, error = run(*arguments)
    assert (code, out) == (2, "")
    assert says in error
    assert "Traceback" not in error
    assert read_history("shop") == before


def test_a_registry_that_is_away_changes_nothing(run: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_history("shop")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, _, error = run("shop", "--why", "bad")
    assert code == 1
    assert "Is it running" in error
    assert read_history("shop") == before


def test_without_a_registry_there_is_nothing_to_roll_back(
    run: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(tmp_path / "empty"))
    code, _, error = run("shop", "--why", "bad")
    assert (code, "no MLflow is configured" in error) == (2, True)


@pytest.mark.slow
def test_as_a_user_starts_it(run: Callable[..., Told]) -> None:
    command = [COMMAND, "rollback", "shop", "--why", "late since noon", "--by", "anna"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "shop: v2 is champion again; v3 was taken back by anna.\n"), (
        done.stderr
    )
    assert live() == 2
