"""Lake and landing place in a bucket, against an S3 server on loopback."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import fsspec
import pandas as pd
import pytest
import s3fs
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from prefect_mlops.core import DatasetSpec
from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import BackendError, ConfigError, DataCheckError
from prefect_mlops.core.lake.commits import open_table
from prefect_mlops.core.lake.compaction import Need, compact_table, find_tables, give_back
from prefect_mlops.core.lake.ingest import commit_arrivals, table_ref
from prefect_mlops.core.lake.ledger import read_ledger
from prefect_mlops.core.promotion.history import Entry, read_history, record
from prefect_mlops.core.tables.read import as_frame, read_table
from prefect_mlops.tasks import find_pending, ingest_files, load_table
from prefect_mlops.tasks.ingestion import Taken

SECRET = "s3cr3t/Key+42"  # noqa: S105 - no secret of anybody
SUITE = ExpectationSuite(
    name="sales",
    expectations=[
        gxe.ExpectColumnValuesToNotBeNull(column="n"),
        gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, max_value=100),
    ],
)


class Server:
    """The server of `s3_server`, in a process of its own."""

    def __init__(self) -> None:
        program = [sys.executable, str(Path(__file__).with_name("s3_server.py"))]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def tell(self, what: str) -> str:
        """Speak to it: ``seen``, ``lose`` or ``forget``."""
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.url}/-/{what}") as answer:
            return answer.read().decode()

    @property
    def seen(self) -> list[tuple[str, str, str | None]]:
        return [tuple(request) for request in json.loads(self.tell("seen"))]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.process.communicate()  # the end of its input ends it


@dataclass
class Bucket:
    """A bucket of its own, with a landing place and a lake."""

    name: str
    files: s3fs.S3FileSystem

    def put(self, key: str, table: pd.DataFrame | bytes) -> str:
        content = table if isinstance(table, bytes) else table.to_csv(index=False).encode()
        self.files.pipe_file(f"{self.name}/landing/{key}", content)
        return key

    def spec(self, **options) -> DatasetSpec:
        place = {"name": "sales", "landing": f"s3://{self.name}/landing", "suite": SUITE, "settle_seconds": 0}
        return DatasetSpec(**{**place, **options})

    def ingest(self, *, patience: float = 5, **options) -> Taken:
        """What the flow does: look, then take."""
        spec = self.spec(**options)
        backlog = find_pending.fn(spec, patience=patience)
        taken = ingest_files.fn(backlog.files, dataset=spec)
        return taken.model_copy(update={"left": (*backlog.left, *taken.left)})


@pytest.fixture
def bucket(server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Bucket]:
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    # As docs/s3.md says; loopback is never behind a proxy.
    environment = {"AWS_ACCESS_KEY_ID": "known", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "eu-central-1"}
    environment |= {"AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true", "NO_PROXY": "127.0.0.1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    name = "b-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", f"s3://{name}/lake")
    s3fs.S3FileSystem.clear_instance_cache()
    files = fsspec.filesystem("s3")
    files.mkdir(name)
    server.tell("forget")
    yield Bucket(name, files)
    s3fs.S3FileSystem.clear_instance_cache()


def sales(rows: int = 20, start: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"n": range(start, start + rows), "price": [1.5 + n for n in range(rows)]})


def rows(kind: str) -> pd.DataFrame:
    table = open_table(table_uri(kind, "sales"))  # type: ignore[arg-type]
    return pd.DataFrame() if table is None else table.to_pandas()


def counts() -> tuple[int, int, int]:
    """Rows in the dataset, in quarantine and in the ledger."""
    return len(rows("datasets")), len(rows("quarantine")), len(rows("arrivals"))


def states(taken: Taken) -> dict[str, str]:
    return {arrival.path: "again" if arrival.again else arrival.state for arrival in taken.arrivals}


def test_files_of_a_bucket_are_taken_once(bucket: Bucket, server: Server) -> None:
    bad = sales(start=100)
    bad.loc[3, "price"] = -1.0
    bucket.put("day/a.csv", sales())
    bucket.put("b.csv", bad)
    bucket.put("wrong.csv", b"no\ttable\x00")
    first = bucket.ingest()
    assert states(first) == {"day/a.csv": "committed", "b.csv": "partly", "wrong.csv": "refused"}
    assert first.left == ()
    assert counts() == (39, 1, 3)
    assert bucket.ingest().arrivals == (), "what looks as it did is not read again"
    assert counts() == (39, 1, 3)

    commits = [(path, kept) for method, path, kept in server.seen if method == "PUT" and path.endswith(".json")]
    assert len(commits) >= 6
    assert {kept for path, kept in commits if "_delta_log" in path} == {"*"}, "each commit only where there is none yet"


def test_a_copy_a_change_and_the_same_again(bucket: Bucket) -> None:
    bucket.put("a.csv", sales())
    bucket.ingest()
    bucket.files.copy(f"{bucket.name}/landing/a.csv", f"{bucket.name}/landing/copy.csv")
    assert states(bucket.ingest()) == {"copy.csv": "duplicate"}
    bucket.put("a.csv", sales(start=50))
    assert states(bucket.ingest()) == {"a.csv": "committed"}
    bucket.put("a.csv", sales())
    assert set(states(bucket.ingest()).values()) <= {"duplicate", "again"}
    assert counts()[0] == 40
    assert bucket.ingest().arrivals == ()


def test_versions_can_be_read_from_the_bucket(bucket: Bucket) -> None:
    for day in range(3):
        bucket.put(f"{day}.csv", sales(start=20 * day))
        bucket.ingest()
    uri = table_uri("datasets", "sales")
    versions = [line.version for line in read_ledger("sales").current]
    assert uri == f"s3://{bucket.name}/lake/datasets/sales"
    for address in (f"{uri}@{versions[1]}", f"delta://{uri}@{versions[1]}"):
        assert len(read_table(address)) == 40
        assert len(load_table.fn(address)) == 40
    ref = table_ref("sales", versions[0])
    assert (ref.uri, ref.rows) == (uri, 20)
    assert len(as_frame(ref.model_copy(update={"digest": None}))) == 20
    assert table_ref("sales").digest != ref.digest
    with pytest.raises(ConfigError, match="no version 99"):
        read_table(f"{uri}@99")


@pytest.mark.parametrize(
    "key",
    [
        "with space.csv",
        'it\'s "quoted".csv',
        "müller-日本-🙂.csv",
        "e\u0301.csv",
        "100%.csv",
        "a%20b.csv",
        "a+b.csv",
        "a&b=c;d.csv",
        "what?.csv",
        "sharp#1.csv",
        "a@3.csv",
        "[1]*.csv",
        "{n}.csv",
        "deep/er/than that/a.csv",
        "x//y.csv",
        "back\\slash.csv",
    ],
)
def test_any_key_arrives_as_it_is(bucket: Bucket, key: str) -> None:
    bucket.put(key, sales())
    taken = bucket.ingest()
    assert (states(taken), taken.left) == ({key: "committed"}, ())
    assert set(rows("datasets")["_file"]) == {key}
    named = ingest_files.fn([key], dataset=bucket.spec())
    assert states(named) == {key: "again"}


def test_keys_that_are_no_files_are_left_alone(bucket: Bucket) -> None:
    for key in (".hidden.csv", ".tmp/a.csv", "folder/"):
        bucket.put(key, b"")
    bucket.put("a.csv", sales())
    bucket.files.pipe_file(f"{bucket.name}/landing-of-others/b.csv", b"n,price\n1,1\n")
    assert states(bucket.ingest()) == {"a.csv": "committed"}
    for path in ("../lake/x", f"s3://{bucket.name}/landing-of-others/b.csv", "s3://other/landing/a.csv", "no.csv"):
        with pytest.raises(ConfigError):
            ingest_files.fn([path], dataset=bucket.spec())


def test_a_marker_says_when_an_object_is_complete(bucket: Bucket) -> None:
    bucket.put("a.csv", sales())
    taken = bucket.ingest(marker="{name}.done")
    assert taken.arrivals == ()
    assert "marker" in taken.left[0]
    bucket.put("a.csv.done", b"")
    assert states(bucket.ingest(marker="{name}.done")) == {"a.csv": "committed"}


def test_a_manifest_says_what_an_object_has_to_hold(bucket: Bucket) -> None:
    content = sales().to_csv(index=False).encode()
    bucket.put("in/a.csv", content[:60])
    bucket.put("in/SHA256SUMS", f"{hashlib.sha256(content).hexdigest()}  a.csv\n".encode())
    taken = bucket.ingest(manifest="SHA256SUMS")
    assert taken.arrivals == ()
    assert "manifest" in taken.left[0]
    bucket.put("in/a.csv", content)
    assert states(bucket.ingest(manifest="SHA256SUMS")) == {"in/a.csv": "committed"}
    assert counts() == (20, 0, 1)


@pytest.mark.slow
def test_thousands_of_keys_are_listed(bucket: Bucket) -> None:
    content = sales(1).to_csv(index=False).encode()
    wanted = [f"{place % 7}/{place:05}.csv" for place in range(2500)]  # S3 lists a thousand at a time
    bucket.files.pipe({f"{bucket.name}/landing/{key}": content for key in wanted})
    found = find_pending.fn(bucket.spec())
    assert [file.path for file in found.files] == sorted(wanted)
    assert all(file.stamp for file in found.files)


def test_a_model_keeps_its_history_in_the_bucket(bucket: Bucket) -> None:
    for version in (1, 2):
        record(Entry(model="A model/with ümlaut", kind="promoted", version=version))
    assert [entry.version for entry in read_history("A model/with ümlaut")] == [1, 2]


def test_tables_of_the_bucket_are_compacted_and_cleaned(bucket: Bucket) -> None:
    for place in range(4):
        bucket.put(f"{place}.csv", sales(start=20 * place))
        bucket.ingest()
    record(Entry(model="shop", kind="promoted", version=1))
    assert find_tables() == ["datasets/sales", "arrivals/sales", "history/shop"]
    uri = table_uri("datasets", "sales")
    before = read_table(f"{uri}@2")
    done = give_back(compact_table("datasets/sales"), [Need(uri=uri, version=2, who="shop v1")], keep_for=timedelta(0))
    assert (done.files_before, done.files_after, done.files_deleted) == (4, 1, 2)
    assert done.bytes_deleted > 0
    pd.testing.assert_frame_equal(read_table(f"{uri}@2"), before)
    with pytest.raises((DataCheckError, BackendError)):
        read_table(f"{uri}@4")
    assert len(read_table(uri)) == 80


def test_a_lost_answer_doubles_no_row(bucket: Bucket, server: Server) -> None:
    """S3 carries out each commit of rows, and the answer never comes: the retry finds the name taken, by itself."""
    bad = sales(start=100)
    bad.loc[3, "price"] = -1.0
    bucket.put("a.csv", sales())
    bucket.put("b.csv", bad)
    server.tell("lose")
    assert set(states(bucket.ingest())) == {"a.csv", "b.csv"}
    commits = [path for method, path, _ in server.seen if method == "PUT" and "_delta_log" in path]
    server.tell("forget")
    assert len(commits) == 2 * len(set(commits)) >= 12
    assert counts() == (39, 1, 2)
    assert not read_ledger("sales").unwritten


def _race(bucket: str, barrier, answers) -> None:
    spec = Bucket(bucket, fsspec.filesystem("s3")).spec()
    barrier.wait()
    taken = ingest_files.fn([f"{place}.csv" for place in range(6)], dataset=spec)
    answers.put([(arrival.path, arrival.version) for arrival in taken.arrivals])


@pytest.mark.slow
def test_processes_racing_on_the_same_objects_commit_each_once(bucket: Bucket) -> None:
    for place in range(6):
        table = sales(start=20 * place)
        table.loc[2, "price"] = -1.0
        bucket.put(f"{place}.csv", table)
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_race, args=(bucket.name, barrier, answers)) for _ in range(3)]
    for worker in workers:
        worker.start()
    seen = {tuple(answers.get(timeout=240)) for _ in workers}
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert len(seen) == 1, "all agree on the version of each file"
    assert counts() == (6 * 19, 6, 6)
    assert not rows("datasets").duplicated(["_file", "_row"]).any()


# Storage that fails: a person is told which place, what, and no secret.


def said(call: Callable[[], object], kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert SECRET not in text
    assert "Traceback" not in text
    assert "\n" not in text
    assert len(text) < 700
    return text


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def away(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    s3fs.S3FileSystem.clear_instance_cache()
    return bucket


@pytest.fixture
def stranger(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
    s3fs.S3FileSystem.clear_instance_cache()
    return bucket


@pytest.fixture
def nowhere(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", "s3://no-such-bucket/lake")
    bucket.name = "no-such-bucket"
    return bucket


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["away", "stranger", "nowhere"])
def test_a_failing_lake_is_said_in_words(broken: str, request: pytest.FixtureRequest) -> None:
    bucket: Bucket = request.getfixturevalue(broken)
    for call in (
        lambda: read_ledger("sales"),
        lambda: table_ref("sales"),
        lambda: commit_arrivals("sales", []),
        lambda: record(Entry(model="sales", kind="promoted", version=1)),
        lambda: read_table(f"delta://{table_uri('datasets', 'sales')}"),
        lambda: read_table(table_uri("datasets", "sales")),
    ):
        assert bucket.name in said(call, BackendError)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "kind"), [("away", BackendError), ("stranger", BackendError), ("nowhere", ConfigError)]
)
def test_a_failing_landing_place_is_said_in_words(
    broken: str, kind: type[Exception], request: pytest.FixtureRequest
) -> None:
    bucket: Bucket = request.getfixturevalue(broken)
    spec = bucket.spec()
    assert spec.landing in said(lambda: find_pending.fn(spec), kind)
    said(lambda: ingest_files.fn(["a.csv"], dataset=spec), kind)


# Other addresses fsspec knows.


def test_files_in_memory_are_taken_too(bucket: Bucket) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/in/a b.csv", sales().to_csv(index=False).encode())
    try:
        assert states(bucket.ingest(landing="memory://in")) == {"a b.csv": "committed"}
    finally:
        files.rm("/in", recursive=True)


def test_a_folder_as_an_address_is_taken_too(bucket: Bucket, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    sales().to_csv(tmp_path / "in" / "a b.csv", index=False)
    assert states(bucket.ingest(landing=f"file://{tmp_path}/in")) == {"a b.csv": "committed"}
