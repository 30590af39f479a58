from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError
from prefect_mlops.core.lake import ingest, ledger
from prefect_mlops.core.lake.ingest import Checked, checked, commit_arrivals, table_ref
from prefect_mlops.core.lake.ledger import Arrival, arrivals, read_ledger, write_lines
from prefect_mlops.core.lake.rows import content_digest, dataset_rows
from prefect_mlops.core.tables.read import as_frame


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


GOOD = pd.DataFrame({"n": [1, 2], "word": ["x", None], "empty": [None, None]})
BAD = pd.DataFrame({"n": [9], "word": ["<b>"], "_reasons": ["n: too large"]}, index=[2])


def arrival(path: str = "a b's.csv", digest: str = "sha256:1", **more) -> Arrival:
    return Arrival(dataset="flights", path=path, digest=digest, **{"state": "committed", "rows": 2, **more})


def commit(
    table: pd.DataFrame = GOOD, bad: pd.DataFrame | None = None, *, new_columns: bool = False, **more
) -> Arrival:
    """Commit one file."""
    file = checked(arrival(**more), accepted=table, refused=bad)
    (done,) = commit_arrivals("flights", [file], new_columns=new_columns)
    return done


def rows(kind: str) -> pd.DataFrame:
    return DeltaTable(table_uri(kind, "flights")).to_pandas()  # type: ignore[arg-type]


def test_the_same_arrival_is_committed_once(home: Path) -> None:
    first = commit(bad=BAD)
    commit(digest="sha256:2")
    again = commit(bad=BAD)
    assert (first.version, again.version, again.again) == (1, 1, True)
    assert len(rows("datasets")) == 4
    assert len(rows("quarantine")) == 1
    assert len(arrivals("flights")) == 2
    assert set(rows("datasets")["_digest"]) == {"sha256:1", "sha256:2"}


def test_a_file_that_was_found_to_be_a_duplicate_stays_one(home: Path) -> None:
    first = commit()
    for path, reason in ((first.path, "delivered again"), ("other.csv", f"the same content as {first.path}")):
        found = ingest.duplicate_of(first.path, arrival(path=path))
        (done,) = commit_arrivals("flights", [Checked(found)])
        assert (done.state, done.rows, done.version) == ("duplicate", 0, None)
        assert done.reason == f"{reason}; nothing was done"
    assert len(rows("datasets")) == 2


@pytest.mark.parametrize(("copies", "states"), [("skip", ["committed", "duplicate"]), ("take", ["committed"] * 2)])
def test_the_same_content_under_another_name_is_a_duplicate_unless_copies_are_taken(
    home: Path, copies: str, states: list[str]
) -> None:
    files = [checked(arrival(path=path), accepted=GOOD) for path in ("a.csv", "b.csv")]
    assert [done.state for done in commit_arrivals("flights", files, copies=copies)] == states
    refused = Checked(arrival(path="c.csv", state="refused", rows=0))
    assert commit_arrivals("flights", [refused], copies=copies)[0].state == "refused"


def test_a_version_that_is_not_there_is_refused_and_the_first_and_last_are_found(home: Path) -> None:
    commit()
    newest = commit(digest="sha256:2").version
    for version in (-1, newest + 1):
        with pytest.raises(ConfigError, match=f"has no version {version}: there are versions up to {newest}"):
            table_ref("flights", version)
    assert [table_ref("flights", version).rows for version in (0, newest, None)] == [0, 4, 4]


def test_a_line_that_a_crash_kept_out_of_the_ledger_is_read_from_the_commit(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    commit(path="before.csv", digest="sha256:0")
    with monkeypatch.context() as dying:
        dying.setattr(ingest, "write_lines", crash)
        with pytest.raises(KeyboardInterrupt):
            commit()
    read = read_ledger("flights")
    assert [line.path for line in read.unwritten] == ["a b's.csv"]
    assert [line.path for line in read.lines] == ["before.csv", "a b's.csv"]
    assert commit().again
    assert read_ledger("flights").unwritten == []
    assert len(rows("arrivals")) == 2


def test_quarantine_keeps_key_row_and_why(home: Path) -> None:
    commit(bad=BAD, state="partly", refused=1)
    kept = rows("quarantine").iloc[0]
    assert (kept["path"], kept["digest"], kept["number"]) == ("a b's.csv", "sha256:1", 3)
    assert kept["reasons"] == "n: too large"
    assert json.loads(kept["row"]) == {"n": 9, "word": "<b>"}


def test_a_refused_file_is_in_the_ledger_without_rows(home: Path) -> None:
    commit_arrivals("flights", [Checked(arrival(state="refused", rows=0, reason="not readable"))])
    (line,) = arrivals("flights")
    assert (line.state, line.reason, line.version) == ("refused", "not readable", None)
    assert not (home / "datasets").exists()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (GOOD.rename(columns={"n": "m"}), "no column 'n' and an unknown column 'm'"),
        (GOOD.assign(n=["u", "v"]), "values of another type in column 'n'"),
        (GOOD.assign(more=1), "an unknown column 'more'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_holds_nobody_up(home: Path, bad: pd.DataFrame, says: str) -> None:
    commit()
    files = [
        checked(arrival(digest="sha256:2"), accepted=bad, refused=BAD),
        checked(arrival(digest="sha256:3"), accepted=GOOD),
    ]
    done = commit_arrivals("flights", files)
    assert [line.state for line in done] == ["refused", "committed"]
    assert says in done[0].reason
    assert len(rows("datasets")) == 4
    assert not (home / "quarantine").exists(), "nothing of a file that is refused as a whole is kept aside"


def test_whole_numbers_that_arrive_as_floats_fit(home: Path) -> None:
    commit()
    commit(GOOD.assign(n=[1.0, 2.0], empty=["a", "b"]), digest="sha256:2")
    assert sorted(rows("datasets")["n"]) == [1, 1, 2, 2]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_unit_fit_one_another(home: Path, unit: str) -> None:
    moments = pd.to_datetime(["2024-01-01 12:00:00", "2024-06-30 23:59:59"])
    for number, kind in enumerate(["us", unit, "ns"]):
        commit(GOOD.assign(at=moments.as_unit(kind)), digest=f"sha256:{number}")
    assert set(rows("datasets")["at"]) == set(moments)


def test_times_finer_than_the_lake_keeps_are_refused_rather_than_cut(home: Path) -> None:
    fine = pd.to_datetime(["2024-01-01 12:00:00.000000001", "2024-01-01 12:00:00.000000000"]).as_unit("ns")
    with pytest.raises(DataCheckError, match="would lose data"):
        commit(GOOD.assign(at=fine))


def test_the_rows_of_a_commit_come_back_in_the_order_of_its_files(home: Path) -> None:
    """A model that is trained on them again, or on the same files elsewhere, has to see the same table."""
    many = pd.DataFrame({"n": range(5000)})
    files = [checked(arrival(path=f"{n}.csv", digest=f"sha256:{n}"), accepted=many) for n in range(8)]
    commit_arrivals("flights", files)
    kept = DeltaTable(table_uri("datasets", "flights")).to_pyarrow_table().to_pandas()
    assert kept["_file"].drop_duplicates().tolist() == [f"{n}.csv" for n in range(8)]
    assert kept["n"].tolist() == list(range(5000)) * 8


# New columns.


def test_a_new_column_is_taken_where_the_dataset_allows_it(home: Path) -> None:
    old = commit()
    new = commit(GOOD.assign(more=[7, 8]), digest="sha256:2", new_columns=True)
    late = commit(digest="sha256:3", new_columns=True)  # an older file that arrives afterwards
    assert (old.state, new.state, late.state) == ("committed", "committed", "committed")
    assert rows("datasets").groupby("_digest")["more"].count().to_dict() == {
        "sha256:1": 0,
        "sha256:2": 2,
        "sha256:3": 0,
    }


def test_new_columns_do_not_excuse_a_missing_one(home: Path) -> None:
    commit()
    done = commit(GOOD.drop(columns="word").assign(more=1), digest="sha256:2", new_columns=True)
    assert done.state == "refused"
    assert "no column 'word'" in done.reason


def test_files_of_one_commit_may_bring_different_new_columns(home: Path) -> None:
    commit()
    files = [
        checked(arrival(digest="sha256:2"), accepted=GOOD.assign(x=1.5)),
        checked(arrival(digest="sha256:3"), accepted=GOOD.assign(y="a")),
        checked(arrival(digest="sha256:4"), accepted=GOOD.assign(x="text")),
    ]
    done = commit_arrivals("flights", files, new_columns=True)
    assert [line.state for line in done] == ["committed", "committed", "refused"]
    assert rows("datasets")[["x", "y"]].count().to_dict() == {"x": 2, "y": 2}


def test_the_first_commit_may_bring_files_with_different_columns(home: Path) -> None:
    files = [
        checked(arrival(digest="sha256:2"), accepted=GOOD),
        checked(arrival(digest="sha256:3"), accepted=GOOD.assign(y="a")),
    ]
    assert [line.state for line in commit_arrivals("flights", files, new_columns=True)] == ["committed"] * 2
    assert commit(digest="sha256:4", new_columns=True).state == "committed", "the first file says what is required"


# Data versions.


def test_a_version_is_known_by_its_digest_without_reading_a_row(home: Path) -> None:
    commit()
    first = table_ref("flights")
    commit(GOOD.assign(n=[3, 4]), digest="sha256:2", path="b.csv")
    second = table_ref("flights")
    assert (first.version, first.rows, second.version, second.rows) == (1, 2, 2, 4)
    assert first.digest != second.digest
    assert table_ref("flights", 1) == first
    for file in (home / "datasets").rglob("*.parquet"):
        file.unlink()
    assert table_ref("flights") == second


def test_a_reference_to_a_version_is_a_table_as_any_task_takes_it(home: Path) -> None:
    commit()
    ref = table_ref("flights")
    commit(digest="sha256:2")
    assert len(as_frame(ref)) == 2
    with pytest.raises(DataCheckError, match="has changed since it was referred to"):
        as_frame(ref.model_copy(update={"version": 2}))


def test_the_digest_knows_every_cell_and_neither_order_nor_storage(tmp_path: Path, monkeypatch) -> None:
    def digest_of(name: str, *tables: pd.DataFrame, together: bool = False) -> str | None:
        monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / name))
        files = [
            checked(arrival(path=str(len(table)), digest=f"sha256:{len(table)}"), accepted=table) for table in tables
        ]
        for part in [files] if together else [[file] for file in files]:
            commit_arrivals("flights", part)
        return table_ref("flights").digest

    one = pd.DataFrame({"n": [1, 2, 3], "at": pd.to_datetime(["2024-01-01"] * 3), "ok": [True, False, True]})
    two = pd.DataFrame({"n": [4, 5], "at": pd.to_datetime(["2024-01-02"] * 2), "ok": [True, True]})
    whole = digest_of("a", one, two)
    assert digest_of("b", two, one) == whole
    assert digest_of("c", one, two, together=True) == whole
    assert digest_of("d", one.astype({"n": "Int32"}), two.assign(at=two["at"].dt.as_unit("s"))) == whole
    for number, other in enumerate(
        [two.assign(n=[4, 6]), two.assign(ok=[True, False]), two.assign(at=two["at"] + pd.Timedelta(1, "us"))]
    ):
        assert digest_of(f"e{number}", one, other) != whole


def test_what_the_ledger_says_of_the_rows_is_what_the_dataset_holds(home: Path) -> None:
    done = commit(GOOD.assign(at=pd.to_datetime(["2024-01-01", None])), bad=BAD)
    commit(GOOD.assign(at=pd.NaT, more=1), digest="sha256:2", new_columns=True)
    stored = DeltaTable(table_uri("datasets", "flights")).to_pyarrow_table()
    mine = stored.filter([digest == "sha256:1" for digest in stored["_digest"].to_pylist()])
    assert content_digest(mine) == done.content, "read back, and with a column more than it had"


@pytest.mark.parametrize("version", [-1, 2, 100])
def test_a_version_that_is_not_there_is_a_wrong_request(home: Path, version: int) -> None:
    commit()
    with pytest.raises(ConfigError, match=f"no version {version}: there are versions up to 1"):
        table_ref("flights", version)


def test_a_dataset_that_is_not_there_is_a_wrong_request(home: Path) -> None:
    with pytest.raises(ConfigError, match="no dataset 'flights' in the lake"):
        table_ref("flights")


# Names and storage.


@pytest.mark.parametrize("name", ["../x", "a/b", "", "A", "x" * 101, "a\n"])
def test_no_path_is_built_from_an_untrusted_name(home: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="lower case letters"):
        table_uri("datasets", name)


def test_storage_that_fails_is_a_backend_error(home: Path) -> None:
    home.write_text("a file where the lake should be")
    with pytest.raises(BackendError, match="the lake at"):
        commit()


def test_columns_the_lake_writes_itself_are_refused(home: Path) -> None:
    with pytest.raises(DataCheckError, match="'_row'"):
        dataset_rows("flights", GOOD.assign(_row=1), path="a.csv", digest="x")


# Races.


def _race(lake_uri: str, number: int, barrier, seen) -> None:
    os.environ["PREFECT_MLOPS_LAKE"] = lake_uri
    barrier.wait()
    for round_ in range(4):
        batch = [
            checked(arrival(path=f"{round_}-{n}", digest=f"sha256:{round_}-{n}"), accepted=GOOD, refused=BAD)
            for n in range(3)
        ]
        own = checked(arrival(path=f"own-{number}-{round_}", digest=f"own-{number}-{round_}"), accepted=GOOD)
        for done in commit_arrivals("flights", [*batch, own]):
            seen.put((done.path, done.version))


@pytest.mark.slow
def test_processes_racing_on_the_same_files_commit_each_once(home: Path) -> None:
    context = multiprocessing.get_context("spawn")  # deltalake's runtime does not survive a fork
    barrier, seen = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_race, args=(str(home), number, barrier, seen)) for number in range(4)]
    for worker in workers:
        worker.start()
    answers = {seen.get(timeout=120) for _ in range(4 * 4 * 4)}
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0] * 4
    files = 4 * 3 + 4 * 4
    assert len(answers) == files, "all agree on the version of each file"
    assert [len(rows(kind)) for kind in ("datasets", "quarantine", "arrivals")] == [2 * files, 12, files]
    assert not rows("datasets").duplicated(["_file", "_digest", "_row"]).any()
    assert read_ledger("flights").unwritten == []


def test_a_commit_that_comes_between_is_seen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other writer takes the same file just before ours is committed."""
    commit(digest="sha256:0")
    real, others = ingest.append_next, []

    def overtaken(table: DeltaTable, content, **options) -> int:
        if not others:
            others.append("once")
            others.append(commit())
        return real(table, content, **options)

    monkeypatch.setattr(ingest, "append_next", overtaken)
    mine = commit()
    assert (mine.version, mine.again) == (others[1].version, True)
    assert len(rows("datasets")) == 4
    assert read_ledger("flights").find("a b's.csv", "sha256:1") is not None


def test_the_ledger_stays_a_few_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "COMPACT_EVERY", 10)
    for number in range(11):
        write_lines("flights", [arrival(path=f"{number}.csv", state="refused", rows=0)])
    table = DeltaTable(table_uri("arrivals", "flights"))
    assert len(table.file_uris()) < 5
    assert len(arrivals("flights")) == 11


def test_rows_another_engine_rewrote_can_be_searched(home: Path) -> None:
    """After a DELETE by delta-rs text has another kind, in which Arrow does not search."""
    commit_arrivals(
        "flights", [checked(arrival(digest=f"sha256:{n}", path=f"{n}"), accepted=GOOD, refused=BAD) for n in (1, 2)]
    )
    DeltaTable(table_uri("quarantine", "flights")).delete("digest = 'sha256:1'")
    commit(digest="sha256:3", bad=BAD)
    assert sorted(rows("quarantine")["digest"]) == ["sha256:2", "sha256:3"]
