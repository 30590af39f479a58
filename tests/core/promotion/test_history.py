from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from prefect_mlops.core.addresses import history_uri
from prefect_mlops.core.errors import BackendError, ConfigError, ConflictError
from prefect_mlops.core.lake.commits import CommitConflict
from prefect_mlops.core.promotion import history
from prefect_mlops.core.promotion.history import (
    Entry,
    carried_out,
    champion_entry,
    decide,
    decided,
    last_decision,
    next_sequence,
    read_history,
    record,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


def test_what_happened_is_read_back_in_order(home: Path) -> None:
    assert read_history("shop") == []
    until = datetime(2030, 1, 1, tzinfo=timezone.utc)
    first = record(Entry(model="shop", kind="leased", flow_run="a", until=until))
    second = record(
        Entry(
            model="shop",
            kind="promoted",
            version=2,
            replaced=1,
            reason="better <b>",
            by="ada",
            flow_run="a",
            recipe="sha256:1",
            details={"metrics": {"roc_auc": 0.7}, "rows": 3},
        )
    )
    assert [first.sequence, second.sequence] == [1, 2]
    assert read_history("shop") == [first, second]
    assert read_history("other") == []
    kept = DeltaTable(history_uri("shop")).metadata().configuration
    assert kept["delta.logRetentionDuration"] == kept["delta.deletedFileRetentionDuration"] == "interval 36500 days"


def test_who_expects_another_number_is_told_who_won(home: Path) -> None:
    expected = next_sequence(read_history("shop"))
    record(Entry(model="shop", kind="promoted", version=4, flow_run="run-a"), expected=expected)
    with pytest.raises(ConflictError, match=r"shop: promoted was to be entry 1 .* promoted v4 by flow run run-a at"):
        record(Entry(model="shop", kind="promoted", version=5), expected=expected)
    with pytest.raises(ConflictError, match="the history ends at 1"):
        record(Entry(model="shop", kind="promoted", version=5), expected=7)
    assert len(read_history("shop")) == 1


def test_a_decision_is_made_again_on_what_came_between(home: Path) -> None:
    """Somebody's entry lands between looking and writing: it has to be seen before the own one is written."""
    seen = []

    def make(entries: list[Entry]) -> Entry:
        seen.append(len(entries))
        if len(seen) == 1:
            record(Entry(model="shop", kind="promoted", version=9))
        return Entry(model="shop", kind="refused", version=10)

    assert decide("shop", make).sequence == 2
    assert seen == [0, 1]


def test_nothing_is_written_when_nothing_follows(home: Path) -> None:
    assert decide("shop", lambda entries: None) is None
    assert read_history("shop") == []


def test_a_commit_whose_answer_got_lost_is_not_made_twice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = history.append_next

    def unheard(*args, **options) -> int:
        real(*args, **options)
        monkeypatch.setattr(history, "append_next", real)
        raise CommitConflict("the connection broke after the commit")

    monkeypatch.setattr(history, "append_next", unheard)
    written = record(Entry(model="shop", kind="promoted", version=1), expected=1)
    assert read_history("shop") == [written]


def test_a_hash_covers_what_has_a_value_except_itself_whatever_the_zone() -> None:
    at = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)
    row = {"sequence": 1, "at": at}
    same = {"at": at.astimezone(timezone(timedelta(hours=2))), "sequence": 1, "added later": None, "hash": "sha256:x"}
    assert history.row_hash(row) == history.row_hash(same)
    for other in ({**row, "sequence": 2}, {**row, "at": at + timedelta(microseconds=1)}, {**row, "by": "anna"}):
        assert history.row_hash(other) != history.row_hash(row)


def test_many_entries_are_kept_in_few_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "COMPACT_EVERY", 10)
    for number in range(history.COMPACT_EVERY + 5):
        record(Entry(model="shop", kind="refused", version=number + 1))
    assert [entry.sequence for entry in read_history("shop")] == list(range(1, history.COMPACT_EVERY + 6))
    assert len(DeltaTable(history_uri("shop")).file_uris()) == 6


def test_columns_of_a_later_time_are_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    record(Entry(model="shop", kind="refused", version=1))
    schema, rows = history._schema(), history._as_table
    wider = schema.append(pa.field("approved_by", pa.string()))
    monkeypatch.setattr(history, "_schema", lambda: wider)
    monkeypatch.setattr(history, "_as_table", lambda entry: rows(entry).set_column(0, "model", pa.array(["shop"])))
    record(Entry(model="shop", kind="refused", version=2))
    assert [entry.version for entry in read_history("shop")] == [1, 2]


def test_storage_that_fails_is_a_backend_error(home: Path) -> None:
    home.write_text("a file where the lake should be")
    with pytest.raises(BackendError, match="the lake at"):
        record(Entry(model="shop", kind="refused"))


@pytest.mark.parametrize(
    ("model", "table"),
    [
        ("flights-late", "flights-late"),
        ("Flights.late", "x__46lights_2elate"),
        ("a_b", "a_5fb"),
        ("../../etc", "x__2e_2e_2f_2e_2e_2fetc"),
        ("%2e%2e/", "x__252e_252e_2f"),
        ("größe", "gr_c3_b6_c3_9fe"),
    ],
)
def test_a_name_makes_a_safe_table(home: Path, model: str, table: str) -> None:
    assert history_uri(model) == f"{home}/history/{table}"


@given(st.lists(st.text("aAxX_.-/40145f", min_size=1, max_size=8), min_size=2, max_size=2, unique=True))
def test_no_two_models_share_a_table(names: list[str]) -> None:
    tables = {history_uri(name).casefold() for name in names}
    assert len(tables) == 2


@pytest.mark.parametrize("model", ["", "X" * 100])
def test_a_name_without_a_table_is_refused(home: Path, model: str) -> None:
    with pytest.raises(ConfigError, match="its history has no table"):
        history_uri(model)


def test_who_is_champion_and_whether_the_alias_says_so(home: Path) -> None:
    def entry(sequence: int, kind, version: int | None = None, **more) -> Entry:
        return Entry(model="shop", kind=kind, sequence=sequence, version=version, **more)

    assert champion_entry([]) is None
    entries = [entry(1, "promoted", 1, recipe="r"), entry(2, "released", 1), entry(3, "refused", 2, recipe="s")]
    champion = champion_entry(entries)
    assert champion.version == 1
    assert carried_out(entries, champion)
    assert last_decision(entries).version == 2
    assert decided(entries, "r").kind == "promoted"
    assert decided(entries, "x") is None
    crashed = [*entries, entry(4, "promoted", 3), entry(5, "released", 1), entry(6, "failed", 3)]
    assert not carried_out(crashed, champion_entry(crashed))
    assert carried_out([*crashed, entry(7, "repaired", 3)], champion_entry(crashed))


def _race(lake_uri: str, barrier, won, name: str) -> None:
    os.environ["PREFECT_MLOPS_LAKE"] = lake_uri
    for expected in range(1, 6):
        barrier.wait()
        try:
            record(Entry(model="Shop", kind="promoted", version=expected, flow_run=name), expected=expected)
        except ConflictError:
            continue
        else:
            won.put((expected, name))


@pytest.mark.slow
def test_of_four_processes_that_expect_the_same_number_one_wins(home: Path) -> None:
    context = multiprocessing.get_context("spawn")  # deltalake's runtime does not survive a fork
    barrier, won = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_race, args=(str(home), barrier, won, f"run-{n}")) for n in range(4)]
    for worker in workers:
        worker.start()
    winners = dict(won.get(timeout=120) for _ in range(5))
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert won.empty()
    entries = read_history("Shop")
    assert {entry.sequence: entry.flow_run for entry in entries} == winners


def test_a_program_that_ends_right_after_reading_ends_well(home: Path) -> None:
    """Arrow's threads outlive a read by a moment, and used to abort two of three short programs."""
    record(Entry(model="shop", kind="promoted", version=1))
    program = "from prefect_mlops.core.promotion.history import read_history; assert len(read_history('shop')) == 1"
    done = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True) for _ in range(6)]
    assert [one.returncode for one in done] == [0] * 6, done[-1].stderr
