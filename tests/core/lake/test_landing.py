from __future__ import annotations

import os
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from prefect_mlops.core import DatasetSpec
from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.lake import landing
from prefect_mlops.core.lake.completeness import await_complete, promised
from prefect_mlops.core.lake.landing import digest_of, list_landing, local_file, look

SUITE = ExpectationSuite(name="any", expectations=[gxe.ExpectColumnToExist(column="n")])


def spec(landing: Path | str, **options) -> DatasetSpec:
    return DatasetSpec(**{"name": "sales", "suite": SUITE, "landing": str(landing), "settle_seconds": 0, **options})


def names(dataset: DatasetSpec) -> list[str]:
    return [file.path for file in list_landing(dataset).files]


def put(folder: Path, name: str, content: str = "n\n1\n") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


# Listing.


def test_everything_is_listed_by_name_except_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "south/a.csv", ".a.csv.part", ".tmp/a.csv", "south/.a.csv", "ü \n'.csv"):
        put(tmp_path, name)
    assert names(spec(tmp_path)) == ["a.csv", "b.csv", "south/a.csv", "ü \n'.csv"]


def test_links_that_lead_out_pipes_and_loops_are_left_and_said(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    put(tmp_path, "secret.csv")
    put(tmp_path, "outside/secret.csv")
    put(landing, "a.csv")
    (landing / "out.csv").symlink_to(tmp_path / "secret.csv")
    (landing / "folder").symlink_to(tmp_path / "outside")
    (landing / "loop.csv").symlink_to("loop.csv")
    (landing / "inside.csv").symlink_to("a.csv")
    os.mkfifo(landing / "pipe.csv")
    found = list_landing(spec(landing))
    assert [file.path for file in found.files] == ["a.csv", "inside.csv"]
    assert len(found.left) == 4
    for name, why in {
        "out.csv": "leads out",
        "folder": "leads out",
        "loop.csv": "not read",
        "pipe.csv": "regular",
    }.items():
        assert any(name in sentence and why in sentence for sentence in found.left), name


def test_a_landing_folder_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    put(tmp_path / "real", "a.csv")
    (tmp_path / "link").symlink_to("real")
    assert names(spec(tmp_path / "link")) == ["a.csv"]


def test_a_folder_that_is_not_there_is_an_error_only_where_it_was_asked_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(tmp_path / "home"))
    assert names(spec("")) == []
    put(tmp_path / "home" / "landing" / "sales", "a.csv")
    assert names(spec("")) == ["a.csv"]
    with pytest.raises(ConfigError, match="there is no landing folder"):
        names(spec(tmp_path / "nowhere"))


@pytest.mark.parametrize("scheme", ["nosuch://bucket/x", "gs://bucket/x"])
def test_a_place_nothing_reads_is_said_in_words(scheme: str) -> None:
    with pytest.raises((ConfigError, BackendError), match="the landing place"):
        names(spec(scheme))


def test_any_fsspec_address_is_a_landing_place(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("/land/a b.csv", "/land/south/ü.csv", "/land/.hidden.csv", "/other/secret.csv"):
        memory.pipe(name, b"n\n1\n")
    dataset = spec("memory://land")
    assert names(dataset) == ["a b.csv", "south/ü.csv"]
    with local_file(dataset, look(dataset, "a b.csv")) as copy:
        assert copy.read_text() == "n\n1\n"
        assert copy.suffix == ".csv"
    assert not copy.exists()
    for path in ("../other/secret.csv", "memory://other/secret.csv", "south", "nothing.csv"):
        with pytest.raises(ConfigError):
            look(dataset, path)


# What tells one file from another.


def test_a_stamp_changes_with_every_write_even_where_size_and_time_are_set_back(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv")
    before = look(spec(tmp_path), "a.csv")
    status = path.stat()
    time.sleep(0.02)  # the clock of file systems moves in steps
    path.write_text("n\n2\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = look(spec(tmp_path), "a.csv")
    assert (before.size, path.stat().st_mtime_ns) == (after.size, status.st_mtime_ns)
    assert before.stamp != after.stamp


# Settling.


def test_a_file_that_is_still_growing_waits(tmp_path: Path) -> None:
    put(tmp_path, "done.csv")
    growing = put(tmp_path, "growing.csv")
    stop = threading.Event()

    def grow() -> None:
        while not stop.wait(0.05):
            with growing.open("a") as file:
                file.write("1\n")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        dataset = spec(tmp_path, settle_seconds=0.4)
        complete, waiting = await_complete(dataset, list(list_landing(dataset).files), patience=1.2)
    finally:
        stop.set()
        writer.join()
    assert [file.path for file in complete] == ["done.csv"]
    assert waiting == ["growing.csv: still being written"]
    (file,) = await_complete(dataset, [look(dataset, "growing.csv")], patience=5)[0]
    assert file == look(dataset, "growing.csv"), "as it was when it was complete"


def test_a_file_that_grows_where_storage_gives_no_stamp_waits() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/growing/a.csv", b"n\n")
    dataset = spec("memory://growing", settle_seconds=0.5)
    found = list(list_landing(dataset).files)
    assert found[0].stamp == ""
    stop = threading.Event()

    def grow() -> None:
        while not stop.wait(0.05):
            memory.pipe("/growing/a.csv", memory.cat("/growing/a.csv") + b"1\n")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        assert await_complete(dataset, found, patience=1.5) == ([], ["a.csv: still being written"])
    finally:
        stop.set()
        writer.join()
    complete, waiting = await_complete(dataset, [look(dataset, "a.csv")], patience=30)
    assert ([file.path for file in complete], waiting) == (["a.csv"], []), "it has stood still for as long as asked"


def test_the_age_of_a_file_counts_here_and_not_by_the_clock_of_another_machine(tmp_path: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/aged/a.csv", b"n\n")
    put(tmp_path, "a.csv")
    time.sleep(0.3)
    here, elsewhere = spec(tmp_path, settle_seconds=0.2), spec("memory://aged", settle_seconds=0.2)
    assert await_complete(here, [look(here, "a.csv")], patience=0)[1] == []
    assert await_complete(elsewhere, [look(elsewhere, "a.csv")], patience=0)[1] == ["a.csv: still being written"]


def test_a_file_copied_with_its_old_time_waits_all_the_same(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv")
    os.utime(path, (1, 1))
    dataset = spec(tmp_path, settle_seconds=60)
    assert await_complete(dataset, [look(dataset, "a.csv")], patience=0)[1] == ["a.csv: still being written"]


def test_a_file_that_vanishes_while_it_is_waited_for_is_nobodys_loss(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv")
    dataset = spec(tmp_path, settle_seconds=5)
    found = [look(dataset, "a.csv")]
    path.unlink()
    assert await_complete(dataset, found, patience=5) == ([], [])


@pytest.mark.parametrize(
    ("marker", "markers"),
    [("{name}.done", ["a.csv.done", "south/b.csv.done"]), ("_SUCCESS", ["_SUCCESS", "south/_SUCCESS"])],
)
def test_a_marker_says_when_a_file_is_complete(tmp_path: Path, marker: str, markers: list[str]) -> None:
    for name in ("a.csv", "south/b.csv"):
        put(tmp_path, name)
    dataset = spec(tmp_path, marker=marker, settle_seconds=600)
    for number, name in enumerate(markers):
        complete, waiting = await_complete(dataset, list(list_landing(dataset).files), patience=60)
        assert (len(complete), len(waiting)) == (number, 2 - number)
        put(tmp_path, name, "")
    assert names(dataset) == ["a.csv", "south/b.csv"], "a marker is no data"
    assert len(await_complete(dataset, list(list_landing(dataset).files), patience=0)[0]) == 2


def test_a_manifest_says_which_content_is_complete(tmp_path: Path) -> None:
    for name in ("a.csv", "it's b.csv", "c.csv"):
        put(tmp_path, name)
    digest = digest_of(tmp_path / "a.csv").removeprefix("sha256:")
    put(tmp_path, "SHA256SUMS", f"{digest}  a.csv\n{'0' * 64} *./it's b.csv\n")
    dataset = spec(tmp_path, manifest="SHA256SUMS")
    assert names(dataset) == ["a.csv", "c.csv", "it's b.csv"]
    told = {file.path: promised(dataset, file) for file in list_landing(dataset).files}
    assert told == {"a.csv": f"sha256:{digest}", "it's b.csv": f"sha256:{'0' * 64}", "c.csv": ""}
    assert promised(spec(tmp_path), look(dataset, "a.csv")) is None
    settling = spec(tmp_path, manifest="SHA256SUMS", settle_seconds=600)
    assert await_complete(settling, list(list_landing(settling).files), patience=5)[1] == [], (
        "content, not time, counts"
    )


def test_a_local_file_is_read_where_it_is_and_one_elsewhere_as_a_copy_that_does_not_stay(tmp_path: Path) -> None:
    import fsspec

    path = put(tmp_path, "a.csv")
    with local_file(spec(tmp_path), look(spec(tmp_path), "a.csv")) as file:
        assert file == path.resolve()
    fsspec.filesystem("memory").pipe("/copied/day one/a.csv.gz", b"n\n")
    remote = spec("memory://copied")
    with local_file(remote, look(remote, "day one/a.csv.gz")) as file:
        assert (file.read_bytes(), file.suffixes) == (b"n\n", [".csv", ".gz"])
    assert not file.exists()


@pytest.mark.parametrize("path", ["", "/etc/hostname", "x/../a.csv", "../a.csv"])
def test_a_name_that_leads_out_of_the_folder_is_refused_also_where_it_comes_back(tmp_path: Path, path: str) -> None:
    put(tmp_path, "a.csv")
    put(tmp_path, "x/b.csv")
    with pytest.raises(ConfigError, match="leads out of the landing folder"):
        look(spec(tmp_path), path)
    assert look(spec(tmp_path), str(tmp_path / "a.csv")).path == look(spec(tmp_path), "./a.csv").path == "a.csv"


@pytest.mark.parametrize("path", ["", "memory://led", "../led/a.csv", "x/../../a.csv", "memory://elsewhere/a.csv"])
def test_a_name_that_leads_out_of_storage_is_refused(path: str) -> None:
    import fsspec

    for folder in ("led", "elsewhere"):
        fsspec.filesystem("memory").pipe(f"/{folder}/a.csv", b"n\n")
    with pytest.raises(ConfigError, match="leads out of the landing place memory://led"):
        look(spec("memory://led"), path)
    assert (
        look(spec("memory://led"), "memory://led/a.csv").path == look(spec("memory://led"), "./a.csv").path == "a.csv"
    )


MOMENT = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("info", "stamped"),
    [
        ({"size": 3, "ETag": "x", "LastModified": MOMENT}, True),
        ({"size": 3, "etag": "x", "last_modified": MOMENT.replace(tzinfo=None)}, True),
        ({"size": 3, "md5Hash": "x", "updated": "2024-01-01T12:00:00Z"}, True),
        ({"size": 3, "mtime": MOMENT.timestamp()}, False),
        ({"size": 3, "modified": "2024-01-01T13:00:00+01:00"}, False),
    ],
)
def test_what_storage_reports_is_read_and_a_time_alone_is_no_stamp(info: dict[str, object], stamped: bool) -> None:
    found = landing._landed("a.csv", info)
    assert (found.path, found.size, found.modified, bool(found.stamp)) == ("a.csv", 3, MOMENT, stamped)
    assert landing._landed("a.csv", {**info, "size": 4}).stamp != found.stamp or not stamped


@pytest.mark.parametrize("info", [{}, {"size": None}, {"mtime": "soon"}])
def test_what_storage_does_not_report_is_now_and_empty(info: dict[str, object]) -> None:
    before = datetime.now(timezone.utc)
    found = landing._landed("a.csv", info)
    assert (found.size, found.stamp) == (0, "")
    assert before <= found.modified <= datetime.now(timezone.utc)


# The spec.


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "../x", "lower case letters"),
        ("name", 3, "expected text"),
        ("suite", None, "Great Expectations suite"),
        ("max_refused_share", 1.5, "is not from 0 to 1"),
        ("max_refused_share", True, "expected a number"),
        ("settle_seconds", -1, "is below 0"),
        ("copies", "maybe", "expected skip or take"),
        ("marker", "../done", "without folders"),
        ("manifest", "a/b", "without folders"),
        ("late_after", timedelta(0), "positive"),
        ("late_after", 3, "a timedelta"),
        ("new_columns", 1, "True or False"),
    ],
)
def test_a_wrong_spec_is_refused_with_the_field_named(tmp_path: Path, field: str, value: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        spec(tmp_path, **{field: value})
    assert field in str(refused.value)


def test_a_source_has_a_marker_or_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not both"):
        spec(tmp_path, marker="_SUCCESS", manifest="SHA256SUMS")
