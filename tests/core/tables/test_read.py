from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pandas.testing import assert_frame_equal

from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError
from prefect_mlops.core.tables import formats
from prefect_mlops.core.tables.digests import table_digest
from prefect_mlops.core.tables.errors import masked, reading
from prefect_mlops.core.tables.read import as_frame, described, read_table, source_of
from prefect_mlops.core.values import TableRef

CSV = "id,name,delay\n1,EWR,2.5\n2,JFK,\n3,LGA,-1.0\n"


@pytest.fixture
def flights() -> pd.DataFrame:
    return pd.DataFrame({"id": [1, 2, 3], "name": ["EWR", "JFK", "LGA"], "delay": [2.5, None, -1.0]})


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


COMPRESS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


@pytest.mark.parametrize("compression", COMPRESS)
def test_delimited_text_is_read_whatever_it_is_compressed_with(
    tmp_path: Path, flights: pd.DataFrame, compression: str
) -> None:
    path = written(tmp_path / f"f.csv{compression}", COMPRESS[compression](CSV.encode()))
    assert_frame_equal(read_table(path), flights)
    tabs = written(tmp_path / f"f.TSV{compression}", COMPRESS[compression](CSV.replace(",", "\t").encode()))
    assert_frame_equal(read_table(str(tabs)), flights)


@pytest.mark.parametrize("compression", COMPRESS)
def test_json_lines_keep_text_that_looks_like_numbers_and_dates(tmp_path: Path, compression: str) -> None:
    lines = b'{"zip":"007","date":"2013-01-01","n":1}\n{"zip":"08","date":"x","n":2}\n'
    frame = read_table(written(tmp_path / f"f.jsonl{compression}", COMPRESS[compression](lines)))
    assert frame["zip"].tolist() == ["007", "08"]
    assert frame["date"].tolist() == ["2013-01-01", "x"]
    assert read_table(tmp_path / f"f.jsonl{compression}", columns=["n", "zip"]).columns.tolist() == ["n", "zip"]


def test_parquet_file_and_folder(tmp_path: Path, flights: pd.DataFrame) -> None:
    flights.to_parquet(tmp_path / "f.parquet")
    assert_frame_equal(read_table(tmp_path / "f.parquet"), flights)
    folder = tmp_path / "_all" / "flights"
    for month in (1, 2):
        (folder / f"month={month}").mkdir(parents=True)
        flights.to_parquet(folder / f"month={month}" / "part.parquet")
    (folder / "_SUCCESS").touch()
    assert read_table(folder)["month"].tolist() == [1, 1, 1, 2, 2, 2]
    assert read_table(folder, columns=["delay", "id"]).columns.tolist() == ["delay", "id"]


def test_an_index_kept_in_parquet_is_a_column_like_any_other(tmp_path: Path, flights: pd.DataFrame) -> None:
    flights.set_index("id").to_parquet(tmp_path / "named.parquet")
    assert_frame_equal(read_table(tmp_path / "named.parquet"), flights)
    flights[1:].to_parquet(tmp_path / "unnamed.parquet")
    assert_frame_equal(read_table(tmp_path / "unnamed.parquet"), flights[1:].reset_index(drop=True))


@pytest.fixture
def delta(tmp_path: Path, flights: pd.DataFrame) -> Path:
    path = tmp_path / "lake" / "flights"
    write_deltalake(path, flights)
    write_deltalake(path, flights, mode="append")
    return path


@pytest.mark.parametrize("prefix", ["", "delta://"])
def test_delta_is_read_at_the_version_asked_for(delta: Path, flights: pd.DataFrame, prefix: str) -> None:
    assert len(read_table(f"{prefix}{delta}")) == 6
    first = read_table(f"{prefix}{delta}@0", columns=["name", "id"])
    assert_frame_equal(first, flights[["name", "id"]])
    ref = source_of(first)
    assert ref is not None
    assert (ref.uri, ref.version, ref.rows, ref.digest) == (str(delta), 0, 3, None)
    assert ref.columns == {"name": "string", "id": "integer"}
    newest = source_of(read_table(delta))
    assert newest is not None
    assert newest.version == 1


@pytest.fixture
def database(tmp_path: Path, flights: pd.DataFrame) -> Path:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection:
        flights.to_sql("flights", connection, index=False)
    return path


def test_sql_runs_the_query(database: Path, flights: pd.DataFrame) -> None:
    url = f"sqlite:///{database}"
    assert_frame_equal(read_table(url, query="select * from flights order by id"), flights)
    frame = read_table(url, query="select * from flights where name = ' :x' or 1", columns=["delay"])
    assert frame.columns.tolist() == ["delay"]


def test_fsspec_addresses_are_read(flights: pd.DataFrame) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/t/f.csv.gz", gzip.compress(CSV.encode()))
    assert_frame_equal(read_table("memory://t/f.csv.gz"), flights)
    with memory.open("/t/p/a.parquet", "wb") as stream:
        flights.to_parquet(stream)
    assert_frame_equal(read_table("memory://t/p"), flights)
    assert_frame_equal(read_table("memory://t/p/a.parquet", columns=["id"]), flights[["id"]])
    with pytest.raises(ConfigError, match=r"memory://t/none.csv does not exist"):
        read_table("memory://t/none.csv")


def test_home_and_file_addresses_are_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flights: pd.DataFrame
) -> None:
    written(tmp_path / "f.csv", CSV)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_frame_equal(read_table("~/f.csv"), flights)
    frame = read_table(f"file://{tmp_path}/f.csv")
    assert frame.attrs["prefect_mlops.source"]["uri"] == str(tmp_path / "f.csv")


def test_columns_are_read_alone_and_in_the_order_asked_for(tmp_path: Path, flights: pd.DataFrame) -> None:
    path = written(tmp_path / "f.csv", "\ufeff" + CSV)
    assert_frame_equal(read_table(path, columns=["delay", "id"]), flights[["delay", "id"]])


def test_source_of_a_frame_from_elsewhere_is_none(flights: pd.DataFrame) -> None:
    assert source_of(flights) is None
    flights.attrs["prefect_mlops.source"] = {"nonsense": 1}
    assert source_of(flights) is None


# What is wrong with the request.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"uri": "nowhere.csv"}, r"there is no file or folder .*nowhere\.csv: check the path"),
        ({"uri": "nowhere@3"}, r"there is no file or folder .*nowhere@3, nor a Delta table .*nowhere: "),
        ({"uri": "delta://nowhere"}, r"nowhere is not a Delta table"),
        ({"uri": ""}, "address is a path or a URI, and not empty"),
        ({"uri": 3}, "address is a path or a URI, and not empty"),
        ({"uri": "nope://x/y.csv"}, "nothing installed reads 'nope'"),
        ({"uri": "hdfs2://u:geheim@x/y", "query": "select 1"}, r"hdfs2://u:\*\*\*@x/y: nothing installed reads"),
        ({"uri": "gdrive://x/y.csv"}, "needs a package that is not installed"),
        ({"uri": "mysql+pymysql://u:geheim@h/d", "query": "select 1"}, r"//u:\*\*\*@h/d needs a package .*pymysql"),
        ({"uri": "sqlite:///{tmp}/no.db", "query": "select 1"}, "there is no such file, and SQLite would make an"),
        ({"uri": "sqlite:///{tmp}/x.db"}, "is a database: say what to read with query="),
        ({"uri": "sqlite:///{tmp}/x.db", "query": " "}, "is a database: say what to read with query="),
        ({"uri": "{tmp}/f.csv", "query": "select 1"}, r"f\.csv is not a database, so it takes no query"),
        ({"uri": "sqlite:///{tmp}/x.db", "query": "select * from flight"}, "the query is wrong: no such table: flight"),
        ({"uri": "sqlite:///{tmp}/x.db", "query": "selct 1"}, "the query is wrong: .*syntax error"),
        ({"uri": "{tmp}/f.xlsx"}, r"its suffix names no kind of table: use \.csv"),
        (
            {"uri": "{tmp}/f.csv", "columns": ["dely"]},
            r"no column of .*f\.csv is called 'dely': did you mean 'delay'\?",
        ),
        ({"uri": "{tmp}/f.parquet", "columns": ["dely"]}, r"f\.parquet is called 'dely': did you mean 'delay'\?"),
        ({"uri": "{tmp}/f.jsonl", "columns": ["dely"]}, r"f\.jsonl is called 'dely': did you mean 'delay'\?"),
        ({"uri": "{tmp}/lake/flights", "columns": ["dely"]}, r"flights is called 'dely': did you mean 'delay'\?"),
        (
            {"uri": "sqlite:///{tmp}/x.db", "query": "select * from flights", "columns": ["dely"]},
            r"x\.db is called 'dely': did you mean 'delay'\?",
        ),
        ({"uri": "{tmp}/f.csv", "columns": "delay"}, r"columns is a list of names, got the text 'delay'"),
        ({"uri": "{tmp}/f.csv", "columns": []}, "at least one"),
        ({"uri": "{tmp}/f.csv", "columns": ["id", "id"]}, "each column to read once"),
        ({"uri": "{tmp}/lake/flights@7"}, r"flights has no version 7: there are versions up to 1"),
    ],
)
@pytest.mark.usefixtures("delta", "database")
def test_wrong_requests_are_said_in_words(
    tmp_path: Path, flights: pd.DataFrame, call: dict[str, object], message: str
) -> None:
    written(tmp_path / "f.csv", CSV)
    written(tmp_path / "f.xlsx", b"PK")
    flights.to_parquet(tmp_path / "f.parquet")
    flights.to_json(tmp_path / "f.jsonl", orient="records", lines=True)
    filled = {key: value.format(tmp=tmp_path) if isinstance(value, str) else value for key, value in call.items()}
    with pytest.raises(ConfigError, match=message) as caught:
        read_table(**filled)  # type: ignore[arg-type]
    assert "geheim" not in str(caught.value)
    assert len(str(caught.value)) < 700
    assert not (tmp_path / "no.db").exists()


# What is wrong with the content.


def parquet_bytes(rows: int = 5000) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": list(range(rows)), "b": [str(n) for n in range(rows)]}), sink)
    return sink.getvalue().to_pybytes()


def repeated_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), sink)
    return sink.getvalue().to_pybytes()


NOISE = os.urandom(1 << 16).hex().encode()
WHOLE = parquet_bytes()
DAMAGED: dict[str, tuple[str, bytes, str]] = {
    "empty file": ("f.csv", b"", "file has content: saw an empty file"),
    "blank file": ("f.csv", b"\n \n", "file has content: saw an empty file"),
    "header only": ("f.csv", b"a,b\n", "table has rows: saw 0 rows"),
    "repeated names": ("f.csv", b"a,b,a\n1,2,3\n", "column names are unique: saw 'a' more than once"),
    "semicolons": ("f.csv", b"a;b\n1;2\n", "whose delimiter looks like a semicolon; expected a comma"),
    "tabs": ("f.csv", b"a\tb\n1\t2\n", "whose delimiter looks like a tab; expected a comma"),
    "bars": ("f.csv", b"a|b\n1|2\n", "whose delimiter looks like a bar; expected a comma"),
    "commas in tsv": ("f.tsv", b"a,b\n1,2\n", "whose delimiter looks like a comma; expected a tab"),
    "latin-1": ("f.csv", "a,b\n1,Zürich\n".encode("latin-1"), "saw byte 0xfc, which is not utf-8"),
    "utf-16": ("f.csv", "a,b\n1,2\n".encode("utf-16"), "zero bytes, as in UTF-16"),
    "a long row": ("f.csv", b"a,b\n1,2\n1,2,3\n", "saw 3 fields in line 3; expected 2 fields"),
    "a short row": ("f.csv", b"a,b\n1,2\n3\n", "saw 1 fields in line 3; expected 2 fields"),
    "only long rows": ("f.csv", b"a,b\n1,2,3\n4,5,6\n", "saw 3 fields in line 2; expected 2 fields"),
    "an open quote": ("f.csv", b'a,b\n1,"2\n', "quotes are closed"),
    "cut gzip": ("f.csv.gz", gzip.compress(NOISE)[:5000], "content can be read: saw Compressed file ended"),
    "no gzip": ("f.csv.gz", b"a,b\n1,2\n", "content can be read: saw Not a gzipped file"),
    "cut bz2": ("f.csv.bz2", bz2.compress(NOISE)[:5000], "content can be read: saw Compressed file ended"),
    "no bz2": ("f.csv.bz2", b"a,b\n1,2\n", "content can be read: saw Invalid data stream"),
    "cut xz": ("f.csv.xz", lzma.compress(NOISE)[:5000], "content can be read: saw Compressed file ended"),
    "no xz": ("f.csv.xz", b"a,b\n1,2\n", "content can be read: saw Input format not supported"),
    "cut zstd": ("f.jsonl.zst", zstd(NOISE)[:5000], "content can be read: saw"),
    "no zstd": ("f.csv.zst", b"a,b\n1,2\n", "content can be read: saw"),
    "cut parquet": ("f.parquet", WHOLE[:3000], "content is Parquet: saw no Parquet footer in f.parquet"),
    "damaged parquet": ("f.parquet", WHOLE[:2000] + bytes(3000) + WHOLE[5000:], "content can be read: saw"),
    "no parquet": ("f.parquet", CSV.encode() * 9, "content is Parquet: saw no Parquet footer in f.parquet"),
    "empty parquet": ("f.parquet", parquet_bytes(0), "table has rows: saw 0 rows"),
    "parquet, repeated names": ("f.parquet", repeated_parquet(), "column names are unique"),
    "broken json": ("f.jsonl", b'{"a":1}\n{"a":nul', "content can be read: saw"),
    "a json list": ("f.jsonl", b'[{"a":1},{"a":2}]', "content is JSON lines: saw lines that are not JSON objects"),
    "empty json": ("f.jsonl", b"", "table has columns: saw no columns"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_content_is_said_in_words(tmp_path: Path, case: str) -> None:
    name, content, message = DAMAGED[case]
    path = written(tmp_path / name, content)
    with pytest.raises(DataCheckError, match=message) as caught:
        read_table(path)
    report = caught.value.report
    assert report is not None
    assert not report.passed
    assert (report.kind, report.subject, len(report.checks)) == ("data", str(path), 1)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("row", [b"3,4,5", b"3"])
def test_uneven_rows_are_found_when_only_some_columns_are_read(tmp_path: Path, row: bytes) -> None:
    path = written(tmp_path / "f.csv", b"a,b\n1,2\n" + row + b"\n")
    with pytest.raises(DataCheckError, match="fields in line 3; expected 2 fields"):
        read_table(path, columns=["a"])


def test_gaps_at_the_end_of_full_rows_are_no_short_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "f.csv", 'a,b\n1,"x, y\nz"\n2,\n\n3,4\n')
    assert read_table(path)["b"].isna().tolist() == [False, True, False]


def test_folder_without_parquet_and_folder_with_something_else(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataCheckError, match="folder has data: saw a folder without Parquet files"):
        read_table(tmp_path / "empty")
    (tmp_path / "texts").mkdir()
    written(tmp_path / "texts" / "a.csv", CSV)
    with pytest.raises(DataCheckError, match=r"content is Parquet: saw no Parquet footer in a\.csv"):
        read_table(tmp_path / "texts")


def test_damaged_delta_tables(delta: Path) -> None:
    for file in DeltaTable(delta).file_uris():
        Path(file).unlink()
    with pytest.raises(DataCheckError, match="a data file that the Delta log names and that is gone"):
        read_table(delta)
    written(delta / "_delta_log" / "00000000000000000001.json", "garbage")
    with pytest.raises(DataCheckError, match="Delta log can be read") as caught:
        read_table(delta)
    assert len(str(caught.value)) < 800


def test_queries_without_rows_or_with_repeated_names_hold_no_table(database: Path) -> None:
    with pytest.raises(DataCheckError, match="table has rows: saw 0 rows"):
        read_table(f"sqlite:///{database}", query="select * from flights where id > 9")
    with pytest.raises(DataCheckError, match="column names are unique: saw 'id'"):
        read_table(f"sqlite:///{database}", query="select id, id from flights")


# What fails underneath.


def test_a_locked_database_is_a_backend_error_with_its_cause(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("begin exclusive")
        with pytest.raises(BackendError, match="cannot be read: database is locked") as caught:
            read_table(f"sqlite:///{database}?timeout=0.1", query="select * from flights")
    assert type(caught.value.__cause__).__name__ == "OperationalError"


def test_an_unreachable_store_is_a_backend_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "c",
        "AWS_ALLOW_HTTP": "true",
        "max_retries": "0",
    }.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(BackendError, match="s3://bucket/flights cannot be read") as caught:
        read_table("delta://s3://bucket/flights")
    assert caught.value.__cause__ is not None


def test_an_unreachable_http_server_is_a_backend_error() -> None:
    with pytest.raises(BackendError) as caught:
        read_table("http://u:geheim@127.0.0.1:1/f.csv?sig=signature")
    assert "geheim" not in str(caught.value)
    assert "signature" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_permissions_are_a_backend_error_and_bugs_stay_visible() -> None:
    with pytest.raises(BackendError, match="Permission denied"), reading("/x/f.csv"):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(BackendError, match="Input/output error"), reading("/x/f.csv"):
        raise OSError(5, "Input/output error")
    with pytest.raises(TypeError), reading("/x/f.csv"):
        raise TypeError("a mistake of ours")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("postgresql+psycopg://u:p@ss/w@h:5/d", "postgresql+psycopg://u:***@h:5/d"),
        ("https://h/f.csv?X-Amz-Signature=abc&part=1", "https://h/f.csv?X-Amz-Signature=***&part=1"),
        ("postgresql://h/d?user=u&password=abc", "postgresql://h/d?user=u&password=***"),
        ("delta://s3://bucket/x@3", "delta://s3://bucket/x@3"),
        ("s3://bucket/x@3", "s3://bucket/x@3"),
        ("/data/x@3", "/data/x@3"),
    ],
)
def test_secrets_are_masked_and_nothing_else(uri: str, expected: str) -> None:
    assert masked(uri) == expected


def test_a_password_in_a_librarys_own_text_is_masked() -> None:
    with pytest.raises(BackendError) as caught, reading("ftp://u:ge%20heim@h/f.csv"):
        raise OSError(111, "refused for u with 'ge heim' at ftp://u:ge%20heim@h/f.csv" + "x" * 9999)
    assert "heim" not in str(caught.value)
    assert len(str(caught.value)) < 700


# References.


def test_as_frame_gives_a_frame_back_untouched(flights: pd.DataFrame) -> None:
    assert as_frame(flights) is flights


def test_as_frame_reads_exactly_what_was_referred_to(delta: Path, tmp_path: Path) -> None:
    frame = read_table(f"{delta}@0", columns=["name", "id"])
    ref = source_of(frame)
    assert ref is not None
    ref = ref.model_copy(update={"digest": table_digest(frame)})
    again = as_frame(TableRef.model_validate(json.loads(ref.model_dump_json())))
    assert_frame_equal(again, frame)
    assert as_frame(TableRef(uri=f"delta://{delta}", version=0)).shape == (3, 3)
    path = written(tmp_path / "f@2.csv", CSV)
    assert len(as_frame(TableRef(uri=str(path)))) == 3


def test_as_frame_refuses_changed_data(tmp_path: Path) -> None:
    path = written(tmp_path / "f.csv", CSV)
    frame = read_table(path)
    ref = source_of(frame)
    assert ref is not None
    ref = ref.model_copy(update={"digest": table_digest(frame)})
    assert_frame_equal(as_frame(ref), frame)
    written(path, CSV.replace("-1.0", "-1.5"))
    with pytest.raises(DataCheckError, match="has changed since it was referred to: saw 3 rows, sha256:") as caught:
        as_frame(ref)
    assert caught.value.report is not None
    assert not caught.value.report.passed


def test_as_frame_says_what_cannot_be_read_again(database: Path) -> None:
    ref = source_of(read_table(f"sqlite:///{database}", query="select * from flights"))
    assert ref is not None
    with pytest.raises(ConfigError, match="a reference keeps no query"):
        as_frame(ref)
    with pytest.raises(ConfigError, match="its secret is masked in the reference"):
        as_frame(TableRef(uri="ftp://u:***@h/f.csv"))
    with pytest.raises(ConfigError, match="a table is a DataFrame or a TableRef, got list"):
        as_frame([1])  # type: ignore[arg-type]


@pytest.mark.parametrize("columns", [None, ["half", "name", "n", "g"]])
def test_a_large_table_is_read_a_few_columns_at_a_time_and_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: list[str] | None
) -> None:
    frame = pd.DataFrame(
        {
            "half": [0.5, None, 1.5, 2.0],
            "n": pd.array([1, 2, None, 4], "Int64"),
            "flag": [True, None, False, True],
            "name": ["a", "b", None, "d"],
            "kind": pd.Categorical(["u", "v", None, "u"], categories=["v", "w", "u"]),
            "at": pd.date_range("2024-01-01", periods=4, tz="Europe/Berlin"),
        },
        index=pd.Index([7, 8, 9, 10], name="g"),
    )
    (tmp_path / "folder").mkdir()
    for place in range(2):
        frame.to_parquet(tmp_path / "folder" / f"{place}.parquet")
    delta = frame.drop(columns="kind").reset_index()
    for _ in range(2):
        write_deltalake(tmp_path / "delta", delta, mode="append")
    whole = {name: read_table(tmp_path / name, columns=columns) for name in ("folder", "delta")}
    monkeypatch.setattr(formats, "GROUP_CELLS", 16)  # two columns of eight rows
    for name, expected in whole.items():
        assert_frame_equal(read_table(tmp_path / name, columns=columns), expected)


def test_a_table_is_described_without_reading_its_rows(tmp_path: Path, flights: pd.DataFrame) -> None:
    flights.rename_axis("place").set_axis([3, 1, 2]).to_parquet(tmp_path / "a.parquet")
    flights.rename_axis("place").to_parquet(tmp_path / "range.parquet")
    flights.set_axis([3, 1, 2]).to_parquet(tmp_path / "b.parquet")
    flights.to_csv(tmp_path / "c.csv")
    for _ in range(2):
        write_deltalake(tmp_path / "d", flights, mode="append")
    found = {name: described(tmp_path / name) for name in ("a.parquet", "b.parquet", "range.parquet", "c.csv", "d@0")}
    assert found["range.parquet"] is None
    assert found["c.csv"] is None
    for name in ("a.parquet", "b.parquet", "d@0"):
        assert list(found[name].columns) == list(read_table(tmp_path / name).columns)
    assert (found["d@0"].version, described(tmp_path / "d").version) == (0, 1)
    assert described("s3://key:secret@bucket/d.parquet") is None
    with pytest.raises(ConfigError, match="there is no file or folder"):
        described(tmp_path / "nothing")
