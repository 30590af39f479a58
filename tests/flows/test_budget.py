"""What a run of each flow asks of servers, storage and processor: counted, not timed.

A count that has grown is a step that asks again for what is known. Where one has to grow, it is raised here, and the
comment says for what.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.settings import get_current_settings

PROJECTS = Path(__file__).parent.parent / "projects"
OF_PREFECT = 10  # requests of a flow run: flow, run, three states, three questions about its storage, and so on

pytestmark = pytest.mark.slow  # a process of its own that imports everything and trains


@pytest.fixture(scope="module")
def story(prefect_api: None, migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The counts of each run in the life of a project: `tests/projects/counted.py`."""
    folder = tmp_path_factory.mktemp("counted")
    (folder / "landing").mkdir()
    for name in ("shop.py", "counted.py"):
        shutil.copy(PROJECTS / name, folder)
    shutil.copy(migrated_store, folder / "mlflow.db")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for step in (["init", "-q"], ["add", "shop.py"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *step], cwd=folder, check=True, capture_output=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_MLOPS_", "GIT_"))}
    done = subprocess.run(
        [sys.executable, "counted.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            **kept,
            "PREFECT_API_URL": get_current_settings().api.url,
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "PREFECT_MLOPS_HOME": str(folder / "home"),
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def beyond(counts: dict[str, int], budget: dict[str, int]) -> dict[str, str]:
    """What was done more often than it may; what the budget does not name may not be done at all."""
    return {
        what: f"{count}, not {budget.get(what, 0)}" for what, count in counts.items() if count > budget.get(what, 0)
    }


def test_a_sweep_that_finds_nothing_new_opens_two_tables(story: dict) -> None:
    budget = {
        "opens of arrivals": 1,  # which files were taken
        "opens of datasets": 1,  # which of them are committed
        "requests to Prefect": OF_PREFECT + 1,  # the verdict
    }
    assert not beyond(story["ingest nothing"], budget)


def test_a_file_is_read_once_and_committed_by_two_tables(story: dict) -> None:
    budget = {
        "digests of all cells": 1,  # of the rows that were committed
        "opens of arrivals": 4,  # what waits, what is known when it is checked, and when it is committed; the line
        "opens of datasets": 5,  # the same, the columns there are, and the commit
        "requests to Prefect": OF_PREFECT + 1,
    }
    assert not beyond(story["ingest a file"], budget)


def test_training_asks_for_nothing_twice(story: dict) -> None:
    budget = {
        "fits": 1,
        "digests of all cells": 2,  # of the training rows, which the model carries; of both sides, for the recipe
        # The challenger on its test rows, for its scores and for the gate, the champion on them, and the card: 4.
        # Each of 4 columns shuffled 5 times, and once as it is: 21. The reference: 1. The rows to rehearse: 2.
        "predictions": 28,
        "deep copies": 10,  # scikit-learn's, one for each column it shuffles; one for each question about kept rows
        "opens of datasets": 3,  # which version there is, its columns, its rows
        "opens of history": 7,  # who has the turn, the alias, decided before?, lease, decision, carried out, witness
        # 15 to log the run, 3 to register it, 3 to fetch it again, 2 to keep card and reference; the champion 3, the
        # alias 1 and 2, decided before? 1; the decision 1 and 6, of which MLflow's own client asks 3.
        "calls of MLflow": 37,
        "SQL statements of MLflow": 154,
        "processes of git": 3,  # status, difference where there is one, and whether it tells of all loaded code
        "processes of Python": 1,  # the rehearsal
        "requests to Prefect": OF_PREFECT + 6,  # verdict, two reports and card; two looks at steps that overlap
    }
    assert not beyond(story["train"], budget)


def test_training_again_on_the_same_version_reads_no_row(story: dict) -> None:
    budget = {
        "opens of datasets": 1,  # which version there is
        "opens of history": 2,  # who has the turn, and what was decided; the alias
        "calls of MLflow": 1,  # the alias
        "SQL statements of MLflow": 6,
        "processes of git": 1,
        "requests to Prefect": OF_PREFECT + 1,
    }
    assert not beyond(story["train again"], budget)
    first, again = story["said"]
    assert again == {**first, "again": True}


def test_the_verdict_of_a_training_that_was_decided_before_leads_to_the_run_that_decided(story: dict) -> None:
    key = ArtifactFilter(key=ArtifactFilterKey(any_=["verdict-train-shop"]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=key, sort=ArtifactSort.CREATED_DESC)
    again = next(one for one in found if "decided before" in one.data)
    assert f"/flow-run/{story['first run']})" in again.data.partition("The run that decided it")[2]


def test_after_an_edit_of_the_code_the_rows_themselves_have_to_tell(story: dict) -> None:
    assert story["train after an edit"]["digests of all cells"] == 1
    assert "fits" not in story["train after an edit"]


def test_monitoring_reads_the_new_rows_once_and_downloads_what_was_kept(story: dict) -> None:
    budget = {
        "opens of history": 1,  # the alias; and a second one for an entry where there is drift
        "opens of arrivals": 1,
        "opens of datasets": 2,  # which files are committed, and their rows
        "opens of looks": 4,
        "opens of another table": 1,
        "predictions": 1,  # which probability the champion gives the rows
        "deep copies": 6,  # Evidently's, for its page
        "calls of MLflow": 7,  # alias twice, where the model is, the run of the reference, the page, and its run
        "SQL statements of MLflow": 32,
        "requests to Prefect": OF_PREFECT + 3,  # verdict, report, history of looks
    }
    assert not beyond(story["monitor"], budget)
