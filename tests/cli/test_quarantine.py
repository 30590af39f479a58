from __future__ import annotations

import dataclasses
import functools
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
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from prefect.settings import PREFECT_API_URL

from prefect_mlops.core.addresses import table_uri
from prefect_mlops.tasks import ingest_files

COMMAND = str(Path(sys.executable).with_name("prefect-mlops"))
NAME = "shop.sales_files"
ODD = 'x \x1b[31m"\n[b]\u202emüller.csv'
SHOWN = 'x \\x1b[31m"\\n[b]\\u202emüller.csv'
EVIL = "\x1b[2J[red]\u202e\n'\"日本"

Call = Callable[..., SimpleNamespace]


@pytest.fixture
def call(call: Call) -> Call:
    """`prefect-mlops quarantine`: its code and what it wrote."""
    return functools.partial(call, "quarantine")


@pytest.fixture
def mend(shop: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let prices up to a value in, of any kind of thing."""

    def mended(top: float) -> None:
        suite = ExpectationSuite(
            name="x", expectations=[gxe.ExpectColumnValuesToBeBetween(column="price", max_value=top)]
        )
        monkeypatch.setattr(shop, "sales_files", dataclasses.replace(shop.sales_files, suite=suite))

    return mended


def arrive(shop: Any, name: str, day: int, *, prices: dict[int, float], **cells: Any) -> None:
    """A file whose named rows have other prices; row 1 gets the cells."""
    table = shop.sales(day).astype({"kind": object})
    for row, price in prices.items():
        table.loc[row - 1, "price"] = price
    for column, value in cells.items():
        table.loc[0, column] = value
    table.to_csv(Path("landing") / name, index=False)
    ingest_files.fn([name], dataset=shop.sales_files)


def rows_in_lake() -> int:
    uri = table_uri("datasets", "shop")
    return DeltaTable(uri).to_pyarrow_table().num_rows if DeltaTable.is_deltatable(uri) else 0


def printable(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_nothing_is_in_quarantine(shop: Any, call: Call) -> None:
    assert call("list", NAME).out == "Nothing is in quarantine.\n"
    assert json.loads(call("list", NAME, "--json").out) == {"dataset": "shop", "rows": 0, "files": [], "refused": []}
    assert call("show", NAME, "a.csv").code == 2
    arrive(shop, "a.csv", 1, prices={})
    assert call("list", NAME).out == "Nothing is in quarantine.\n"
    assert call("show", NAME, "a.csv").out == "Nothing of a.csv is in quarantine.\n"


def test_files_are_listed_with_their_reasons_counted(shop: Any, call: Call) -> None:
    arrive(shop, ODD, 1, prices={4: 2000, 6: -5}, kind=EVIL)
    arrive(shop, "bad.csv", 2, prices=dict.fromkeys(range(1, 101), 3000.0))
    done = call("list", NAME)
    assert done.code == 0
    assert printable(done.out)
    assert "3 rows of 1 file in quarantine:" in done.out
    assert SHOWN in done.out
    assert "price: values between 0 and 1000 (2); kind: values in" in done.out
    assert "1 file refused as a whole:" in done.out
    told = json.loads(call("list", NAME, "--json").out)
    (file,), (refused,) = told["files"], told["refused"]
    assert set(file) == {"path", "digest", "flow_run", "at", "rows", "missing", "reasons"}
    assert (told["rows"], file["path"], file["rows"], file["missing"]) == (3, ODD, 3, 0)
    assert sorted(file["reasons"].values()) == [1, 2]
    assert set(refused) == {"path", "digest", "flow_run", "at", "reason"}
    assert refused["path"] == "bad.csv"


def test_a_long_list_shows_the_newest(shop: Any, call: Call) -> None:
    for day in (1, 2, 3):
        arrive(shop, f"{day}.csv", day, prices={4: 2000})
        arrive(shop, f"bad-{day}.csv", day + 10, prices=dict.fromkeys(range(1, 101), 3000.0))
    out = call("list", NAME, "--limit", "1").out
    assert "3 rows of 3 files in quarantine:\n2 older are not shown; --limit 3 shows them all" in out
    assert [line.split()[-1] for line in out.splitlines() if line.endswith(".csv")] == ["3.csv", "bad-3.csv"]
    assert len(json.loads(call("list", NAME, "--limit", "1", "--json").out)["files"]) == 3


def test_rows_are_shown_with_number_reasons_and_values(shop: Any, call: Call) -> None:
    arrive(shop, ODD, 1, prices={4: 2000, 6: 3000}, kind=EVIL)
    done = call("show", NAME, ODD)
    assert done.code == 0
    assert printable(done.out)
    assert "3 rows in quarantine" in done.out
    assert "row 4: price: values between 0 and 1000\n" in done.out
    assert "\\u202e" in done.out
    assert "日本" in done.out
    few = call("show", NAME, ODD, "--limit", "1").out
    assert "2 more; --limit 3 shows them all" in few
    assert "row 4" not in few
    told = json.loads(call("show", NAME, f"landing/{ODD}", "--json").out)
    assert (told["path"], told["more"], told["refused"]) == (ODD, 0, [])
    first, second, _ = told["rows"]
    assert set(first) == {"digest", "number", "reasons", "values"}
    assert (first["number"], first["values"]["kind"]) == (1, EVIL)
    assert (second["number"], second["reasons"], second["values"]["price"]) == (
        4, ["price: values between 0 and 1000"], 2000.0,
    )  # fmt: skip


def test_a_file_refused_as_a_whole_says_why_it_has_no_rows_here(shop: Any, call: Call) -> None:
    arrive(shop, "bad.csv", 2, prices=dict.fromkeys(range(1, 101), 3000.0))
    done = call("show", NAME, "bad.csv")
    assert "was refused as a whole, so no row of it is kept here" in done.out
    assert "100 of 400 rows" in done.out
    assert "more than 10%" in json.loads(call("show", NAME, "bad.csv", "--json").out)["refused"][0]["reason"]


def test_a_file_that_is_gone_from_the_landing_place_is_still_shown(shop: Any, call: Call) -> None:
    arrive(shop, "a.csv", 1, prices={4: 2000})
    Path("landing/a.csv").unlink()
    assert "row 4" in call("show", NAME, "a.csv").out


@pytest.mark.parametrize("command", ["show", "replay"])
def test_a_file_that_never_arrived_is_a_wrong_request(shop: Any, call: Call, command: str) -> None:
    arrive(shop, "a.csv", 1, prices={4: 2000})
    done = call(command, NAME, "a\x1b[31m.csv")
    assert (done.code, done.out) == (2, "")
    assert "did you mean 'a.csv'?" in done.err
    assert printable(done.err)


@pytest.mark.parametrize("command", [("list",), ("show", "a.csv"), ("replay",)])
def test_an_unknown_dataset_is_a_wrong_request(shop: Any, call: Call, command: tuple[str, ...]) -> None:
    done = call(command[0], "shop.sales_fils", *command[1:])
    assert (done.code, done.out) == (2, "")
    assert "did you mean 'sales_files'?" in done.err


def test_replay_brings_in_what_passes_and_says_what_stays(
    shop: Any, call: Call, mend: Callable[[float], None], prefect_api: None
) -> None:
    arrive(shop, ODD, 1, prices={4: 2000, 6: 9000})
    arrive(shop, "b.csv", 2, prices={1: 2000})
    unmended = call("replay", NAME)
    assert unmended.code == 1
    assert "Nothing was changed: nothing of it passes today's suite." in unmended.out
    mend(5000)
    dry = call("replay", NAME, "--dry-run")
    assert dry.code == 1
    assert "2 rows would come in. Nothing was written: this was a dry run." in dry.out
    assert rows_in_lake() == 797
    done = call("replay", NAME, ODD)
    assert done.code == 1
    assert printable(done.out)
    assert f"{SHOWN} (" in done.out
    assert "1 row in, 1 stay: price: values at most 5000 (1)" in done.out
    assert rows_in_lake() == 798
    mend(10000)
    told = json.loads(call("replay", NAME, "--json").out)
    assert set(told) == {"dataset", "dry_run", "changed", "rows", "files", "left"}
    assert [set(row) for row in told["rows"]] == [{"path", "digest", "rows", "left", "why", "version"}] * 2
    assert sorted((row["path"], row["rows"], row["left"]) for row in told["rows"]) == [("b.csv", 1, 0), (ODD, 1, 0)]
    assert (told["changed"], told["dry_run"]) == (True, False)
    assert rows_in_lake() == 800
    again = call("replay", NAME)
    assert (again.code, again.out) == (0, "Nothing is in quarantine; nothing was changed.\n")
    assert call("list", NAME).out == "Nothing is in quarantine.\n"


def test_replay_ingests_files_again_that_were_refused_as_a_whole(
    shop: Any, call: Call, mend: Callable[[float], None], prefect_api: None
) -> None:
    for name, day in (("a.csv", 1), ("gone.csv", 2)):
        arrive(shop, name, day, prices=dict.fromkeys(range(1, 101), 2000.0))
    Path("landing/gone.csv").unlink()
    mend(5000)
    done = call("replay", NAME)
    assert done.code == 1
    assert "400 rows came in." in done.out
    assert "Left: gone.csv: refused as a whole" in done.out
    assert rows_in_lake() == 400
    told = json.loads(call("replay", NAME, "a.csv", "--json").out)
    assert (told["changed"], told["rows"], told["files"], told["left"]) == (False, [], [], [])


@pytest.mark.parametrize("command", ["list", "show", "replay"])
def test_help_teaches(shop: Any, call: Call, command: str) -> None:
    done = call(command, "--help")
    assert done.code == 0
    assert "--json" in done.out
    assert f"prefect-mlops quarantine {command} flights" in done.out


@pytest.mark.slow
def test_the_installed_commands_around_a_suite_that_is_mended(shop: Any, prefect_api: None, tmp_path: Path) -> None:
    spec = Path(shop.__file__).read_text()
    (tmp_path / "shop.py").write_text(spec)
    arrive(shop, ODD, 1, prices={4: 2000})
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    del environment["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"]  # that the log is quiet is the command's own doing

    def run(*words: str) -> tuple[int, Any, str]:
        done = subprocess.run(
            [COMMAND, "quarantine", *words, "--json"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout), done.stderr

    assert run("list", NAME)[1]["rows"] == 1
    assert run("show", NAME, ODD)[1]["rows"][0]["number"] == 4
    code, told, _ = run("replay", NAME)
    assert (code, told["changed"]) == (1, False)
    (tmp_path / "shop.py").write_text(spec.replace("max_value=1000", "max_value=5000"))
    code, told, said = run("replay", NAME)
    assert (code, told["changed"], [row["rows"] for row in told["rows"]]) == (0, True, [1])
    assert said.splitlines()[0] == "checking what was refused of shop again"
    assert said.splitlines()[1:] == [f"{ODD!r}: checking 1 of its rows again"]
    assert rows_in_lake() == 400
