"""`prefect-mlops drift`, on a champion that was really trained and files that really arrived."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from prefect_mlops.core.drift.monitoring import read_monitoring_runs
from prefect_mlops.flows.train import train
from prefect_mlops.tasks import ingest_files

pytestmark = pytest.mark.slow
Call = Callable[..., SimpleNamespace]


@pytest.fixture
def trained(prefect_api: None, shop: Any, mlflow_store: str, tmp_path: Path) -> Any:
    """A shop whose champion was trained on three days."""
    deliver(shop, "first.csv", pd.concat([shop.sales(day) for day in (1, 2, 3)]))
    assert train("shop.model").decision == "promoted"
    return shop


def deliver(shop: Any, name: str, rows: pd.DataFrame) -> None:
    rows.to_csv(Path("landing", name), index=False)
    ingest_files.fn([name], dataset=shop.sales_files)


def test_what_arrived_last_is_compared_and_the_answer_is_in_words_json_and_exit_code(trained: Any, call: Call) -> None:
    deliver(trained, "second.csv", trained.sales(4, rows=1000))
    quiet = call("drift", "shop.model")
    assert quiet.code == 0, quiet.err
    assert quiet.out.startswith("shop: second.csv against the training data of v1: no drift\n")
    assert "comparing what arrived last with the training data of shop's champion" in quiet.err

    deliver(trained, "dear.csv", trained.sales(5, rows=1000, price=60.0))
    loud = call("drift", "shop.model")
    assert loud.code == 1
    lines = loud.out.splitlines()
    assert lines[0] == "shop: dear.csv against the training data of v1: DRIFT"
    assert any(line.startswith("alarm") and "weight of drifted columns" in line for line in lines)
    assert any(line.startswith("note") and " price " in line for line in lines)
    page = Path(lines[-1].removeprefix("Page: "))
    assert "dear" in page.name
    assert "DOCTYPE html" in page.read_text("utf-8")[:200] or "<html" in page.read_text("utf-8")[:500]

    told = json.loads(call("drift", "shop.model", "--json").out)
    assert told["report"]["passed"] is False
    assert told["page"] == str(page)
    assert {check["subject"] for check in told["report"]["checks"] if not check["passed"]} >= {"price"}
    assert [look.number for look in read_monitoring_runs("shop")] == [1, 2], "the same rows again are the same look"


def test_a_file_can_be_looked_at_before_it_is_delivered(trained: Any, call: Call, tmp_path: Path) -> None:
    trained.sales(6, rows=800, price=60.0).to_csv(tmp_path / "outbox.csv", index=False)
    assert call("drift", "shop.model", "--current", "outbox.csv").code == 1
    missing = call("drift", "shop.model", "--current", "outbx.csv")
    assert (missing.code, "Traceback" in missing.err) == (2, False)
    assert "there is no file or folder" in missing.err
    shutil.rmtree(tmp_path / "reports")
    (tmp_path / "empty.csv").write_text("sold_at,kind,price,weight,returned\n")
    empty = call("drift", "shop.model", "--current", "empty.csv")
    assert (empty.code, "Traceback" in empty.err) == (1, False)
    assert "0 rows" in empty.err


def test_without_a_champion_there_is_nothing_to_compare(
    shop: Any, prefect_api: None, mlflow_store: str, call: Call
) -> None:
    said = call("drift", "shop.model")
    assert said.code == 0
    assert said.out == "shop: nothing to compare yet: there is no champion, or nothing has arrived.\n"
    assert json.loads(call("drift", "shop.model", "--json").out) == {"model": "shop", "report": None, "page": None}


def test_help_teaches(call: Call) -> None:
    told = call("drift", "--help").out
    assert "--current outbox/2013-08.csv" in told
    assert "Exit code 0: no drift" in told
