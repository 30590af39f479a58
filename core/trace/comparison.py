"""The differences between the traces of two model versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.trace.traces import DataTrace, Trace

ABSENT = ""  # value of what a version does not have
UNKNOWN = "not known"


class Difference(Value):
    """One difference of two versions.

    Attributes:
        section: data, code, environment, packages, parameters, scores, checks, gates or decision.
        name: what it is.
        first: of the first version, as text; empty where it has none.
        second: of the second one.
        change: of a score, the second minus the first.
    """

    section: str
    name: str
    first: str
    second: str
    change: float | None = None


class Compared(Value):
    """Two model versions side by side.

    Attributes:
        first: the one version.
        second: the other one.
        differences: by section.
        equal: how many things are equal, by section.
    """

    first: str
    second: str
    differences: tuple[Difference, ...]
    equal: dict[str, int]


def compare(first: Trace, second: Trace) -> Compared:
    """Compare the traces of two versions, section by section."""
    sides = {section: (_texts(first, section), _texts(second, section)) for section in _SECTIONS}
    found = [one for section, (a, b) in sides.items() for one in _differences(section, a, b)]
    equal = {section: sum(a.get(name) == text for name, text in b.items()) for section, (a, b) in sides.items()}
    return Compared(
        first=first.name,
        second=second.name,
        differences=tuple(_with_change(one, first, second) for one in found),
        equal={section: count for section, count in equal.items() if count},
    )


def _differences(section: str, first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[Difference]:
    if bool(first) != bool(second):  # one version has no such section: one difference, not hundreds
        yield Difference(section=section, name="all", first=_count(first), second=_count(second))
        return
    for name in dict.fromkeys((*first, *second)):
        a, b = first.get(name, ABSENT), second.get(name, ABSENT)
        if a != b:
            yield Difference(section=section, name=name, first=a, second=b)


def _count(texts: Mapping[str, str]) -> str:
    return f"{len(texts):,} known" if texts else UNKNOWN


def _with_change(one: Difference, first: Trace, second: Trace) -> Difference:
    if one.section != "scores" or one.name not in first.scores or one.name not in second.scores:
        return one
    return one.model_copy(update={"change": second.scores[one.name] - first.scores[one.name]})


def _texts(trace: Trace, section: str) -> dict[str, str]:
    """Return the values of a section as text by name; absent ones are left out."""
    texts = dict(_SECTIONS[section](trace))
    return {name: text for name, text in texts.items() if text != ABSENT}


def _data(trace: Trace) -> Iterator[tuple[str, str]]:
    data = trace.data
    yield "dataset", data.dataset or data.uri
    yield "data version", "" if data.version is None else f"@{data.version}"
    yield "whole table", data.source_digest or ""
    yield "training rows", data.digest or ""
    yield "number of rows", "" if data.rows is None else f"{data.rows:,}"
    yield "holdout", data.holdout
    yield "rows until", "" if data.until is None else str(data.until)
    yield "target", data.target
    yield from ((f"column {name}", kind) for name, kind in (data.columns or {}).items())
    yield from ((f"file {name}", text) for name, text in _files(data).items())


def _files(data: DataTrace) -> dict[str, str]:
    """Return the files by path; a path that arrived with several contents has them all."""
    files: dict[str, str] = {}
    for file in data.files:
        text = f"{file.digest} ({file.rows:,} rows)"
        files[file.path] = f"{files[file.path]}, {text}" if file.path in files else text
    return files


def _code(trace: Trace) -> Iterator[tuple[str, str]]:
    code = trace.code
    yield "commit", code.commit or ""
    yield "tracked files differed", {True: "yes", False: "no", None: ""}[code.dirty]
    yield "what was not committed", code.diff
    yield "spec", code.spec
    yield "digest of the spec", code.spec_digest


def _environment(trace: Trace) -> Iterator[tuple[str, str]]:
    yield "lock", trace.environment.lock or ""
    yield from trace.environment.facts.items()


def _packages(trace: Trace) -> Iterator[tuple[str, str]]:
    yield from (trace.environment.packages or {}).items()


def _parameters(trace: Trace) -> Iterator[tuple[str, str]]:
    yield "seed", "" if trace.seed is None else str(trace.seed)
    yield from trace.parameters.items()


def _scores(trace: Trace) -> Iterator[tuple[str, str]]:
    yield from ((name, f"{value!r}") for name, value in trace.scores.items())
    yield "rows scored", "" if trace.evaluated_rows is None else f"{trace.evaluated_rows:,}"


def _checks(trace: Trace) -> Iterator[tuple[str, str]]:
    yield from _of_report(trace.reports.get("data"), passed_too=False)


def _gates(trace: Trace) -> Iterator[tuple[str, str]]:
    yield from _of_report(trace.reports.get("gate"), passed_too=True)


def _of_report(report: Report | None, *, passed_too: bool) -> Iterator[tuple[str, str]]:
    """Yield the outcomes; observed values differ with every row, so passed data checks go without."""
    if report is None:
        return
    yield "answer", "passed" if report.passed else "failed"
    for check in report.checks:
        about = f"{check.subject}: " if check.subject else ""
        word = "passed" if check.passed else "failed" if check.severity == "error" else "warning"
        seen = check.observed and (passed_too or not check.passed)
        yield f"{about}{check.name}", f"{word}, saw {check.observed}" if seen else word


def _decision(trace: Trace) -> Iterator[tuple[str, str]]:
    one = trace.decision
    if one is None:
        return
    yield "decided", one.kind.replace("_", " ")
    yield "by", one.by
    yield "approved by", trace.approval.by if trace.approval else ""
    yield "replaced", f"v{trace.replaced}" if trace.replaced else ""


_SECTIONS = {
    "data": _data,
    "code": _code,
    "environment": _environment,
    "packages": _packages,
    "parameters": _parameters,
    "scores": _scores,
    "checks": _checks,
    "gates": _gates,
    "decision": _decision,
}
