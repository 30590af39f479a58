from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, WriterProperties, write_deltalake
from pandas.testing import assert_frame_equal

from prefect_mlops.core.addresses import DIGEST_COLUMN, FILE_COLUMN, LAKE_DIGEST
from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.lineage.training_data import Lineage
from prefect_mlops.core.tables.chunks import read_chunks
from prefect_mlops.core.tables.digests import table_digest
from prefect_mlops.core.tables.read import as_frame, read_table
from prefect_mlops.core.values import TableRef


def together(chunks: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(chunks)


def rows(start: int, *, count: int = 5) -> pd.DataFrame:
    numbers = np.arange(start, start + count)
    return pd.DataFrame({"id": numbers, "half": numbers / 2, "name": [f"n{number}" for number in numbers]})


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """Versions 0 to 3: whole numbers and booleans have gaps in one file only, one column came later."""
    path = tmp_path / "table"
    for version in range(4):
        frame = rows(version * 5).assign(count=pd.array([1, 2, 3, 4, 5], "Int64"), on=pd.array([True] * 5, "boolean"))
        if version == 2:
            frame.loc[1, ["count", "on"]] = pd.NA
        if version == 3:
            frame["late"] = [1, 2, 3, 4, 5]
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
        write_deltalake(path, table, mode="append", schema_mode="merge")
    return path


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Rows of four files, one of them with two contents, in row groups of two rows."""
    path = tmp_path / "lake"
    files = [("a.csv", "d1"), ("a.csv", "d2"), ("b.csv", "d1"), ("c.csv", "d3"), (None, None)]
    frames = [
        rows(place * 4, count=4).assign(**{FILE_COLUMN: f, DIGEST_COLUMN: d}) for place, (f, d) in enumerate(files)
    ]
    for part in (frames[:3], frames[3:]):
        table = pa.concat_tables(
            pa.Table.from_pandas(one, preserve_index=False)
            .replace_schema_metadata(None)
            .cast(
                pa.schema(
                    [("id", pa.int64()), ("half", pa.float64()), ("name", pa.string())]
                    + [(mark, pa.string()) for mark in (FILE_COLUMN, DIGEST_COLUMN)]
                )
            )
            for one in part
        )
        write_deltalake(path, table, mode="append")
    return path


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("version", [None, 1])
def test_chunks_of_a_delta_table_put_together_are_the_table(delta: Path, size: int, version: int | None) -> None:
    ref = TableRef(uri=str(delta), version=version)
    whole = as_frame(ref)
    chunks = list(read_chunks(ref, rows=size))
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert all(list(chunk.dtypes) == list(whole.dtypes) for chunk in chunks)
    assert_frame_equal(together(chunks), whole)


def test_the_same_version_gives_the_same_chunks_after_a_checkpoint(delta: Path) -> None:
    before = list(read_chunks(TableRef(uri=str(delta), version=3), rows=4))
    DeltaTable(delta).create_checkpoint()
    write_deltalake(delta, rows(99), mode="append", schema_mode="merge")
    after = list(read_chunks(TableRef(uri=str(delta), version=3), rows=4))
    for one, other in zip(before, after, strict=True):
        assert_frame_equal(one, other)


def test_partitions_and_columns_in_an_order_of_their_own(tmp_path: Path) -> None:
    frame = rows(0).assign(part=["x", "y", None, "x", "y"], number=[1, 1, 2, 2, 2])
    write_deltalake(tmp_path / "d", frame, partition_by=["part", "number"])
    for columns in (None, ["part", "id"], ["number"], ["name", "half"]):
        chunks = list(read_chunks(str(tmp_path / "d"), columns=columns, rows=2))
        assert_frame_equal(together(chunks), read_table(tmp_path / "d", columns=columns))


def parquet_files(folder: Path) -> dict[str, Path]:
    kinds = {
        "plain": rows(0, count=20),
        "nullable": rows(0, count=20).assign(
            n=pd.array([*range(19), None], "Int64"), b=pd.array([True] * 20, "boolean")
        ),
        "index": rows(0, count=20).set_index("name"),
        "named range": rows(0, count=20).rename_axis("place"),
        "categories": rows(0, count=20).assign(c=pd.Categorical(["u"] * 9 + ["v"] * 11, categories=["v", "w", "u"])),
        "times": rows(0, count=20).assign(t=pd.date_range("2024-01-01", periods=20, tz="Europe/Berlin")),
        "gaps": rows(0, count=20).assign(n=pd.Series([1] * 20)),
    }
    for name, frame in kinds.items():
        frame.to_parquet(folder / f"{name}.parquet", row_group_size=6)
    gaps = pa.table({"n": pa.array([*range(19), None]), "b": pa.array([True] * 19 + [None]), "d": [["x"]] * 20})
    pq.write_table(gaps, folder / "gaps.parquet", row_group_size=6, write_statistics=False)
    return {name: folder / f"{name}.parquet" for name in kinds}


def test_chunks_of_parquet_files_put_together_are_the_table(tmp_path: Path) -> None:
    for name, path in parquet_files(tmp_path).items():
        assert_frame_equal(together(list(read_chunks(str(path), rows=7))), read_table(path), obj=name)
    part = ["c", "id"]
    path = tmp_path / "categories.parquet"
    assert_frame_equal(together(list(read_chunks(str(path), columns=part, rows=7))), read_table(path, columns=part))


def test_chunks_of_a_folder_whose_files_have_categories_of_their_own(tmp_path: Path) -> None:
    for day, members in enumerate((["u", "v"], ["w", "v"], ["a"])):
        folder = tmp_path / "t" / f"day={day}"
        folder.mkdir(parents=True)
        frame = rows(day * 4, count=4).assign(c=pd.Categorical((members * 4)[:4]))
        frame.to_parquet(folder / "part.parquet")
    assert_frame_equal(together(list(read_chunks(str(tmp_path / "t"), rows=3))), read_table(tmp_path / "t"))


def test_text_is_sliced_with_the_types_of_the_whole(tmp_path: Path) -> None:
    text = "a,b\n1,x\n2,y\nthree,z\n"
    (tmp_path / "t.csv").write_text(text)
    (tmp_path / "t.jsonl").write_text('{"a": 1, "b": "x"}\n{"a": null, "b": "y"}\n')
    for name in ("t.csv", "t.jsonl"):
        path = str(tmp_path / name)
        assert_frame_equal(together(list(read_chunks(path, rows=1))), read_table(path))
        assert_frame_equal(together(list(read_chunks(path, columns=["b"], rows=1))), read_table(path, columns=["b"]))


def test_a_frame_is_sliced_without_copying() -> None:
    frame = rows(0, count=10).set_axis(range(50, 60))
    chunks = list(read_chunks(frame, rows=4))
    assert [list(chunk.index) for chunk in chunks] == [[50, 51, 52, 53], [54, 55, 56, 57], [58, 59]]
    assert np.shares_memory(chunks[1]["half"].to_numpy(), frame["half"].to_numpy())
    assert list(next(read_chunks(frame, columns=["name", "id"]))) == ["name", "id"]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_only_rows_of_the_files_named_are_read(lake: Path, size: int) -> None:
    whole = read_table(lake)
    for files in (
        (("a.csv", "d1"),),
        (("a.csv", "d2"), ("b.csv", "d1"), ("c.csv", "d3")),
        (("a.csv", "d1"), ("c.csv", "d3"), ("gone.csv", "d9")),
    ):
        ref = TableRef(uri=str(lake), files=files)
        mine = [pair in files for pair in zip(whole[FILE_COLUMN], whole[DIGEST_COLUMN], strict=True)]
        wanted = whole[mine].reset_index(drop=True)
        assert len(wanted)
        assert_frame_equal(together(list(read_chunks(ref, rows=size))), wanted)
        assert_frame_equal(as_frame(ref), wanted)
        assert_frame_equal(together(list(read_chunks(ref, columns=["id"], rows=size))), wanted[["id"]])


def test_a_path_with_the_digest_of_another_file_names_no_rows(lake: Path) -> None:
    ref = TableRef(uri=str(lake), files=(("c.csv", "d1"), ("b.csv", "d2")))
    for read in (as_frame, lambda table: list(read_chunks(table))):
        with pytest.raises(DataCheckError, match="table has rows: saw 0 rows"):
            read(ref)


def test_files_in_which_no_row_can_be_are_not_opened(lake: Path) -> None:
    ref = TableRef(uri=str(lake), files=(("c.csv", "d3"),))
    other = next(
        name for name in DeltaTable(lake).file_uris() if "a.csv" in pq.read_table(name)[FILE_COLUMN].to_pylist()
    )
    Path(other).write_bytes(b"damaged")
    assert together(list(read_chunks(ref)))["id"].tolist() == [12, 13, 14, 15]


def test_parts_of_a_file_in_which_no_row_can_be_are_not_read(tmp_path: Path) -> None:
    marks = [(f"{place}.csv", "d") for place in range(3)]
    frames = [
        rows(place * 4, count=4).assign(**{FILE_COLUMN: f, DIGEST_COLUMN: d}) for place, (f, d) in enumerate(marks)
    ]
    one_file_a_group = WriterProperties(max_row_group_size=4, write_batch_size=4, compression="UNCOMPRESSED")
    write_deltalake(tmp_path / "lake", pd.concat(frames), writer_properties=one_file_a_group)
    (path,) = map(Path, DeltaTable(tmp_path / "lake").file_uris())
    written = pq.ParquetFile(path)
    assert written.metadata.num_row_groups == 3
    damaged = written.read_row_group(0)[FILE_COLUMN][0].as_py()
    first = written.metadata.row_group(0).column(0)
    start = first.dictionary_page_offset or first.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + first.total_compressed_size] = b"\xff" * first.total_compressed_size
    path.write_bytes(content)
    others = tuple(mark for mark in marks if mark[0] != damaged)
    found = together(list(read_chunks(TableRef(uri=str(tmp_path / "lake"), files=others))))
    assert set(found[FILE_COLUMN]) == {path for path, _ in others}
    assert len(found) == 8
    with pytest.raises(DataCheckError):
        list(read_chunks(TableRef(uri=str(tmp_path / "lake"))))


def test_files_are_of_the_lake_only(tmp_path: Path, delta: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(ConfigError, match="no dataset of the lake"):
        next(read_chunks(TableRef(uri=str(tmp_path / "t.csv"), files=(("a", "b"),))))
    for read in (as_frame, lambda table: next(read_chunks(table))):
        with pytest.raises(ConfigError, match=f"'{FILE_COLUMN}'"):
            read(TableRef(uri=str(delta), files=(("a", "b"),)))


def test_a_reference_without_files_is_written_as_it_always_was() -> None:
    old = '{"uri":"t","version":3,"digest":null,"rows":null,"columns":{}}'
    assert TableRef.model_validate_json(old).model_dump_json() == old
    assert "files" not in Lineage(digest="d", rows=1, source=TableRef(uri="t")).model_dump(mode="json")["source"]
    some = TableRef(uri="t", files=(("a.csv", "d1"),))
    assert TableRef.model_validate_json(some.model_dump_json()) == some
    assert TableRef.model_validate(some.model_dump()) == some


def test_rows_of_a_data_version_have_to_add_up(lake: Path) -> None:
    digest = f"{LAKE_DIGEST}{1:064x}"
    assert sum(map(len, read_chunks(TableRef(uri=str(lake), digest=digest, rows=20), rows=3))) == 20
    some = TableRef(uri=str(lake), digest=digest, rows=20, files=(("a.csv", "d1"),))
    assert sum(map(len, read_chunks(some, rows=3))) == 4
    wrong = TableRef(uri=str(lake), digest=digest, rows=21)
    with pytest.raises(DataCheckError, match="has changed since") as of_frame:
        as_frame(wrong)
    with pytest.raises(DataCheckError, match="has changed since") as of_chunks:
        list(read_chunks(wrong, rows=3))
    assert str(of_chunks.value) == str(of_frame.value)


def test_a_digest_over_every_cell_is_checked_before_the_first_chunk(delta: Path) -> None:
    frame = read_table(delta)
    right = TableRef(uri=str(delta), digest=table_digest(frame), rows=20)
    assert_frame_equal(together(list(read_chunks(right, columns=["name"], rows=6))), frame[["name"]])
    with pytest.raises(DataCheckError, match="has changed since"):
        next(read_chunks(TableRef(uri=str(delta), digest="sha256:0", rows=20), rows=6))


def test_what_cannot_be_read_is_said_as_for_a_whole_table(tmp_path: Path, delta: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "empty.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 but no footer")
    rows(0).iloc[:0].to_csv(tmp_path / "empty.csv", index=False)
    broken = tmp_path / "broken"
    write_deltalake(broken, rows(0))
    Path(DeltaTable(broken).file_uris()[0]).unlink()
    none = tmp_path / "none"
    write_deltalake(none, rows(0).iloc[:0])
    for path, columns in (
        (tmp_path / "empty.parquet", None),
        (tmp_path / "cut.parquet", None),
        (tmp_path / "empty.csv", None),
        (broken, None),
        (none, None),
        (delta, ["nmae"]),
        (tmp_path / "nowhere", None),
        (f"{delta}@77", None),
        (delta, []),
    ):
        with pytest.raises((ConfigError, DataCheckError)) as whole:
            read_table(path, columns=columns)
        with pytest.raises(type(whole.value)) as piecewise:
            list(read_chunks(str(path), columns=columns))
        assert str(piecewise.value) == str(whole.value)


def test_wrong_frames_and_sizes_are_refused() -> None:
    with pytest.raises(DataCheckError, match="table has rows"):
        next(read_chunks(rows(0).iloc[:0]))
    with pytest.raises(ConfigError, match="'half'"):
        next(read_chunks(rows(0), columns=["hlaf"]))
    with pytest.raises(ConfigError, match="at least one row"):
        next(read_chunks(rows(0), rows=0))


PEAK = """
import sys
from pathlib import Path
import deltalake, pandas, pyarrow.dataset, pyarrow.parquet
from prefect_mlops.core.tables.chunks import read_chunks
def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
before = memory("VmRSS")
rows = sum(map(len, read_chunks(sys.argv[1], rows=50_000)))
print(rows, memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from Linux")
def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    part = pa.table({f"x{place}": np.random.default_rng(place).normal(size=250_000) for place in range(10)})
    peaks = []
    for parts in (1, 16):
        path = tmp_path / str(parts)
        for _ in range(parts):
            write_deltalake(path, part, mode="append")
        done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
        seen, peak = map(int, done.stdout.split())
        assert seen == parts * 250_000
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 100_000  # kB; the rows of the second are 300,000 kB more


@pytest.mark.slow
def test_a_program_that_ends_after_its_last_read_ends_well(delta: Path) -> None:
    program = (
        f"from prefect_mlops.core.tables.chunks import read_chunks\nfor _ in read_chunks({str(delta)!r}, rows=3): pass"
    )
    ended = [subprocess.run([sys.executable, "-c", program], check=False).returncode for _ in range(20)]
    assert ended == [0] * 20


def test_the_files_of_a_table_are_dealt_out_to_its_parts(delta: Path, tmp_path: Path) -> None:
    ref = TableRef(uri=str(delta))
    parts = [
        [row for chunk in read_chunks(ref, columns=["id"], part=(place, 3)) for row in chunk["id"]]
        for place in range(3)
    ]
    assert sorted(len(part) for part in parts) == [5, 5, 10]
    assert sorted(row for part in parts for row in part) == list(range(20))
    assert list(read_chunks(ref, part=(7, 9))) == []
    for wrong in ((1, 1), (-1, 2)):
        with pytest.raises(ConfigError, match="parts are counted from 0"):
            list(read_chunks(ref, part=wrong))
    rows(0).to_csv(tmp_path / "t.csv", index=False)
    for table in (TableRef(uri=str(tmp_path / "t.csv")), rows(0)):
        with pytest.raises(ConfigError, match="no parts"):
            list(read_chunks(table, part=(0, 2)))
