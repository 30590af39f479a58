from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefect_mlops.cli.commands import files
from prefect_mlops.core.lake.ledger import Arrival, write_lines
from prefect_mlops.tasks import ingest_files

COMMAND = str(Path(sys.executable).with_name("prefect-mlops"))
NAME = "shop.sales_files"
ODD = 'x \x1b[31m"\n[b]\u202emüller.csv'
SHOWN = 'x \\x1b[31m"\\n[b]\\u202emüller.csv'

Call = Callable[..., SimpleNamespace]


def put(shop: Any, name: str, day: int = 1, *, expensive: int = 0) -> None:
    table = shop.sales(day)
    table.loc[: expensive - 1, "price"] = 2000.0 if expensive else table["price"]
    table.to_csv(Path("landing") / name, index=False)


def ingest(shop: Any, *names: str) -> tuple[Arrival, ...]:
    return ingest_files.fn(list(names), dataset=shop.sales_files).arrivals


def test_nothing_has_ever_arrived(shop: Any, call: Call) -> None:
    done = call("files", NAME)
    assert (done.code, done.err) == (0, "")
    assert "No file waits." in done.out
    assert "Nothing to show" in done.out
    assert json.loads(call("files", NAME, "--json").out) == {
        "dataset": "shop",
        "landing": str(Path("landing").absolute()),
        "backlog": {"pending": 0, "oldest": None, "left": []},
        "problem": "",
        "files": [],
        "more": 0,
    }


def test_what_waits_and_what_became_of_the_rest(shop: Any, call: Call) -> None:
    put(shop, "a.csv")
    put(shop, "b.csv", 2, expensive=2)
    (Path("landing") / "bad.csv").write_text("x\n1\n")
    ingest(shop, "a.csv", "b.csv", "bad.csv")
    put(shop, "again.csv")
    ingest(shop, "again.csv")
    put(shop, ODD, 3)
    (Path("landing") / "out.csv").symlink_to("/etc/hostname")
    told = json.loads(call("files", NAME, "--json").out)
    assert told["backlog"]["pending"] == 1
    assert told["backlog"]["oldest"] == told["files"][-1]["modified"]
    assert "leads out" in told["backlog"]["left"][0]
    assert [(file["path"], file["state"]) for file in told["files"]] == [
        ("a.csv", "committed"),
        ("b.csv", "partly"),
        ("bad.csv", "refused"),
        ("again.csv", "duplicate"),
        (ODD, "pending"),
    ]
    partly = told["files"][1]
    assert set(partly) == {
        "path", "digest", "state", "rows", "refused", "reason", "version", "content", "flow_run", "at",
    }  # fmt: skip
    assert (partly["rows"], partly["refused"], partly["version"]) == (398, 2, 1)
    assert partly["digest"].startswith("sha256:")
    assert len(partly["digest"]) == 71


def test_a_person_sees_names_and_reasons_but_nothing_the_terminal_obeys(shop: Any, call: Call) -> None:
    put(shop, ODD, expensive=2)
    (Path("landing") / "bad\x1b[2J.csv").write_text("\x1b[31mevil\n1\n")
    ingest(shop, ODD, "bad\x1b[2J.csv")
    put(shop, "wait\x07.csv", 5)
    (Path("landing") / "out\x1b]0;x.csv").symlink_to("/etc/hostname")
    done = call("files", NAME)
    assert done.code == 0
    assert SHOWN in done.out
    assert "bad\\x1b[2J.csv" in done.out
    assert "wait\\x07.csv" in done.out
    assert "2 of 400 rows" in done.out
    assert "1 file waits, the oldest for " in done.out
    assert "Left alone: " in done.out
    assert not [character for character in done.out if not character.isprintable() and character != "\n"]
    header = next(line for line in done.out.splitlines() if line.startswith("STATE"))
    assert header.split() == ["STATE", "ROWS", "REFUSED", "VERSION", "WHEN", "DIGEST", "RUN", "FILE"]


@pytest.mark.parametrize(("state", "paths"), [("refused", ["bad.csv"]), ("pending", ["b.csv"]), ("duplicate", [])])
def test_one_state_only(shop: Any, call: Call, state: str, paths: list[str]) -> None:
    put(shop, "a.csv")
    (Path("landing") / "bad.csv").write_text("x\n1\n")
    ingest(shop, "a.csv", "bad.csv")
    put(shop, "b.csv", 2)
    told = json.loads(call("files", NAME, "--state", state, "--json").out)
    assert [file["path"] for file in told["files"]] == paths
    assert told["backlog"]["pending"] == 1


def test_an_unknown_state_says_which_there_are(shop: Any, call: Call) -> None:
    done = call("files", NAME, "--state", "lost")
    assert done.code == 2
    assert "'pending', 'committed', 'partly', 'refused'" in done.err


def test_only_the_newest_are_shown_and_how_many_more_there_are(shop: Any, call: Call) -> None:
    lines = [
        Arrival(dataset="shop", path=f"{number}.csv", digest=f"sha256:{number:064}", state="refused", reason="no")
        for number in range(70)
    ]
    write_lines("shop", lines)
    told = json.loads(call("files", NAME, "--json").out)
    assert [file["path"] for file in told["files"]] == [f"{number}.csv" for number in range(20, 70)]
    assert told["more"] == 20
    human = call("files", NAME, "--limit", "3").out
    assert "67 older are not shown; --limit 70 shows them all" in human
    assert "66.csv" not in human
    assert "69.csv" in human.splitlines()[-2]


def test_a_landing_place_that_is_gone_keeps_nobody_from_the_ledger(shop: Any, call: Call) -> None:
    put(shop, "a.csv")
    ingest(shop, "a.csv")
    (Path("landing") / "a.csv").unlink()
    Path("landing").rmdir()
    done = call("files", NAME)
    assert done.code == 0
    assert "there is no landing folder" in done.err
    assert "a.csv" in done.out
    told = json.loads(call("files", NAME, "--json").out)
    assert told["backlog"] is None
    assert "there is no landing folder" in told["problem"]


@pytest.mark.parametrize("name", ["shop.sales_fles", "nowhere.files", "shop", "\x1b[31m.x"])
def test_an_unknown_dataset_is_a_wrong_request(shop: Any, call: Call, name: str) -> None:
    done = call("files", name)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert done.out == ""
    assert "\x1b" not in done.err


def test_a_project_that_cannot_be_entered_is_a_wrong_request(shop: Any, call: Call) -> None:
    done = call("files", NAME, "--project", "nowhere")
    assert (done.code, done.out) == (2, "")
    assert "'nowhere' cannot be entered: No such file or directory" in done.err


def test_times_and_counts_are_said_in_words() -> None:
    from datetime import datetime, timedelta, timezone

    from prefect_mlops.cli._terminal import age, counted

    now = datetime.now(timezone.utc)
    lengths = [timedelta(seconds=0), timedelta(seconds=-5), timedelta(minutes=3), timedelta(hours=5), timedelta(days=9)]
    assert [age(now - length) for length in lengths] == ["0 s", "0 s", "3 min", "5 h", "9 d"]
    assert [counted(1, "row"), counted(2000, "row")] == ["1 row", "2,000 rows"]


def test_a_landing_place_with_a_secret_is_shown_without_it(shop: Any) -> None:
    spec = SimpleNamespace(name="shop", landing_place="s3://key:secret@bucket/x")
    assert "secret" not in "\n".join(files._top(spec, None, ""))  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_installed_command_needs_no_server_and_finds_lake_and_project(shop: Any, tmp_path: Path) -> None:
    project, here = tmp_path / "project", tmp_path / "here"
    (project / "landing").mkdir(parents=True)
    here.mkdir()
    (project / "shop.py").write_text(Path(shop.__file__).read_text())
    (project / "prefect.yaml").write_text(
        "deployments:\n  - name: ingest\n    entrypoint: x:y\n    parameters: {dataset: shop.sales_files}\n"
    )
    (project / "landing" / ODD).write_text("x\n1\n")
    # A relative home is in the folder a person is in, as it is for `up`.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "PYTHONPATH"))}
    environment |= {"PREFECT_MLOPS_HOME": "home", "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    done = subprocess.run(
        [COMMAND, "files", "shop", "--project", str(project), "--json"],
        cwd=here, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["landing"] == str(project / "landing")
    assert [(file["path"], file["state"]) for file in told["files"]] == [(ODD, "pending")]
