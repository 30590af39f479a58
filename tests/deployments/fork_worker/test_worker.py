"""The warm worker on a real server, beside Prefect's process worker where both must do the same."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked"),
]

KINDS = ("process", "warm-process")
PRELOAD = ["prefect.flow_engine", "prefect.runner._workspace_supervisor", "numpy", "chatty"]
MANY, BATCH = int(os.environ.get("WARM_RUNS", "40")), 10  # a soak sets more
WITHIN = 120.0  # a machine that others use too takes its time
LEFT_OUT = ("PREFECT_", "MLFLOW_", "PYTHONUNBUFFERED")  # of the environment of whoever runs the tests
SET_FOLDER = "prefect.deployments.steps.set_working_directory"

PROJECT = '''
import atexit, json, logging, os, random, signal, subprocess, sys, tempfile, threading, time, traceback
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.settings import get_current_settings


IMPORTED = "sklearn.ensemble" in sys.modules


def write(out, value):
    Path(out + ".part").write_text(json.dumps(value))
    os.replace(out + ".part", out)


@flow
def report(out: str, names: list[str] = []):
    umask = os.umask(0)
    os.umask(umask)
    write(out, {
        "variables": {name: os.environ.get(name) for name in names},
        "folder": os.getcwd(),
        "temporary": tempfile.gettempdir(),
        "python_path": os.environ["PYTHONPATH"].split(os.pathsep)[0],
        "path": sys.path[0],
        "arguments": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "main": sys.modules["__main__"].__spec__.name,
        "level": logging.getLogger("prefect.flow_runs").getEffectiveLevel(),
        "retries": get_current_settings().tasks.default_retries,
        "api": get_current_settings().api.url,
        "leader": os.getpgid(0) == os.getpid() == os.getsid(0),
        "umask": umask,
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "child": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
        "imported": "chatty" in sys.modules,
    })


@flow
def where(out: str):
    import neighbour
    write(out, {"folder": os.getcwd(), "neighbour": neighbour.WHO, "file": neighbour.__file__, "pid": os.getpid(),
                "parent": os.getppid()})


@flow(log_prints=True)
def speak(word: str):
    print("printed", word)
    get_run_logger().info("logged %s", word)
    sys.stderr.write(f"written {word}\\n")
    os.system(f"echo shell {word}")


@flow
def fail():
    raise ValueError("as asked")


def note(how):
    def hook(flow, flow_run, state):
        write(flow_run.parameters["out"] + "-hook", how)
    return hook


@flow(on_crashed=[note("crashed")], on_cancellation=[note("cancelled")])
def end(out: str, how: str):
    if how == "code":
        os._exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "exit":
        sys.exit(4)
    if how == "wait":
        child = subprocess.Popen(["sleep", "600"])
        write(out + "-started", [os.getpid(), child.pid])
        time.sleep(600)


@flow
def wait(out: str, until: str):
    write(out, os.getpid())
    while not os.path.exists(until):
        time.sleep(0.05)


@flow(retries=1)
def second_time(out: str):
    if not os.path.exists(out):
        write(out, 1)
        raise ValueError("once")
    write(out, 2)


@task
def square(number):
    return number * number


def cube(number):
    return number ** 3


@flow
def below(number: int):
    return square(number)


@flow
async def below_async(number: int):
    return number + 1


@flow
async def work(out: str):
    """Everything that starts threads, processes and loops."""
    from concurrent.futures import ProcessPoolExecutor
    from prefect.task_runners import ThreadPoolTaskRunner
    result = {"subflow": below(3), "async": await below_async(1)}
    with ProcessPoolExecutor(2) as pool:
        result["pool"] = list(pool.map(cube, range(4)))
    import joblib
    result["joblib"] = joblib.Parallel(n_jobs=2)(joblib.delayed(cube)(number) for number in range(4))
    write(out, result)


@flow
def in_threads(out: str):
    write(out, square.map([1, 2, 3]).result())


def process_runner():
    from prefect.task_runners import ProcessPoolTaskRunner
    return ProcessPoolTaskRunner(max_workers=1)


@flow(task_runner=process_runner())
def in_processes(out: str):
    write(out, square.map([1, 2]).result())


@flow
def leave_late(out: str):
    atexit.register(lambda: write(out + "-atexit", sorted(os.listdir(os.path.dirname(out)))))
    def later():
        time.sleep(0.5)
        write(out + "-thread", True)
    threading.Thread(target=later).start()


@flow
def leave_beating(out: str):
    def beats():
        frames = [frame for top in sys._current_frames().values() for frame, _ in traceback.walk_stack(top)]
        return any(frame.f_code.co_name == "heartbeat_loop" for frame in frames)
    atexit.register(lambda: write(out, beats()))


@flow
def chances(out: str):
    import secrets, uuid
    import numpy
    write(out, [random.random(), float(numpy.random.random()), float(numpy.random.default_rng().random()),
                str(uuid.uuid4()), str(uuid.uuid1()), secrets.token_hex(4), os.path.basename(tempfile.mktemp())])


@flow
def empty():
    pass


@flow
def whether_shadowed(out: str):
    import chatty
    write(out, {"file": chatty.__file__, "spoken": getattr(chatty, "SPOKEN", None)})


@flow
def compute(out: str, folder: str):
    import mlflow, numpy, pandas, sqlite3
    from deltalake import DeltaTable, write_deltalake
    from sklearn.ensemble import HistGradientBoostingClassifier
    numbers = numpy.random.default_rng(0).normal(size=(20_000, 8))
    model = HistGradientBoostingClassifier(max_iter=20).fit(numbers, numbers[:, 0] > 0)
    write_deltalake(folder + "/table", pandas.DataFrame(numbers, columns=list("abcdefgh")))
    with sqlite3.connect(folder + "/file.db") as database:
        database.execute("create table t as select 1 as x")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    run = client.create_run("0")
    client.log_metric(run.info.run_id, "m", 1.0)
    client.set_terminated(run.info.run_id)
    big = numpy.ones((600, 600))
    from evidently.legacy.utils import sync
    write(out, {
        "score": model.score(numbers, numbers[:, 0] > 0),
        "rows": DeltaTable(folder + "/table").to_pyarrow_table().num_rows,
        "sqlite": database.execute("select x from t").fetchone()[0],
        "metric": client.get_run(run.info.run_id).data.metrics["m"],
        "product": float((big @ big)[0, 0]),
        "loop": os.fstat(sync._loop._ssock.fileno()).st_ino,
        "imported": IMPORTED,
    })
'''

CHATTY = "print('chatty is imported', end=' ')\nSPOKEN = 1\n"
THREADED = (
    "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), name='ticker', daemon=True).start()\n"
)


def eventually(ask: Callable[[], Any], *, within: float = WITHIN) -> Any:
    """Ask until the answer is true; return it."""
    deadline = time.monotonic() + within
    while not (answer := ask()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)
    return answer


def alive(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """List the children of a process, dead ones that were not collected too."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


@dataclass
class Worker:
    """A worker that was started by the command line."""

    pool: str
    log: Path
    process: subprocess.Popen[bytes]

    def said(self) -> str:
        return self.log.read_text()

    @property
    def servers(self) -> list[int]:
        """The fork servers: the processes that runs are forked from."""
        return [pid for pid in children(self.process.pid) if b"fork_worker.server" in command_of(pid)]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@dataclass
class World:
    """One server, its workers, and a folder with a project."""

    folder: Path
    client: SyncPrefectClient
    environment: dict[str, str]
    workers: dict[str, Worker] = field(default_factory=dict)
    counted: int = 0

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def out(self) -> Path:
        self.counted += 1
        return self.folder / "out" / str(self.counted)

    def pool(self, name: str, kind: str, *, preload: list[str] = PRELOAD, limit: int | None = None) -> str:
        from prefect.client.schemas.actions import WorkPoolCreate
        from prefect.workers.base import BaseWorker

        made = BaseWorker.get_worker_class_from_type(kind)
        assert made is not None
        template = made.get_default_base_job_template()
        if kind == "warm-process":
            template["variables"]["properties"]["preload"]["default"] = preload
        self.client.create_work_pool(
            WorkPoolCreate(name=name, type=kind, base_job_template=template, concurrency_limit=limit)
        )
        return name

    def worker(self, pool: str, *options: str, launcher: tuple[str, ...] = ("-m", "prefect"), **own: str) -> Worker:
        log = self.folder / f"{pool}-{len(self.workers)}.log"
        command = [sys.executable, *launcher, "worker", "start", "--pool", pool, "--name", log.stem, *options]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, env={**self.environment, **own}, cwd=self.folder, stdout=file, stderr=subprocess.STDOUT
            )
        worker = self.workers[log.stem] = Worker(pool, log, process)
        return worker

    def start(
        self,
        pool: str,
        flow: str,
        *,
        job: dict[str, Any] | None = None,
        steps: list[dict[str, Any]] | None = None,
        entrypoint: str = "",
        **parameters: Any,
    ) -> FlowRun:
        """Let a pool run a flow of the project."""
        steps = steps or [{SET_FOLDER: {"directory": str(self.project)}}]
        flow_id = self.client.create_flow_from_name(flow.replace("_", "-"))
        self.counted += 1
        deployment = self.client.create_deployment(
            flow_id=flow_id,
            name=f"{pool}-{self.counted}",
            entrypoint=entrypoint or f"project.{flow}",
            work_pool_name=pool,
            pull_steps=steps,
            job_variables=job or {},
            parameter_openapi_schema={"type": "object", "properties": {}},
        )
        parameters = {name: str(value) if isinstance(value, Path) else value for name, value in parameters.items()}
        return self.client.create_flow_run_from_deployment(deployment, parameters=parameters)

    def ended(self, run: FlowRun, *, within: float = WITHIN) -> FlowRun:
        """Wait until the server says that a run has ended."""

        def final() -> FlowRun | None:
            seen = self.client.read_flow_run(run.id)
            return seen if seen.state and seen.state.is_final() else None

        return eventually(final, within=within)

    def result(self, pool: str, flow: str, *, out: Path | None = None, **options: Any) -> Any:
        """Run a flow to its good end and return what it wrote."""
        out = out or self.out()
        seen = self.ended(self.start(pool, flow, out=out, **options))
        assert seen.state
        assert seen.state.name == "Completed", f"{seen.state} {self.lines(seen)}"
        return json.loads(out.read_text())

    def holds(self, run: FlowRun) -> bool:
        """Say whether a worker keeps files for a run, which it does until it knows that its process has ended."""
        kept = (self.folder / "tmp").glob("prefect-workspace-attempt-*/supervisor.json")
        return any(str(run.id) in file.read_text() for file in kept)

    def lines(self, run: FlowRun) -> list[str]:
        """Return the log of a run on the server."""
        from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

        found = self.client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))
        return [line.message for line in found]


@pytest.fixture(scope="module")
def world(prefect_api: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server and a worker of each kind."""
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    folder = tmp_path_factory.mktemp("warm")
    for part in ("project", "out", "ahead", "tmp"):
        (folder / part).mkdir()
    (folder / "project" / "project.py").write_text(PROJECT)
    (folder / "ahead" / "chatty.py").write_text(CHATTY)
    (folder / "ahead" / "threaded.py").write_text(THREADED)
    (folder / "project" / "neighbour.py").write_text("WHO = 'of the project'\n")
    (folder / "project" / "leaving.py").write_text("import sys\nsys.exit(2)\n")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)},
        "PREFECT_API_URL": str(get_current_settings().api.url),
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.2",
        "PYTHONPATH": str(folder / "ahead"),
        "TMPDIR": str(folder / "tmp"),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with get_client(sync_client=True) as client:
        here = World(folder, client, environment)
        try:
            for kind in KINDS:
                here.worker(here.pool(f"pool-{kind}", kind))
            yield here
        finally:
            for worker in here.workers.values():
                if worker.process.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        worker.stop()
                worker.process.kill()
            if keep := os.environ.get("KEEP_LOGS"):
                import shutil

                for file in folder.glob("*.log"):
                    shutil.copy(file, keep)


@pytest.fixture
def warm(world: World) -> Worker:
    """The warm worker, when it has imported what it was asked to."""
    worker = world.workers["pool-warm-process-1"]
    eventually(lambda: "Imported ahead" in worker.said())
    return worker


@pytest.fixture(params=KINDS)
def pool(request: pytest.FixtureRequest) -> str:
    return f"pool-{request.param}"


def test_a_run_has_an_environment_settings_and_a_folder_of_its_own(world: World, pool: str) -> None:
    names = ["OF_THE_RUN", "TMPDIR", "PREFECT__FLOW_RUN_ID"]
    own = {
        "OF_THE_RUN": "1",
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_TASKS_DEFAULT_RETRIES": "2",
        "TMPDIR": str(world.project),
    }
    one = world.result(pool, "report", job={"env": own}, names=names)
    two = world.result(pool, "report", names=names)
    assert one["variables"]["OF_THE_RUN"] == "1"
    assert (one["level"], one["retries"], one["temporary"]) == (10, 2, str(world.project))
    assert two["variables"]["OF_THE_RUN"] is None
    assert (two["level"], two["retries"], two["temporary"]) == (20, 0, str(world.folder / "tmp"))
    for seen in (one, two):
        assert seen["folder"] == seen["python_path"] == seen["path"] == str(world.project)
        assert seen["arguments"] == ["engine.py"]
        assert seen["main"] == "prefect.engine"
        assert seen["api"] == world.environment["PREFECT_API_URL"]
        assert seen["leader"]
        assert seen["blocked"] == []
        assert seen["child"]
        assert seen["imported"] == (pool == "pool-warm-process")


def test_what_is_printed_and_logged_reaches_the_server_and_the_workers_output(world: World, pool: str) -> None:
    heard, mute = (
        world.start(pool, "speak", word=word, job=job)
        for word, job in (("aloud", {}), ("softly", {"stream_output": False}))
    )
    for run, word in ((heard, "aloud"), (mute, "softly")):
        world.ended(run)
        eventually(lambda: {f"printed {word}", f"logged {word}"} <= set(world.lines(run)))  # noqa: B023
        assert any("Executing deployment step" in line for line in world.lines(run))
    said = next(worker for worker in world.workers.values() if worker.pool == pool).said()
    assert all(f"{how} aloud" in said for how in ("printed", "logged", "written", "shell"))
    assert "softly" not in said


def test_a_run_ends_as_its_process_does(world: World, pool: str) -> None:
    outs = {how: world.out() for how in ("code", "kill", "term", "exit")}
    runs = {how: world.start(pool, "end", out=out, how=how) for how, out in outs.items()}
    runs["fail"] = world.start(pool, "fail")
    runs["load"] = world.start(pool, "fail", entrypoint="not_there.fail")
    runs["import"] = world.start(pool, "fail", entrypoint="leaving.fail")
    runs["pull"] = world.start(pool, "fail", steps=[{SET_FOLDER: {"directory": "/not/there"}}])
    states = {how: world.ended(run).state for how, run in runs.items()}
    said = {how: (state.name, state.message) for how, state in states.items() if state}
    for how, (name, beginning) in ENDS.items():
        assert said[how][0] == name
        assert said[how][1] is not None
        assert said[how][1].startswith(beginning)
    for out in outs.values():
        eventually(Path(f"{out}-hook").exists)
        assert json.loads(Path(f"{out}-hook").read_text()) == "crashed"
    eventually(lambda: any("not_there" in line for line in world.lines(runs["load"])))


ENDS = {
    "code": ("Crashed", "Process exited with status code: 3."),
    "kill": ("Crashed", "Process exited with status code: -9."),
    "term": ("Crashed", "Execution was aborted by a termination signal."),
    "exit": ("Crashed", "Execution was aborted by Python system exit call."),
    "fail": ("Failed", "Flow run encountered an exception: ValueError: as asked"),
    "load": ("Crashed", "Process exited with status code: 1."),
    "import": ("Crashed", "Process exited with status code: 2."),
    "pull": ("Crashed", "Process exited with status code: 1."),
}


def test_a_cancelled_run_and_what_it_started_are_gone_and_its_hook_ran(world: World, pool: str) -> None:
    from prefect.states import Cancelling

    out = world.out()
    run = world.start(pool, "end", out=out, how="wait")
    started = Path(f"{out}-started")
    eventually(started.exists)
    world.client.set_flow_run_state(run.id, Cancelling())
    seen = world.ended(run)
    assert seen.state
    assert seen.state.name == "Cancelled"
    assert Path(f"{out}-hook").read_text() == '"cancelled"'
    assert not any(map(alive, json.loads(started.read_text())))


def test_a_repository_is_cloned_and_its_modules_are_imported_as_they_are_now(
    world: World, pool: str, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    git = ("git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    (repository / "project.py").write_text(PROJECT)
    steps = [{"prefect.deployments.steps.git_clone": {"repository": repository.as_uri(), "branch": "main"}}]
    for who in ("first", "second"):
        (repository / "neighbour.py").write_text(f"WHO = {who!r}\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", who], check=True)
        seen = world.result(pool, "where", steps=steps)
        assert seen["neighbour"] == who
        assert seen["file"] == seen["folder"] + "/neighbour.py"
        eventually(lambda: not Path(seen["folder"]).exists())  # noqa: B023 - it ends with the run


def test_a_working_directory_is_used_and_kept(world: World, pool: str, tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "neighbour.py").write_text("WHO = 'here'\n")
    seen = world.result(
        pool,
        "where",
        entrypoint="project.py:where",
        job={"working_dir": str(tmp_path)},
        steps=[{"prefect.deployments.steps.run_shell_script": {"script": "touch was-here"}}],
    )
    assert (seen["folder"], seen["neighbour"]) == (str(tmp_path), "here")
    assert (tmp_path / "was-here").exists()


def test_settings_in_the_projects_folder_are_read(world: World, pool: str, tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "prefect.toml").write_text("[tasks]\ndefault_retries = 7\n")
    seen = world.result(pool, "report", steps=[{SET_FOLDER: {"directory": str(tmp_path)}}])
    assert seen["retries"] == 7


def test_a_module_of_the_project_wins_over_one_imported_ahead(world: World, warm: Worker, tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "chatty.py").write_text("")
    steps = [{SET_FOLDER: {"directory": str(tmp_path)}}]
    seen = world.result(warm.pool, "whether_shadowed", steps=steps)
    assert seen == {"file": str(tmp_path / "chatty.py"), "spoken": None}
    seen = world.result(warm.pool, "whether_shadowed")
    assert seen == {"file": str(world.folder / "ahead" / "chatty.py"), "spoken": 1}
    assert warm.said().count("chatty is imported") == warm.said().count("Imported ahead"), "not again in each run"


def test_a_run_ends_without_waiting_for_its_heartbeats(world: World, warm: Worker) -> None:
    """Their thread sleeps a second at a time, and is there still when the process leaves."""
    out = world.out()
    world.ended(world.start(warm.pool, "leave_beating", out=out))
    eventually(out.exists)
    assert json.loads(out.read_text()) is True


def test_flows_use_threads_processes_and_loops_as_ever(world: World, warm: Worker) -> None:
    outs = {flow: world.out() for flow in ("work", "in_threads", "in_processes", "second_time", "leave_late")}
    runs = {flow: world.start(warm.pool, flow, out=out) for flow, out in outs.items()}
    for run in runs.values():
        seen = world.ended(run)
        assert seen.state
        assert seen.state.name == "Completed", world.lines(run)
    wrote = {flow: json.loads(out.read_text()) for flow, out in outs.items() if out.exists()}
    assert wrote["work"] == {"subflow": 9, "async": 2, "pool": [0, 1, 8, 27], "joblib": [0, 1, 8, 27]}
    assert wrote["in_threads"] == [1, 4, 9]
    assert wrote["in_processes"] == [1, 4]
    assert wrote["second_time"] == 2
    # What the flow left behind is done before its process ends, threads first.
    late = outs["leave_late"]
    eventually(Path(f"{late}-atexit").exists)
    assert f"{late.name}-thread" in json.loads(Path(f"{late}-atexit").read_text())


def test_every_run_draws_numbers_of_its_own(world: World, warm: Worker) -> None:
    drawn = [world.result(warm.pool, "chances") for _ in range(3)]
    for of_one_kind in zip(*drawn, strict=True):
        assert len(set(of_one_kind)) == len(drawn)


def test_libraries_with_threads_of_their_own_work(world: World, warm: Worker, tmp_path: Path) -> None:
    ahead = [*PRELOAD, "pandas", "sklearn.ensemble", "mlflow", "deltalake", "pyarrow.dataset", "evidently"]
    job = {"preload": ahead, "env": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}}
    loops = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        seen = world.result(warm.pool, "compute", folder=tmp_path / name, job=job)
        assert seen.pop("score") > 0.9
        loops.add(seen.pop("loop"))
        assert seen == {"rows": 20_000, "sqlite": 1, "metric": 1.0, "product": 600.0, "imported": True}
    assert len(loops) == 2, "a loop that a library made at import is no loop of several processes"


def test_a_variable_that_is_read_at_import_has_a_parent_of_its_own(world: World, warm: Worker) -> None:
    job = {"env": {"OMP_NUM_THREADS": "1", "ANOTHER": "1"}}
    world.result(warm.pool, "report")
    before = warm.said().count("Imported ahead")
    for _ in range(2):
        assert world.result(warm.pool, "report", job=job, names=["OMP_NUM_THREADS"])["variables"] == {
            "OMP_NUM_THREADS": "1"
        }
        assert world.result(warm.pool, "report", names=["OMP_NUM_THREADS"])["variables"]["OMP_NUM_THREADS"] is None
    assert warm.said().count("Imported ahead") == before + 1


def test_a_changed_module_makes_a_new_parent(world: World, warm: Worker) -> None:
    module = world.folder / "ahead" / "chatty.py"
    for number in (2, 3):
        module.write_text(CHATTY.replace("1", str(number)))
        assert world.result(warm.pool, "whether_shadowed")["spoken"] == number
    assert f"{module} has changed: importing again" in warm.said()
    eventually(lambda: len(warm.servers) <= 3)  # what is no longer used has ended


def test_the_last_run_of_a_parent_that_was_renewed_is_seen_through(world: World, warm: Worker) -> None:
    out, until = world.out(), world.out()
    run = world.start(warm.pool, "wait", out=out, until=until)
    eventually(out.exists)
    (world.folder / "ahead" / "chatty.py").write_text(CHATTY + "# changed")
    for _ in range(4):  # enough for the worker to collect its garbage
        world.result(warm.pool, "report")
    assert world.holds(run)
    until.write_text("")
    world.ended(run)
    eventually(lambda: not world.holds(run), within=20)


def test_a_killed_parent_is_replaced_and_its_run_is_seen_through(world: World, warm: Worker) -> None:
    out, until = world.out(), world.out()
    run = world.start(warm.pool, "wait", out=out, until=until)
    eventually(out.exists)
    [parent] = [pid for pid in warm.servers if json.loads(out.read_text()) in children(pid)]
    os.kill(parent, signal.SIGKILL)
    seen = world.result(warm.pool, "where")
    assert seen["parent"] != parent
    until.write_text("")
    ended = world.ended(run)
    assert ended.state
    assert ended.state.name == "Completed"
    out, until = world.out(), world.out()
    run = world.start(warm.pool, "end", out=out, how="wait")
    eventually(Path(f"{out}-started").exists)
    pids = json.loads(Path(f"{out}-started").read_text())
    [parent] = [pid for pid in warm.servers if pids[0] in children(pid)]
    os.kill(parent, signal.SIGKILL)
    os.killpg(pids[0], signal.SIGKILL)
    ended = world.ended(run)
    assert ended.state
    assert ended.state.name == "Crashed"


def test_what_cannot_be_imported_ahead_is_said_and_runs_start_all_the_same(world: World, warm: Worker) -> None:
    """A thread, a name that is not there, a bound on memory, a module that leaves."""
    (world.folder / "ahead" / "goodbye.py").write_text("raise SystemExit(1)")
    seen = world.result(warm.pool, "report", job={"preload": [*PRELOAD, "not_there", "goodbye"]})
    assert seen["imported"]
    assert "Not imported ahead of the runs: not_there (ModuleNotFoundError" in warm.said()
    assert "Not imported ahead of the runs: goodbye (SystemExit: 1)" in warm.said()

    seen = world.result(warm.pool, "report", job={"preload": [*PRELOAD, "pandas"], "memory_mb": 20})
    assert not seen["imported"]
    assert re.search(r"Not imported ahead of the runs: chatty \(\d+ MB are in use, more than the 20 MB", warm.said())

    before = warm.said().count("Imported ahead")
    for _ in range(2):
        seen = world.result(warm.pool, "report", job={"preload": [*PRELOAD, "threaded"]})
        assert not seen["imported"]
    assert warm.said().count("starts as in a process worker") == 2
    assert "importing threaded started threads (MainThread, ticker)" in warm.said()
    assert warm.said().count("Imported ahead") == before


def test_a_module_that_changes_all_the_time_does_not_keep_runs_from_starting(world: World, warm: Worker) -> None:
    module = world.folder / "ahead" / "restless.py"
    module.write_text("import time, pathlib\npathlib.Path(__file__).write_text(pathlib.Path(__file__).read_text())")
    seen = world.result(warm.pool, "report", job={"preload": [*PRELOAD, "restless"]})
    assert not seen["imported"]
    assert f"{module} changes again and again" in warm.said()


def test_a_new_package_makes_a_new_parent(world: World, warm: Worker, tmp_path: Path) -> None:
    job = {"env": {"PYTHONUSERBASE": str(tmp_path)}}
    packages = tmp_path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    world.result(warm.pool, "report", job=job)
    packages.mkdir(parents=True)
    world.result(warm.pool, "report", job=job)
    assert f"{packages} has changed: importing again" in warm.said()
    (packages / "new-1.dist-info").mkdir()
    os.utime(packages, (time.time() - 60,) * 2)  # as if it had been long ago
    world.result(warm.pool, "report", job=job)
    assert warm.said().count(f"{packages} has changed: importing again") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_is_stopped_takes_its_runs_with_it(world: World, kind: str) -> None:
    worker = world.worker(world.pool(f"stopped-{kind}", kind))
    out = world.out()
    run = world.start(worker.pool, "end", out=out, how="wait")
    eventually(Path(f"{out}-started").exists)
    pids = [*json.loads(Path(f"{out}-started").read_text()), *children(worker.process.pid)]
    assert worker.stop() == 0
    eventually(lambda: not any(map(alive, pids)), within=20)
    assert not world.holds(run)
    if kind == "warm-process":  # the other one kills it before it can say a word, and it stays Running
        state = world.ended(run).state
        assert state
        assert (state.name, state.message) == ("Crashed", "Execution was aborted by a termination signal.")


def test_runs_go_on_where_the_worker_was_killed(world: World) -> None:
    worker = world.worker(world.pool("killed", "warm-process"))
    out, until = world.out(), world.out()
    run = world.start(worker.pool, "wait", out=out, until=until)
    eventually(out.exists)
    pids = [json.loads(out.read_text()), *worker.servers]
    worker.stop(signal.SIGKILL)
    assert all(map(alive, pids))
    until.write_text("")
    state = world.ended(run).state
    assert state
    assert state.name == "Completed"
    eventually(lambda: not any(map(alive, pids)))


def test_without_fork_runs_start_as_in_a_process_worker_and_the_log_says_so(world: World) -> None:
    """They are found by polling, too, where no event comes."""
    worker = world.worker(
        world.pool("forkless", "warm-process"), launcher=changed("FORKS = False", "SCHEDULED = 'never'")
    )
    assert not world.result(worker.pool, "report")["imported"]
    assert "Runs start as those of a process worker: forks need Linux." in worker.said()
    assert not worker.servers


def test_without_a_private_name_of_prefect_runs_start_as_in_a_process_worker_and_one_line_says_so(world: World) -> None:
    """In the worker: with one of the names that a fork needs taken away, as a release without it would."""
    removal = "import prefect.runner._workspace_supervisor as supervisor; del supervisor._launch_engine; "
    worker = world.worker(
        world.pool("nameless", "warm-process"),
        launcher=("-c", f"{removal}from prefect.cli import app; raise SystemExit(app())"),
    )
    for _ in range(2):
        seen = world.result(worker.pool, "report")
        assert not seen["imported"]
        assert seen["arguments"] == ["engine.py"]
    lines = [line for line in worker.said().splitlines() if "Prefect" in line and " has no " in line]
    [line] = lines
    assert line.endswith(
        "has no prefect.runner._workspace_supervisor._launch_engine: runs start as those of a process worker."
    )
    assert not worker.servers
    assert "Traceback" not in worker.said()


def test_a_prefect_that_is_exchanged_under_a_worker_is_noticed_in_the_forked_process(
    world: World, warm: Worker
) -> None:
    """The worker has all names, the fork server imported a release without one: the run becomes Prefect's own program."""
    (world.folder / "ahead" / "exchanged.py").write_text(
        "import prefect.runner._workspace_supervisor as supervisor\ndel supervisor._launch_engine\n"
    )
    seen = world.result(warm.pool, "report", job={"preload": [*PRELOAD, "exchanged"]})
    assert not seen["imported"]
    assert "has no prefect.runner._workspace_supervisor._launch_engine" in warm.said()


def test_without_the_names_that_save_time_a_forked_run_goes_the_longer_way(world: World, warm: Worker) -> None:
    (world.folder / "ahead" / "longer.py").write_text(
        "from contextlib import nullcontext\n"
        "from prefect import flow_engine\n"
        "from prefect.runner import _workspace_resolver as resolver\n"
        "flow_engine._send_heartbeats = lambda engine: nullcontext()\n"
        "stock = resolver.prepare_workspace\n"
        "resolver.prepare_workspace = lambda client, run, deployment, root: stock(client, run, deployment, root)\n"
    )
    seen = world.result(warm.pool, "report", job={"preload": [*PRELOAD, "longer"]})
    assert seen["imported"]
    assert seen["folder"] == str(world.project)


def test_a_command_of_the_pools_own_is_run(world: World, warm: Worker) -> None:
    job = {"command": f"{sys.executable} -X importtime -m prefect.engine"}
    assert not world.result(warm.pool, "report", job=job, entrypoint="project.report")["imported"]


def test_many_runs_leave_nothing_behind_and_keep_the_limit(world: World) -> None:
    worker = world.worker(
        world.pool("many", "warm-process"),
        "--limit",
        "3",
        PREFECT_WORKER_QUERY_SECONDS="0.5",
        TMPDIR=str(world.folder / "many"),
    )
    (world.folder / "many").mkdir()
    first = world.start(worker.pool, "empty")
    world.ended(first)
    assert first.deployment_id
    [parent] = worker.servers
    runs, sizes = [first], []
    for _ in range(MANY // BATCH):
        batch = [world.client.create_flow_run_from_deployment(first.deployment_id) for _ in range(BATCH)]
        ended = [world.ended(run) for run in batch]
        assert {run.state_name for run in ended} == {"Completed"}
        runs += ended
        eventually(lambda: not children(parent))
        sizes.append([(open_files(pid), memory(pid)) for pid in (worker.process.pid, parent)])
    # The worker grows by 75 MB over its first three hundred runs and stays so for five hundred more; the parent does not.
    grows = 45.0 if MANY <= 40 else 90.0
    for (files_before, before), (files_after, after), more in zip(sizes[0], sizes[-1], (grows, 2.0), strict=True):
        assert files_after <= files_before + 5, sizes
        assert after <= before + more, sizes
    moments = sorted([(run.start_time, 1) for run in runs[1:]] + [(run.end_time, -1) for run in runs[1:]])
    at_once = [sum(change for _, change in moments[: number + 1]) for number in range(len(moments))]
    assert 1 < max(at_once) <= 3
    assert worker.servers == [parent]
    assert children(worker.process.pid) == [parent], "and no zombie"
    assert worker.stop() == 0
    eventually(lambda: not alive(parent))
    left = {path.name for path in (world.folder / "many").iterdir()}
    assert left <= {"runner_storage"}, "which Prefect makes for each worker, and leaves"
    assert "Traceback" not in worker.said()


def test_a_limit_of_the_pool_holds(world: World) -> None:
    worker = world.worker(world.pool("limited", "warm-process", limit=1), PREFECT_WORKER_QUERY_SECONDS="0.5")
    started = [world.start(worker.pool, "empty") for _ in range(3)]
    runs = sorted((world.ended(run) for run in started), key=lambda run: run.start_time)
    for earlier, later in itertools.pairwise(runs):
        assert earlier.end_time <= later.start_time


def test_a_pool_is_made_by_the_command_line(world: World) -> None:
    command = [sys.executable, "-m", "prefect", "work-pool", "create", "by-hand", "--type", "warm-process"]
    subprocess.run(command, env=world.environment, cwd=world.folder, check=True, capture_output=True)
    pool = world.client.read_work_pool("by-hand")
    assert pool.type == "warm-process"
    assert "preload" in pool.base_job_template["variables"]["properties"]


def changed(*statements: str) -> tuple[str, str]:
    """Start the command line with something of the worker's module changed."""
    changes = "; ".join(f"worker.{statement}" for statement in statements)
    return "-c", (
        "from prefect_mlops.deployments.fork_worker import worker; from prefect.cli import app; "
        f"{changes}; raise SystemExit(app())"
    )


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def memory(pid: int) -> float:
    """Return what a process holds for itself, in MB."""
    found = re.search(r"Private_Dirty: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())
    assert found
    return int(found[1]) / 1e3
