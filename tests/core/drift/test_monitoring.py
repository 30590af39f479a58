from __future__ import annotations

import base64
import math
import multiprocessing
import os
import re
import xml.etree.ElementTree as ET
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefect_mlops.core.addresses import monitoring_uri
from prefect_mlops.core.drift import monitoring
from prefect_mlops.core.drift.monitoring import (
    ALPHA,
    MonitoringRun,
    level_of,
    number_monitoring_run,
    read_monitoring_runs,
    record_monitoring_run,
)
from prefect_mlops.core.drift.monitoring_page import MAX_COLUMNS, MAX_RUNS, history_page, plot_history
from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.lake.commits import CommitConflict

START = datetime(2026, 10, 1, tzinfo=timezone.utc)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


def look(key: str = "a", **given) -> MonitoringRun:
    return MonitoringRun(
        **{
            "model": "shop",
            "kind": "drift",
            "champion": 1,
            "number": 1,
            "key": key,
            "at": START,
            "subject": "july.csv",
            "passed": True,
            "level": level_of(given.get("number", 1)),
            **given,
        }
    )


# The level of a monitoring run


def test_the_levels_of_all_runs_that_will_ever_be_sum_to_alpha() -> None:
    many = 200_000
    rest = ALPHA / monitoring._TOTAL / math.log(many + 1.5)  # of the infinite sum, by the midpoint rule
    total = sum(level_of(number) for number in range(1, many + 1)) + rest
    assert total == pytest.approx(ALPHA, rel=1e-9)
    assert sum(level_of(number, 0.2) for number in range(1, 10_000)) < 0.2


def test_each_run_is_judged_more_strictly_than_the_one_before() -> None:
    levels = [level_of(number) for number in range(1, 500)]
    assert levels == sorted(levels, reverse=True)
    assert len(set(levels)) == len(levels)
    assert level_of(1) == pytest.approx(0.02466, abs=1e-5)


@pytest.mark.parametrize(("number", "alpha"), [(0, 0.05), (-3, 0.05), (1, 0), (1, 1), (1, math.nan)])
def test_a_level_of_nothing_is_refused(number: int, alpha: float) -> None:
    with pytest.raises(ConfigError, match=f"saw run {number}"):
        level_of(number, alpha)


# What is kept


def test_a_run_is_read_back_as_it_was_kept(home: Path) -> None:
    assert read_monitoring_runs("shop") == []
    seen = look(
        data=7,
        rows=20_000,
        passed=False,
        sizes={"dep_time": 0.4, 'a "b"': 0.1},
        drifted=("dep_time",),
        scores={"drifted": 0.5},
        intervals={"drifted": (0.4, 0.6)},
        flow_run="run-a",
    )
    assert record_monitoring_run(seen) == seen
    assert read_monitoring_runs("shop") == [seen]
    assert MonitoringRun.model_validate_json(seen.model_dump_json()) == seen
    kept = DeltaTable(monitoring_uri("shop")).metadata().configuration
    assert kept["delta.logRetentionDuration"] == kept["delta.deletedFileRetentionDuration"] == "interval 36500 days"


def test_runs_are_counted_for_each_model_kind_and_champion(home: Path) -> None:
    def add(key: str, **given) -> int:
        return record_monitoring_run(look(key, **given)).number

    assert [add("a"), add("b"), add("c")] == [1, 2, 3]
    assert add("a", kind="performance") == 1
    assert add("a", champion=2) == 1
    assert add("a", model="other") == 1
    assert add("d") == 4
    assert number_monitoring_run("shop", kind="drift", champion=1, key="e") == 5
    assert number_monitoring_run("shop", kind="drift", champion=3, key="e") == 1
    assert number_monitoring_run("unknown", kind="drift", champion=1, key="e") == 1


def test_the_same_run_again_gets_its_old_number_and_writes_nothing(home: Path) -> None:
    first = record_monitoring_run(look("a", flow_run="run-a"))
    record_monitoring_run(look("b"))
    version = DeltaTable(monitoring_uri("shop")).version()
    assert number_monitoring_run("shop", kind="drift", champion=1, key="a") == 1
    assert record_monitoring_run(look("a", number=3, flow_run="run-b", passed=False)) == first
    assert DeltaTable(monitoring_uri("shop")).version() == version


def test_a_run_whose_number_was_taken_meanwhile_gets_the_next_and_keeps_its_level(home: Path) -> None:
    record_monitoring_run(look("theirs", number=1))
    mine = record_monitoring_run(look("mine", number=1))
    assert (mine.number, mine.level) == (2, level_of(1))
    assert read_monitoring_runs("shop")[-1] == mine


def test_numbers_have_no_gaps_whatever_a_run_says(home: Path) -> None:
    assert record_monitoring_run(look(number=40)).number == 1


def test_runs_come_oldest_first_and_by_kind_and_champion(home: Path) -> None:
    for day, kind, champion in ((2, "drift", 1), (1, "drift", 1), (3, "performance", 1), (4, "drift", 2)):
        record_monitoring_run(look(f"{day}", kind=kind, champion=champion, at=START + timedelta(days=day)))
    assert [one.key for one in read_monitoring_runs("shop")] == ["1", "2", "3", "4"]
    assert [one.key for one in read_monitoring_runs("shop", kind="drift")] == ["1", "2", "4"]
    assert [one.key for one in read_monitoring_runs("shop", kind="drift", champion=1)] == ["1", "2"]


def test_what_was_not_measured_is_left_out_of_a_look() -> None:
    seen = look(
        sizes={"a": math.nan, "b": 0.1}, scores={"r2": math.inf, "f1": 1}, intervals={"r2": (0, math.inf), "f1": (0, 1)}
    )
    assert (seen.sizes, seen.scores, seen.intervals) == ({"b": 0.1}, {"f1": 1}, {"f1": (0, 1)})


def test_a_commit_whose_answer_got_lost_is_not_made_twice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = monitoring.append_next

    def unheard(*args, **options) -> int:
        real(*args, **options)
        monkeypatch.setattr(monitoring, "append_next", real)
        raise CommitConflict("the connection broke after the commit")

    monkeypatch.setattr(monitoring, "append_next", unheard)
    kept = record_monitoring_run(look())
    assert read_monitoring_runs("shop") == [kept]


def test_columns_of_a_later_time_are_left_alone(home: Path) -> None:
    import pyarrow as pa

    record_monitoring_run(look("a"))
    wider = monitoring._as_table(look("b", number=2)).append_column("weather", pa.array(["rain"]))
    write_deltalake(monitoring_uri("shop"), wider, mode="append", schema_mode="merge")
    assert record_monitoring_run(look("c")).number == 3
    assert [one.number for one in read_monitoring_runs("shop")] == [1, 2, 3]


def test_a_row_that_cannot_be_read_is_left_out_and_its_number_is_not_given_again(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record_monitoring_run(look("a"))
    rows = monitoring._as_table(look("b", number=2))
    damaged = rows.set_column(rows.schema.get_field_index("sizes"), "sizes", [["{half"]])
    later = rows.set_column(rows.schema.get_field_index("kind"), "kind", [["fairness"]])
    for each in (damaged, later):
        write_deltalake(monitoring_uri("shop"), each, mode="append")
    assert [one.key for one in read_monitoring_runs("shop")] == ["a"]
    assert "monitoring run 2 of shop cannot be read and is left out: sizes" in caplog.text
    assert record_monitoring_run(look("b")).number == 3


def test_storage_that_fails_is_a_backend_error(home: Path) -> None:
    home.write_text("a file where the lake should be")
    with pytest.raises(BackendError, match="the lake at"):
        record_monitoring_run(look())


def test_no_path_is_built_from_a_name(home: Path) -> None:
    assert monitoring_uri("../../etc") == f"{home}/looks/x__2e_2e_2f_2e_2e_2fetc"


def _race(lake_uri: str, barrier, numbers, name: str) -> None:
    os.environ["PREFECT_MLOPS_LAKE"] = lake_uri
    for turn in range(3):
        key = f"{name}-{turn}"
        number_monitoring_run("shop", kind="drift", champion=1, key=key)  # imports what is needed before the start
        barrier.wait()
        mine = record_monitoring_run(look(key, flow_run=name))
        barrier.wait()
        same = record_monitoring_run(look(f"both-{turn}", flow_run=name))
        numbers.put((key, mine.number, same.number, same.flow_run))


def test_two_processes_never_share_a_number_and_count_the_same_run_once(home: Path) -> None:
    context = multiprocessing.get_context("spawn")  # deltalake's runtime does not survive a fork
    barrier, numbers = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_race, args=(str(home), barrier, numbers, name)) for name in ("one", "two")]
    for worker in workers:
        worker.start()
    results = {key: rest for key, *rest in (numbers.get(timeout=120) for _ in range(6))}
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    kept = {one.key: one for one in read_monitoring_runs("shop")}
    assert sorted(one.number for one in kept.values()) == list(range(1, 10))
    assert len(read_monitoring_runs("shop")) == len(kept) == 9
    for key, (mine, same, writer) in results.items():
        both = kept[f"both-{key[-1]}"]
        assert (mine, same, writer) == (kept[key].number, both.number, both.flow_run)


# What is shown


def days(count: int, **given) -> list[MonitoringRun]:
    return [
        look(f"{day}", **{"number": day + 1, "data": day, "at": START + timedelta(days=day), "rows": 1000, **given})
        for day in range(count)
    ]


def elements(picture: str) -> list[ET.Element]:
    return list(ET.fromstring(picture).iter())  # noqa: S314 - expat expands nothing here, and we drew it


def texts(picture: str) -> list[str]:
    return ["".join(found.itertext()) for found in elements(picture) if found.tag.endswith("}text")]


def test_the_picture_names_the_columns_that_changed_most_and_the_data_versions() -> None:
    sizes = {f"column {number}": number / 100 for number in range(20)}
    drawn = texts(plot_history(days(5, sizes=sizes, drifted=("column 3",))))
    assert [name for name in drawn if name.startswith("column")] == [
        "column 3",
        *(f"column {number}" for number in range(19, 20 - MAX_COLUMNS, -1)),
    ]
    assert set("01234") <= set(drawn)
    assert " v1" in drawn


def test_a_dot_stands_where_a_column_drifted() -> None:
    def dots(drifted: tuple[str, ...]) -> int:
        return plot_history(days(3, sizes={"a": 0.1, "b": 0.5}, drifted=drifted)).count("<use")

    assert dots(("a", "b")) - dots(()) == 6


def test_runs_of_both_kinds_at_the_same_data_stand_in_one_place() -> None:
    drift = days(3, sizes={"a": 0.1})
    scored = [
        one.model_copy(
            update={"kind": "performance", "sizes": {}, "scores": {"r2": 0.5}, "intervals": {"r2": (0.4, 0.6)}}
        )
        for one in drift
    ]
    drawn = texts(plot_history([*drift, *scored]))
    assert [drawn.count(number) for number in "012"] == [1, 1, 1]
    assert "r2 with its interval; red where the run failed" in drawn
    again = [*drift, *scored, scored[0].model_copy(update={"key": "more labels"})]
    assert texts(plot_history(again)).count("0") == 2


def test_without_data_versions_the_places_have_the_names_of_files() -> None:
    drawn = texts(plot_history(days(2, sizes={"a": 0.1}, data=None, subject="flights of a long summer.csv")))
    assert "…long summer.csv" in drawn


@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(["drift", "performance"]))
@example("$x^2$", r"$\frac$", "drift")
@example("</text><script>\x00", "\n", "performance")
@settings(deadline=None, max_examples=20)
def test_whatever_a_name_holds_the_picture_is_well_formed_and_the_name_is_only_text(
    column: str, subject: str, kind: str
) -> None:
    seen = look(kind=kind, subject=subject, sizes={column: 0.1, "$x^2$": 0.2}, scores={f"m{column}": 0.1})
    picture = plot_history([seen])
    assert "$x^2$" in texts(picture)
    assert {element.tag.rpartition("}")[2] for element in elements(picture)} <= {
        *("svg", "defs", "style", "g", "path", "text", "use", "clipPath", "rect", "tspan"),
    }


def test_the_same_runs_are_the_same_picture() -> None:
    seen = days(4, sizes={"a": 0.1}, scores={"drifted": 0.2})
    assert plot_history(seen) == plot_history(seen)


def test_a_month_of_runs_is_a_small_picture() -> None:
    sizes = {f"a column with a long name {number}": 0.5 for number in range(100)}
    picture = plot_history(days(400, sizes=sizes, drifted=tuple(sizes), scores={"drifted": 0.2}))
    assert len(picture) < 100_000


def test_nothing_seen_is_no_picture_but_a_page() -> None:
    assert plot_history([]) == plot_history(days(2)) == ""
    assert history_page("shop", []) == "## Monitoring runs of shop\n\nNone yet.\n"
    assert "data:image" not in history_page("shop", days(2))


def test_the_page_has_the_picture_and_the_last_runs_newest_first() -> None:
    seen = days(
        MAX_RUNS + 4, sizes={"dep_time": 0.41, "origin": 0.5, "a|b": 0.02, "z": 0}, drifted=("dep_time",), passed=False
    )
    page = history_page("shop", seen)
    (encoded,) = re.findall(r"\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", page)
    assert base64.b64decode(encoded).decode() == plot_history(seen)
    rows = re.findall(r"^\| \d+ at .*", page, flags=re.MULTILINE)
    assert len(rows) == MAX_RUNS
    assert rows[0] == (
        "| 34 at v1 | 33 | failed | 1 of 4 | • dep\\_time 0.41, origin 0.50, a\\|b 0.02 | 1,000 | july.csv |"
    )
    assert "4 older runs are not shown" in page
    assert f"drift run 34 of v1, failed. It was on july.csv, tested at level {level_of(34):.2g}" in page


def test_scores_stand_on_the_page_with_their_intervals() -> None:
    scored = look(kind="performance", scores={"roc_auc": 0.71234, "f1": 0.5}, intervals={"roc_auc": (0.7, 0.72)})
    page = history_page("shop", [scored])
    assert "| 1 at v1 | passed | roc\\_auc 0.7123 \\(0.7 to 0.72\\), f1 0.5 | july.csv |" in page
    assert "### Drift" not in page


def test_values_on_the_page_are_escaped() -> None:
    bad = "<img src=x>![x](http://evil.example)|"
    page = history_page(bad, [look(subject=bad, sizes={bad: 0.5}, drifted=(bad,), scores={bad: 1})])
    assert "<img" not in page
    assert "](http" not in page


def test_a_picture_that_cannot_be_drawn_leaves_the_tables(caplog: pytest.LogCaptureFixture) -> None:
    page = history_page("shop", days(2, kind="performance", scores={"r2": -1e308}))
    assert "r2 -1e+308" in page.replace("\\", "")
    assert "data:image" not in page
    assert "could not be drawn" in caplog.text
