from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

from prefect_mlops.cli import app
from prefect_mlops.core.promotion.history import Entry, record

Call = Callable[..., SimpleNamespace]
START = datetime(2026, 3, 1, 22, 30, tzinfo=timezone.utc)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty lake, in Berlin."""
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def call(lake: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process: its code and what it wrote."""

    def called(*words: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["prefect-mlops", "history", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
        written = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code or 0, out=written.out, err=written.err)

    return called


def happened() -> None:
    """Three reigns: v1 from 23:30 in Berlin, v3 a day later, v1 again two days later."""

    def put(hours: int, kind: str, **fields: object) -> None:
        record(Entry(model="Flights.late", kind=kind, at=START + timedelta(hours=hours), **fields))  # type: ignore[arg-type]

    put(-1, "leased")
    put(0, "promoted", version=1, reason="roc_auc: minimum score")
    put(0, "released", version=1)
    put(1, "refused", version=2, by="automatic", reason="too low \x1b[31m")
    put(24, "promoted", version=3, replaced=1, by="ada", reason="better",
        details={"approval": {"by": "ada", "comment": "agreed [b]", "request": 4, "typed": "ada"}})  # fmt: skip
    put(25, "drifted", version=3)
    put(26, "opened", by="automatic", reason="3 in a row")
    put(48, "rolled_back", version=1, replaced=3, by="ben", reason="fewer late flights were found")


def test_a_line_for_each_champion_then_what_else_was_decided(call: Call) -> None:
    happened()
    shown = call("Flights.late")
    assert (shown.code, shown.err) == (0, "")
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert lines[0].startswith("Flights.late: v1 is champion, for ")
    assert "UTC+0" in lines[0]
    assert lines[2] == "CHAMPION FROM TO HOW BY"
    assert "v1 2026-03-01 23:30 2026-03-02 23:30 promoted person" in lines
    assert "v3 2026-03-02 23:30 2026-03-03 23:30 promoted ada" in lines
    assert "v1 2026-03-03 23:30 now rolled back ben" in lines
    assert "Comment: agreed [b]" in lines
    assert "v2 2026-03-02 00:30 refused automatic" in lines
    assert "too low \\x1b[31m" in lines
    assert "2026-03-03 01:30 opened automatic" in lines
    assert "leased" not in shown.out
    assert "released" not in shown.out
    assert "drifted" not in shown.out


@pytest.mark.parametrize(
    ("at", "champions"),
    [
        ("2026-03-01", [1]),  # from 23:30 on
        ("2026-02-28", []),
        ("2026-03-02", [1, 3]),  # changed on that day
        ("2026-03-03T12:00", [3]),
        ("2026-03-01T23:29", []),
        ("2026-03-01T23:30", [1]),
        ("2026-03-01T23:00+00:00", [1]),  # half past midnight in Berlin
        ("2026-03-01T22:00Z", []),
        ("2026-03-20", [1]),
    ],
)
def test_who_was_champion_then(call: Call, at: str, champions: list[int]) -> None:
    happened()
    told = json.loads(call("Flights.late", "--at", at, "--json").out)
    assert [one["version"] for one in told["champions"]] == champions


def test_the_answer_says_since_when_why_by_whom_and_whose_clock(call: Call) -> None:
    happened()
    text = call("Flights.late", "--at", "2026-03-03T12:00").out
    assert "Champion of Flights.late at 2026-03-03 12:00:00 (local time, UTC+0100): v3" in text
    assert "v3 from 2026-03-02 23:30:00 until 2026-03-03 23:30:00" in text
    assert "promoted by ada, in place of v1" in text
    assert "better" in text
    none = call("Flights.late", "--at", "2026-02-01").out
    assert "had no champion on 2026-02-01" in none
    assert "The first one was v1, from 2026-03-01 23:30:00" in none


def test_everything_as_json(call: Call) -> None:
    happened()
    told = json.loads(call("Flights.late", "--json").out)
    assert [one["version"] for one in told["champions"]] == [1, 3, 1]
    assert told["champions"][0]["since"] == "2026-03-01T22:30:00Z"
    assert [one["kind"] for one in told["others"]] == ["refused", "opened"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("flights",), "did you mean 'Flights.late'?"),
        (("Flights.late/3",), "write Flights.late"),
        (("a/b/c",), "names no model"),
        (("Flights.late", "--at", "yesterday"), "write 2026-03-01, or 2026-03-01T12:00"),
        (("Flights.late", "--at", "0001-01-01"), "is no date"),
        (("Flights.late", "--at", "2999-01-01"), "has not come yet"),
    ],
)
def test_wrong_requests_say_what_would_be_right(call: Call, words: tuple[str, ...], said: str) -> None:
    happened()
    done = call(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_the_spec_may_be_named_instead(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    record(Entry(model="shop", kind="promoted", version=1))
    assert call("shop.model").out.startswith("shop: v1 is champion")


def test_neither_prefect_nor_mlflow_is_imported(lake: None) -> None:
    happened()
    code = (
        "import sys; sys.argv = ['x', 'history', 'Flights.late']\nfrom prefect_mlops.cli.app import main\n"
        "try: main()\nexcept SystemExit: print([name for name in ('prefect', 'mlflow', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
