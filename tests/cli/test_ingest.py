from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deltalake import DeltaTable
from prefect.settings import PREFECT_API_URL

from prefect_mlops.cli.commands.ingest import landed_name
from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lake.ledger import read_ledger

COMMAND = str(Path(sys.executable).with_name("prefect-mlops"))
NAME = "shop.sales_files"
ODD = 'x \x1b[31m"\n[b]\u202emüller.csv'
SHOWN = 'x \\x1b[31m"\\n[b]\\u202emüller.csv'

Call = Callable[..., SimpleNamespace]


@pytest.fixture
def shop(prefect_api: None, shop: Any) -> Any:
    """The shop's project, with a Prefect API for its flows."""
    return shop


def put(shop: Any, name: str, day: int = 1, *, expensive: int = 0) -> Path:
    table = shop.sales(day)
    table.loc[: expensive - 1, "price"] = 2000.0 if expensive else table["price"]
    path = Path("landing") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    return path.absolute()


def rows_in_lake() -> int:
    uri = table_uri("datasets", "shop")
    return DeltaTable(uri).to_pyarrow_table().num_rows if DeltaTable.is_deltatable(uri) else 0


def test_everything_that_waits_is_taken_once(shop: Any, call: Call) -> None:
    put(shop, ODD)
    put(shop, "b.csv", 2, expensive=2)
    done = call("ingest", NAME)
    assert done.code == 0
    assert SHOWN in done.out
    assert not [character for character in done.out if not character.isprintable() and character != "\n"]
    assert "798 rows committed, 2 put into quarantine." in done.out
    assert rows_in_lake() == 798
    again = call("ingest", NAME)
    assert (again.code, again.out) == (0, "Nothing new has arrived.\n")
    known = call("ingest", NAME, "--verify")
    assert known.code == 0
    assert "committed, known" in known.out
    assert rows_in_lake() == 798


def test_the_shape_of_the_json(shop: Any, call: Call) -> None:
    put(shop, ODD, expensive=2)
    done = call("ingest", NAME, "--json")
    told = json.loads(done.out)
    assert (told["dataset"], told["dry_run"], told["left"]) == ("shop", False, [])
    (file,) = told["files"]
    assert set(file) == {
        "path", "digest", "state", "rows", "refused", "reason", "version", "content", "flow_run", "at", "again",
    }  # fmt: skip
    assert (file["path"], file["state"], file["rows"], file["refused"]) == (ODD, "partly", 398, 2)
    assert len(file["flow_run"]) == 36


def test_a_dry_run_writes_nothing(shop: Any, call: Call) -> None:
    put(shop, "a.csv", expensive=2)
    done = call("ingest", NAME, "--dry-run")
    assert done.code == 0
    assert "398 rows would be committed, 2 would be put into quarantine." in done.out
    assert "Nothing was written" in done.out
    assert rows_in_lake() == 0
    assert read_ledger("shop").lines == []
    assert json.loads(call("ingest", NAME, "--dry-run", "--json").out)["dry_run"] is True


def test_a_refused_file_ends_with_one_also_when_it_is_known(shop: Any, call: Call) -> None:
    put(shop, "a.csv")
    (Path("landing") / "bad.csv").write_text("x\n1\n")
    done = call("ingest", NAME)
    assert done.code == 1
    assert "refused" in done.out
    assert "400 rows committed" in done.out
    again = call("ingest", NAME, "bad.csv")
    assert again.code == 1
    assert "refused, known" in again.out
    assert "quarantine replay" in again.out
    assert call("ingest", NAME, "a.csv").code == 0


def test_what_is_left_is_said_and_ends_with_one(shop: Any, call: Call) -> None:
    put(shop, "a.csv")
    (Path("landing") / "out.csv").symlink_to("/etc/hostname")
    done = call("ingest", NAME)
    assert done.code == 1
    assert "Left: 'out.csv' leads out of the landing folder" in done.out
    assert rows_in_lake() == 400
    told = json.loads(call("ingest", NAME, "--json").out)
    assert (told["files"], len(told["left"])) == ([], 1)


def test_a_half_written_file_is_left(shop: Any, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop, "sales_files", dataclasses.replace(shop.sales_files, marker="{name}.done"))
    put(shop, "a.csv")
    put(shop, ODD, 2)
    (Path("landing") / "a.csv.done").touch()
    done = call("ingest", NAME)
    assert done.code == 1
    assert f"Left: {SHOWN}: its marker" in done.out
    assert rows_in_lake() == 400
    assert "its marker" in json.loads(call("ingest", NAME, ODD, "--json").out)["left"][0]


def test_a_file_can_be_named_in_each_way_a_person_would(
    shop: Any, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = put(shop, "south/a b.csv")
    spec = shop.sales_files
    for path in ("south/a b.csv", "./south/a b.csv", str(inside), "landing/south/a b.csv", "landing/../landing/south/a b.csv"):  # fmt: skip
        assert landed_name(spec, path, tmp_path) == "south/a b.csv"
    assert landed_name(spec, "a b.csv", inside.parent) == "south/a b.csv"
    told = json.loads(call("ingest", NAME, "landing/south/a b.csv", "--json").out)
    assert [file["path"] for file in told["files"]] == ["south/a b.csv"]


@pytest.mark.parametrize(
    "path", ["no\x1b[31m.csv", "../secret.csv", "secret.csv", "/etc/hostname", "landing", "", "a\x00b"]
)
def test_a_file_that_is_not_in_the_landing_place_is_a_wrong_request(shop: Any, call: Call, path: str) -> None:
    Path("secret.csv").write_text("x\n1\n")
    if "\x00" in path:
        with pytest.raises(ConfigError):
            landed_name(shop.sales_files, path, Path.cwd())
        return
    done = call("ingest", NAME, path)
    assert (done.code, done.out) == (2, "")
    assert "error: " in done.err
    assert "\x1b" not in done.err
    assert "Traceback" not in done.err
    assert rows_in_lake() == 0


def test_wrong_requests(shop: Any, call: Call) -> None:
    assert call("ingest", "shop.sales_fils").code == 2
    assert call("ingest", NAME, "--limit").code == 2
    Path("landing").rmdir()
    done = call("ingest", NAME)
    assert done.code == 2
    assert "there is no landing folder" in done.err


def test_help_teaches(shop: Any, call: Call) -> None:
    done = call("ingest", "--help")
    assert done.code == 0
    for words in ("--dry-run", "--verify", "--json", "prefect-mlops ingest flights", "Exit code 0"):
        assert words in done.out


@pytest.mark.slow
def test_the_installed_command_on_a_server(shop: Any, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(Path(shop.__file__).read_text())
    put(shop, ODD)
    (Path("landing") / "bad.csv").write_text("x\n1\n")
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    del environment["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"]  # that the log is quiet is the command's own doing
    done = subprocess.run(
        [COMMAND, "ingest", NAME, "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 1
    assert done.stderr == "looking into everything that waits of shop\n2 of 2 files done\n"
    told = json.loads(done.stdout)
    assert {file["path"]: file["state"] for file in told["files"]} == {ODD: "committed", "bad.csv": "refused"}


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_said_in_words(shop: Any, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(Path(shop.__file__).read_text())
    put(shop, "a.csv")
    environment = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:1/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    done = subprocess.run(
        [COMMAND, "ingest", NAME], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: ingesting failed: " in done.stderr
    assert "PREFECT_API_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert rows_in_lake() == 0
