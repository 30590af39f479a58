"""The chaos test: files of every kind arrive while processes are killed, events are lost and doubled.

At the end one thing has to hold: each row of the good content that arrived is in the lake once, every other file is in
the ledger with a reason, nothing is running any more, and the champion is the one history names.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect_mlops.core.addresses import DIGEST_COLUMN, FILE_COLUMN, ROW_COLUMN, table_uri
from prefect_mlops.core.lake.commits import open_table
from prefect_mlops.core.lake.ledger import Ledger, read_ledger
from prefect_mlops.core.reports import Check, Report
from tests.chaos.files import Dropper, Expected
from tests.chaos.stack import DRIFT_RESOURCE, ChaosStack

DATASET = "chaos"
FAULTS = {
    "nothing": 2,
    "kill the server": 2,
    "kill the worker": 2,
    "kill the watcher": 2,
    "kill the running flow": 2,
    "kill the flow that commits": 5,
    "kill the server within 50 ms of an accepted event": 2,
    "pause the automations": 2,
    "send an event five times": 2,
    "two workers": 1,
    "train": 1,
    "kill the training": 1,
}
UNFINISHED = ("RUNNING", "PENDING", "CANCELLING")
COMMIT_SECONDS = 15.0  # a run that is just starting gets there in half of it
SETTLE_SECONDS = 300.0  # several sweeps
LOOK_SECONDS = 5.0
QUIET_LOOKS = 3  # a run that is about to start is not seen yet
TIDY_SECONDS = 900.0  # a run that was killed while it started is given up after five minutes, by a flow of its own
Tell = Callable[[str], None]


@dataclass
class Tally:
    """What happened.

    Attributes:
        rounds: how many.
        seed: makes the same files and faults again; the moments differ.
        seconds: how long it took.
        faults: how many of each kind.
        files: how many of each kind were dropped.
        counts: what there was at the end.
    """

    rounds: int
    seed: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    counts: dict[str, int] = field(default_factory=dict)


def run_chaos(home: Path, *, rounds: int, seed: int = 0, tell: Tell = lambda _: None) -> tuple[Report, Tally]:
    """Run the test in a folder of its own, with servers of its own.

    Args:
        home: an empty or new folder; everything stays in it.
        rounds: how many times files arrive and something breaks.
        seed: which files and faults.
        tell: told of each round.

    Returns:
        The verdict, and the counts.

    Raises:
        BackendError: the servers do not come up.
    """
    home = home.expanduser().absolute()
    tally = Tally(rounds, seed)
    started = time.monotonic()
    with ExitStack() as cleanup:
        stack = ChaosStack(home, cleanup)
        cleanup.enter_context(_environment(stack.environment))
        stack.landing.mkdir(parents=True, exist_ok=True)
        tell("starting")
        stack.start()
        dropper = Dropper(stack.landing, seed)
        chance = random.Random(seed)  # noqa: S311 - variety, not secrecy
        for number in range(1, rounds + 1):
            tell(f"round {number} of {rounds}: {_round(stack, dropper, chance, tally)}")
        dropper.finish()
        tell("letting it settle")
        unfinished = _settle(stack, dropper.expected, tell)
        report = _judge(stack, dropper.expected, tally, unfinished=unfinished)
    tally.files = dropper.expected.dropped
    tally.seconds = round(time.monotonic() - started, 1)
    return report, tally


def _round(stack: ChaosStack, dropper: Dropper, chance: random.Random, tally: Tally) -> str:
    """Drop files, break something, bring it back; returns a sentence."""
    fault = chance.choices(list(FAULTS), weights=list(FAULTS.values()))[0]
    tally.faults[fault] += 1
    if fault == "pause the automations":
        stack.pause(True)
    if fault == "two workers":
        stack.start_second_worker()
    kinds = [dropper.drop(known=_replaceable(stack, dropper.expected)) for _ in range(chance.randint(1, 3))]
    time.sleep(chance.uniform(0, 0.3))
    _break(stack, fault, chance)
    time.sleep(chance.uniform(0, 1.5))
    if fault == "pause the automations":
        stack.pause(False)
    stack.kill("worker 2")
    stack.start()
    return f"{', '.join(kinds)}; {fault}"


def _break(stack: ChaosStack, fault: str, chance: random.Random) -> None:
    if fault == "kill the server within 50 ms of an accepted event":
        stack.announce()
        time.sleep(chance.uniform(0, 0.05))
        stack.kill("server")
    elif fault == "send an event five times":
        stack.announce(5)
    elif fault in ("train", "kill the training"):
        stack.announce(event="prefect-mlops.drift.failed", resource=DRIFT_RESOURCE)
        if fault == "kill the training":
            time.sleep(chance.uniform(3, 12))
            stack.kill("run")
    elif fault == "kill the flow that commits":
        stack.announce()
        if _await_commit(stack.home / "lake"):
            time.sleep(chance.choice((0.0, 0.0, chance.uniform(0, 0.03))))
            stack.kill("run")
    elif fault == "nothing":
        _await_commit(stack.home / "lake")
    elif fault == "kill the running flow":
        stack.announce()
        time.sleep(chance.uniform(1, 6))
        stack.kill("run")
    elif fault.startswith("kill the "):
        time.sleep(chance.uniform(0, 2))
        stack.kill(fault.removeprefix("kill the "))


def _await_commit(lake: Path) -> bool:
    """Wait until a file appears in the tables of the dataset, which is when a run is between two of its commits."""
    before = _files(lake)
    deadline = time.monotonic() + COMMIT_SECONDS
    while time.monotonic() < deadline:
        if _files(lake) != before:
            return True
        time.sleep(0.002)
    return False


def _files(lake: Path) -> int:
    folders = [lake / kind / DATASET for kind in ("quarantine", "datasets", "arrivals")]
    return sum(len(os.listdir(part)) for folder in folders for part in (folder, folder / "_delta_log") if part.exists())  # noqa: PTH208 - several hundred times a second


def _replaceable(stack: ChaosStack, expected: Expected) -> list[str]:
    """Name files that may be replaced or copied: what they hold is in the ledger, so it has arrived."""
    ledger = read_ledger(DATASET)
    known = []
    for path, digests in expected.paths.items():
        taken = ledger.find(path, digests[-1])
        if taken and taken.version is not None and (stack.landing / path).exists():
            known.append(path)
    return known


def _settle(stack: ChaosStack, expected: Expected, tell: Tell) -> int | None:
    """Wait until what was dropped is in the ledger, one training has ended, and nothing runs; returns what is left."""
    stack.pause(False)
    stack.start()
    stack.announce(event="prefect-mlops.drift.failed", resource=DRIFT_RESOURCE)
    deadline = time.monotonic() + SETTLE_SECONDS
    while (missing := _missing(read_ledger(DATASET), expected)) and time.monotonic() < deadline:
        time.sleep(2)
    tell(f"{len(missing)} files are not in the ledger" if missing else "every file is in the ledger")
    return _left_running(stack, tell)


def _left_running(stack: ChaosStack, tell: Tell) -> int | None:
    """Wait until nothing has run for three looks, and return how many do not end; None where the server is silent.

    The verdict is on these: the sweep goes on every minute, and one that begins while the lake is read is no fault.
    """
    deadline = time.monotonic() + TIDY_SECONDS
    quiet = 0
    while True:
        left = _unfinished(stack)
        quiet = quiet + 1 if left == 0 else 0
        if quiet == QUIET_LOOKS or time.monotonic() > deadline:
            return left
        if left != 0:
            tell("the server does not answer" if left is None else f"{left} flow runs are unfinished")
        time.sleep(LOOK_SECONDS)


def _missing(ledger: Ledger, expected: Expected) -> list[str]:
    lines = {(line.path, line.digest) for line in ledger.lines}
    return [
        path
        for path, digests in expected.paths.items()
        for digest in dict.fromkeys(digests)
        if (path, digest) not in lines
    ]


def _unfinished(stack: ChaosStack) -> int | None:
    """Count the flow runs that have not ended; None where the server does not say."""
    wanted = {"flow_runs": {"state": {"type": {"any_": list(UNFINISHED)}}}}
    found = stack.ask("POST", "/flow_runs/count", wanted)
    return None if found is None else int(found)


def _judge(stack: ChaosStack, expected: Expected, tally: Tally, *, unfinished: int | None) -> Report:
    """Compare what there is with what there has to be."""
    ledger = read_ledger(DATASET)
    keys = _keys()
    per_content: Counter[str] = Counter(digest for _, digest, _ in keys)
    wrong = [digest for digest, (good, _) in expected.contents.items() if per_content[digest] != good] + sorted(
        set(per_content) - set(expected.contents)
    )
    missing = _missing(ledger, expected)
    silent = [line.path for line in ledger.lines if line.state != "committed" and not line.reason]
    refused = _refused_rows()
    champion, history = _champion(stack), _promoted()
    tally.counts = {
        "rows committed": len(keys),
        "rows expected": expected.rows,
        "rows in quarantine": refused,
        "ledger lines": len(ledger.lines),
        **{f"files {state}": count for state, count in Counter(line.state for line in ledger.lines).items()},
        "data versions": len({line.version for line in ledger.lines if line.version is not None}),
        "flow runs": int(stack.ask("POST", "/flow_runs/count", {}) or 0),
        **_states(stack),
    }
    checks = (
        _check("rows committed", len(keys), expected.rows),
        _check("rows committed twice", len(keys) - len(set(keys)), 0),
        _check("contents with another number of rows than arrived", len(wrong), 0, wrong),
        _check("bad rows in quarantine", refused, expected.refused),
        _check("files that are not in the ledger", len(missing), 0, missing),
        _check("files without a reason", len(silent), 0, silent),
        _check("flow runs that are not finished", unfinished, 0),
        _check("champion in MLflow and in history", champion, history),
    )
    return Report(kind="data", subject="chaos", checks=checks, rows=len(keys))


def _check(name: str, seen: object, expected: object, examples: list[str] | None = None) -> Check:
    found = tuple((examples or [])[:5])
    return Check(name=name, passed=seen == expected, observed=str(seen), expected=str(expected), examples=found)


def _keys() -> list[tuple[str, str, int]]:
    table = open_table(table_uri("datasets", DATASET))
    if table is None:
        return []
    marks = table.to_pyarrow_table(columns=[FILE_COLUMN, DIGEST_COLUMN, ROW_COLUMN]).to_pydict()
    return list(zip(marks[FILE_COLUMN], marks[DIGEST_COLUMN], marks[ROW_COLUMN], strict=True))


def _refused_rows() -> int:
    table = open_table(table_uri("quarantine", DATASET))
    if table is None:
        return 0
    rows = table.to_pyarrow_table(columns=["digest", "number"]).to_pydict()
    return len(set(zip(rows["digest"], rows["number"], strict=True)))


def _champion(stack: ChaosStack) -> int | None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(stack.environment["MLFLOW_TRACKING_URI"])
        return int(client.get_model_version_by_alias(DATASET, "champion").version)
    except MlflowException:
        return None


def _promoted() -> int | None:
    from prefect_mlops.core.promotion.history import read_history

    return next((entry.version for entry in reversed(read_history(DATASET)) if entry.kind == "promoted"), None)


def _states(stack: ChaosStack) -> dict[str, int]:
    states = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    counts = {
        state: stack.ask("POST", "/flow_runs/count", {"flow_runs": {"state": {"type": {"any_": [state]}}}})
        for state in states
    }
    return {f"flow runs {state.lower()}": int(count or 0) for state, count in counts.items()}


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Use a stack's lake in this process."""
    ours = {name: value for name, value in wanted.items() if name.startswith(("PREFECT_MLOPS_", "MLFLOW_", "_MLFLOW"))}
    before: dict[str, Any] = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
