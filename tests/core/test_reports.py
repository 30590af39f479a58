from __future__ import annotations

import pytest
from pydantic import ValidationError

from prefect_mlops.core.errors import CheckError, ConfigError, DataCheckError, DriftError, GateError, PerformanceError
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.text import MAX_CELL_LENGTH, escape
from prefect_mlops.core.values import Evaluation, Gate, TableRef


def report(*checks: Check, kind: str = "data") -> Report:
    return Report(kind=kind, subject="flights.csv", checks=checks)


def test_warnings_inform_and_errors_decide() -> None:
    warned = report(Check(name="a", passed=True), Check(name="b", passed=False, severity="warning"))
    failed = report(Check(name="a", passed=True), Check(name="b", passed=False))
    assert warned.passed
    assert not failed.passed
    assert "passed 2 checks, 1 of them with a warning" in warned.summary


def test_a_report_without_checks_is_no_verdict() -> None:
    with pytest.raises(ValidationError):
        report()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("data", DataCheckError),
        ("gate", GateError),
        ("smoke-test", GateError),
        ("drift", DriftError),
        ("performance", PerformanceError),
        ("fairness", CheckError),
    ],
)
def test_each_kind_raises_its_own_error_with_the_report(kind: str, error: type[Exception]) -> None:
    bad = report(Check(name="between 0 and 24", passed=False, subject="hour", observed="25"), kind=kind)
    with pytest.raises(error, match="hour: between 0 and 24, saw 25") as raised:
        bad.raise_for_failure()
    assert raised.value.report == bad
    assert type(raised.value) is error
    report(Check(name="a", passed=True), kind=kind).raise_for_failure()


@pytest.mark.parametrize("kind", ["", "Data", "../data", "a/b", "a--b", "data.json", "a" * 41])
def test_a_kind_of_ones_own_can_name_a_file_an_artifact_and_an_event(kind: str) -> None:
    with pytest.raises(ValidationError, match="kind"):
        report(Check(name="a", passed=True), kind=kind)


def test_a_check_is_known_by_an_id_that_stays_when_its_words_change() -> None:
    assert Check(name="Recall, by group (of 3)", passed=True).id == "recall-by-group-of-3"
    assert Check(id="recall", name="Recall, by group (of 3)", passed=True).id == "recall"
    stored = '{"name": "minimum score", "passed": true, "value": 0.7}'
    assert Check.model_validate_json(stored).id == "minimum-score"
    with pytest.raises(ValidationError, match="id"):
        Check(id="Recall ", name="recall", passed=True)


def test_a_number_that_is_not_finite_is_no_number_for_programs() -> None:
    check = Check(name="a", passed=False, value=float("-inf"), threshold=-0.01)
    assert (check.value, check.threshold) == (None, -0.01)
    assert Check.model_validate_json(check.model_dump_json()) == check


def test_markdown_shows_failures_first_and_escapes_every_value() -> None:
    nasty = "<script>alert(1)</script> | [x](http://evil.example) `code`"
    page = report(
        Check(name="fine", passed=True),
        Check(name="bad", passed=False, subject=nasty, observed=nasty, expected=nasty, examples=(nasty,)),
    ).to_markdown()
    assert page.index("bad") < page.index("fine")
    assert "<script>" not in page
    assert "http://evil" not in page
    assert "[x]" not in page
    assert all(line.replace("\\|", "").count("|") == 7 for line in page.splitlines() if line.startswith("| "))


@pytest.mark.parametrize(
    "text", ["a\nb", "# heading", "**bold**", "![x](y)", "<b>", "a|b", "~~x~~", "www.evil.example"]
)
def test_escaped_text_has_no_markdown_left(text: str) -> None:
    from markdown_it import MarkdownIt

    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(f"- {escape(text)}")
    plain = rendered.replace("<ul>", "").replace("</ul>", "").replace("<li>", "").replace("</li>", "").strip()
    assert "<" not in plain


def test_long_values_are_cut_and_say_so() -> None:
    assert len(escape("x" * 5000)) == MAX_CELL_LENGTH
    assert escape("x" * 5000).endswith("…")


def test_values_come_back_from_json_and_refuse_unknown_fields() -> None:
    value = report(Check(name="a", passed=True, examples=("1", "2")))
    assert Report.model_validate_json(value.model_dump_json()) == value
    ref = TableRef(uri="a.csv", rows=3, columns={"a": "integer"})
    assert TableRef.model_validate(ref.model_dump(mode="json")) == ref
    with pytest.raises(ValidationError):
        Evaluation(metrics={"r2": 1.0}, rows=3, model="x")  # type: ignore[call-arg]


def test_a_gate_without_condition_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="gate on 'roc_auc' has no condition"):
        Gate("roc_auc")
    with pytest.raises(ConfigError, match="may_lose"):
        Gate("roc_auc", may_lose=-0.1)
    gate = Gate("roc_auc", at_least=0.8)
    assert Gate.model_validate_json(gate.model_dump_json()) == gate
