"""`prefect-mlops audit`, and changes made by hand on the real table."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from deltalake import DeltaTable, write_deltalake
from mlflow import MlflowClient

from prefect_mlops.cli import app
from prefect_mlops.core.addresses import history_uri
from prefect_mlops.core.lake.compaction import Compacted, compact, give_back
from prefect_mlops.core.promotion import history
from prefect_mlops.core.promotion.history import Entry, read_rows, record, row_hash
from prefect_mlops.tracking import anchors

Call = Callable[..., SimpleNamespace]
Hand = Callable[[DeltaTable], object]
NAME = "shop"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake with nothing in it, and no MLflow."""
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "lake"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process: its code and what it wrote."""

    def called(*words: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["prefect-mlops", "audit", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
        written = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code or 0, out=written.out, err=written.err)

    return called


def happened(model: str = NAME, *, reason: str = "too low") -> list[Entry]:
    """Two promotions with a refusal between them."""
    return [
        record(Entry(model=model, kind="promoted", version=1, reason="the first")),
        record(Entry(model=model, kind="refused", version=2, replaced=1, reason=reason)),
        record(Entry(model=model, kind="drifted", version=1, by="automatic")),
        record(Entry(model=model, kind="promoted", version=3, replaced=1, reason="better", flow_run="f00df00d-1")),
        record(Entry(model=model, kind="released", version=3)),
    ]


def noted(entries: list[Entry]) -> None:
    """Let MLflow note the decisions, as `record_decision` does."""
    client = MlflowClient()
    client.create_registered_model(entries[0].model)
    for version in (1, 2, 3):
        client.create_model_version(entries[0].model, source=f"file:///nowhere/{version}")
    for entry in entries:
        if entry.kind in history.DECISIONS:
            anchors.note(client, entry)


def append(table: DeltaTable, **fields: object) -> None:
    """Add an entry to the table without this library."""
    row = {**read_rows(NAME)[-1], "sequence": 6, "kind": "promoted", "version": 9, "details": "{}", **fields}
    rows = table.to_pyarrow_table().slice(0, 0).from_pylist([row], schema=table.to_pyarrow_table().schema)
    write_deltalake(table, rows, mode="append")


def append_hashed(table: DeltaTable) -> None:
    last = read_rows(NAME)[-1]
    row = {**last, "sequence": 6, "previous": last["hash"], "kind": "promoted", "version": 9, "details": "{}"}
    append(table, previous=last["hash"], hash=row_hash(row))


def overwrite(table: DeltaTable) -> None:
    write_deltalake(table, table.to_pyarrow_table().slice(0, 3), mode="overwrite")


HANDS: dict[str, tuple[Hand, str]] = {
    "a reason": (
        lambda table: table.update({"reason": "'fine'"}, predicate="sequence = 2"),
        "entry 2 (refused v2) was changed",
    ),
    "a version": (
        lambda table: table.update({"version": "2"}, predicate="sequence = 4"),
        "entry 4 (promoted v2) was changed",
    ),
    "details": (
        lambda table: table.update({"details": "'x'"}, predicate="sequence = 4"),
        "entry 4 (promoted v3) was changed",
    ),
    "a row away": (lambda table: table.delete("sequence = 2"), "entry 2 is missing"),
    "numbers swapped": (
        lambda table: table.update({"sequence": "5 - sequence"}, predicate="sequence in (2, 3)"),
        "entry 2 (drifted v1) was changed",
    ),
    "the end cut off": (lambda table: table.delete("sequence > 3"), "DELETE by delta-rs"),
    "an entry without hash": (lambda table: append(table, hash=None), "entry 6 (promoted v9) has no hash"),
    "an entry with its hash": (append_hashed, "WRITE (Append) by delta-rs"),
    "taken back to before": (lambda table: table.restore(3), "RESTORE by delta-rs"),
    "written over": (overwrite, "WRITE (Overwrite) by delta-rs"),
}


@pytest.mark.parametrize("hand", HANDS)
def test_what_was_done_by_hand_is_found_without_mlflow(lake: Path, call: Call, hand: str) -> None:
    happened()
    before = call("verify", NAME)
    assert (before.code, before.err) == (0, "")
    assert before.out.startswith("shop: nothing was changed by hand; 5 entries")
    do, said = HANDS[hand]
    do(DeltaTable(history_uri(NAME)))
    after = call("verify", NAME)
    assert after.code == 1
    assert "CHANGED" in after.out
    assert said in after.out
    assert "Only the chain and the table's log were checked; MLflow was not asked" in after.out


def written_anew(lake: Path) -> None:
    shutil.rmtree(lake / "history")
    happened(reason="brilliant")


def cut_with_the_log(lake: Path) -> None:
    for version in (4, 5):
        (lake / "history" / NAME / "_delta_log" / f"{version:020}.json").unlink()


def removed(lake: Path) -> None:
    shutil.rmtree(lake / "history")


@pytest.mark.parametrize(
    ("hand", "said"),
    [
        (written_anew, "entry 2 is not the one the registry noted"),
        (cut_with_the_log, "entry 4 is gone: the registry noted it"),
        (removed, "entry 1 is gone: the registry noted it"),
    ],
)
def test_a_history_that_is_whole_in_itself_is_found_by_what_mlflow_noted(
    mlflow_store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
    hand: Callable[[Path], None],
    said: str,
) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    noted(happened())
    assert "5 entries, 3 of them noted in MLflow" in call("verify").out
    hand(tmp_path / "lake")
    for words in ((), (NAME,)):
        found = call("verify", *words)
        assert found.code == 1
        assert said in found.out
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    if hand is not removed:
        assert call("verify", NAME).code == 0, "without MLflow it looks whole"


def test_compaction_and_giving_back_are_no_changes(lake: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "COMPACT_EVERY", 2)
    happened()
    assert compact(DeltaTable(history_uri(NAME)))
    assert give_back(Compacted(table=f"history/{NAME}"), [], keep_for=timedelta(0)).files_deleted
    record(Entry(model=NAME, kind="leased"))
    operations = {commit["operation"] for commit in DeltaTable(history_uri(NAME)).history()}
    assert {"OPTIMIZE", "VACUUM END", "SET TBLPROPERTIES"} <= operations
    done = call("verify")
    assert done.code == 0, done.out


def test_a_history_that_cannot_be_read_any_more_says_where_to_look(
    lake: Path, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    happened()
    DeltaTable(history_uri(NAME)).update({"details": "'x'"}, predicate="sequence = 4")
    assert call(NAME).code == 0
    monkeypatch.setattr(sys, "argv", ["prefect-mlops", "history", NAME])
    with pytest.raises(SystemExit, match="1"):
        app.main()
    assert "prefect-mlops audit verify shop" in capsys.readouterr().err


def test_every_model_is_checked_and_one_bad_one_is_enough(lake: Path, call: Call) -> None:
    happened()
    happened("other")
    DeltaTable(history_uri("other")).update({"by": "'nobody'"}, predicate="sequence = 1")
    done = call("verify", "--json")
    assert done.code == 1
    told = json.loads(done.out)
    assert [(one["model"], one["passed"]) for one in told["models"]] == [("other", False), ("shop", True)]
    assert told["mlflow_asked"] is False
    assert "set MLFLOW_TRACKING_URI" in told["mlflow_problem"]
    assert call("verify", "shop").code == 0


def test_an_mlflow_that_is_away_leaves_the_chain(lake: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    happened()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = call("verify")
    assert done.code == 0
    assert "MLflow was not asked: MLflow at http://127.0.0.1:9 failed" in done.out


def test_every_entry_is_shown_with_its_hash_and_the_one_before(lake: Path, call: Call) -> None:
    entries = happened()
    done = call(NAME)
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["NO", "AT", "(UTC)", "KIND", "V", "BY", "RUN", "HASH", "AFTER"]
    (fourth,) = [line for line in lines if line[0] == "4"]
    short = [entry.hash.removeprefix("sha256:")[:7] for entry in entries]
    assert fourth[3:] == ["promoted", "v3", "person", "f00df00d", short[3], short[2]]
    assert "    too low" in done.out.splitlines()
    told = json.loads(call("--json", NAME).out)
    assert [one["hash"] for one in told["entries"]] == [entry.hash for entry in entries]
    assert told["entries"][1]["previous"] == entries[0].hash


def test_a_model_called_verify_is_shown_by_name(lake: Path, call: Call) -> None:
    happened("verify")
    assert call("verify").out.startswith("verify: nothing was changed")
    assert "too low" in call("show", "verify").out
    assert call("verify", "verify").code == 0


def test_wrong_requests_say_what_would_be_right(lake: Path, call: Call) -> None:
    empty = call("verify")
    assert (empty.code, empty.out) == (0, "No model has a history in this lake.\n")
    happened()
    for words in (("shopp",), ("verify", "shopp")):
        wrong = call(*words)
        assert (wrong.code, wrong.out) == (2, "")
        assert "did you mean 'shop'?" in wrong.err
