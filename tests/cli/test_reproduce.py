"""`prefect-mlops reproduce` as a user runs it; what is compared, and how, is tested with the work itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from prefect_mlops.core.lake.ingest import without_marks
from prefect_mlops.core.values import Evaluation, ModelVersion
from prefect_mlops.tasks import ingest_files, load_table, log_run, register_model, split_table, train_model

pytestmark = pytest.mark.slow
# The command by itself, as `prefect-mlops reproduce` runs it.
PROGRAM = """
import sys, typer
from prefect_mlops.cli import app
from prefect_mlops.cli.commands.reproduce import reproduce
if "reproduce" not in {command.name or command.callback.__name__ for command in app.app.registered_commands}:
    app.app.command()(reproduce)
app.main()
"""
COMMITTED = ("git", "-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-qm", "more")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop's project in a repository, with a day of sales in the lake."""
    folder = tmp_path / "project"
    (folder / "landing").mkdir(parents=True)
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    projects = Path(__file__).parent.parent / "projects"
    monkeypatch.syspath_prepend(str(projects))
    import shop

    shutil.copy(projects / "shop.py", folder)
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "shop.py"], check=True)
    subprocess.run(COMMITTED, check=True)
    shop.sales(1).to_csv("landing/1.csv", index=False)
    ingest_files.fn(["1.csv"], dataset=shop.sales_files)
    return folder


def trained(**tags: str) -> ModelVersion:
    import shop

    spec = shop.model
    split = split_table.fn(
        spec.prepared(without_marks(load_table.fn(spec.source()))), spec.target, **spec.split_options
    )
    model = train_model.fn(spec.estimator, split.X_train, split.y_train, seed=spec.seed)
    run = log_run.fn(model, Evaluation(metrics={"roc_auc": 0.8}, rows=80), experiment="shop", tags=tags)
    return register_model.fn(run, "shop")


def environment(**variables: str) -> dict[str, str]:
    return {name: value for name, value in {**os.environ, **variables}.items() if value != "-"}


@pytest.fixture
def reproduce(project: Path) -> Run:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, "reproduce", *arguments]
        return subprocess.run(
            command, env=environment(**variables), cwd=project, capture_output=True, text=True, timeout=240
        )

    return run


def test_a_version_is_proved_and_another_one_is_not(project: Path, reproduce: Run) -> None:
    version = trained(**{"prefect_mlops.spec": "shop.model"})
    MlflowClient().set_registered_model_alias("shop", "champion", str(version.version))
    shown = reproduce("shop/1")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0] == "shop v1 is identical to the model trained again."
    labels = [line.split()[0] for line in lines[1:]]
    assert labels == ["data", "code", "environment", "seed", "hardware", "predictions", "content"]
    assert "bit for bit" in shown.stdout
    assert shown.stderr.splitlines()[0] == "fetching shop v1 and what is known about it"
    assert "Traceback" not in shown.stderr

    trained(**{"prefect_mlops.seed": "9", "prefect_mlops.data": "sha256:1"})
    told = reproduce("shop/2", "--spec", "shop.changed", "--json")
    assert told.returncode == 1, told.stderr
    answer = json.loads(told.stdout)
    assert (answer["model"], answer["version"], answer["identical"]) == ("shop", 2, False)
    assert (answer["data"]["state"], answer["seed"]["state"]) == ("differs", "differs")
    assert answer["sentence"].startswith("shop v2 differs from the model trained again; what differs: data, seed")

    kept = json.loads(reproduce("shop@champion", "--json", "--keep", "--project", ".").stdout)
    assert kept["identical"]
    assert (Path(kept["worktree"]) / "shop.py").exists()


def test_wrong_requests_are_one_line(project: Path, reproduce: Run) -> None:
    trained()
    for arguments, variables, says in [
        (["shop"], {}, "write MODEL/VERSION"),
        (["shop/1"], {}, "give --spec"),
        (["shop/4"], {}, "has no version 4"),
        (["shop/1"], {"MLFLOW_TRACKING_URI": "-"}, "set MLFLOW_TRACKING_URI"),
        (["shop/1", "--project", "nowhere"], {}, "cannot be entered"),
    ]:
        wrong = reproduce(*arguments, **variables)
        assert wrong.returncode == 2, wrong.stderr
        assert says in wrong.stderr
        assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_kill_end_the_training_and_take_the_worktree_away(project: Path, number: int) -> None:
    trained(**{"prefect_mlops.spec": "shop.model"})
    started = project / "started"
    code = (project / "shop.py").read_text()
    waiting = (
        f"\nimport os, pathlib, time\npathlib.Path({str(started)!r}).write_text(str(os.getpid()))\ntime.sleep(300)\n"
    )
    (project / "shop.py").write_text(code + waiting)
    subprocess.run(["git", "commit", "-qam", "x", "--author", "A <a@example.com>"], env=author(), check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    run_id = MlflowClient().get_model_version("shop", "1").run_id
    MlflowClient().set_tag(run_id, "mlflow.source.git.commit", commit)
    MlflowClient().log_text(run_id, "", "lineage/uncommitted.diff")
    command = [sys.executable, "-c", PROGRAM, "reproduce", "shop/1"]
    program = subprocess.Popen(command, env=environment(), cwd=project, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    child = int(started.read_text())
    program.send_signal(number)
    _, said = program.communicate(timeout=60)
    assert program.returncode != 0
    assert b"Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    left = [path.name for path in (project.parent / "temporary").iterdir() if path.name.startswith("prefect-mlops-")]
    assert left == []
    listed = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True).stdout
    assert len(listed.splitlines()) == 1


def author() -> dict[str, str]:
    who = {"NAME": "A", "EMAIL": "a@example.com"}
    return {
        **os.environ,
        **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()},
    }
