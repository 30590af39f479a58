from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from prefect_mlops.core import DatasetSpec
from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake import commits, ledger
from prefect_mlops.core.lake import ingest as lake
from prefect_mlops.core.lake.ingest import Arrival, arrivals
from prefect_mlops.tasks import _intake, find_pending, ingest_files, ingestion
from prefect_mlops.tasks.ingestion import Taken

COLUMNS = ("n", "word", "price")
SUITE = ExpectationSuite(
    name="sales",
    expectations=[
        *(gxe.ExpectColumnToExist(column=column) for column in COLUMNS),
        gxe.ExpectColumnValuesToNotBeNull(column="n"),
        gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, max_value=100),
        gxe.ExpectColumnValuesToBeInSet(column="word", value_set=["a", "b", "c"]),
    ],
)


def sales(rows: int = 40, start: int = 0) -> pd.DataFrame:
    return pd.DataFrame(
        {"n": range(start, start + rows), "word": (["a", "b"] * rows)[:rows], "price": [1.5 + n for n in range(rows)]}
    )


class Landing:
    """A folder where files arrive, with a lake of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, table: pd.DataFrame) -> str:
        return self.write(name, table.to_csv(index=False).encode())

    def write(self, name: str, content: bytes) -> str:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(content)
        return name

    def spec(self, **options) -> DatasetSpec:
        return DatasetSpec(
            **{"name": "sales", "landing": str(self.folder), "suite": SUITE, "settle_seconds": 0, **options}
        )

    def take(self, *paths: str, **options) -> Taken:
        return ingest_files.fn(paths, dataset=self.spec(**options))

    def ingest(self, path: str, **options) -> Arrival:
        taken = self.take(path, **options)
        assert not taken.left
        return taken.arrivals[0]


@pytest.fixture
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Landing:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    (tmp_path / "landing").mkdir()
    return Landing(tmp_path / "landing")


def rows(kind: str) -> pd.DataFrame:
    """The rows of one of the lake's tables, in the order of the files' column n; empty where there is no table."""
    uri = table_uri(kind, "sales")  # type: ignore[arg-type]
    return DeltaTable(uri).to_pandas() if DeltaTable.is_deltatable(uri) else pd.DataFrame()


def counts() -> tuple[int, int, int]:
    """Rows in the dataset, in quarantine and in the ledger."""
    return len(rows("datasets")), len(rows("quarantine")), len(rows("arrivals"))


# Identity: path and content, nothing else.


def test_a_good_file_is_committed_whole(landing: Landing) -> None:
    done = landing.ingest(landing.put("day 1.csv", sales()))
    assert (done.state, done.rows, done.refused, done.reason, done.again) == ("committed", 40, 0, "", False)
    table = rows("datasets").sort_values("n", ignore_index=True)
    pd.testing.assert_frame_equal(table[list(COLUMNS)], sales(), check_dtype=False)
    assert set(table["_file"]) == {"day 1.csv"}
    assert set(table["_digest"]) == {done.digest}
    assert arrivals("sales") == [done]
    assert DeltaTable(table_uri("datasets", "sales")).version() == done.version


def test_the_same_file_again_changes_nothing(landing: Landing) -> None:
    first = landing.ingest(landing.put("a.csv", sales()))
    again = landing.ingest("a.csv")
    assert again == first.model_copy(update={"again": True})
    assert counts() == (40, 0, 1)


def test_the_same_content_delivered_again_is_a_duplicate(landing: Landing) -> None:
    landing.ingest(landing.put("a.csv", sales()))
    for _ in range(2):  # seen twice, written once
        again = landing.ingest(landing.put("a.csv", sales())) if _ == 0 else landing.ingest("a.csv")
        assert (again.state, again.rows, again.version) == ("duplicate", 0, None)
        assert "delivered again" in again.reason
    assert counts() == (40, 0, 2)
    assert [line.state for line in arrivals("sales")] == ["committed"], "what became of the content has not changed"


def test_changed_content_under_the_same_name_is_a_second_arrival(landing: Landing) -> None:
    first = landing.ingest(landing.put("a.csv", sales()))
    second = landing.ingest(landing.put("a.csv", sales(start=100)))
    assert not second.again
    assert (first.path, first.digest != second.digest) == (second.path, True)
    assert counts() == (80, 0, 2)


def test_a_renamed_copy_is_a_duplicate_that_names_its_original(landing: Landing) -> None:
    landing.ingest(landing.put("a.csv", sales()))
    second = landing.ingest(landing.put("b.csv", sales()))
    assert (second.state, second.reason) == ("duplicate", "the same content as a.csv; nothing was done")
    assert counts() == (40, 0, 2)


def test_copies_in_one_batch_are_committed_once(landing: Landing) -> None:
    taken = landing.take(*(landing.put(name, sales()) for name in ("b.csv", "a.csv", "c.csv")))
    assert [(line.path, line.state) for line in taken.arrivals] == [
        ("b.csv", "committed"),
        ("a.csv", "duplicate"),
        ("c.csv", "duplicate"),
    ]
    assert counts() == (40, 0, 3)


def test_copies_are_taken_where_the_dataset_says_so(landing: Landing) -> None:
    names = [landing.put(name, sales()) for name in ("a.csv", "b.csv")]
    assert [line.state for line in landing.take(*names, copies="take").arrivals] == ["committed", "committed"]
    assert landing.ingest(landing.put("c.csv", sales()), copies="take").state == "committed"
    assert counts() == (120, 0, 3)


def test_a_copy_of_a_refused_file_is_refused_for_itself(landing: Landing) -> None:
    for name in ("a.csv", "b.csv"):
        assert landing.ingest(landing.write(name, b"")).state == "refused"


def test_many_files_are_one_commit(landing: Landing) -> None:
    taken = landing.take(*(landing.put(f"{n}.csv", sales(start=100 * n)) for n in range(30)))
    assert {line.version for line in taken.arrivals} == {1}
    assert DeltaTable(table_uri("datasets", "sales")).version() == 1
    assert counts() == (1200, 0, 30)


def test_a_dry_run_says_the_same_and_writes_nothing(landing: Landing, tmp_path: Path) -> None:
    names = [landing.put("a.csv", sales()), landing.write("b.csv", b"")]
    taken = ingest_files.fn(names, dataset=landing.spec(), dry_run=True)
    assert [(line.state, line.rows, line.version) for line in taken.arrivals] == [
        ("committed", 40, None),
        ("refused", 0, None),
    ]
    assert not (tmp_path / "lake").exists()


def test_a_dry_run_sees_copies_and_misfits_as_a_commit_would(landing: Landing) -> None:
    landing.ingest(landing.put("a.csv", sales()))
    names = [
        landing.put("b.csv", sales(start=100)),
        landing.put("c.csv", sales(start=100)),
        landing.put("d.csv", sales(start=200).assign(n="x")),
    ]
    foreseen = ingest_files.fn(names, dataset=landing.spec(), dry_run=True).arrivals
    assert counts() == (40, 0, 1)
    done = landing.take(*names).arrivals
    told = [[(line.path, line.state, line.rows, line.reason) for line in lines] for lines in (foreseen, done)]
    assert told[0] == told[1]
    assert [line.state for line in done] == ["committed", "duplicate", "refused"]


def test_a_dry_run_leaves_the_ledger_as_a_crash_left_it(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        crash_at(patch, "arrivals", "before")
        with pytest.raises(Crash):
            landing.ingest(landing.put("a.csv", sales()))
    find_pending.fn(landing.spec(), dry_run=True)
    assert len(rows("arrivals")) == 0
    find_pending.fn(landing.spec())
    assert len(rows("arrivals")) == 1


def test_each_row_says_which_line_of_which_file_it_was(landing: Landing) -> None:
    table = sales()
    table.loc[3, "price"] = -1.0
    landing.ingest(landing.put("a.csv", table))
    kept = rows("datasets").sort_values("_row")
    assert kept["_row"].tolist() == [n for n in range(1, 41) if n != 4]
    assert (kept["n"] + 1 == kept["_row"]).all()
    assert rows("quarantine")["number"].tolist() == [4]


def test_going_back_to_earlier_content_is_the_earlier_arrival(landing: Landing) -> None:
    first = landing.ingest(landing.put("a.csv", sales()))
    landing.ingest(landing.put("a.csv", sales(start=100)))
    assert landing.ingest(landing.put("a.csv", sales())).state == "duplicate"
    assert counts() == (80, 0, 3)
    assert arrivals("sales")[0] == first


@pytest.mark.parametrize(
    "other", ["./day/a.csv", "day//a.csv", "day/./a.csv", "{landing}/day/a.csv", "{link}/day/a.csv"]
)
def test_a_file_asked_for_in_another_way_is_the_same_arrival(landing: Landing, tmp_path: Path, other: str) -> None:
    (tmp_path / "link").symlink_to(landing.folder)
    landing.folder = tmp_path / "link"
    first = landing.ingest(landing.put("day/a.csv", sales()))
    again = landing.ingest(other.format(landing=tmp_path / "landing", link=tmp_path / "link"))
    assert (first.path, again.path, again.again) == ("day/a.csv", "day/a.csv", True)
    assert counts() == (40, 0, 1)


@pytest.mark.parametrize(
    "name",
    [
        "with space.csv",
        'it\'s "quoted".csv',
        "two\nlines.csv",
        "tab\there.csv",
        "müller-日本-🙂.csv",
        "e\u0301.csv",
        "-rf *.csv",
        "{n} %s $HOME.csv",
        "a@3.csv",
        "CON|?<b>.csv",
        "~.csv",
    ],
)
def test_any_name_arrives_as_it_is(landing: Landing, name: str) -> None:
    done = landing.ingest(landing.put(name, sales()))
    assert (done.state, done.path) == ("committed", name)
    assert landing.ingest(name).again
    assert arrivals("sales")[0].path == name
    assert set(rows("datasets")["_file"]) == {name}


# Bad rows.


def test_bad_rows_go_to_quarantine_with_their_reasons(landing: Landing) -> None:
    table = sales().astype({"word": object})
    table.loc[3, "price"] = -1.0
    table.loc[7, "word"] = "<b>\u2028\x0b"
    table.loc[9, ["price", "word"]] = [200.0, "z"]
    done = landing.ingest(landing.put("a.csv", table))
    assert (done.state, done.rows, done.refused) == ("partly", 37, 3)
    assert done.reason.startswith("3 of 40 rows (7.5%) are bad: ")
    assert "price" in done.reason
    assert "word" in done.reason

    kept = rows("quarantine").assign(content=lambda kept: kept["row"].map(json.loads))
    by_row = {row["n"]: (row, reasons) for row, reasons in zip(kept["content"], kept["reasons"], strict=True)}
    assert set(by_row) == {3, 7, 9}
    assert by_row[7][0] == {"n": 7, "word": "<b>\u2028\x0b", "price": 8.5}
    assert by_row[3][1].startswith("price: ")
    assert by_row[9][1].count(";") == 1
    assert set(kept["path"]) == {"a.csv"}
    assert set(kept["digest"]) == {done.digest}
    good = table.drop(index=[3, 7, 9])
    assert sorted(rows("datasets")["n"]) == good["n"].tolist()
    assert counts() == (37, 3, 1)
    assert landing.ingest("a.csv").again
    assert counts() == (37, 3, 1)


def test_quarantine_keeps_every_digit_and_bytes(landing: Landing) -> None:
    table = sales().assign(price=[-0.12345678901234, *[1.0] * 39], blob=[b"\xff\x00"] * 40)
    table.to_parquet(landing.folder / "a.parquet")
    assert landing.ingest("a.parquet").state == "partly"
    kept = json.loads(rows("quarantine")["row"].item())
    assert kept == {"n": 0, "word": "a", "price": -0.12345678901234, "blob": "ff00"}


def test_too_many_bad_rows_refuse_the_file_and_say_how_many(landing: Landing) -> None:
    landing.ingest(landing.put("good.csv", sales()))
    table = sales(start=100)
    table.loc[:4, "price"] = -1.0
    done = landing.ingest(landing.put("a.csv", table))
    assert (done.state, done.rows, done.refused, done.version) == ("refused", 0, 0, None)
    assert "5 of 40 rows (12.5%) are bad" in done.reason
    assert "more than 10%, so none is taken" in done.reason
    assert counts() == (40, 0, 2)


def test_the_share_that_is_taken_can_be_set(landing: Landing) -> None:
    table = sales()
    table.loc[:3, "price"] = -1.0
    name = landing.put("a.csv", table)
    assert landing.ingest(name, max_refused_share=0.09).state == "refused"
    other = landing.put("b.csv", table)
    assert landing.ingest(other, max_refused_share=0.1).state == "partly"


def test_a_failure_of_the_whole_table_refuses_it_although_no_row_is_bad(landing: Landing) -> None:
    suite = [*SUITE.expectations, gxe.ExpectColumnMeanToBeBetween(column="price", max_value=5)]
    done = landing.ingest(landing.put("a.csv", sales()), suite=ExpectationSuite(name="x", expectations=suite))
    assert done.state == "refused"
    assert "price" in done.reason
    assert counts() == (0, 0, 1)


def test_a_failure_of_the_whole_table_after_bad_rows_were_split_off_refuses_it(landing: Landing) -> None:
    suite = [*SUITE.expectations, gxe.ExpectTableRowCountToBeBetween(min_value=40)]
    table = sales()
    table.loc[3, "price"] = -1.0
    done = landing.ingest(landing.put("a.csv", table), suite=ExpectationSuite(name="x", expectations=suite))
    assert (done.state, done.rows, done.refused) == ("refused", 0, 0)
    assert "39" in done.reason
    assert counts() == (0, 0, 1), "nothing in quarantine either: the file was refused as a whole"


def test_rows_that_do_not_fit_the_dataset_leave_nothing_in_quarantine(landing: Landing) -> None:
    landing.ingest(landing.put("good.csv", sales()))
    table = sales().assign(n=[f"n{place}" for place in range(40)])
    table.loc[3, "price"] = -1.0
    done = landing.ingest(landing.put("a.csv", table))
    assert done.state == "refused"
    assert "values of another type" in done.reason
    assert counts() == (40, 0, 2)


# Files that are no such table.

CSV = sales().to_csv(index=False).encode()
RENAMED = sales().rename(columns={"price": "cost"}).to_csv(index=False).encode()
DAMAGED: list[tuple[str, bytes, str]] = [
    ("renamed.csv", RENAMED, "'price'"),
    ("cut.csv.gz", gzip.compress(sales(5000).to_csv(index=False).encode())[:-2000], "content can be read"),
    ("not-compressed.csv.gz", CSV, "content can be read"),
    ("empty.csv", b"", "an empty file"),
    ("empty.csv.gz", b"", "an empty file"),
    ("empty.parquet", b"", "no Parquet footer"),
    ("empty.jsonl", b"", "no columns"),
    ("blank.csv", b"\n \n", "an empty file"),
    ("header.csv", b"n,word,price\n", "0 rows"),
    ("semicolon.csv", CSV.replace(b",", b";"), "looks like a semicolon"),
    ("tab.csv", CSV.replace(b",", b"\t"), "looks like a tab"),
    ("zeros.csv", CSV + bytes(100), "zero bytes"),
    ("utf16.csv", CSV.decode().encode("utf-16"), "zero bytes"),
    ("latin.csv", b"n,word,price\n1,\xe4,2\n", "byte 0xe4"),
    ("picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(1, 256)) * 20, "byte 0x89"),
    ("short-row.csv", CSV + b"1,a\n", "2 fields in line"),
    ("long-row.csv", CSV + b"1,a,2,3\n", "4 fields in line"),
    ("twice.csv", b"n,word,price,price\n1,a,2,3\n", "'price' more than once"),
    ("text.parquet", CSV, "no Parquet footer"),
    ("table.jsonl", CSV, "content can be read"),
    ("lists.jsonl", b"[1, 2, 3]\n[4, 5, 6]\n", "not JSON objects"),
    ("notes.txt", b"dear all", "its suffix names no kind of table"),
    ("nothing", b"n\n1\n", "its suffix names no kind of table"),
    ("ours.csv", b"n,word,price,_file\n1,a,2,x\n", "a column '_file'"),
    ("kinds.jsonl", b'{"n":1,"word":"a","price":1,"x":1}\n{"n":2,"word":"a","price":1,"x":"y"}\n', "several types"),
    ("case.csv", b"n,word,price,Price\n1,a,2,3\n", "'Price'"),
]


@pytest.mark.parametrize(("name", "content", "says"), DAMAGED, ids=[name for name, *_ in DAMAGED])
def test_a_file_that_is_no_such_table_is_refused_and_says_what_was_seen(
    landing: Landing, name: str, content: bytes, says: str
) -> None:
    done = landing.ingest(landing.write(name, content))
    assert (done.state, done.rows, done.version) == ("refused", 0, None)
    assert says in done.reason
    assert str(landing.folder) not in done.reason
    assert "\n" not in done.reason
    assert counts() == (0, 0, 1)
    assert landing.ingest(name).again


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (RENAMED, "no column 'price' and an unknown column 'cost'"),
        (sales().drop(columns="word").to_csv(index=False).encode(), "no column 'word'"),
        (sales().assign(more=1).to_csv(index=False).encode(), "an unknown column 'more'"),
    ],
)
def test_a_later_file_with_other_columns_is_refused(landing: Landing, content: bytes, says: str) -> None:
    landing.ingest(landing.put("first.csv", sales()))
    done = landing.ingest(landing.write("later.csv", content))
    assert done.state == "refused"
    assert says in done.reason
    assert counts() == (40, 0, 2)


def test_a_refused_file_that_comes_again_mended_is_taken(landing: Landing) -> None:
    assert landing.ingest(landing.write("a.csv", RENAMED)).state == "refused"
    assert landing.ingest(landing.put("a.csv", sales())).state == "committed"
    assert counts() == (40, 0, 2)


def _as_times(table: pd.DataFrame, zone: str | None = None) -> pd.DataFrame:
    return table.assign(at=pd.date_range("2024-01-01", periods=len(table), freq="h", tz=zone, unit="us"))


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.parquet": sales().to_parquet,
    "a.pq": lambda path: sales().to_parquet(path, index=False),
    "a.jsonl": lambda path: sales().to_json(path, orient="records", lines=True),
    "a.ndjson.gz": lambda path: sales().to_json(path, orient="records", lines=True, compression="gzip"),
    "a.tsv": lambda path: sales().to_csv(path, sep="\t", index=False),
    "a.csv.bz2": lambda path: sales().to_csv(path, index=False, compression="bz2"),
    "categories.parquet": lambda path: sales().astype({"word": "category"}).to_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_other_kinds_of_file_hold_the_same_rows(landing: Landing, name: str) -> None:
    WRITERS[name](landing.folder / name)
    assert landing.ingest(name).state == "committed"
    assert landing.ingest(landing.put("a.csv", sales(start=40))).state == "committed"
    table = rows("datasets").sort_values("n", ignore_index=True)
    pd.testing.assert_frame_equal(table.loc[:39, list(COLUMNS)], sales(), check_dtype=False)


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_times_arrive_as_the_same_moments(landing: Landing, zone: str | None) -> None:
    for number in range(2):
        _as_times(sales(start=40 * number), zone).to_parquet(landing.folder / f"{number}.parquet")
        assert landing.ingest(f"{number}.parquet").reason == ""
    moments = rows("datasets").sort_values("n")["at"].iloc[:40]
    assert moments.tolist() == _as_times(sales(), zone)["at"].tolist()


def test_a_column_no_dataset_can_hold_is_refused(landing: Landing) -> None:
    sales().assign(took=pd.to_timedelta(range(40), unit="s")).to_parquet(landing.folder / "a.parquet")
    done = landing.ingest("a.parquet")
    assert done.state == "refused"
    assert "Duration" in done.reason
    assert len(done.reason) < 300


# Nothing outside of the landing folder.


@pytest.mark.parametrize(
    "path",
    ["../secret.csv", "day/../../secret.csv", "day/../a.csv", "{outside}/secret.csv", "link.csv", "folder/secret.csv"],
)
def test_nothing_outside_of_the_landing_folder_is_read(
    landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "secret.csv").write_bytes(CSV)
    landing.put("day/a.csv", sales())
    landing.put("a.csv", sales())
    (landing.folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    (landing.folder / "folder").symlink_to(tmp_path)
    opened: list[Path] = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda file, *how, **more: opened.append(file) or real(file, *how, **more))
    with pytest.raises(ConfigError, match="leads out of the landing folder"):
        landing.ingest(path.format(outside=tmp_path))
    assert opened == []
    assert not (tmp_path / "lake").exists()


def test_a_link_that_stays_inside_is_a_copy(landing: Landing) -> None:
    landing.ingest(landing.put("a.csv", sales()))
    (landing.folder / "latest.csv").symlink_to("a.csv")
    assert landing.ingest("latest.csv").state == "duplicate"
    assert counts() == (40, 0, 2)


@pytest.mark.parametrize("path", ["missing.csv", "", ".", "folder"])
def test_what_is_no_file_is_a_wrong_request(landing: Landing, path: str) -> None:
    (landing.folder / "folder").mkdir()
    with pytest.raises(ConfigError, match=r"there is no file|not a regular file|leads out"):
        landing.ingest(path)


def test_what_is_no_regular_file_is_never_opened(landing: Landing) -> None:
    os.mkfifo(landing.folder / "pipe.csv")  # reading it would wait for ever
    found = find_pending.fn(landing.spec())
    assert found.files == ()
    assert "not a regular file" in found.left[0]


def test_a_name_that_is_not_utf8_is_said_in_words(landing: Landing) -> None:
    landing.write("b\udcff.csv", CSV)
    with pytest.raises(ConfigError, match="is not UTF-8"):
        landing.ingest("b\udcff.csv")


@pytest.mark.parametrize("suite", [None, ExpectationSuite(name="empty"), "sales"])
def test_a_wrong_suite_is_a_wrong_request_and_refuses_no_file(landing: Landing, suite: object) -> None:
    with pytest.raises(ConfigError, match="suite"):
        landing.ingest(landing.put("a.csv", sales()), suite=suite)  # type: ignore[arg-type]
    assert arrivals("sales") == []


# Crashes: after each, the same call completes what is missing and doubles nothing.

TABLES = ("datasets", "quarantine", "arrivals")


class Crash(BaseException):
    """As sudden as SIGKILL: nothing of ours catches it."""


def crash_at(monkeypatch: pytest.MonkeyPatch, table: str, when: str, *, nth: int = 1) -> None:
    """Break off before or after the nth commit to one of the lake's tables."""
    real = commits.append_next
    seen = 0

    def append(to: DeltaTable, content, **options) -> int:
        nonlocal seen
        hit = f"/{table}/" in to.table_uri
        seen += hit
        if hit and seen == nth and when == "before":
            raise Crash
        version = real(to, content, **options)
        if hit and seen == nth and when == "after":
            raise Crash
        return version

    for module in (lake, ledger):
        monkeypatch.setattr(module, "append_next", append)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("table", TABLES)
def test_a_crash_at_any_commit_is_completed_once_by_running_again(
    landing: Landing, monkeypatch: pytest.MonkeyPatch, table: str, when: str
) -> None:
    bad = sales()
    bad.loc[3, "price"] = -1.0
    names = [landing.put("a.csv", bad), landing.put("b.csv", sales(start=100)), landing.write("c.csv", b"")]
    with monkeypatch.context() as patch:
        crash_at(patch, table, when)
        with pytest.raises(Crash):
            landing.take(*names)
    seen = {line.path: line.state for line in arrivals("sales")}
    committed = (table, when) in {("datasets", "after"), ("arrivals", "before"), ("arrivals", "after")}
    assert ("a.csv" in seen) == committed, "the commit of the rows decides, whether the ledger was written or not"

    done = landing.take(*names).arrivals
    assert [(line.state, line.rows, line.refused) for line in done] == [
        ("partly", 39, 1),
        ("committed", 40, 0),
        ("refused", 0, 0),
    ]
    assert counts() == (79, 1, 3)
    landing.take(*names)
    assert counts() == (79, 1, 3)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_line_a_crash_kept_out_is_written_by_the_next_run_although_the_file_is_gone(
    landing: Landing, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    with monkeypatch.context() as patch:
        crash_at(patch, "arrivals", "before")
        with pytest.raises(Crash):
            landing.ingest(landing.put("a.csv", sales()))
    (landing.folder / "a.csv").unlink()
    if when == "after":  # another file's commit finds it too
        landing.ingest(landing.put("b.csv", sales(start=100)))
    find_pending.fn(landing.spec())
    table = rows("arrivals")
    assert table[table["path"] == "a.csv"]["state"].tolist() == ["committed"]


def test_a_renamed_copy_after_a_crash_is_still_a_copy(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        crash_at(patch, "datasets", "after", nth=1)
        with pytest.raises(Crash):
            landing.ingest(landing.put("a.csv", sales()))
    (landing.folder / "a.csv").rename(landing.folder / "b.csv")
    assert landing.ingest("b.csv").state == "duplicate"
    assert len(rows("datasets")) == 40


# Races and suites that change in between.


def test_a_refusal_that_comes_late_does_not_undo_a_commit(landing: Landing) -> None:
    """One worker still has the old suite: it refuses what another one commits in the same moment."""
    name = landing.put("a.csv", sales())
    strict = ExpectationSuite(name="strict", expectations=[gxe.ExpectColumnValuesToBeBetween(column="n", max_value=-1)])
    late = lake.commit_arrivals
    with pytest.MonkeyPatch.context() as patch:

        def overtaken(*arguments, **options):
            patch.setattr(lake, "commit_arrivals", late)
            landing.ingest(name)  # the other worker, with the mended suite
            return late(*arguments, **options)

        patch.setattr(lake, "commit_arrivals", overtaken)
        landing.ingest(name, suite=strict)
    assert [line.state for line in arrivals("sales")] == ["committed"]
    landing.take(name)
    taken = ingest_files.fn([name], dataset=landing.spec(), again=True)
    assert taken.arrivals[0].again
    assert len(rows("datasets")) == 40


def test_a_clock_that_goes_back_does_not_undo_a_commit(landing: Landing) -> None:
    from datetime import timedelta

    done = landing.ingest(landing.put("a.csv", sales()))
    later = {"state": "refused", "rows": 0, "version": None, "reason": "later by its clock", "content": ""}
    refused = done.model_copy(update={**later, "at": done.at + timedelta(days=1)})
    assert ledger.Ledger([done, refused]).find("a.csv", done.digest) == done
    ledger.write_lines("sales", [refused])
    assert arrivals("sales") == [done]
    assert len(rows("arrivals")) == 1, "what was committed is not refused any more"


def test_rows_that_only_the_mended_suite_refuses_are_kept_after_a_crash(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = sales()
    table.loc[3, "price"] = -1.0
    name = landing.put("a.csv", table)
    with monkeypatch.context() as patch:
        crash_at(patch, "quarantine", "after")
        with pytest.raises(Crash):
            landing.ingest(name)
    more = gxe.ExpectColumnValuesToBeBetween(column="n", max_value=38)
    stricter = ExpectationSuite(name="stricter", expectations=[*SUITE.expectations, more])
    done = landing.ingest(name, suite=stricter)
    assert (done.rows, done.refused) == (38, 2)
    assert sorted(rows("quarantine")["number"]) == [4, 40]


def test_a_file_that_breaks_a_library_holds_nobody_up(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [landing.put("a.csv", sales()), landing.put("b.csv", sales(start=100))]
    real = _intake._rows

    def fragile(file: Path) -> pd.DataFrame:
        if file.name == "a.csv":
            raise UnicodeDecodeError("utf-8", b"x", 0, 1, "as some library does")
        return real(file)

    monkeypatch.setattr(_intake, "_rows", fragile)
    taken = landing.take(*names)
    assert [line.path for line in taken.arrivals] == ["b.csv"]
    assert "a.csv cannot be taken: UnicodeDecodeError" in taken.left[0]


def test_large_batches_are_committed_in_parts(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "MAX_BATCH_BYTES", 9000)
    monkeypatch.setattr(_intake, "GATHERED_FILES", 2)
    taken = landing.take(*(landing.put(f"{n}.csv", sales(start=100 * n)) for n in range(6)))
    versions = [line.version for line in taken.arrivals]
    assert len(versions) == 6
    assert 1 < len(set(versions)) < 6
    assert counts() == (240, 0, 6)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ([1.5, 2.5], [True, False], "bool where the dataset has double"),
        ([True, False], [1, 0], "int64 where the dataset has bool"),
    ],
)
def test_values_are_not_bent_into_another_kind(landing: Landing, first: list, second: list, says: str) -> None:
    suite = ExpectationSuite(name="any", expectations=[gxe.ExpectColumnToExist(column="v")])
    landing.ingest(landing.put("a.csv", pd.DataFrame({"v": first})), suite=suite)
    done = landing.ingest(landing.put("b.csv", pd.DataFrame({"v": second})), suite=suite)
    assert done.state == "refused"
    assert says in done.reason


def test_digits_are_not_lost_to_a_narrower_column(landing: Landing) -> None:
    suite = ExpectationSuite(name="any", expectations=[gxe.ExpectColumnToExist(column="v")])
    narrow = pd.DataFrame({"v": pd.Series([1.5, None], dtype="float32")})
    narrow.to_parquet(landing.folder / "a.parquet")
    pd.DataFrame({"v": [2.5, None, 3.25]}).to_parquet(landing.folder / "b.parquet")
    pd.DataFrame({"v": [0.1]}).to_parquet(landing.folder / "c.parquet")
    states = [landing.ingest(name, suite=suite).state for name in ("a.parquet", "b.parquet", "c.parquet")]
    assert states == ["committed", "committed", "refused"]


def test_quarantine_loses_no_digit_of_any_kind(landing: Landing) -> None:
    table = sales(40).assign(
        exact=0.1 + 0.2,
        large=1.7976931348623157e308,
        endless=float("inf"),
        minus=-0.0,
        whole=pd.array([2**53 + 1] * 40),
    )
    table.loc[3, "price"] = -1.0
    table["whole"] = table["whole"].astype("Int64").where(table.index != 5)
    table.to_parquet(landing.folder / "a.parquet")
    landing.ingest("a.parquet")
    kept = json.loads(rows("quarantine")["row"].iloc[0])
    assert (kept["exact"], kept["large"], kept["endless"], str(kept["minus"])) == (
        0.1 + 0.2,
        1.7976931348623157e308,
        float("inf"),
        "-0.0",
    )
    assert kept["whole"] == 2**53 + 1
