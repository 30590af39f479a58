"""What somebody who can write to the lake may change, and how it is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from prefect_mlops.core.addresses import history_uri
from prefect_mlops.core.promotion import history, tampering
from prefect_mlops.core.promotion.history import Entry, read_history, read_rows, record, row_hash
from prefect_mlops.core.promotion.tampering import audit_history, find_rewrites

Rows = list[dict[str, Any]]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The rows of a history of five entries, as they are stored."""
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    record(Entry(model="shop", kind="leased", flow_run="a"))
    record(Entry(model="shop", kind="promoted", version=1, reason="é <b> good", details={"metrics": {"auc": 0.7}}))
    record(Entry(model="shop", kind="released", version=1))
    record(Entry(model="shop", kind="refused", version=2, reason="too low"))
    record(Entry(model="shop", kind="promoted", version=3, replaced=1))
    return read_rows("shop")


def again(rows: Rows, start: int) -> Rows:
    """Compute all hashes again, as somebody would who knows how."""
    for place in range(start, len(rows)):
        rows[place]["previous"] = rows[place - 1].get("hash", "") if place else ""
        rows[place]["hash"] = row_hash(rows[place])
    return rows


def witnesses(rows: Rows) -> dict[int, str]:
    return {row["sequence"]: row["hash"] for row in rows if row["kind"] in ("promoted", "refused")}


def test_a_history_nobody_touched_passes(rows: Rows) -> None:
    found = audit_history("shop", rows, witnesses(rows))
    assert found.passed
    assert (found.entries, found.unchained, found.witnessed) == (5, 0, 3)
    assert rows[0]["previous"] == ""
    assert [row["previous"] for row in rows[1:]] == [row["hash"] for row in rows[:-1]]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("version", 7),
        ("replaced", 7),
        ("reason", "splendid"),
        ("by", "anna"),
        ("kind", "rolled_back"),
        ("flow_run", "x"),
        ("recipe", "x"),
        ("model", "other"),
        ("details", json.dumps({"metrics": {"auc": 0.9}})),
        ("at", None),
        ("previous", "sha256:0"),
    ],
)
def test_every_column_of_an_entry_counts(rows: Rows, column: str, value: object) -> None:
    kept = witnesses(rows)
    rows[1][column] = rows[0]["at"] if column == "at" else value
    assert any(
        "entry 2" in problem and "was changed after it was written" in problem
        for problem in audit_history("shop", rows, kept).problems
    )


def tamper(change: Callable[[Rows], object]) -> Callable[[Rows], Rows]:
    def changed(rows: Rows) -> Rows:
        change(rows)
        return rows

    return changed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (tamper(lambda rows: rows.pop(3)), "entry 4 is missing"),
        (tamper(lambda rows: rows.pop(0)), "entry 1 is missing"),
        (tamper(lambda rows: rows.insert(2, dict(rows[1]))), "entry 2 is there 2 times"),
        (tamper(lambda rows: rows[3].pop("hash")), "entry 4 (refused v2) has no hash"),
        (
            tamper(lambda rows: rows[2].update(hash=row_hash(rows[2] | {"by": "x"}), by="x")),
            "entry 4 (refused v2) does not follow",
        ),
    ],
)
def test_what_is_changed_without_new_hashes_is_found_in_the_chain(rows: Rows, change: Callable, says: str) -> None:
    assert any(problem.startswith(says) for problem in audit_history("shop", change(rows)).problems)


def test_a_chain_computed_anew_is_found_by_what_the_registry_noted(rows: Rows) -> None:
    kept = witnesses(rows)
    rows[1]["reason"] = "splendid"
    again(rows, 1)
    assert audit_history("shop", rows).passed, "the chain alone cannot tell"
    assert audit_history("shop", rows, kept).problems == tuple(
        f"entry {number} is not the one the registry noted when it was written" for number in (2, 4, 5)
    )


def test_an_end_cut_off_is_found_by_what_the_registry_noted(rows: Rows) -> None:
    kept = witnesses(rows)
    assert audit_history("shop", rows[:4]).passed, "the chain alone cannot tell"
    assert audit_history("shop", rows[:4], kept).problems == (
        "entry 5 is gone: the registry noted it when it was written",
    )
    assert len(audit_history("shop", [], kept).problems) == 3


def test_entries_older_than_hashes_are_counted_and_the_rest_checked(rows: Rows) -> None:
    for row in rows[:2]:
        del row["hash"], row["previous"]
    again(rows, 2)
    found = audit_history("shop", rows)
    assert found.passed, found.problems
    assert found.unchained == 2
    rows[4]["by"] = "eve"
    assert not audit_history("shop", rows).passed


def test_a_column_that_came_later_does_not_change_older_hashes(rows: Rows) -> None:
    table = DeltaTable(history_uri("shop"))
    last = {**rows[-1], "sequence": 6, "previous": rows[-1]["hash"], "weather": "fine"}
    last["hash"] = row_hash(last)
    write_deltalake(table, pa.Table.from_pylist([last]), mode="append", schema_mode="merge")
    stored = read_rows("shop")
    assert stored[-1]["weather"] == "fine"
    assert audit_history("shop", stored).passed
    assert record(Entry(model="shop", kind="drifted")).previous == last["hash"]
    assert audit_history("shop", read_rows("shop")).passed


def test_an_entry_forged_with_delta_itself_is_found(rows: Rows) -> None:
    forged = {**rows[-1], "sequence": 6, "version": 9, "by": "anna"}
    write_deltalake(DeltaTable(history_uri("shop")), pa.Table.from_pylist([forged]), mode="append", schema_mode="merge")
    assert read_history("shop")[-1].version == 9
    assert any(
        "entry 6 (promoted v9) was changed" in problem for problem in audit_history("shop", read_rows("shop")).problems
    )


def test_a_history_stays_whole_when_its_files_are_written_as_one(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "COMPACT_EVERY", 10)
    for _ in range(20):
        record(Entry(model="shop", kind="drifted", version=1))
    assert len(DeltaTable(history_uri("shop")).file_uris()) < 10
    assert audit_history("shop", read_rows("shop"), witnesses(rows)).passed


def test_a_commit_that_is_no_entry_of_this_library_is_named(rows: Rows) -> None:
    assert find_rewrites("shop") == []
    assert find_rewrites("nothing-here") == []
    DeltaTable(history_uri("shop")).delete("sequence = 4")
    (found,) = find_rewrites("shop")
    assert "of the table was made by hand: DELETE by delta-rs" in found


@pytest.mark.parametrize(
    ("commit", "says"),
    [
        ({"operation": "WRITE", "operationParameters": {"mode": "Append"}}, "WRITE (Append) by an unknown program;"),
        ({"operation": "WRITE", "operationParameters": {"mode": "Overwrite"}}, "WRITE (Overwrite) by"),
        ({"operation": "MERGE", "engineInfo": "Spark", "timestamp": 0}, "MERGE by Spark at 1970-01-01 00:00 UTC;"),
        ({"operation": None, "timestamp": "soon"}, "commit without a name by an unknown program;"),
    ],
)
def test_what_is_known_of_such_a_commit_is_said(commit: dict[str, Any], says: str) -> None:
    (found,) = tampering._rewrites([{"version": 7, **commit}])
    assert found.startswith("version 7 of the table was made by hand: ")
    assert says in found


def test_commits_are_named_oldest_first_and_harmless_ones_are_not() -> None:
    append = {"operation": "WRITE", "operationParameters": {"mode": "Append"}, tampering.NOTE: "[]"}
    harmless = [{"operation": name} for name in tampering.HARMLESS]
    newest_first = [{"operation": "B"}, append, *harmless, {"operation": "A"}]
    assert [found.split(": ")[1][0] for found in tampering._rewrites(newest_first)] == ["A", "B"]
