from __future__ import annotations

import datetime as dt
import json
import multiprocessing
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from prefect_mlops.core import DatasetSpec
from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake import replay as replays
from prefect_mlops.core.lake.commits import CommitConflict
from prefect_mlops.core.lake.ingest import table_ref
from prefect_mlops.core.lake.landing import digest_of
from prefect_mlops.core.lake.ledger import Arrival, Ledger, read_ledger, write_lines
from prefect_mlops.core.lake.pending import find_backlog
from prefect_mlops.core.lake.quarantine import find_again, find_held, find_refused, require_arrived
from prefect_mlops.core.lake.replay import Replay
from prefect_mlops.core.lake.rows import without_marks
from prefect_mlops.core.tables.digests import table_digest
from prefect_mlops.tasks import ingest_files
from prefect_mlops.tasks.loop import replay_quarantine

ODD_NAMES = [
    "with space.csv",
    'it\'s "quoted".csv',
    "two\nlines.csv",
    "müller-日本-🙂.csv",
    "\x1b[31mred.csv",
    "[b]x.csv",
]


def suite(top: float = 100, *more: Any) -> ExpectationSuite:
    return ExpectationSuite(
        name="sales", expectations=[gxe.ExpectColumnValuesToBeBetween(column="price", max_value=top), *more]
    )


def sales(rows: int = 40, start: int = 0, **bad: float) -> pd.DataFrame:
    """Prices that keep the suite, except the named ones: ``row3=200`` is the price of the third row."""
    table = pd.DataFrame({"n": range(start, start + rows), "price": [1.5 + n / 10 for n in range(rows)]})
    for row, price in bad.items():
        table.loc[int(row.removeprefix("row")) - 1, "price"] = price
    return table


class Shop:
    """A landing folder and a lake of its own, with a suite that can be mended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spec(self, top: float = 100, *more: Any, **options: Any) -> DatasetSpec:
        given = {"name": "sales", "landing": str(self.folder), "suite": suite(top, *more), "settle_seconds": 0}
        return DatasetSpec(**{**given, **options})

    def put(self, name: str, table: pd.DataFrame, **options: Any) -> Arrival:
        path = self.folder / name
        if name.endswith(".parquet"):
            table.to_parquet(path)
        else:
            table.to_csv(path, index=False)
        taken = ingest_files.fn([name], dataset=self.spec(**options))
        assert not taken.left
        return taken.arrivals[0]

    def replay(self, top: float, *more: Any, paths: list[str] | None = None, dry_run: bool = False) -> list[Replay]:
        return list(replay_quarantine.fn(self.spec(top, *more), paths, dry_run=dry_run).files)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    (tmp_path / "landing").mkdir()
    return Shop(tmp_path / "landing")


def rows(kind: str = "datasets") -> pd.DataFrame:
    uri = table_uri(kind, "sales")  # type: ignore[arg-type]
    return DeltaTable(uri).to_pandas() if DeltaTable.is_deltatable(uri) else pd.DataFrame()


def held() -> dict[str, list[int]]:
    return {file.arrival.path: sorted(file.numbers) for file in find_held("sales")}


def require_each_row_once(files: dict[str, int]) -> None:
    """Each row of each file is in the dataset or in quarantine, once; the ledger and the digests say the same."""
    there, out = rows(), held()
    for path, count in files.items():
        numbers = there.loc[there["_file"] == path, "_row"].tolist() + out.get(path, [])
        assert sorted(numbers) == list(range(1, count + 1)), path
    ledger = read_ledger("sales")
    assert not ledger.unwritten
    assert sum(line.rows for line in ledger.lines) == len(there)
    assert {line.path: line.refused for line in ledger.current if line.refused} == {
        path: len(numbers) for path, numbers in out.items()
    }
    for line in ledger.lines:
        if line.version is not None:
            added = there[(there["_file"] == line.path) & there["_row"].isin(numbers_added(line))]
            cells = without_marks(added.sort_values("_row")).dropna(axis="columns", how="all")
            assert line.content == table_digest(cells)


def numbers_added(line: Arrival) -> list[int]:
    uri = table_uri("datasets", line.dataset)
    before, after = (DeltaTable(uri, version=version).to_pandas() for version in (line.version - 1, line.version))

    def of(table: pd.DataFrame) -> set[int]:
        return set(table.loc[(table["_file"] == line.path) & (table["_digest"] == line.digest), "_row"])

    return sorted(of(after) - of(before))


def keep_in_quarantine(*numbers: int) -> None:
    uri = table_uri("quarantine", "sales")
    table = DeltaTable(uri).to_pyarrow_table()
    write_deltalake(uri, table.filter(pc.is_in(table["number"], pa.array(numbers, pa.int64()))), mode="overwrite")


# What is in quarantine.


def test_rows_are_held_until_they_come_in(shop: Shop) -> None:
    assert find_held("sales") == []
    shop.put("a.csv", sales(row3=200, row7=900))
    file = find_held("sales")[0]
    assert (file.arrival.path, sorted(file.numbers), file.missing) == ("a.csv", [3, 7], 0)
    assert file.counted() == {"price: values at most 100": 2}
    assert [json.loads(row)["price"] for row in file.rows["row"].to_pylist()] == [200.0, 900.0]
    shop.replay(500)
    assert held() == {"a.csv": [7]}
    shop.replay(1000)
    assert find_held("sales") == []


def test_what_a_crash_left_in_quarantine_of_a_file_that_was_never_taken_is_not_held(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect_mlops.core.lake import ingest

    with monkeypatch.context() as patched:
        patched.setattr(ingest, "append_next", _broken_at_datasets(ingest.append_next))
        with pytest.raises(KeyboardInterrupt):
            shop.put("a.csv", sales(row3=200))
    assert len(rows("quarantine")) == 1
    assert held() == {}
    assert shop.replay(1000) == []
    assert shop.put("a.csv", sales(row3=200)).state == "partly"
    require_each_row_once({"a.csv": 40})


def test_what_a_crash_left_in_quarantine_of_a_file_that_was_then_refused_is_not_held(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect_mlops.core.lake import ingest

    shop.put("other.csv", sales(start=100))
    with monkeypatch.context() as patched:
        patched.setattr(ingest, "append_next", _broken_at_datasets(ingest.append_next))
        with pytest.raises(KeyboardInterrupt):
            shop.put("a.csv", sales(row3=200))
    assert shop.put("a.csv", sales(row3=200), max_refused_share=0).state == "refused"
    assert held() == {}
    assert shop.replay(1000) == []
    assert len(rows()) == 40


def _broken_at_datasets(real: Callable[..., Any]) -> Callable[..., Any]:
    def broken(table: DeltaTable, *arguments: Any, **options: Any) -> Any:
        if "/datasets/" in table.table_uri:
            raise KeyboardInterrupt
        return real(table, *arguments, **options)

    return broken


def test_rows_the_ledger_counts_and_quarantine_lacks_are_said_and_never_counted_as_done(shop: Shop) -> None:
    shop.put("a.csv", sales(row3=200, row7=900))
    keep_in_quarantine(3)
    assert find_held("sales")[0].missing == 1
    done = shop.replay(1000)[0]
    assert (done.rows, done.left, done.why) == (1, 1, "the ledger counts 1 row more as refused than quarantine has")
    assert read_ledger("sales").current[0].state == "partly"
    keep_in_quarantine()
    assert [file.missing for file in find_held("sales")] == [1]


def test_only_what_was_refused_and_did_not_come_in_under_any_name_is_refused(shop: Shop) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        shop.put(name, sales(start=ord(name[0])).rename(columns={"price": "cost"}))
    shop.put("b.csv", sales())
    ledger = read_ledger("sales")
    assert [line.path for line in find_refused(shop.spec(), ledger)] == ["a.csv", "c.csv"]
    assert [line.path for line in find_refused(shop.spec(), ledger, paths=["b.csv"])] == ["b.csv"]


def test_a_refusal_that_was_written_after_a_commit_of_the_same_content_is_none(shop: Shop) -> None:
    done = shop.put("a.csv", sales(row3=200), copies="take")
    late = done.model_copy(
        update={"state": "refused", "version": None, "rows": 0, "at": dt.datetime.now(dt.timezone.utc)}
    )
    write_lines("sales", [late])
    assert find_refused(shop.spec(copies="take"), read_ledger("sales")) == []
    assert held() == {"a.csv": [3]}
    assert [one.rows for one in shop.replay(1000)] == [1]
    assert len(rows()) == 40


# Replays.


def test_rows_come_in_with_their_marks_in_one_commit(shop: Shop) -> None:
    first = shop.put("a.csv", sales(row3=200, row7=900))
    shop.put("b.csv", sales(start=100, row1=300))
    done = shop.replay(1000)
    assert [(one.path, one.rows, one.left) for one in done] == [("a.csv", 2, 0), ("b.csv", 1, 0)]
    line = done[0].arrival
    assert line is not None
    assert (line.state, line.rows, line.refused, line.version) == ("committed", 2, 0, 3)
    assert line.reason == "2 rows came in from quarantine"
    assert (line.digest, line.stamp) == (first.digest, first.stamp)
    table = rows().set_index(["_file", "_row"])["price"]
    assert table["a.csv"].loc[[3, 7]].tolist() == [200.0, 900.0]
    assert DeltaTable(table_uri("datasets", "sales")).version() == 3
    require_each_row_once({"a.csv": 40, "b.csv": 40})
    assert shop.replay(1000) == []
    assert DeltaTable(table_uri("datasets", "sales")).version() == 3


def test_a_version_made_by_a_replay_has_the_digest_of_all_that_was_committed(shop: Shop) -> None:
    shop.put("a.csv", sales(row3=200))
    before = table_ref("sales")
    shop.replay(1000)
    after = table_ref("sales")
    assert (before.rows, after.rows) == (39, 40)
    assert before.digest != after.digest
    assert table_ref("sales", before.version) == before


def test_rows_that_still_fail_stay_as_they_were(shop: Shop) -> None:
    shop.put("a.csv", sales(row3=200, row7=900))
    reasons = find_held("sales")[0].rows["reasons"].to_pylist()
    done = shop.replay(500)[0]
    assert (done.rows, done.left, done.why) == (1, 1, "price: values at most 500 (1)")
    assert done.arrival is not None
    assert done.arrival.state == "partly"
    assert find_held("sales")[0].rows["reasons"].to_pylist() == reasons[1:]
    assert shop.replay(500)[0].arrival is None
    require_each_row_once({"a.csv": 40})


def test_an_unmended_suite_changes_nothing(shop: Shop) -> None:
    shop.put("a.csv", sales(row3=200))
    before = table_ref("sales")
    done = shop.replay(100)[0]
    assert (done.rows, done.left, done.arrival) == (0, 1, None)
    assert table_ref("sales") == before
    assert len(read_ledger("sales").lines) == 1


def test_a_dry_run_says_what_would_come_in_and_writes_nothing(shop: Shop) -> None:
    shop.put("a.csv", sales(row3=200, row7=900))
    before = table_ref("sales")
    done = shop.replay(500, dry_run=True)[0]
    assert (done.rows, done.left, done.arrival) == (1, 1, None)
    assert table_ref("sales") == before
    assert len(read_ledger("sales").lines) == 1
    assert held() == {"a.csv": [3, 7]}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_only_the_named_files_whatever_they_are_called(shop: Shop, name: str) -> None:
    shop.put("other.csv", sales(start=100, row1=300))
    shop.put(name, sales(row3=200))
    assert [one.path for one in shop.replay(1000, paths=[name])] == [name]
    assert held() == {"other.csv": [1]}
    require_each_row_once({name: 40, "other.csv": 40})


def test_a_file_that_never_arrived_is_a_wrong_request(shop: Shop) -> None:
    shop.put("a.csv", sales(row3=200))
    with pytest.raises(ConfigError, match=r"no file in the ledger of 'sales' is called 'b.csv'"):
        shop.replay(1000, paths=["b.csv"])


def test_two_contents_of_one_name_and_one_content_of_two_names(shop: Shop) -> None:
    shop.put("a.csv", sales(row3=200))
    shop.put("a.csv", sales(start=100, row5=300))
    shop.put("b.csv", sales(row3=200), copies="take")
    done = shop.replay(1000)
    assert [(one.path, one.rows) for one in done] == [("a.csv", 1), ("a.csv", 1), ("b.csv", 1)]
    assert len(rows()) == 120
    assert not rows().duplicated(["_file", "_digest", "_row"]).any()
    assert held() == {}


def test_ingesting_the_same_file_again_after_a_replay_adds_nothing(shop: Shop) -> None:
    shop.put("a.csv", sales(row3=200))
    shop.replay(1000)
    assert shop.put("a.csv", sales(row3=200), top=1000).state == "duplicate"
    assert find_backlog(shop.spec()).pending == ()
    require_each_row_once({"a.csv": 40})


# What a replayed row is judged beside.


def test_rows_are_compared_with_those_of_the_file_that_are_in_the_dataset(shop: Shop) -> None:
    table = sales(row3=200, row7=900)
    table.loc[2, "n"] = 10  # as row 11, which is in the dataset
    shop.put("a.csv", table)
    done = shop.replay(1000, gxe.ExpectColumnValuesToBeUnique(column="n"))[0]
    assert (done.rows, done.left, done.why) == (1, 1, "n: values are unique (1)")
    assert held() == {"a.csv": [3]}


def test_rows_that_fail_only_once_others_are_out_stay_too(shop: Shop) -> None:
    table = sales(10, row5=200, row6=200, row7=200).assign(k=[0, 1, 2, 3, 10, 5, 7, 20, 21, 22])
    shop.put("a.csv", table, max_refused_share=0.5)
    # 10, 5, 7: the 5 goes down from the 10, and without it the 7 does.
    shop.replay(1000, gxe.ExpectColumnValuesToBeIncreasing(column="k"))
    assert held() == {"a.csv": [6, 7]}
    require_each_row_once({"a.csv": 10})


@pytest.mark.parametrize(
    ("expectation", "comes_in"),
    [
        (gxe.ExpectTableRowCountToBeBetween(min_value=40), True),
        (gxe.ExpectTableRowCountToBeBetween(max_value=39), False),
        (gxe.ExpectColumnMaxToBeBetween(column="price", max_value=500), False),
        (gxe.ExpectColumnMaxToBeBetween(column="price", max_value=500, severity="warning"), True),
    ],
)
def test_the_table_as_a_whole_is_judged_with_what_the_dataset_has(shop: Shop, expectation: Any, comes_in: bool) -> None:
    shop.put("a.csv", sales(row3=200, row7=900))
    done = shop.replay(1000, expectation)[0]
    assert (done.rows, done.left) == ((2, 0) if comes_in else (0, 2))
    assert bool(done.why) != comes_in
    require_each_row_once({"a.csv": 40})


def test_rows_that_were_accepted_once_keep_no_others_out(shop: Shop) -> None:
    shop.put("a.csv", sales(row3=200))
    stricter = gxe.ExpectColumnValuesToBeBetween(column="n", max_value=20)
    assert shop.replay(1000, stricter)[0].rows == 1


def test_a_suite_that_cannot_be_computed_lets_nothing_in_and_says_why(shop: Shop) -> None:
    shop.put("a.csv", sales(row3=200))
    done = shop.replay(1000, gxe.ExpectColumnValuesToNotBeNull(column="prise"))[0]
    assert (done.rows, done.left) == (0, 1)
    assert "'prise'" in done.why


# Values come in as they were.


def test_values_of_every_kind_come_in_as_they_were(shop: Shop) -> None:
    table = sales(row3=200, row7=900).assign(
        at=pd.date_range("2024-01-01 00:00:00.123456", periods=40, freq="h", unit="us"),
        zoned=pd.date_range("2024-03-30", periods=40, freq="h", tz="Europe/Berlin", unit="us"),
        day=[dt.date(2024, 2, 29)] * 40,
        old=[dt.date(1200, 1, 1)] * 40,
        blob=[b"\xff\x00"] * 40,
        word=["ä\u2028\x1b[31m\"'"] * 40,
        good=[True, False] * 20,
        money=[Decimal("12345678901234567.89")] * 40,
        big=[2**62 + 1] * 40,
        gaps=pd.array([None, 1, 2, 3] * 10, dtype="Int64"),
        many=[[1, 2]] * 40,
        pair=[{"a": 1, "b": "x"}] * 40,
        none=[None] * 40,
    )
    shop.put("a.parquet", table)
    shop.put("whole.parquet", table.assign(price=1.0))
    assert shop.replay(1000)[0].why == ""
    there = rows().set_index(["_file", "_row"]).sort_index().drop(columns="_digest")
    expected = there.loc["whole.parquet"].assign(price=table["price"].to_numpy())
    pd.testing.assert_frame_equal(there.loc["a.parquet"], expected)


def test_a_row_from_before_a_column_was_added_has_no_value_there(shop: Shop) -> None:
    shop.put("a.csv", sales(row3=200))
    shop.put("b.csv", sales(start=100).assign(more="x"), new_columns=True)
    shop.replay(1000)
    there = rows().set_index(["_file", "_row"])
    assert there.loc[("a.csv", 3), "price"] == 200
    assert there.loc["a.csv"]["more"].isna().all()
    require_each_row_once({"a.csv": 40, "b.csv": 40})


# Crashes, races, and others at work.


def _broken_at(real: Callable[..., Any], when: str) -> Callable[..., Any]:
    def broken(*arguments: Any, **options: Any) -> Any:
        if when == "after":
            real(*arguments, **options)
        raise KeyboardInterrupt

    return broken


@pytest.mark.parametrize("completed_by", ["replay", "ingest"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["append_next", "write_lines"])
def test_a_crash_at_any_commit_is_completed_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, step: str, when: str, completed_by: str
) -> None:
    shop.put("a.csv", sales(row3=200, row7=900))
    with monkeypatch.context() as patched:
        patched.setattr(replays, step, _broken_at(getattr(replays, step), when))
        with pytest.raises(KeyboardInterrupt):
            shop.replay(500)
    came_in = (step, when) != ("append_next", "before")
    assert held() == {"a.csv": [7] if came_in else [3, 7]}
    assert len(read_ledger("sales").unwritten) == (came_in and (step, when) != ("write_lines", "after"))
    files = {"a.csv": 40}
    if completed_by == "ingest":
        shop.put("b.csv", sales(start=100))
        files["b.csv"] = 40
    shop.replay(500)
    assert held() == {"a.csv": [7]}
    require_each_row_once(files)
    assert len([line for line in read_ledger("sales").lines if line.path == "a.csv"]) == 2


def test_a_commit_lost_to_somebody_else_is_made_again_without_asking_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put("a.csv", sales(row3=200))
    real, judged = replays.append_next, []

    def beaten_once(*arguments: Any, **options: Any) -> int:
        if not (shop.folder / "b.csv").exists():
            shop.put("b.csv", sales(start=100))
        return real(*arguments, **options)

    def judge(path: str, accepted: Any, candidates: Any) -> replays.JudgedRows:
        judged.append((path, len(accepted), len(candidates)))
        return replays.JudgedRows(frozenset({3}))

    monkeypatch.setattr(replays, "append_next", beaten_once)
    done = replays.replay_rows("sales", judge)
    assert [(one.rows, one.left) for one in done] == [(1, 0)]
    assert judged == [("a.csv", 39, 1)]
    require_each_row_once({"a.csv": 40, "b.csv": 40})


def test_a_commit_lost_to_another_replay_brings_nothing_in_twice(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.put("a.csv", sales(row3=200, row7=900))
    real, others = replays.append_next, []

    def overtaken(*arguments: Any, **options: Any) -> int:
        if not others:
            others.append(True)
            shop.replay(500)
        return real(*arguments, **options)

    monkeypatch.setattr(replays, "append_next", overtaken)
    assert [(one.rows, one.left) for one in shop.replay(1000)] == [(1, 0)]
    require_each_row_once({"a.csv": 40})


def test_a_lake_that_takes_no_commit_is_said_after_some_attempts(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect_mlops.core.errors import BackendError
    from prefect_mlops.core.lake import commits

    def beaten(*_: Any, **__: Any) -> int:
        raise CommitConflict("somebody else")

    shop.put("a.csv", sales(row3=200))
    monkeypatch.setattr(commits, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(replays, "append_next", beaten)
    with pytest.raises(BackendError, match="somebody else"):
        shop.replay(1000)


def test_a_replay_after_and_across_compaction(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        shop.put(f"{number}.csv", sales(start=100 * number, row3=200, row7=900))
    uri = table_uri("datasets", "sales")
    DeltaTable(uri).optimize.compact()
    DeltaTable(table_uri("quarantine", "sales")).optimize.compact()
    assert [one.rows for one in shop.replay(500)] == [1, 1, 1, 1]
    real, compacted = replays.append_next, []

    def across(*arguments: Any, **options: Any) -> int:
        if not compacted:
            compacted.append(DeltaTable(uri).optimize.compact())
        return real(*arguments, **options)

    monkeypatch.setattr(replays, "append_next", across)
    assert [one.rows for one in shop.replay(1000)] == [1, 1, 1, 1]
    assert len(compacted) == 1
    require_each_row_once({f"{number}.csv": 40 for number in range(4)})


def test_the_newest_line_is_the_newest_although_the_clock_was_set_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put("a.csv", sales(row3=200))

    class Yesterday(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return dt.datetime.now(tz) - dt.timedelta(days=1)

    monkeypatch.setattr(replays, "datetime", Yesterday)
    shop.replay(1000)
    assert [line.state for line in read_ledger("sales").current] == ["committed"]


def _race(folder: str, top: float, barrier: Any, answers: Any) -> None:
    shop = Shop(Path(folder))
    shop.spec(top)  # imports before the start
    barrier.wait()
    answers.put(sum(one.rows for one in shop.replay(top)))


@pytest.mark.slow
def test_replays_at_once_bring_each_row_in_once(shop: Shop) -> None:
    files = {f"{number}.csv": 40 for number in range(5)}
    for number, name in enumerate(files):
        shop.put(name, sales(start=100 * number, row3=200, row7=400, row9=900))
    spawn = multiprocessing.get_context("spawn")
    tops = [300.0, 500.0, 500.0, 1000.0]
    barrier, answers = spawn.Barrier(len(tops)), spawn.Queue()
    racers = [spawn.Process(target=_race, args=(str(shop.folder), top, barrier, answers)) for top in tops]
    for racer in racers:
        racer.start()
    brought = sum(answers.get(timeout=120) for _ in racers)
    for racer in racers:
        racer.join(timeout=60)
        assert racer.exitcode == 0
    assert brought == 15
    assert held() == {}
    require_each_row_once(files)


# The backlog.


def test_the_backlog_is_what_the_ledger_has_not_seen(shop: Shop) -> None:
    shop.put("a.csv", sales())
    shop.put("refused.csv", sales().rename(columns={"price": "cost"}))
    assert find_backlog(shop.spec()).pending == ()
    assert find_backlog(shop.spec()).oldest is None
    sales(start=100).to_csv(shop.folder / "two\nlines.csv", index=False)
    sales(start=200).to_csv(shop.folder / "a.csv", index=False)
    (shop.folder / ".hidden.csv").write_text("x")
    (shop.folder / "out.csv").symlink_to("/etc/hostname")
    backlog = find_backlog(shop.spec())
    assert [file.path for file in backlog.pending] == ["a.csv", "two\nlines.csv"]
    assert backlog.oldest == min(file.modified for file in backlog.pending)
    assert len(backlog.left) == 1
    assert "leads out" in backlog.left[0]


def test_a_backlog_without_a_landing_place_is_a_wrong_request(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="there is no landing folder"):
        find_backlog(shop.spec(landing=str(shop.folder / "gone")))


def ledger_line(minute: int, state: str, path: str = "a.csv", digest: str = "d", version: int | None = None) -> Arrival:
    at = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(minutes=minute)
    return Arrival(dataset="sales", path=path, digest=digest, state=state, version=version, at=at)


REFUSED = ledger_line(5, "refused")


@pytest.mark.parametrize(
    ("later", "options", "out"),
    [
        ([], {}, True),
        ([], {"paths": ["a.csv"]}, True),
        ([], {"paths": ["b.csv"]}, False),
        ([ledger_line(6, "committed", version=1)], {"paths": ["a.csv"]}, False),
        ([ledger_line(6, "committed", digest="e", version=1)], {}, False),
        ([ledger_line(6, "committed", digest="e", version=1)], {"paths": ["a.csv"]}, True),
        ([ledger_line(4, "committed", digest="e", version=1)], {}, True),
        ([ledger_line(5, "committed", digest="e", version=1)], {}, True),
        ([ledger_line(6, "committed", path="b.csv", version=1)], {}, False),
        ([ledger_line(6, "committed", path="b.csv", version=1)], {"copies": "take"}, True),
        ([ledger_line(6, "committed", path="b.csv", digest="e", version=1)], {}, True),
    ],
)
def test_a_refused_file_waits_until_its_content_or_a_later_one_of_its_name_is_committed(
    tmp_path: Path, later: list[Arrival], options: dict[str, Any], out: bool
) -> None:
    spec = Shop(tmp_path).spec(copies=options.get("copies", "skip"))
    found = find_refused(spec, Ledger([REFUSED, *later]), paths=options.get("paths"))
    assert found == ([REFUSED] if out else [])


def test_files_that_have_not_arrived_are_named_with_the_nearest() -> None:
    require_arrived("sales", Ledger([REFUSED]), None)
    require_arrived("sales", Ledger([REFUSED]), ["a.csv"])
    with pytest.raises(ConfigError, match=r"'b\.csv'.*did you mean 'a\.csv'"):
        require_arrived("sales", Ledger([REFUSED]), ["a.csv", "b.csv"])


def test_a_refused_file_is_found_again_as_long_as_it_has_not_changed(tmp_path: Path) -> None:
    spec = Shop(tmp_path).spec()
    (tmp_path / "a.csv").write_text("n\n1\n")
    refused = ledger_line(1, "refused", digest=digest_of(tmp_path / "a.csv"))
    assert find_again(spec, refused).path == "a.csv"
    (tmp_path / "a.csv").write_text("n\n2\n")
    with pytest.raises(ConfigError, match="another content by now"):
        find_again(spec, refused)
    (tmp_path / "a.csv").unlink()
    with pytest.raises(ConfigError, match="there is no file"):
        find_again(spec, refused)
