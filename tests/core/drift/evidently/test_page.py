from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from prefect_mlops.core.drift.detection import detect_drift as detect
from prefect_mlops.core.drift.detection import write_drift_page
from prefect_mlops.core.drift.evidently import page as _drift_page
from prefect_mlops.core.drift.evidently.page import write_page
from prefect_mlops.core.drift.evidently.table import NothingToDrawError
from prefect_mlops.core.drift.table_drift import TableDrift, compare_profiles
from prefect_mlops.core.drift.table_profile import TableProfile, profile_chunks
from prefect_mlops.core.drift.training_profile import PREDICTION, TrainingProfile
from prefect_mlops.core.reports import Check, Report
from tests.core.drift.batches import batch

SCRIPT = "</script><script>alert('x')</script>"
IMAGE = '<img src=x onerror="alert(1)">'


def verdict(comparison: TableDrift, subject: str) -> Report:
    """A report that quotes what was found."""
    checks = [Check(name="schema", passed=not any(finding.broken for finding in comparison.findings))]
    checks += [
        Check(name=finding.what, passed=False, subject=finding.column, observed=finding.observed)
        for finding in comparison.findings
    ]
    checks += [
        Check(name=change.aspect, passed=not change.drifted, severity="warning", subject=change.column)
        for change in comparison.changes
    ]
    return Report(kind="drift", subject=subject, checks=tuple(checks))


def draw(
    path: Path,
    *,
    current: pd.DataFrame,
    reference: pd.DataFrame,
    subject: str = "flights",
    seen: Callable[[TableDrift], TableDrift] = lambda comparison: comparison,
    kept: Callable[[TableProfile], TableProfile] = lambda profile: profile,
    known: Callable[[TableProfile], TrainingProfile] | None = None,
) -> list[str]:
    """Draw the page of two tables; `seen` changes what was found, `kept` what the current profile carries."""
    profiles = {"current": profile_chunks([current]), "reference": profile_chunks([reference])}
    comparison = seen(compare_profiles(**profiles))
    profiles["current"] = kept(profiles["current"])
    worth = known(profiles["reference"]) if known else None
    return write_page(path, **profiles, comparison=comparison, report=verdict(comparison, subject), known=worth)


def drawn_columns(path: Path) -> list[str]:
    return re.findall(r'"column_name": "([^"]*)"', data_block(page_of(path)))


def page_of(path: Path) -> str:
    return path.read_text("utf-8")


def data_block(page: str) -> str:
    """What Evidently wrote about the data, without its own program."""
    return page[: page.index("var global = globalThis")]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str]:
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
    notes = draw(folder / "out" / "drift.html", current=current, reference=reference, subject=f"flights {IMAGE}")
    assert list(folder.rglob("*")) == [folder / "out", folder / "out" / "drift.html"]
    return notes, page_of(folder / "out" / "drift.html")


def test_the_page_says_at_its_top_whose_verdict_it_is(drawn: tuple[list[str], str]) -> None:
    _, page = drawn
    top = page[page.index("<body>") :][:3000]
    assert "Failed: drift of flights" in top
    assert "The verdict, here and in the table, is prefect-mlops&#x27; own" in top or "is prefect-mlops' own" in top
    assert "drawn from 10,000 of 12,000 current and 10,000 of 12,000 reference rows" in top
    assert "gone: column is there, saw missing" in top


def test_the_report_says_how_many_rows_are_drawn_and_what_is_left_out(drawn: tuple[list[str], str]) -> None:
    (drawn_from, note), _ = drawn
    assert "drawn from 10,000 of 12,000 current" in drawn_from
    assert {name for name in ("constant", "retyped", "empty", "extra", "gone") if repr(name) in note} == {
        "constant", "retyped", "empty", "extra", "gone"
    }  # fmt: skip


def test_every_drawable_column_is_in_the_page_with_our_verdict(drawn: tuple[list[str], str]) -> None:
    _, page = drawn
    data = data_block(page)
    for name in [*(f"c{number}" for number in range(10)), "at", "note", "nullable", "infinite", "flag"]:
        assert f'"column_name": "{name}"' in data
    for name in ("constant", "retyped", "empty", "extra", "gone"):
        assert f'"column_name": "{name}"' not in data
    assert data.count('"data_drift": "drifted: distribution') == 3
    assert "not Detected" not in data


def test_nothing_of_the_data_is_live_in_the_page(drawn: tuple[list[str], str]) -> None:
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


def test_the_page_opens_without_a_network(drawn: tuple[list[str], str]) -> None:
    _, page = drawn
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", data_block(page) + page[-2000:])
    assert not [tag for tag in tags if re.search(r"src=|href=", tag)]
    assert "url(http" not in page
    assert "default-src 'none'" in page[: page.index("<style")]


def test_the_same_tables_give_the_same_pictures(tmp_path: Path) -> None:
    pages = []
    for name in ("one.html", "two.html"):
        draw(tmp_path / name, current=batch(15_000, seed=1), reference=batch(15_000))
        pages.append(re.sub(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", "", page_of(tmp_path / name)))
    assert pages[0] == pages[1]


@pytest.mark.parametrize("column", [np.arange(500.0), ["a", "b"] * 250, pd.date_range("2026", periods=500, freq="h")])
def test_a_single_column_can_be_drawn(tmp_path: Path, column: Any) -> None:
    frame = pd.DataFrame({"only": column})
    notes = draw(tmp_path / "page.html", current=frame, reference=frame)
    assert notes[-1].startswith("The page is drawn from 500 of 500 current")
    assert '"column_name": "only"' in page_of(tmp_path / "page.html")


def test_names_that_become_one_by_being_made_harmless_stay_two(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"<a": np.arange(100.0), "\u2039a": np.arange(100.0), "": np.arange(100.0), 0: np.arange(100.0)}
    )
    notes = draw(tmp_path / "page.html", current=frame, reference=frame)
    assert notes[-1].startswith("The page is drawn")
    assert data_block(page_of(tmp_path / "page.html")).count('"column_name": "') == 4


def test_values_too_close_or_too_far_apart_for_bars_are_left_out_or_moved(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": np.arange(100.0), "close": [1.0, np.nextafter(1, 2)] * 50, "tiny": [0.0, 5e-324] * 50})
    frame = frame.assign(far=[1.7e308, -1.7e308] * 50)
    frame = frame.assign(sentinel=np.arange(100.0))
    note = draw(tmp_path / "page.html", current=frame.assign(sentinel=-3.4e38), reference=frame)[-1]
    assert set(re.findall("'(.*?)'", note)) == {"close", "tiny", "sentinel"}


@pytest.mark.parametrize("frame", [batch(0), pd.DataFrame({"k": [1] * 100}), pd.DataFrame({"k": [None] * 100})])
def test_where_nothing_can_be_drawn_there_is_no_page_and_not_yesterdays_either(
    tmp_path: Path, frame: pd.DataFrame
) -> None:
    (tmp_path / "page.html").write_text("of yesterday")
    with pytest.raises(NothingToDrawError):
        draw(tmp_path / "page.html", current=frame, reference=frame)
    assert not list(tmp_path.iterdir())


def test_the_page_has_room_for_so_many_columns_and_names_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_drift_page, "MAX_COLUMNS", 5)
    late = [True, False]
    current = batch(seed=1).assign(**{PREDICTION: np.linspace(0, 1, 1000), "late": late * 500})
    moved = current.assign(c6=current["c6"] + 1, c8=current["c8"] + 2)
    reference = batch(5000).assign(**{PREDICTION: np.linspace(0, 1, 5000), "late": late * 2500})
    notes = draw(
        tmp_path / "page.html",
        current=moved,
        reference=reference,
        known=lambda profile: TrainingProfile(profile, tuple(current.columns), "late", {"c6": 0.7, "c2": 0.3}),
    )
    assert set(drawn_columns(tmp_path / "page.html")[:2]) == {PREDICTION, "late"}
    assert drawn_columns(tmp_path / "page.html")[2:] == ["c6", "c8", "c2"]
    assert "room for 5 columns" in notes[-1]
    assert set(re.findall("'(.*?)'", notes[-1])) == {"c0", "c1", "c3", "c4", "c5", "c7", "c9"}


def test_where_nothing_is_known_of_the_model_what_moved_most_comes_first(tmp_path: Path) -> None:
    current = batch(seed=1).assign(c6=lambda frame: frame["c6"] + 1, c8=lambda frame: frame["c8"] + 2)
    draw(tmp_path / "page.html", current=current, reference=batch(5000))
    assert drawn_columns(tmp_path / "page.html")[:2] == ["c8", "c6"]


def test_of_many_columns_without_a_picture_only_the_first_are_named(tmp_path: Path) -> None:
    frame = batch(100).assign(**{f"k{number}": 1 for number in range(50)})
    note = draw(tmp_path / "page.html", current=frame, reference=frame)[-1]
    assert note.startswith("Left out of the page: 'k0', 'k1',")
    assert note.endswith("'k19' and 30 more.")


@pytest.mark.parametrize("cells", [None, ["text"] * 1000, [np.nan] * 1000, [b"\xff"] * 1000, ["\ud800", "b"] * 500])
def test_a_sample_that_is_unlike_all_rows_costs_its_column_and_not_the_page(tmp_path: Path, cells: Any) -> None:
    def kept(profile: TableProfile) -> TableProfile:
        sample = profile.sample.drop(columns="c0")
        return replace(profile, sample=sample if cells is None else sample.assign(c0=pd.Series(cells, dtype=object)))

    notes = draw(tmp_path / "page.html", current=batch(seed=1), reference=batch(), kept=kept)
    assert notes[-1] == "Left out of the page: 'c0'."
    assert sorted(drawn_columns(tmp_path / "page.html")) == [f"c{number}" for number in range(1, 10)]


def test_a_column_of_times_is_drawn_as_periods_under_what_was_judged_of_it(tmp_path: Path) -> None:
    frame = batch(2400).assign(at=pd.date_range("2026-01-01", periods=2400, freq="h"))

    def nothing(comparison: TableDrift) -> TableDrift:
        return replace(comparison, changes=tuple(change for change in comparison.changes if change.column != "c0"))

    draw(
        tmp_path / "page.html",
        current=frame.assign(at=lambda table: table["at"].dt.floor("D") + pd.Timedelta(hours=3)),
        reference=frame,
        seen=nothing,
    )
    data = data_block(page_of(tmp_path / "page.html"))
    assert '"data_drift": "drifted: hour of the day' in data
    assert '"2026-01-01"' in data
    assert '"data_drift": "not judged"' in data  # c0, of which nothing was found


def test_the_pictures_show_shares_because_the_sides_differ_in_rows(tmp_path: Path) -> None:
    draw(tmp_path / "page.html", current=batch(100), reference=batch(5000))
    data = data_block(page_of(tmp_path / "page.html"))
    assert '"active": 1' in data
    assert data.count('{"title": {"text": "Percent"}') + data.count('"title": {"text": "Percent"}') > 0


# The page of a verdict


@pytest.mark.parametrize("frame", [batch(0), pd.DataFrame({"k": [1] * 100}), pd.DataFrame({"k": [None] * 100})])
def test_where_nothing_can_be_drawn_the_verdict_stands(tmp_path: Path, frame: pd.DataFrame) -> None:
    (tmp_path / "drift.html").write_text("of yesterday")
    report = detect(current=frame, reference=frame)
    assert write_drift_page(report, tmp_path / "drift.html") == (["There is no page: no column can be drawn."], False)
    assert not list(tmp_path.iterdir())


def test_a_page_that_evidently_cannot_make_does_not_take_the_verdict_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect_mlops.core.drift.evidently import table as _drift_table

    def broken() -> None:
        raise RuntimeError("changed in the next release")

    monkeypatch.setattr(_drift_table, "_table_class", broken)
    report = detect(current=batch(seed=1, moved=3), reference=batch())
    (note,), drawn = write_drift_page(report, tmp_path / "page.html")
    assert not drawn
    assert note.endswith("RuntimeError: changed in the next release")


def test_a_page_that_cannot_be_written_does_not_take_the_verdict_with_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (note,), drawn = write_drift_page(detect(current=batch(seed=1), reference=batch()), tmp_path / "file" / "page.html")
    assert not drawn
    assert note.startswith("The page could not be made; the verdict stands without it.")
