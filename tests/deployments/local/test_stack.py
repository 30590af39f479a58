"""The local stack with stand-ins for the servers, so that what goes wrong can be made to go wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from prefect_mlops.core import processes
from prefect_mlops.core.errors import BackendError, ConfigError, ConflictError
from prefect_mlops.deployments.local import servers
from prefect_mlops.deployments.local.stack import embedded_environment, local_stack
from prefect_mlops.deployments.project import POOL, read_project

ANSWERING = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
print("up", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
DYING = "import sys; print('line 1'); sys.exit('no such table: flow_run')"
LOSING = "import os, sys; sys.exit(f'Port {sys.argv[1]} is already in use.') if int(sys.argv[1]) == %d else None\n"
PARENT = """
import sys, time
from dataclasses import replace
from pathlib import Path
from prefect_mlops.deployments.local import servers
from prefect_mlops.deployments.local.stack import local_stack
program = lambda home, port: ([sys.executable, "-c", sys.argv[2], str(port)], {})
servers.PREFECT = replace(servers.PREFECT, program=program)
servers.MLFLOW = replace(servers.MLFLOW, program=program)
with local_stack(sys.argv[1], mlflow=True) as stack:
    print(*(child.process.pid for child in stack.children), flush=True)
    stack.wait()
"""

Stand = Callable[..., None]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Replace what the servers run."""

    def install(prefect: str = ANSWERING, mlflow: str = ANSWERING, database: str = "") -> None:
        for name, code in (("PREFECT", prefect), ("MLFLOW", mlflow)):
            program = lambda _home, port, code=code: ([sys.executable, "-c", code, str(port)], {})  # noqa: E731
            monkeypatch.setattr(servers, name, replace(getattr(servers, name), program=program))
        monkeypatch.setattr(servers, "_MAKE_DATABASE", database)

    return install


def gone(*pids: int, within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not any(processes.runs(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def taken_port() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def start_parent(home: Path, *, linux: bool = True) -> tuple[subprocess.Popen[str], list[int]]:
    script = PARENT if linux else "from prefect_mlops.deployments import processes; processes.LINUX = False" + PARENT
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(home), ANSWERING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    return parent, [int(pid) for pid in parent.stdout.readline().split()]


def test_importing_it_imports_neither_prefect_nor_mlflow() -> None:
    code = (
        "import sys, prefect_mlops.deployments.local.stack; print({'prefect', 'mlflow', 'pandas'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_what_it_starts_answers_and_is_gone_afterwards(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    said: list[str] = []
    with local_stack(tmp_path / "home", mlflow=True, progress=said.append) as stack:
        pids = [child.process.pid for child in stack.children]
        assert httpx.get(stack.prefect_ui_url, trust_env=False).status_code == 200
        assert httpx.get(stack.mlflow_url, trust_env=False).status_code == 200
        assert stack.environment["PREFECT_API_URL"] == stack.prefect_api_url == f"{stack.prefect_ui_url}/api"
        assert stack.environment["MLFLOW_TRACKING_URI"] == stack.mlflow_url
    assert len(pids) == 2
    assert gone(*pids, within=0.1)
    assert said[-1] == "stopping"


def test_a_home_keeps_its_ports_and_knows_mlflows_before_it_runs(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    with local_stack(tmp_path) as first:
        assert first.environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow.db"
        assert first.environment["PREFECT_MLOPS_MLFLOW_UI"] == first.mlflow_url
    with local_stack(tmp_path, mlflow=True) as second:
        assert (second.prefect_api_url, second.mlflow_url) == (first.prefect_api_url, first.mlflow_url)


def test_two_homes_at_once_do_not_share_a_port(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    with local_stack(tmp_path / "a", mlflow=True) as one, local_stack(tmp_path / "b", mlflow=True) as two:
        assert len({one.prefect_api_url, two.prefect_api_url}) == 2
        assert len({one.mlflow_url, two.mlflow_url}) == 2


def test_a_taken_port_is_left_alone(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    with taken_port() as listener:
        port = listener.getsockname()[1]
        (tmp_path / "stack.json").write_text(json.dumps({"ports": {"prefect": port}}))
        with local_stack(tmp_path) as stack:
            assert not stack.prefect_ui_url.endswith(f":{port}")


def test_a_port_lost_while_starting_is_replaced(stand_in: Stand, tmp_path: Path) -> None:
    with taken_port() as listener:  # free again below, but the stand-in says it is not
        port = listener.getsockname()[1]
    stand_in(prefect=LOSING % port + ANSWERING)
    (tmp_path / "stack.json").write_text(json.dumps({"ports": {"prefect": port}}))
    said: list[str] = []
    with local_stack(tmp_path, progress=said.append) as stack:
        assert not stack.prefect_ui_url.endswith(f":{port}")
        assert all(child.alive for child in stack.children)
    assert any("was taken meanwhile" in sentence for sentence in said)


def test_a_server_that_cannot_start_is_an_error_with_its_log(stand_in: Stand, tmp_path: Path) -> None:
    stand_in(prefect=DYING)
    with pytest.raises(BackendError, match=r"the Prefect server ended with exit code 1.*prefect\.log") as caught:
        local_stack(tmp_path, mlflow=True).__enter__()
    assert str(caught.value).endswith("line 1\nno such table: flow_run")
    children = json.loads((tmp_path / "stack.lock").read_text())["children"]
    assert children
    assert gone(*children, within=0.1)


def test_a_database_that_cannot_be_made_is_an_error_with_its_log(stand_in: Stand, tmp_path: Path) -> None:
    stand_in(database=DYING)
    with pytest.raises(BackendError, match=r"making MLflow's database failed with exit code 1[\s\S]*no such table"):
        local_stack(tmp_path).__enter__()


def test_a_server_that_never_answers_is_an_error(
    stand_in: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(prefect="import time; print('waiting', flush=True); time.sleep(60)")
    monkeypatch.setattr(servers, "START_SECONDS", 0.5)
    with pytest.raises(BackendError, match=r"did not answer within .* seconds[\s\S]*waiting"):
        local_stack(tmp_path).__enter__()


def test_a_server_that_ends_by_itself_is_told_to_whoever_waits(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    with local_stack(tmp_path) as stack:
        stack.children[0].process.kill()
        with pytest.raises(BackendError, match="the Prefect server ended by itself with exit code -9"):
            stack.wait()


def test_an_exception_inside_leaves_nothing_running(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    with pytest.raises(ZeroDivisionError), local_stack(tmp_path) as stack:
        _ = 1 / 0
    assert gone(stack.children[0].process.pid, within=0.1)


def test_a_second_stack_on_one_home_is_told_where_the_first_is(stand_in: Stand, tmp_path: Path) -> None:
    stand_in()
    with local_stack(tmp_path) as stack:
        with pytest.raises(ConflictError, match=rf"already runs on {tmp_path} .*see {stack.prefect_ui_url}"):
            local_stack(tmp_path).__enter__()
        assert httpx.get(stack.prefect_ui_url, trust_env=False).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(number: signal.Signals, tmp_path: Path) -> None:
    parent, children = start_parent(tmp_path)
    parent.send_signal(number)
    parent.communicate(timeout=20)
    assert len(children) == 2
    assert gone(*children, within=0.1)


def test_a_signal_while_starting_ends_everything(tmp_path: Path) -> None:
    script = PARENT.replace("sys.argv[2], str(port)", "'import time; time.sleep(60)', str(port)")
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.DEVNULL)
    owner = tmp_path / "stack.lock"
    while not owner.exists() or len(json.loads(owner.read_text() or "{}").get("children", ())) < 2:
        time.sleep(0.02)
    children = json.loads(owner.read_text())["children"]
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(20) == 128 + signal.SIGTERM
    assert gone(*children, within=0.1)


@pytest.mark.parametrize("linux", [True, False])
def test_a_killed_parent_does_not_block_the_next_stack(
    linux: bool, stand_in: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in()
    monkeypatch.setattr(processes, "LINUX", linux and processes.LINUX)
    parent, children = start_parent(tmp_path, linux=linux)
    parent.kill()
    parent.communicate()
    if not linux:
        assert all(processes.runs(child) for child in children)
    with local_stack(tmp_path):
        assert gone(*children, within=0.1)


def test_grandchildren_end_too(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        print(child.pid, flush=True)
        time.sleep(60)
    """)
    command = [sys.executable, "-c", code]
    child = processes.start_child("it", command, environment=os.environ, log=tmp_path / "log", folder=tmp_path)
    while processes.tail(child.log) == "(it printed nothing)":
        time.sleep(0.02)
    grandchild = int(processes.tail(child.log))
    processes.stop_children([child])
    assert gone(child.process.pid, grandchild, within=0.1)


def test_what_ignores_being_asked_is_ended_by_force(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code]
    child = processes.start_child("it", command, environment=os.environ, log=tmp_path / "log", folder=tmp_path)
    while processes.tail(child.log) != "up":
        time.sleep(0.02)
    processes.stop_children([child], grace=0.2)
    assert child.process.returncode == -signal.SIGKILL


def test_only_the_owner_can_read_what_is_written(stand_in: Stand, tmp_path: Path) -> None:
    stand_in(prefect="open('made-by-the-server', 'w').close()" + ANSWERING)
    home = tmp_path / "home"
    with local_stack(home):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home, *home.rglob("*"))}
    assert {"stack.json", "stack.lock", "prefect.log", "made-by-the-server"} <= set(modes)
    assert not {name: oct(mode) for name, mode in modes.items() if mode & 0o077}


def test_servers_do_not_follow_the_callers_prefect_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://u:secret@production/prefect")
    monkeypatch.setenv("PREFECT_PROFILE", "production")
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    seen = {name: value for name, value in servers.caller_environment().items() if name.startswith("PREFECT_")}
    assert "PREFECT_API_DATABASE_CONNECTION_URL" not in seen
    assert "PREFECT_PROFILE" not in seen
    assert seen["PREFECT_LOGGING_LEVEL"] == "DEBUG"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no prefect\.yaml in .*prefect init"),
        ("deployments: [", "is not YAML"),
        ("name: empty", "lists no deployments"),
        ("deployments: [train]", "lists no deployments"),
        ("deployments: [{entrypoint: flows.train}]", "deployment 1 has no name"),
        ("deployments: [{name: train, work_pool: gpu}]", "'train': work_pool: expected a mapping"),
    ],
)
def test_a_wrong_project_is_refused_before_anything_starts(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "prefect.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        local_stack(tmp_path / "home", worker=True, project=tmp_path).__enter__()
    assert not (tmp_path / "home").exists()


def test_a_project_names_its_pools_and_deployments(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text(
        "deployments: [{name: a, work_pool: {name: gpu}}, {name: b}, {name: c, work_pool: {name: gpu}}]"
    )
    assert read_project(tmp_path) == (("gpu", POOL), ("a", "b", "c"))


def test_our_own_project_file_serves_through_a_pool_that_prefect_accepts() -> None:
    pools, names = read_project(Path(__file__).parents[3])
    assert pools == (POOL,)
    assert not POOL.startswith("prefect")  # Prefect answers 403 to such a name
    assert set(names) == {
        "ingest",
        "check-freshness",
        "train",
        "monitor",
        "replay",
        "backfill",
        "decide",
        "rollback",
        "maintenance",
    }


@pytest.mark.slow
@pytest.mark.parametrize("from_where", ["made", "copied"])
def test_mlflows_database_is_whole_before_anybody_can_log_to_it(
    stand_in: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_where: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_database = servers._MAKE_DATABASE
    stand_in(database=make_database)
    if from_where == "copied":
        with local_stack(tmp_path / "another"):
            pass
        kept = tmp_path / "cache" / "prefect-mlops"
        assert [path.suffix for path in kept.iterdir()] == [".db"]
    (tmp_path / "mlflow.db.new").write_text("what a killed start left behind")
    with local_stack(tmp_path) as stack, contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        places = database.execute("select artifact_location from experiments").fetchall()
        client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
        assert client.get_run(client.create_run("0").info.run_id).info.artifact_uri.startswith(places[0][0])
    assert places == [((tmp_path / "artifacts" / "0").as_uri(),)]
    assert not (tmp_path / "mlflow.db.new").exists()
    assert embedded_environment(tmp_path).items() <= stack.environment.items()
