from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable

from prefect_mlops.core import lake
from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError
from prefect_mlops.core.lake import Arrival, arrivals, commit_arrival, find_arrival, table_uri


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


def arrival(path: str = "a b's.csv", digest: str = "sha256:1", **more) -> Arrival:
    return Arrival(dataset="flights", path=path, digest=digest, **{"state": "committed", "rows": 2, **more})


GOOD = pd.DataFrame({"n": [1, 2], "word": ["x", None], "empty": [None, None]})
BAD = pd.DataFrame({"n": [9], "word": ["<b>"], "_reasons": ["n: too large"]})


def rows(kind: str) -> pd.DataFrame:
    return DeltaTable(table_uri(kind, "flights")).to_pandas()  # type: ignore[arg-type]


def test_the_same_arrival_is_committed_once(home: Path) -> None:
    first = commit_arrival(arrival(), accepted=GOOD, refused=BAD)
    commit_arrival(arrival(digest="sha256:2"), accepted=GOOD, refused=None)
    again = commit_arrival(arrival(), accepted=GOOD, refused=BAD)

    assert (first.version, again.version) == (1, 1)
    assert len(rows("datasets")) == 4
    assert len(rows("quarantine")) == 1
    assert len(arrivals("flights")) == 2
    assert set(rows("datasets")["_digest"]) == {"sha256:1", "sha256:2"}


@pytest.mark.parametrize("crash_after", ["quarantine", "datasets"])
def test_a_crash_between_two_commits_is_completed_by_the_next_call(
    home: Path, monkeypatch: pytest.MonkeyPatch, crash_after: str
) -> None:
    real = lake._append_once

    def crash(uri: str, table, transaction: str) -> int:
        version = real(uri, table, transaction)
        if f"/{crash_after}/" in uri:
            raise KeyboardInterrupt
        return version

    monkeypatch.setattr(lake, "_append_once", crash)
    with pytest.raises(KeyboardInterrupt):
        commit_arrival(arrival(), accepted=GOOD, refused=BAD)
    assert find_arrival("flights", path="a b's.csv", digest="sha256:1") is None

    monkeypatch.setattr(lake, "_append_once", real)
    commit_arrival(arrival(), accepted=GOOD, refused=BAD)
    assert [len(rows(kind)) for kind in ("quarantine", "datasets", "arrivals")] == [1, 2, 1]


def test_quarantine_keeps_the_row_and_why(home: Path) -> None:
    commit_arrival(arrival(state="partly", refused=1), accepted=GOOD, refused=BAD)
    kept = rows("quarantine").iloc[0]
    assert kept["reasons"] == "n: too large"
    assert json.loads(kept["row"]) == {"n": 9, "word": "<b>"}


def test_a_refused_file_is_in_the_ledger_without_rows(home: Path) -> None:
    commit_arrival(arrival(state="refused", rows=0, reason="not readable"), accepted=None, refused=None)
    (line,) = arrivals("flights")
    assert (line.state, line.reason, line.version) == ("refused", "not readable", None)
    assert not (home / "datasets").exists()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (GOOD.rename(columns={"n": "m"}), "no column 'n' and an unknown column 'm'"),
        (GOOD.assign(n=["u", "v"]), "values of another type"),
    ],
)
def test_rows_that_do_not_fit_are_refused_in_words(home: Path, bad: pd.DataFrame, says: str) -> None:
    commit_arrival(arrival(), accepted=GOOD, refused=None)
    with pytest.raises(DataCheckError, match=says):
        commit_arrival(arrival(digest="sha256:2"), accepted=bad, refused=None)
    assert len(rows("datasets")) == 2


def test_whole_numbers_that_arrive_as_floats_fit(home: Path) -> None:
    commit_arrival(arrival(), accepted=GOOD, refused=None)
    commit_arrival(arrival(digest="sha256:2"), accepted=GOOD.assign(n=[1.0, 2.0], empty=["a", "b"]), refused=None)
    assert rows("datasets")["n"].tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize("name", ["../x", "a/b", "", "A", "x" * 101, "a\n"])
def test_no_path_is_built_from_an_untrusted_name(home: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="lower case letters"):
        table_uri("datasets", name)


def test_storage_that_fails_is_a_backend_error(home: Path) -> None:
    home.write_text("a file where the lake should be")
    with pytest.raises(BackendError, match="the lake at"):
        commit_arrival(arrival(), accepted=GOOD, refused=None)


def _race(lake_uri: str, barrier, seen) -> None:
    import os

    os.environ["PREFECT_MLOPS_LAKE"] = lake_uri
    barrier.wait()
    for number in range(3):
        done = commit_arrival(arrival(path=f"f{number}"), accepted=GOOD, refused=BAD)
        seen.put((number, done.version))


@pytest.mark.slow
def test_four_processes_racing_on_the_same_files_commit_each_once(home: Path) -> None:
    context = multiprocessing.get_context("spawn")  # deltalake's runtime does not survive a fork
    barrier, seen = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_race, args=(str(home), barrier, seen)) for _ in range(4)]
    for worker in workers:
        worker.start()
    answers = {seen.get(timeout=120) for _ in range(12)}
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0] * 4
    assert [len(rows(kind)) for kind in ("datasets", "quarantine", "arrivals")] == [6, 3, 3]
    assert len(answers) == 3, "all four agree on the version of each file"
