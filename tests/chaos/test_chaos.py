"""Files of every kind arrive while a real server, worker, watcher and flow are killed: each row is there once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.lake.ingest import checked, commit_arrivals
from prefect_mlops.core.lake.ledger import Arrival, read_ledger
from tests.chaos import harness as chaos
from tests.chaos.files import Dropper, digest


# With this seed no worker is killed: what that leaves behind takes Prefect minutes to give up, and `chaos` by hand does it.
@pytest.mark.slow
def test_each_row_is_there_once_whatever_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--rounds", "8", "--seed", "44", "--json"]
    done = subprocess.run([*command, "--home", str(tmp_path / "chaos")], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["passed"]
    assert sum(told["faults"].values()) == 8
    assert told["counts"]["rows committed"] == told["counts"]["rows expected"] > 0


def test_a_folder_that_holds_something_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    command = [sys.executable, "-m", "tests.chaos", "--home", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "is not empty" in done.stderr) == (1, True)


# The verdict itself: a lake in which something is wrong has to be told from a good one.


class Silent:
    """A stack that is not there: only its files and lake count here."""

    def __init__(self, home: Path) -> None:
        self.environment = {"MLFLOW_TRACKING_URI": "sqlite://"}
        self.landing = home / "landing"
        self.landing.mkdir()

    def ask(self, *_: object) -> int:
        return 0


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    return tmp_path


def verdict(stack: Silent, dropper: Dropper, *, unfinished: int | None = 0) -> dict[str, bool]:
    report = chaos._judge(stack, dropper.expected, chaos.Tally(1, 0), unfinished=unfinished)  # type: ignore[arg-type]
    return {check.name: check.passed for check in report.checks}


def take(stack: Silent, name: str, *, rows: int = 20, again: bool = False) -> None:
    content = (stack.landing / name).read_bytes()
    suffix = "-again" if again else ""
    arrival = Arrival(dataset="chaos", path=name, digest=digest(content) + suffix, state="committed", rows=rows)
    commit_arrivals("chaos", [checked(arrival, accepted=pd.DataFrame({"id": range(rows)}))])


def test_the_verdict_of_a_good_lake_is_good(lake: Path) -> None:
    stack = Silent(lake)
    dropper = Dropper(stack.landing, 0)
    dropper._good("a.csv", dropper._content())
    take(stack, "a.csv")
    assert all(verdict(stack, dropper).values())


@pytest.mark.parametrize("unfinished", [2, None])
def test_the_verdict_wants_every_run_ended_and_a_server_that_says_so(lake: Path, unfinished: int | None) -> None:
    stack = Silent(lake)
    found = verdict(stack, Dropper(stack.landing, 0), unfinished=unfinished)
    assert [name for name, passed in found.items() if not passed] == ["flow runs that are not finished"]


class Busy:
    """A stack whose counts of unfinished flow runs are these, one for each look."""

    def __init__(self, *counts: int | None) -> None:
        self.counts = list(counts)

    def ask(self, *_: object) -> int | None:
        return self.counts.pop(0)


@pytest.mark.parametrize("counts", [(0, 0, 0, 1), (1, None, 0, 0, 1, 0, 0, 0, 1)])
def test_a_sweep_that_begins_once_all_was_quiet_is_not_counted(
    counts: tuple[int | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos, "LOOK_SECONDS", 0)
    stack = Busy(*counts)
    assert chaos._left_running(stack, lambda _: None) == 0  # type: ignore[arg-type]
    assert stack.counts == [1]


@pytest.mark.parametrize("left", [3, None])
def test_a_run_that_never_ends_and_a_server_that_never_answers_are_counted(
    left: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos, "TIDY_SECONDS", -1)
    assert chaos._left_running(Busy(left), lambda _: None) == left  # type: ignore[arg-type]


def test_the_verdict_sees_lost_doubled_and_foreign_rows_and_silence(lake: Path) -> None:
    stack = Silent(lake)
    dropper = Dropper(stack.landing, 0)
    dropper._good("a.csv", dropper._content())
    wrong = {name for name, passed in verdict(stack, dropper).items() if not passed}
    assert wrong == {
        "rows committed",
        "contents with another number of rows than arrived",
        "files that are not in the ledger",
    }
    take(stack, "a.csv")
    table = DeltaTable(table_uri("datasets", "chaos"))
    from deltalake import write_deltalake

    write_deltalake(table, table.to_pyarrow_table(), mode="append")
    wrong = {name for name, passed in verdict(stack, dropper).items() if not passed}
    assert wrong == {"rows committed", "rows committed twice", "contents with another number of rows than arrived"}


def test_the_verdict_wants_a_reason_for_each_file_that_is_not_committed(lake: Path) -> None:
    from prefect_mlops.core.lake.ingest import Checked

    stack = Silent(lake)
    dropper = Dropper(stack.landing, 0)
    dropper._bad("a.csv", b"")
    refused = Arrival(dataset="chaos", path="a.csv", digest=digest(b""), state="refused")
    commit_arrivals("chaos", [Checked(refused)])
    assert not verdict(stack, dropper)["files without a reason"]
    assert len(read_ledger("chaos").lines) == 1
