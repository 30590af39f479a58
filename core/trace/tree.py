"""A trace as a tree of lines, for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from prefect_mlops.core.promotion.periods import comment_on
from prefect_mlops.core.text import listed, moment

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Check, Report
    from prefect_mlops.core.trace.traces import CodeTrace, DataTrace, EnvironmentTrace, FileTrace, Trace

SHORT_DIGEST = 16  # digits: enough to compare by eye; whole digests are in the JSON
MAX_FILES = 10
MAX_PARAMETERS = 60
MAX_LISTED = 5  # files of a diff, columns
_CHANGED = re.compile(r"^diff --git a/(.+?) b/", re.MULTILINE)
_PLUS, _MINUS = re.compile(r"^\+(?!\+\+ )", re.MULTILINE), re.compile(r"^-(?!-- )", re.MULTILINE)
_FACTS = {"python": "Python", "cpus": "CPUs", "blas_threads": "BLAS threads", "openmp_threads": "OpenMP threads"}


class Branch(NamedTuple):
    """A line, and the branches below it."""

    text: str
    below: tuple[Branch, ...] = ()


def tree(trace: Trace) -> Branch:
    """Arrange a trace as a tree: data, code, environment, parameters, checks, scores, gates, decision, unknowns."""
    parts = [
        _branch("Data", _data(trace.data)),
        _branch("Code", _code(trace.code)),
        _branch("Environment", _environment(trace.environment)),
        _branch("Parameters", _parameters(trace)),
        *_reports(trace.reports),
        _branch(_scores_of(trace), [f"{name} {value:.4f}" for name, value in trace.scores.items()]),
        _branch("Decision", _decision(trace)),
        _branch("Where to look", _places(trace)),
        _branch("Not known", trace.unknown),
    ]
    return Branch(_title(trace), tuple(part for part in parts if part.below))


def short(digest: str) -> str:
    """Return the first digits of a digest, with its algorithm."""
    algorithm, colon, digits = digest.partition(":")
    return f"{algorithm}:{digits[:SHORT_DIGEST]}" if colon else digest[:SHORT_DIGEST]


def changes(diff: str) -> str:
    """Summarise a diff in one line: the files it changes, and by how many lines."""
    files = list(dict.fromkeys(_CHANGED.findall(diff)))
    if not files:
        return diff.strip().partition("\n")[0]
    named = _some(files, "files")
    return f"{named} (+{len(_PLUS.findall(diff))} -{len(_MINUS.findall(diff))} lines)"


def _branch(text: str, lines: Iterator[str | Branch] | Sequence[str | Branch]) -> Branch:
    return Branch(text, tuple(line if isinstance(line, Branch) else Branch(line) for line in lines))


def _title(trace: Trace) -> str:
    roles = ["champion"] if trace.champion else []
    roles += [f"@{alias}" for alias in trace.aliases]
    since = [f"registered {moment(trace.registered)}"] if trace.registered else []
    return ", ".join([trace.name, *roles, *since])


def _data(data: DataTrace) -> Iterator[str | Branch]:
    if data.dataset:
        yield f"dataset {data.dataset}" + ("" if data.version is None else f", version @{data.version}")
    if data.uri:
        yield f"read from {data.uri}"
    if data.source_digest:
        rows = "" if data.source_rows is None else f" of {data.source_rows:,} rows"
        yield f"whole table: digest {short(data.source_digest)}{rows}"
    if data.digest:
        rows = "" if data.rows is None else f" of {data.rows:,} rows"
        yield f"training rows: digest {short(data.digest)}{rows}"
    if data.until is not None:
        yield f"training rows end at {data.until}"
    elif data.holdout:
        yield f"holdout: {data.holdout}"
    if data.columns is not None:
        yield f"target {data.target}, learned from {len(data.columns)}: {_some(list(data.columns), 'columns')}"
    if data.files:
        rows_in = sum(file.rows for file in data.files)
        title = f"{len(data.files):,} file{'s' if len(data.files) > 1 else ''}, {rows_in:,} rows"
        yield _branch(title, list(_files(data.files)))


def _files(files: Sequence[FileTrace]) -> Iterator[str]:
    for file in files[-MAX_FILES:]:
        refused = f", {file.refused:,} refused" if file.refused else ""
        yield f"{file.path}: {file.rows:,} rows{refused}, @{file.version}, {short(file.digest)}"
    if len(files) > MAX_FILES:
        yield f"and {len(files) - MAX_FILES:,} earlier ones; --json has them all"


def _code(code: CodeTrace) -> Iterator[str | Branch]:
    if code.commit:
        state = {True: ", tracked files differed", False: ", no tracked file differed", None: ""}[code.dirty]
        yield f"commit {code.commit}{state}"
    if code.diff:
        yield f"not committed: {changes(code.diff)}"
    if code.spec or code.spec_digest:
        digest = f"digest {short(code.spec_digest)}" if code.spec_digest else ""
        yield "spec " + ", ".join(filter(None, [code.spec, digest]))


def _environment(environment: EnvironmentTrace) -> Iterator[str]:
    facts = environment.facts
    if "python" in facts:
        yield ", ".join(filter(None, [f"Python {facts['python']}", facts.get("platform", "")]))
    machine = [facts.get("cpu", ""), *(f"{facts[n]} {word}" for n, word in _FACTS.items() if n in facts)]
    machine = [part for part in machine if part and not part.endswith(" Python")]
    if machine:
        yield ", ".join(machine)
    rest = [f"{name}={value}" for name, value in facts.items() if name not in (*_FACTS, "platform", "cpu")]
    if rest:
        yield ", ".join(rest)
    if environment.lock:
        yield f"lock digest {short(environment.lock)}"
    if environment.packages is not None:
        yield f"{len(environment.packages):,} packages; --json has their versions"


def _parameters(trace: Trace) -> Iterator[str]:
    """Write parameters by the step of the pipeline they belong to."""
    if trace.seed is not None:
        yield f"seed {trace.seed}"
    steps: dict[str, list[str]] = {}
    for name, value in list(trace.parameters.items())[:MAX_PARAMETERS]:
        step, _, own = name.rpartition("__")
        steps.setdefault(step, []).append(f"{own}={value}")
    for step, texts in steps.items():
        yield (f"{step}: " if step else "") + ", ".join(texts)
    if len(trace.parameters) > MAX_PARAMETERS:
        yield f"and {len(trace.parameters) - MAX_PARAMETERS:,} more; --json has them all"


def _reports(reports: Mapping[str, Report]) -> Iterator[Branch]:
    names = {"data": "Checks of the data", "gate": "Gates", "smoke-test": "Smoke test"}
    for kind in dict.fromkeys((*names, *reports)):
        if report := reports.get(kind):
            word = "passed" if report.passed else "failed"
            name = names.get(kind, kind.replace("-", " ").capitalize())
            yield _branch(f"{name}: {word}", list(_checks(report)))


def _checks(report: Report) -> Iterator[str]:
    """Write gates one by one, and of the many data checks only those that failed."""
    passed = [check for check in report.checks if check.passed]
    yield from (f"{_answer(check)}: {check.sentence}" for check in report.failures)
    if report.kind in ("gate", "smoke-test"):
        yield from (f"passed: {check.sentence}" for check in passed)
        yield from report.notes
    elif passed:
        yield f"{len(passed):,} check{'s' if len(passed) > 1 else ''} passed"


def _answer(check: Check) -> str:
    return "failed" if check.severity == "error" else "warning"


def _scores_of(trace: Trace) -> str:
    return "Scores" if trace.evaluated_rows is None else f"Scores on {trace.evaluated_rows:,} rows it had not seen"


def _decision(trace: Trace) -> Iterator[str]:
    if trace.decision is None:
        return
    one = trace.decision
    kind = one.kind.replace("_", " ")
    yield f"{kind} {moment(one.at)} by {one.by}, entry {one.sequence} of the history"
    gate = trace.reports.get("gate")
    gate_sentences = {check.sentence for check in gate.checks} if gate else set()
    if one.reason:
        yield "why: what the gates said" if {*one.reason.split("; ")} <= gate_sentences else f"why: {one.reason}"
    if trace.approval is not None:
        typed = f" (signed as {trace.approval.typed})" if trace.approval.typed not in ("", trace.approval.by) else ""
        comment = f": {comment_on(one)}" if comment_on(one) else ""
        untested = ", without a smoke test" if trace.approval.without_rehearsal else ""
        yield f"answered by {trace.approval.by}{typed}{untested}{comment}"
    if one.kind in ("promoted", "rolled_back"):
        yield f"replaced v{trace.replaced}" if trace.replaced else "replaced no version: there was no champion before"
    if one.flow_run:
        yield f"flow run {one.flow_run}"
    for period in trace.reigns:
        until = f"until {moment(period.until)}" if period.until else "until now"
        yield f"champion from {moment(period.since)} {until}"


def _places(trace: Trace) -> Iterator[str]:
    if trace.url:
        yield trace.url
    if trace.flow_run_url:
        yield trace.flow_run_url
    if trace.run:
        kept = f", with {', '.join(trace.evidence)}" if trace.evidence else ""
        yield f"MLflow run {trace.run}{kept}"


def _some(names: Sequence[str], what: str) -> str:
    return listed(names, MAX_LISTED) + (f" {what}" if len(names) > MAX_LISTED else "")
