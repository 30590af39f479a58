from __future__ import annotations

import multiprocessing
import os
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake.commits import last_commit, notes_since, open_table
from prefect_mlops.core.lake.compaction import (
    Need,
    compact,
    compact_table,
    find_tables,
    give_back,
    models_with_history,
    needs_of,
)
from prefect_mlops.core.lake.ingest import checked, commit_arrivals, table_ref
from prefect_mlops.core.lake.ledger import Arrival, Ledger, read_ledger
from prefect_mlops.core.lineage.training_data import training_digest
from prefect_mlops.core.promotion.history import Entry, read_history, record
from prefect_mlops.core.tables.read import read_table

NOW = timedelta(0)
WEEK = timedelta(days=7)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


def take(number: int, *, dataset: str = "shop", **columns) -> Arrival:
    arrival = Arrival(dataset=dataset, path=f"{number}.csv", digest=f"sha256:{number}", state="partly")
    good = pd.DataFrame({"n": [3 * number, 3 * number + 1], **columns})
    bad = pd.DataFrame({"n": [3 * number + 2], "_reasons": ["n: odd"]}, index=[2])
    return commit_arrivals(dataset, [checked(arrival, accepted=good, refused=bad)], new_columns=True)[0]


def filled(files: int = 8) -> list[int]:
    """A dataset of so many files; returns the data version of each."""
    return [take(number).version or 0 for number in range(files)]


def digest(version: int) -> str:
    """What a model learns from a version: every cell, in order."""
    rows = read_table(f"delta://{table_uri('datasets', 'shop')}@{version}")
    return training_digest(rows, rows["n"])


def need(version: int, uri: str | None = None, who: str = "shop v1") -> Need:
    return Need(uri=uri or table_uri("datasets", "shop"), version=version, who=who)


def optimized(*needs: Need, keep_for: timedelta = NOW, table: str = "datasets/shop"):
    return give_back(compact_table(table), needs, keep_for=keep_for)


def files_of(table: str, home: Path) -> set[str]:
    return {path.name for path in (home / table).glob("*.parquet")}


def test_tables_are_found(home: Path) -> None:
    assert find_tables() == []
    filled(2)
    take(1, dataset="other")
    record(Entry(model="Shop 1", kind="promoted", version=1))
    (home / "datasets" / "no-table").mkdir()
    (home / "datasets" / "note.txt").touch()
    (home / "notes" / "x" / "_delta_log").mkdir(parents=True)
    both = [f"{kind}/{name}" for kind in ("datasets", "quarantine", "arrivals") for name in ("other", "shop")]
    assert find_tables() == [
        *both,
        "history/_53hop_201" if (home / "history/_53hop_201").exists() else "history/x__53hop_201",
    ]
    assert find_tables(["shop"]) == ["datasets/shop", "quarantine/shop", "arrivals/shop"]
    assert models_with_history() == {"Shop 1"}
    with pytest.raises(ConfigError, match="did you mean 'shop'"):
        find_tables(["shpo"])
    with pytest.raises(ConfigError, match="no table datasets/gone"):
        compact_table("datasets/gone")


def test_a_compacted_table_holds_the_same_rows_in_the_same_order(home: Path) -> None:
    versions = filled()
    before = {version: digest(version) for version in versions}
    ref = table_ref("shop")
    done = compact_table("datasets/shop")
    assert (done.files_before, done.files_after, done.problem) == (8, 1, "")
    assert {version: digest(version) for version in versions} == before
    newest = table_ref("shop")
    assert (newest.digest, newest.rows) == (ref.digest, ref.rows)
    assert digest(newest.version or 0) == before[versions[-1]]
    assert compact_table("datasets/shop").files_before == 1
    assert table_ref("shop") == newest, "a second time changes nothing"


def test_a_dry_run_changes_nothing(home: Path) -> None:
    filled()

    def listed() -> list[Path]:
        return sorted(home.rglob("*"))

    before = listed()
    done = give_back(compact_table("datasets/shop", dry_run=True), [], keep_for=NOW, dry_run=True)
    assert (done.files_before, done.files_after, done.files_deleted) == (8, 1, 0)
    assert listed() == before
    compact_table("datasets/shop")
    before, sizes = listed(), {path.name: path.stat().st_size for path in (home / "datasets/shop").glob("*.parquet")}
    done = give_back(compact_table("datasets/shop", dry_run=True), [need(3)], keep_for=NOW, dry_run=True)
    assert listed() == before
    real = give_back(done, [need(3)], keep_for=NOW)
    gone = set(sizes) - files_of("datasets/shop", home)
    assert done.files_deleted == real.files_deleted == len(gone) == 5
    assert done.bytes_deleted == real.bytes_deleted == sum(sizes[name] for name in gone)


def test_a_version_somebody_needs_stays_bit_for_bit_and_others_go(home: Path) -> None:
    versions = filled()
    before = {version: digest(version) for version in versions}
    done = optimized(need(versions[2]), need(versions[4], who="run 1"), need(versions[4], who="shop v2"))
    assert done.kept == {versions[2]: ("shop v1",), versions[4]: ("run 1", "shop v2")}
    assert done.files_deleted == 3
    assert done.bytes_deleted > 0
    for version in versions[:5]:
        assert digest(version) == before[version]
    for version in versions[5:]:
        with pytest.raises(Exception, match="gone"):
            digest(version)
    assert digest(table_ref("shop").version or 0) == before[versions[-1]], "the newest rows are there, compacted"


@pytest.mark.parametrize("keep_for", [timedelta(hours=1), WEEK])
def test_what_was_the_newest_lately_stays_however_old_its_files_are(home: Path, keep_for: timedelta) -> None:
    versions = filled()
    long_ago = time.time() - 30 * 86_400
    for path in (home / "datasets" / "shop").glob("*.parquet"):
        os.utime(path, (long_ago, long_ago))
    assert optimized(keep_for=keep_for).files_deleted == 0
    assert all(digest(version) for version in versions)


def test_files_no_commit_names_go_when_nobody_can_be_writing_them(home: Path) -> None:
    filled(2)
    stray, fresh = home / "datasets/shop/part-old.parquet", home / "datasets/shop/part-new.parquet"
    stray.write_bytes(b"of a writer that was killed")
    fresh.write_bytes(b"of one that is about to commit")
    os.utime(stray, (time.time() - 8 * 86_400,) * 2)
    optimized(keep_for=NOW)
    assert stray.exists(), "with so short a time, what is being written could go too"
    assert optimized(keep_for=WEEK).files_deleted == 1
    assert (stray.exists(), fresh.exists()) == (False, True)


@pytest.mark.parametrize(
    ("uri", "fits"),
    [
        ("{lake}/datasets/shop", True),
        ("{lake}/datasets/shop/", True),
        ("s3a://bucket/lake/datasets/shop", True),
        ("/another/mount/lake//datasets/shop", True),
        ("C:\\lake\\datasets\\shop", True),
        ("{lake}/quarantine/shop", False),
        ("{lake}/datasets/shop2", False),
        ("shop", False),
        ("/data/shop.csv", False),
    ],
)
def test_a_table_is_known_by_the_end_of_its_address(uri: str, fits: bool) -> None:
    assert bool(needs_of("datasets/shop", [need(3, uri.format(lake="/home/lake"))])) is fits


def test_a_version_that_is_not_there_yet_is_no_reason_to_fail(home: Path) -> None:
    filled(3)
    assert optimized(need(999)).kept == {}


def test_ledger_and_notes_survive_and_files_go_on_arriving(home: Path) -> None:
    filled(4)
    lines = read_ledger("shop").lines
    for kind in ("datasets", "quarantine", "arrivals"):
        optimized(table=f"{kind}/shop")
    assert read_ledger("shop").lines == lines
    table = open_table(table_uri("datasets", "shop"))
    assert table is not None
    assert table.version() > last_commit(table)
    assert len(notes_since(table, 0)) == 4
    again, new = take(0), take(9)
    assert (again.again, new.again) == (True, False)
    assert [line.path for line in read_ledger("shop").current] == ["0.csv", "1.csv", "2.csv", "3.csv", "9.csv"]
    assert len(read_table(f"delta://{table_uri('datasets', 'shop')}")) == 10
    assert len(read_table(f"delta://{table_uri('quarantine', 'shop')}")) == 5


def test_a_line_a_crash_kept_out_is_found_after_a_compaction(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(3)
    from prefect_mlops.core.lake import ingest

    def die(*_args) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(ingest, "write_lines", die)
        with pytest.raises(KeyboardInterrupt):
            take(7)
    optimized()
    optimized(table="arrivals/shop")
    ledger: Ledger = read_ledger("shop")
    assert [line.path for line in ledger.unwritten] == ["7.csv"]
    assert take(7).again
    assert not read_ledger("shop").unwritten
    assert len(read_table(f"delta://{table_uri('datasets', 'shop')}")) == 8


def test_of_two_compactions_planned_on_the_same_rows_one_is_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """delta-rs would make both, and double every row."""
    filled(4)
    first, second = (open_table(table_uri("datasets", "shop")) for _ in range(2))
    assert first is not None
    assert second is not None
    real = first.optimize.compact

    with monkeypatch.context() as patched:

        def overtaken(_optimizer: object, **options) -> object:
            patched.undo()
            assert compact(second)
            return real(**options)

        patched.setattr(type(first.optimize), "compact", overtaken)
        assert not compact(first)
    assert len(DeltaTable(table_uri("datasets", "shop")).to_pandas()) == 8


def test_columns_that_came_later_are_compacted_too(home: Path) -> None:
    take(0)
    take(1, extra=["x", "y"])
    take(2)
    before = digest(table_ref("shop").version or 0)
    assert optimized().files_after == 1
    assert digest(table_ref("shop").version or 0) == before


def test_a_history_is_compacted(home: Path) -> None:
    for version in (1, 2, 3):
        record(Entry(model="shop", kind="promoted", version=version))
    assert optimized(table="history/shop").files_after == 1
    record(Entry(model="shop", kind="promoted", version=4))
    assert [entry.sequence for entry in read_history("shop")] == [1, 2, 3, 4]


def _commit_many(home: str, worker: int, started, count: int) -> None:
    os.environ["PREFECT_MLOPS_LAKE"] = home
    started.wait()
    for number in range(count):
        take(1000 * worker + number)


def _compact_many(home: str, started, over) -> None:
    os.environ["PREFECT_MLOPS_LAKE"] = home
    started.wait()
    while not over.is_set():
        for kind in ("datasets", "quarantine", "arrivals"):
            optimized(keep_for=WEEK, table=f"{kind}/shop")


@pytest.mark.slow
def test_commits_while_files_are_compacted_are_not_lost(home: Path) -> None:
    filled(3)
    context = multiprocessing.get_context("spawn")  # deltalake's runtime does not survive a fork
    started, over, count = context.Barrier(4), context.Event(), 15
    writers = [context.Process(target=_commit_many, args=(str(home), worker, started, count)) for worker in (1, 2)]
    compacting = [context.Process(target=_compact_many, args=(str(home), started, over)) for _ in range(2)]
    for process in (*writers, *compacting):
        process.start()
    for process in writers:
        process.join()
    over.set()
    for process in compacting:
        process.join()
    assert [process.exitcode for process in (*writers, *compacting)] == [0] * 4
    files = 3 + 2 * count
    ledger = read_ledger("shop")
    assert (len(ledger.current), ledger.unwritten) == (files, [])
    rows = read_table(f"delta://{table_uri('datasets', 'shop')}")
    assert (len(rows), rows.duplicated(["_file", "_row"]).any()) == (2 * files, False)
    assert len(read_table(f"delta://{table_uri('quarantine', 'shop')}")) == files
    history = DeltaTable(table_uri("datasets", "shop")).history()
    assert any(commit["operation"] == "OPTIMIZE" for commit in history)
