"""`prefect-mlops demo` as a newcomer runs it, then `prefect-mlops up` on its home, looked at in a real browser."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

pytestmark = pytest.mark.slow
COMMAND = str(Path(sys.executable).with_name("prefect-mlops"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]


def live(home: Path) -> dict[str, Any]:
    command = [COMMAND, "demo", "--home", str(home), "--json"]
    done = subprocess.run(command, cwd=home.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "home"


@pytest.fixture(scope="module")
def told(home: Path) -> dict[str, Any]:
    return live(home)


def test_the_story(told: dict[str, Any], home: Path) -> None:
    assert (told["model"], told["champion"]) == ("flights-late", 2)
    assert [(version["version"], version["decision"]) for version in told["versions"]] == [
        (1, "promoted"),
        (2, "promoted"),
        (3, "refused"),
    ]
    assert 0.6 < told["versions"][1]["metrics"]["roc_auc"] < 0.8, "an AUC of 0.89 would be a leak"
    assert told["versions"][2]["metrics"]["roc_auc"] < told["versions"][1]["metrics"]["roc_auc"]
    digests = [version["data_digest"] for version in told["versions"]]
    assert digests[0] != digests[1] == digests[2]
    states = {file["path"]: file["state"] for file in told["files"]}
    assert states == {
        "flights-2013-01.csv.gz": "committed",
        "flights-2013-02.csv.gz": "committed",
        "flights-2013-03.csv.gz": "committed",
        "flights-2013-04-renamed.csv.gz": "refused",
        "flights-2013-04-copy.csv.gz": "refused",
        "flights-2013-04.csv.gz": "partly",
        "flights-2013-07.csv.gz": "committed",
    }
    april = told["files"][5]
    assert april["rows"] + april["refused"] == 28330
    assert april["refused"] == int(0.03 * 28330)
    assert told["drift"]["passed"] is False
    assert "temp" in told["drift"]["columns"]
    assert Path(told["drift"]["page"]).stat().st_size > 100_000
    assert told["changed"] is True


def test_every_row_that_arrived_is_in_the_lake_or_in_quarantine(told: dict[str, Any], home: Path) -> None:
    from deltalake import DeltaTable

    rows = DeltaTable(home / "lake" / "datasets" / "flights").to_pyarrow_table().num_rows
    bad = DeltaTable(home / "lake" / "quarantine" / "flights").to_pyarrow_table().num_rows
    assert rows == sum(file["rows"] for file in told["files"])
    assert bad == sum(file["refused"] for file in told["files"])


def test_again_changes_nothing_and_says_so(told: dict[str, Any], home: Path) -> None:
    again = live(home)
    assert again["changed"] is False
    assert all(done["again"] for done in [*again["files"], *again["versions"]])
    same = ("model", "champion", "drift")
    assert {name: again[name] for name in same} == {name: told[name] for name in same}
    assert len(again["versions"]) == 3


@pytest.fixture(scope="module")
def stack(told: dict[str, Any], home: Path) -> Iterator[dict[str, str]]:
    """The one command the demo ends with; its addresses."""
    command = [COMMAND, *shlex.split(told["show"])[1:], "--json", "--project", str(home.parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "CI has to have a browser"
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1400, "height": 1000})
    opened.set_default_timeout(30_000)
    yield opened
    opened.close()


def newest_run(api: str, name: str) -> str:
    runs = httpx.post(f"{api}/flow_runs/filter", json={"sort": "START_TIME_DESC"}, trust_env=False, timeout=30).json()
    return next(str(run["id"]) for run in runs if run["name"] == name)


@pytest.mark.browser
def test_the_run_and_its_verdict_are_on_prefects_pages(stack: dict[str, str], page: Page) -> None:
    run = newest_run(stack["prefect_api"], "train-prefect_mlops.examples.flights.worse")
    page.goto(f"{stack['prefect_ui']}/runs/flow-run/{run}")
    page.get_by_text("Artifacts", exact=True).last.click()
    page.get_by_text("verdict-train-flights-late").first.click()
    page.get_by_role("heading", name="flights-late: v3 refused").wait_for()
    page.get_by_text("v2 stays champion.").wait_for()
    link = page.get_by_role("link", name="Model version in MLflow").get_attribute("href")
    assert link is not None
    assert link.startswith(stack["mlflow"]), "links made by the demo lead to the stack that is up now"


@pytest.mark.browser
def test_mlflow_leads_back_to_the_prefect_run(stack: dict[str, str], page: Page) -> None:
    listed = {"max_results": 10, "experiment_ids": ["1"], "filter": "tags.`prefect_mlops.data` != ''"}
    answer = httpx.post(f"{stack['mlflow']}/api/2.0/mlflow/runs/search", json=listed, trust_env=False, timeout=30)
    run = answer.json()["runs"][0]["info"]
    page.goto(f"{stack['mlflow']}/#/experiments/{run['experiment_id']}/runs/{run['run_id']}")
    back = page.locator(f"a[href^='{stack['prefect_ui']}/runs/flow-run/']").first
    back.wait_for()
    page.goto(str(back.get_attribute("href")))
    page.get_by_text("train-prefect_mlops.examples.flights").first.wait_for()


@pytest.mark.browser
def test_the_drift_report_opens_without_a_network(told: dict[str, Any], page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(Path(told["drift"]["page"]).as_uri())
    page.get_by_text("Failed: drift of flights-late").first.wait_for()
    page.get_by_text("then the columns that drifted").wait_for()
    page.get_by_role("cell", name="temp").first.wait_for()
    assert not [url for url in asked if url.startswith("http")]
