"""The outcome of every check has one shape: a `Report` is a list of `Check`s about one subject."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from prefect_mlops.core import errors, text
from prefect_mlops.core.values import Value

MAX_EXAMPLES = 5  # enough to see the pattern; a report is not a data export
MAX_ROWS_SHOWN = 100  # passed checks beyond this are counted, not listed; failed ones are always listed first

Severity = Literal["error", "warning"]

_ERRORS: dict[str, type[errors.CheckError]] = {
    "data": errors.DataCheckError,
    "gate": errors.GateError,
    "smoke-test": errors.GateError,
    "drift": errors.DriftError,
    "performance": errors.PerformanceError,
}


class Check(Value):
    """One question and its outcome.

    Attributes:
        id: what programs know the check by, in lower case and dashes; made of ``name`` where it is not given. It stays
            when the words change.
        name: what was checked, for people.
        passed: the outcome.
        severity: ``error`` fails the report, ``warning`` does not.
        subject: column, metric or slice it is about; empty for the whole.
        observed: what was found.
        expected: what was required.
        examples: up to `MAX_EXAMPLES` offending values, as text.
        value: the number that was compared, for programs; None where there is none, or no finite one.
        threshold: the number it was compared with.
    """

    id: str = Field(default="", pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    name: str
    passed: bool
    severity: Severity = "error"
    subject: str = ""
    observed: str = ""
    expected: str = ""
    examples: tuple[str, ...] = Field(default=(), max_length=MAX_EXAMPLES)
    value: float | None = None
    threshold: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_id(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.get("id") and given.get("name"):
            return {**given, "id": re.sub(r"[^a-z0-9]+", "-", str(given["name"]).lower()).strip("-") or "check"}
        return given

    @field_validator("subject", mode="before")
    @classmethod
    def _as_text(cls, subject: object) -> str:
        return str(subject)  # a group of a column of numbers

    @field_validator("value", "threshold")
    @classmethod
    def _finite(cls, number: float | None) -> float | None:
        return number if number is not None and math.isfinite(number) else None

    @property
    def sentence(self) -> str:
        """The check in one line: subject, name, observed and expected."""
        about = f"{self.subject}: " if self.subject else ""
        seen = f", saw {self.observed}" if self.observed else ""
        wanted = f", expected {self.expected}" if self.expected else ""
        shown = f" (e.g. {', '.join(self.examples[:3])})" if self.examples else ""
        return f"{about}{self.name}{seen}{wanted}{shown}"


class Report(Value):
    """All checks of one subject. Failures raise nothing: `raise_for_failure` does.

    Attributes:
        kind: what was checked: ``data``, ``freshness``, ``gate``, ``smoke-test``, ``drift``, ``performance``, or a kind
            of your own, in lower case and dashes. It names the report's file, artifact and event.
        subject: the table, model or pair of tables.
        checks: at least one: a report without checks would pass without evidence.
        rows: number of rows checked, where that is one number.
        notes: further sentences for the reader.
        links: label and address of pages that show more; made by us, never of data.
    """

    kind: str = Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)
    subject: str
    checks: tuple[Check, ...] = Field(min_length=1)
    rows: int | None = None
    notes: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()

    @property
    def passed(self) -> bool:
        """True when no check of severity ``error`` failed."""
        return not any(check.severity == "error" for check in self.failures)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The failed checks, errors before warnings."""
        failed = [check for check in self.checks if not check.passed]
        return tuple(sorted(failed, key=lambda check: check.severity))

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        count = len(self.checks)
        noun = "check" if count == 1 else "checks"
        if self.passed:
            warnings = f", {len(self.failures)} of them with a warning" if self.failures else ""
            return f"{self.kind} of {self.subject}: passed {count} {noun}{warnings}"
        errors_failed = [check for check in self.failures if check.severity == "error"]
        more = f" (and {len(errors_failed) - 1} more)" if len(errors_failed) > 1 else ""
        return f"{self.kind} of {self.subject}: failed. {errors_failed[0].sentence}{more}"

    def to_markdown(self) -> str:
        """Render as markdown for an artifact, failures first; every value is escaped."""
        ordered = [*self.failures, *(check for check in self.checks if check.passed)]
        shown = ordered[: max(MAX_ROWS_SHOWN, len(self.failures))]
        parts = [
            f"## {'Passed' if self.passed else 'Failed'}: {self.kind} of {text.escape(self.subject)}",
            _table(shown),
        ]
        if len(ordered) > len(shown):
            parts.append(f"{len(ordered) - len(shown)} more checks passed.")
        parts += [text.escape(note) for note in self.notes]
        parts += [f"[{label}]({address})" for label, address in self.links]
        return "\n\n".join(parts) + "\n"

    def raise_for_failure(self) -> None:
        """Raise the `CheckError` of this kind when the report did not pass.

        Raises:
            CheckError: `DataCheckError`, `GateError`, `DriftError` or `PerformanceError` by the kind, else `CheckError`
                itself; it carries this report.
        """
        if not self.passed:
            raise _ERRORS.get(self.kind, errors.CheckError)(self.summary, self)


def save_reports(reports: Sequence[Report], folder: Path) -> None:
    """Write reports as JSON and markdown, named by their kind; of several of one kind the last one is kept."""
    folder.mkdir(parents=True)
    for report in reports:
        (folder / f"{report.kind}.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
        (folder / f"{report.kind}.md").write_text(report.to_markdown(), encoding="utf-8")


def _table(checks: list[Check]) -> str:
    """Render checks as a table without empty columns."""
    columns = {
        "Answer": [_answer(check) for check in checks],
        "Subject": [check.subject for check in checks],
        "Check": [check.name for check in checks],
        "Observed": [check.observed for check in checks],
        "Expected": [check.expected for check in checks],
        "Examples": [", ".join(check.examples) for check in checks],
    }
    filled = {header: cells for header, cells in columns.items() if any(cells)}
    return text.table(list(filled), zip(*filled.values(), strict=True))


def _answer(check: Check) -> str:
    """Name the outcome in a word: many fonts lack ticks and crosses."""
    if check.passed:
        return "passed"
    return "failed" if check.severity == "error" else "warning"
