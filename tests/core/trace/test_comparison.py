from __future__ import annotations

from datetime import datetime, timezone

from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.trace.comparison import compare
from prefect_mlops.core.trace.traces import CodeTrace, DataTrace, EnvironmentTrace, FileTrace, Trace
from prefect_mlops.core.trace.tree import Branch, changes, tree

AT = datetime(2026, 3, 1, tzinfo=timezone.utc)
DIFF = "diff --git a/flights.py b/flights.py\n--- a/flights.py\n+++ b/flights.py\n@@ -1 +1,2 @@\n-a\n+b\n+c\n"


def file(day: int, rows: int = 10) -> FileTrace:
    return FileTrace(path=f"{day}.csv", digest=f"sha256:{day:064d}", rows=rows, version=day, at=AT)


def a_trace(version: int, days: int = 2, **fields: object) -> Trace:
    data = DataTrace(
        digest=f"sha256:{days:064d}", dataset="d", version=days, files=tuple(map(file, range(1, days + 1)))
    )
    environment = EnvironmentTrace(packages={"numpy": "2.4", "pandas": "3.0"})
    parts: dict[str, object] = {
        "data": data,
        "environment": environment,
        "parameters": {"C": "1.0", "tol": "0.1"},
        "seed": 0,
    }
    return Trace.model_validate({"model": "m", "version": version, **parts, **fields})


def told(branch: Branch) -> list[str]:
    return [branch.text, *(line for below in branch.below for line in told(below))]


def test_what_differs_is_named_and_what_is_equal_counted() -> None:
    first = a_trace(1, scores={"roc_auc": 0.7}, parameters={"C": "1.0", "tol": "0.1"})
    second = a_trace(
        2, 3, scores={"roc_auc": 0.75, "f1": 0.5}, parameters={"C": "2.0", "tol": "0.1"},
        environment=EnvironmentTrace(packages={"numpy": "2.5", "pandas": "3.0"}),
    )  # fmt: skip
    found = compare(first, second)
    seen = {(one.section, one.name): (one.first, one.second) for one in found.differences}
    assert seen[("parameters", "C")] == ("1.0", "2.0")
    assert seen[("data", "data version")] == ("@2", "@3")
    assert seen[("data", "file 3.csv")][0] == ""
    assert seen[("packages", "numpy")] == ("2.4", "2.5")
    assert seen[("scores", "f1")] == ("", "0.5")
    assert ("data", "file 1.csv") not in seen
    (score,) = [one for one in found.differences if one.name == "roc_auc"]
    assert round(score.change or 0, 6) == 0.05
    assert found.equal == {"data": 3, "packages": 1, "parameters": 2}


def test_a_version_equals_itself() -> None:
    found = compare(a_trace(1), a_trace(1))
    assert found.differences == ()


def test_what_is_unknown_of_one_is_one_difference() -> None:
    found = compare(a_trace(1), a_trace(2, environment=EnvironmentTrace()))
    assert [(one.section, one.first, one.second) for one in found.differences] == [("packages", "2 known", "not known")]


def test_what_data_checks_saw_counts_only_where_they_failed() -> None:
    def report(passed: bool, seen: str) -> dict[str, Report]:
        return {
            "data": Report(
                kind="data", subject="s", checks=(Check(name="not null", subject="a", passed=passed, observed=seen),)
            )
        }

    assert (
        compare(a_trace(1, reports=report(True, "1 row")), a_trace(1, reports=report(True, "2 rows"))).differences == ()
    )
    found = compare(a_trace(1, reports=report(True, "1 row")), a_trace(1, reports=report(False, "9 rows")))
    assert [(one.name, one.second) for one in found.differences] == [
        ("answer", "failed"),
        ("a: not null", "failed, saw 9 rows"),
    ]


def test_the_tree_shows_ten_files_and_counts_the_rest() -> None:
    lines = told(tree(a_trace(1, 13)))
    assert "13 files, 130 rows" in lines
    assert sum(".csv" in line for line in lines) == 10
    assert "and 3 earlier ones; --json has them all" in lines
    assert any(line.startswith("13.csv") for line in lines)


def test_the_tree_says_what_is_unknown_and_leaves_out_what_is_empty() -> None:
    lines = told(tree(Trace(model="m", version=1, unknown=("its code: gone",))))
    assert lines == ["m v1", "Not known", "its code: gone"]


def test_a_diff_is_told_by_its_files_and_lines() -> None:
    assert changes(DIFF) == "flights.py (+2 -1 lines)"
    assert changes("diff of 2000000 bytes, too large to keep\n") == "diff of 2000000 bytes, too large to keep"
    lines = told(tree(Trace(model="m", version=1, code=CodeTrace(commit="c" * 40, dirty=True, diff=DIFF))))
    assert "not committed: flights.py (+2 -1 lines)" in lines


def test_parameters_are_told_by_their_step() -> None:
    lines = told(tree(a_trace(1, parameters={"logit__C": "1", "logit__tol": "2", "verbose": "0"})))
    assert "logit: C=1, tol=2" in lines
    assert "verbose=0" in lines
