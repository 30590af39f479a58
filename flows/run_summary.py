"""The summary of a run as an artifact: its outcome in about ten lines, written also when the run fails."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from prefect_mlops.core import text
from prefect_mlops.core.cards.card import Card
from prefect_mlops.core.cards.sections import render_markdown
from prefect_mlops.core.errors import CheckError, MLOpsError
from prefect_mlops.core.reports import Report

MAX_LINES = 10  # what a person reads before deciding whether to read on
MAX_KEY_LENGTH = 100


@dataclass
class RunSummary:
    """What a run will say first; filled in while the flow goes on, published once.

    Attributes:
        kind: the flow, e.g. ``train``.
        subject: model or dataset.
        title: the verdict itself, in a few words.
        lines: up to `MAX_LINES` sentences, most important first.
        reports: evidence, each published on a page of its own after the verdict.
        links: label and address pairs, ours, shown under the lines.
        cards: model cards, shown after the evidence.
    """

    kind: str
    subject: str
    title: str = "stopped"
    lines: list[str] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)

    def say(self, *lines: str) -> None:
        """Add sentences."""
        self.lines.extend(lines)

    def show(self, report: Report) -> Report:
        """Keep a report as evidence, to be published after the verdict; returns it."""
        self.reports.append(report)
        return report

    def to_markdown(self) -> str:
        """Render; every value escaped, links only those we made."""
        parts = [f"# {text.escape(self.subject)}: {text.escape(self.title)}"]
        shown = self.lines if len(self.lines) <= MAX_LINES else self.lines[: MAX_LINES - 1]
        parts += [f"- {text.escape(line)}" for line in shown]
        if len(shown) < len(self.lines):
            parts.append(f"- and {len(self.lines) - len(shown)} more")
        parts += [f"- [{label}]({address})" for label, address in self.links]
        return parts[0] + "\n\n" + "\n".join(parts[1:]) + "\n"


@contextlib.contextmanager
def summarise_run(kind: str, subject: str) -> Iterator[RunSummary]:
    """Publish the summary when the block ends, well or stopped by an error, and its reports after it."""
    summary = RunSummary(kind=kind, subject=subject)
    try:
        yield summary
    except Exception as error:
        summary.title = "stopped by a check" if isinstance(error, CheckError) else "stopped"
        known = isinstance(error, MLOpsError)
        summary.lines.insert(0, str(error) if known else f"{type(error).__name__}: {text.one_line(error)}")
        with contextlib.suppress(Exception):  # the first error is the one to report
            _publish(summary)
        raise
    _publish(summary)


def _publish(summary: RunSummary) -> None:
    get_run_logger().info("%s: %s", summary.subject, summary.title)
    create_markdown_artifact(
        markdown=summary.to_markdown(),
        key=_key("verdict", summary.kind, summary.subject),
        description=f"{summary.subject}: {summary.title}"[:200],
    )
    for report in summary.reports:
        create_markdown_artifact(
            markdown=report.to_markdown(),
            key=_key(report.kind, summary.subject),
            description=report.summary[:200],
        )
    for card in summary.cards[-1:]:  # of a model that was judged again the last one counts
        create_markdown_artifact(
            markdown=render_markdown(card), key=_key("card", summary.subject), description=card.outcome[:200]
        )


def _key(*words: Iterable[str] | str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", "-".join(map(str, words)).lower()).strip("-")[:MAX_KEY_LENGTH]
