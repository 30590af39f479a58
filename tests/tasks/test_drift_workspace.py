from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from prefect_mlops.core.comparison import Comparison, compare_profiles
from prefect_mlops.core.profiles import Profile, profile_chunks
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.tasks import _drift_workspace
from prefect_mlops.tasks._drift_table import NothingToDrawError
from prefect_mlops.tasks._drift_workspace import add_to_workspace

NOON = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
SCRIPT = "</script><script>alert('x')</script>"
IMAGE = '<img src=x onerror="alert(1)">'


def table(rows: int = 500, *, seed: int = 0, moved: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = {
        "delay": rng.normal(moved, 1, rows),
        "wind": rng.normal(0, 1, rows),
        "carrier": rng.choice(["a", "b"], rows),
    }
    return pd.DataFrame(names)


def look(
    folder: Path, frame: pd.DataFrame | None = None, *, model: str = "flights", at: datetime = NOON, checks: int = 1
) -> tuple[str, Comparison]:
    """Add one look; its report has a failed check for each column that drifted."""
    frame = table(seed=1) if frame is None else frame
    reference = table(2000) if SCRIPT not in frame else table(2000).assign(**{SCRIPT: SCRIPT})
    profiles: dict[str, Profile] = {"current": profile_chunks([frame]), "reference": profile_chunks([reference])}
    comparison = compare_profiles(**profiles)
    failed = [Check(name="distribution", passed=False, subject=name) for name in comparison.drifted_columns * checks]
    report = Report(kind="drift", subject=model, checks=(Check(name="schema", passed=True), *failed))
    return add_to_workspace(folder, model=model, **profiles, comparison=comparison, report=report, at=at), comparison


def runs(folder: Path, project: str) -> list[dict[str, Any]]:
    """Read the runs of a project, oldest first."""
    return [json.loads(file.read_text("utf-8")) for file in sorted((folder / project / "snapshots").iterdir())]


def scores(run: dict[str, Any]) -> dict[str, float]:
    """Read the numbers of a run: of columns by their name, and the share."""
    values = [result for result in run["metric_results"].values() if "value" in result]
    found = {value["metric_value_location"]["metric"]["params"]["column"]: value["value"] for value in values}
    for result in run["metric_results"].values():
        if "share" in result:
            found["share"] = result["share"]["value"]
    return found


def test_a_look_is_one_run_with_its_moment_and_our_numbers(tmp_path: Path) -> None:
    project, comparison = look(tmp_path, table(seed=1, moved=2))
    (run,) = runs(tmp_path, project)
    assert run["timestamp"].replace("T", " ") == "2026-11-01 12:00:00"
    assert run["tags"] == ["failed"]
    (moved,) = [change for change in comparison.changes if (change.column, change.aspect) == ("delay", "distribution")]
    assert scores(run)["delay"] == moved.measure.size > 0.5
    assert scores(run)["share"] == pytest.approx(1 / 3)
    assert set(scores(run)) == {"share", "delay", "wind", "carrier"}


def test_the_numbers_are_of_all_rows_and_the_pictures_of_the_sample(tmp_path: Path) -> None:
    current, reference = (profile_chunks([table(2000, seed=seed, moved=seed)]) for seed in (1, 0))
    comparison = compare_profiles(current=current, reference=reference)
    report = Report(kind="drift", subject="flights", checks=(Check(name="schema", passed=True),))
    still = replace(current, sample=reference.sample.head(100), rows=1_234_567)
    project = add_to_workspace(
        tmp_path, model="m", current=still, reference=reference, comparison=comparison, report=report, at=NOON
    )
    (run,) = runs(tmp_path, project)
    assert scores(run)["delay"] > 0.3
    assert "drawn from 100 of 1,234,567 current and 2,000 of 2,000 reference rows" in json.dumps(run["widgets"])


def test_each_model_has_one_project_and_keeps_it(tmp_path: Path) -> None:
    projects = [look(tmp_path, model=model, at=NOON + timedelta(days=day))[0] for model in "ab" for day in range(2)]
    assert projects[0] == projects[1] != projects[2] == projects[3]
    assert len(runs(tmp_path, projects[0])) == len(runs(tmp_path, projects[2])) == 2
    assert json.loads((tmp_path / projects[0] / "metadata.json").read_text())["name"] == "a"


def test_the_same_look_twice_is_one_run_wherever_the_clock_is_read(tmp_path: Path) -> None:
    project, _ = look(tmp_path)
    look(tmp_path, at=NOON.astimezone(timezone(timedelta(hours=5))))
    assert len(runs(tmp_path, project)) == 1


def test_what_people_changed_in_the_dashboard_stays(tmp_path: Path) -> None:
    project, _ = look(tmp_path)
    for name in ("dashboard.json", "metadata.json"):
        (tmp_path / project / name).write_text('{"changed": true}')
    look(tmp_path, at=NOON + timedelta(days=1))
    assert (tmp_path / project / "dashboard.json").read_text() == '{"changed": true}'
    assert (tmp_path / project / "metadata.json").read_text() == '{"changed": true}'


def test_only_the_newest_runs_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_drift_workspace, "MAX_RUNS", 2)
    for day in (3, 1, 4, 2):
        project, _ = look(tmp_path, at=NOON + timedelta(days=day))
    assert [run["timestamp"][:10] for run in runs(tmp_path, project)] == ["2026-11-04", "2026-11-05"]


def test_a_run_is_bounded_however_wide_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_drift_workspace, "MAX_COLUMNS", 1)
    monkeypatch.setattr(_drift_workspace, "MAX_SCORES", 2)
    monkeypatch.setattr(_drift_workspace, "MAX_FAILURES", 1)
    project, _ = look(tmp_path, table(seed=1, moved=2), checks=3)
    (run,) = runs(tmp_path, project)
    assert set(scores(run)) == {"share", "delay", "wind"}
    *_, drawn = run["widgets"]
    assert [row["column_name"] for row in drawn["params"]["data"]] == ["delay"]
    assert len(drawn["additionalGraphs"]) == 1
    assert "and 2 more in the report" in json.dumps(run["widgets"])


def test_where_nothing_can_be_drawn_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(NothingToDrawError):
        look(tmp_path, table(0))
    assert not list(tmp_path.iterdir())


def test_too_few_rows_have_a_run_without_numbers(tmp_path: Path) -> None:
    project, _ = look(tmp_path, table(20))
    (run,) = runs(tmp_path, project)
    assert scores(run) == {}


def test_no_file_is_ever_seen_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="disk full"):
        look(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_names_and_values_are_inert_in_every_file(tmp_path: Path) -> None:
    frame = table(seed=1).assign(**{SCRIPT: [SCRIPT, IMAGE] * 250})
    look(tmp_path, frame, model=f"{SCRIPT} [x](javascript:alert(1))")
    text = " ".join(file.read_text("utf-8") for file in tmp_path.rglob("*.json"))
    assert "alert(" in text
    assert "<" not in text
    assert "[x](javascript" not in json.dumps([run["widgets"] for run in runs(tmp_path, next(tmp_path.iterdir()).name)])


def _look(folder: Path, day: int) -> None:
    look(folder, at=NOON + timedelta(days=day))


@pytest.mark.slow
def test_processes_at_once_make_one_project_and_all_their_runs(tmp_path: Path) -> None:
    context = multiprocessing.get_context(
        "spawn"
    )  # threads of servers that other tests have used do not survive a fork
    processes = [context.Process(target=_look, args=(tmp_path, day % 2)) for day in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    (project,) = tmp_path.iterdir()
    assert len(runs(tmp_path, project.name)) == 2  # of each two that were the same look, one


@contextmanager
def evidently_ui(folder: Path) -> Iterator[str]:
    """Run Evidently's own UI over a workspace, in a process that knows nothing of us."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("evidently")), "ui", "--workspace", str(folder), "--port", str(port)]
    process = subprocess.Popen(
        command, env={**os.environ, "DO_NOT_TRACK": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait(30)


def ask(url: str, wanted: int | None = None, body: object = None) -> Any:
    """Ask until there is an answer, of so many items where that is said."""
    answer: Any = None
    for _ in range(240):
        try:
            sent = httpx.get(url) if body is None else httpx.post(url, json=body)
            answer = sent.raise_for_status().json()
            if wanted is None or len(answer) == wanted:
                return answer
        except httpx.HTTPError:  # it is starting, or reads the folder
            pass
        time.sleep(0.25)
    raise AssertionError(f"{url} answered {answer}, wanted {wanted}")


@pytest.mark.slow
def test_evidentlys_own_ui_shows_the_history_and_what_comes_while_it_runs(tmp_path: Path) -> None:
    project, _ = look(tmp_path, table(seed=1))
    look(tmp_path, table(seed=2, moved=2), at=NOON + timedelta(days=1))
    with evidently_ui(tmp_path) as api:
        assert [found["name"] for found in ask(f"{api}/projects", 1)] == ["flights"]
        found = ask(f"{api}/projects/{project}/snapshots", 2)
        assert {run["timestamp"][:10]: run["tags"] for run in found} == {
            "2026-11-01": ["passed"],
            "2026-11-02": ["failed"],
        }
        panels = ask(f"{api}/v2/dashboards/{project}")["panels"]
        wanted = [{"tags": [], "metadata": {}, **only(value)} for panel in panels[2:] for value in panel["values"]]
        history = ask(f"{api}/v2/snapshots/{project}/data_series_batch", body={"series_filter": wanted})["series"]
        lines = {line["params"].get("column", "share"): line["values"] for line in history}
        assert lines["share"] == [0.0, pytest.approx(1 / 3)]
        assert lines["delay"][0] < 0.1 < lines["delay"][1]
        assert set(lines) == {"share", "delay", "wind", "carrier"}
        for run in found:
            shown = ask(f"{api}/projects/{project}/{run['id']}/data")
            assert [widget["type"] for widget in shown["widgets"]] == ["counter", "text", "big_table"]
        look(tmp_path, table(seed=3), at=NOON + timedelta(days=2))
        ask(f"{api}/projects/{project}/snapshots", 3)
        other, _ = look(tmp_path, model="weather")
        ask(f"{api}/projects", 2)
        ask(f"{api}/projects/{other}/snapshots", 1)


def only(value: dict[str, Any]) -> dict[str, Any]:
    return {name: value[name] for name in ("metric", "metric_labels")}
