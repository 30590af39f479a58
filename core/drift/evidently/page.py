"""The drift page: Evidently's table of distributions under our verdict, in one file without a network."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_mlops.core.drift.evidently.columns import TAIL, readable
from prefect_mlops.core.drift.evidently.table import draw_table

if TYPE_CHECKING:
    from prefect_mlops.core.drift.table_drift import TableDrift
    from prefect_mlops.core.drift.table_profile import TableProfile
    from prefect_mlops.core.drift.training_profile import TrainingProfile
    from prefect_mlops.core.reports import Report

MAX_COLUMNS = 100  # a page below 8 MB: a column takes up to 40 kB and a twentieth of a second
MAX_FAILURES = 10  # at the top of the page; the report has all of them
MAX_SENTENCE = 400
# Nothing is fetched and nothing can be sent, whatever got into the page.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; font-src data:; img-src data: blob:"
)
_BANNER_STYLE = "font-family:sans-serif;max-width:1280px;margin:16px auto;padding:12px 20px;border-left:6px solid"


def write_page(
    path: Path,
    *,
    current: TableProfile,
    reference: TableProfile,
    comparison: TableDrift,
    report: Report,
    known: TrainingProfile | None = None,
) -> list[str]:
    """Draw the page and write it.

    Args:
        path: file to write; its folder is made.
        current: the sample and the number of rows of the new table; nothing else of it is read.
        reference: likewise of the one it is compared with.
        comparison: what was found on all rows.
        report: our verdict, shown at the top.
        known: which column is the target, and what each is worth to the model: what is drawn of more than
            `MAX_COLUMNS`, and in which order.

    Returns:
        Sentences for the report: how many rows the page shows and which columns it leaves out.

    Raises:
        NothingToDrawError: no column can be drawn.
        OSError: the file cannot be written.

    Source:
        Evidently draws; see `draw_table`.
    """
    path.unlink(missing_ok=True)  # yesterday's page must not stand for today's verdict
    drawing = draw_table(current=current, reference=reference, comparison=comparison, known=known, most=MAX_COLUMNS)
    page = _with_banner(str(drawing.snapshot.get_html_str(as_iframe=False)), _banner(report, drawing.drawn_from))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page.encode("utf-8", "replace"))
    return [f"The page is {drawing.drawn_from}.", *drawing.notes]


def _banner(report: Report, drawn_from: str) -> str:
    """Name at the top the source of the verdict and of the pictures."""
    color = "#2e7d32" if report.passed else "#c62828"
    sentences = [readable(check.sentence, MAX_SENTENCE) for check in report.failures]
    more = len(sentences) - MAX_FAILURES
    shown = sentences[:MAX_FAILURES] + ([f"and {more} more in the report"] if more > 0 else [])
    title = readable(f"{'Passed' if report.passed else 'Failed'}: drift of {report.subject}", MAX_SENTENCE)
    return (
        f'<div id="verdict" style="{_BANNER_STYLE} {color}"><h2>{html.escape(title)}</h2>'
        f"<ul>{''.join(f'<li>{html.escape(sentence)}</li>' for sentence in shown or ['No failed check.'])}</ul>"
        f"<p>The verdict, here and in the table, is prefect-mlops' own. The pictures are Evidently's, {drawn_from}. "
        f"The outermost {TAIL:.1%} of the values on either side are drawn at the edge.</p></div>"
    )


def _with_banner(page: str, banner: str) -> str:
    """Put the banner first in the page, and forbid the page everything it does not need."""
    head, body = page.partition("<head>"), page.partition("<body>")
    if not head[1] or not body[1]:
        raise ValueError("Evidently's page has no head or body to put the verdict into")
    policy = f'<head><meta http-equiv="Content-Security-Policy" content="{_POLICY}"><title>Drift</title>'
    return page.replace("<head>", policy, 1).replace("<body>", f"<body>{banner}", 1)
