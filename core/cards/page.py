"""The card as a page of its own: no network, no script, light and dark, fit for paper."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefect_mlops.core._text import MAX_CELL_LENGTH
from prefect_mlops.core.cards import plots
from prefect_mlops.core.cards.sections import Section, Table, sections, subtitle, web

if TYPE_CHECKING:
    from prefect_mlops.core.cards.card import Card

MAX_TEXT_LENGTH = 1_000  # of a sentence; cells of tables are cut at the length of markdown ones
# Nothing is fetched and nothing runs, whatever got into the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_DRAW = {
    "importances": plots.draw_importances,
    "calibration": plots.draw_calibration,
    "residuals": plots.draw_residuals,
}
_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1f2328; --muted: #59636e; --rule: #d8dee4;
  --accent: #2f6fb3; --bad: #b3261e; --warn: #8a5a00; --code: #f3f5f7 }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --ink: #e4e7eb; --muted: #9aa4af; --rule: #343b43;
  --accent: #6ea8e6; --bad: #ff8a80; --warn: #e0b050; --code: #1f242a } }
@media print { :root { color-scheme: light; --page: #ffffff; --ink: #000000; --muted: #444444; --rule: #cccccc;
  --accent: #2f6fb3; --bad: #b3261e; --warn: #8a5a00; --code: #f3f5f7 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem }
header { border-bottom: 1px solid var(--rule); padding-bottom: 1.25rem }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; font-weight: 650; overflow-wrap: anywhere }
h1 span { color: var(--muted); font-weight: 400 }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; font-weight: 650; break-after: avoid }
p, ul { margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere }
ul { padding-left: 1.2rem }
li { margin: .3rem 0 }
a { color: var(--accent) }
.lead { font-size: 1.1rem }
.quiet, .text { color: var(--muted) }
.wide { overflow-x: auto }
.pair { display: grid; grid-template-columns: minmax(26rem, 1fr) minmax(0, auto); gap: 1rem 2.5rem; align-items: start }
table { border-collapse: collapse; margin: .75rem 0; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { text-align: left; vertical-align: top; padding: .28rem 1.4rem .28rem 0; border-bottom: 1px solid var(--rule) }
th { color: var(--muted); font-weight: 500; white-space: nowrap }
th:last-child, td:last-child { padding-right: .3rem }
tr { break-inside: avoid }
.n { text-align: right; white-space: nowrap }
td.n:not(:last-child), th.n:not(:last-child) { padding-left: .4rem }
td { overflow-wrap: break-word }
td.first { overflow-wrap: anywhere; min-width: 6rem }
.facts td.first { color: var(--muted); white-space: nowrap }
.shade { background: color-mix(in srgb, var(--accent) calc(var(--share) * 55%), transparent); padding: .28rem .6rem }
.failed { color: var(--bad); font-weight: 600 }
.warning { color: var(--warn); font-weight: 600 }
svg { display: block; width: 100%; max-width: 36rem; height: auto; margin: .75rem 0 }
svg text { font-family: inherit !important }
svg * { stroke-linejoin: round }
pre { background: var(--code); padding: .7rem 1rem; border-radius: 4px; max-width: 46rem; overflow-x: auto;
  font: .88rem/1.6 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; white-space: pre-wrap }
@media (max-width: 52rem) { .pair { grid-template-columns: minmax(0, 1fr) } }
@media print { main { max-width: none; padding: 0 } .pair { grid-template-columns: 3fr 2fr } svg { break-inside: avoid }
  body { font-size: 10.5pt } }
"""


def to_html(card: Card) -> str:
    """Render a card as a page; every value escaped, links only to addresses of the web."""
    title = f"{_text(card.model)} <span>v{card.version}</span>"
    lead = f'<p class="lead">{_text(card.purpose)}</p>' if card.purpose else ""
    links = " · ".join(
        f'<a href="{html.escape(link.value)}">{_text(link.name)}</a>' for link in card.links if web(link.value)
    )
    header = [f"<h1>{title}</h1>", lead, f'<p class="quiet">{_text(subtitle(card))}</p>', links and f"<p>{links}</p>"]
    body = "\n".join(_section(card, section) for section in sections(card))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(card.model)} v{card.version}: model card</title><style>{_STYLE}</style></head>\n"
        f"<body><main><header>{''.join(header)}</header>\n{body}\n</main></body></html>\n"
    )


def _section(card: Card, section: Section) -> str:
    parts = [f"<h2>{_text(section.title)}</h2>", *(f'<p class="text">{_text(line)}</p>' for line in section.text)]
    if section.points:
        parts.append(f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in section.points)}</ul>")
    tables = [_table(table) for table in section.tables]
    if section.figure:
        parts.append(f'<div class="pair"><div>{_DRAW[section.figure](card)}</div><div>{"".join(tables)}</div></div>')
    else:
        parts += tables
    if section.code:
        parts.append(f"<pre>{html.escape(chr(10).join(section.code))}</pre>")
    return f"<section>{''.join(parts)}</section>"


def _table(table: Table) -> str:
    facts = not any(table.headers)
    head = "".join(_cell("th", header, place, table.words) for place, header in enumerate(table.headers))
    lines = [_line(table, place, row) for place, row in enumerate(table.rows)]
    heading = "" if facts else f"<thead><tr>{head}</tr></thead>"
    kind = ' class="facts"' if facts else ""
    return f'<div class="wide"><table{kind}>{heading}<tbody>{"".join(lines)}</tbody></table></div>'


def _line(table: Table, place: int, row: Sequence[str]) -> str:
    shades = table.shades[place] if table.shades else ()
    cells = [_cell("td", cell, at, table.words) for at, cell in enumerate(row[: table.words])]
    for at, cell in enumerate(row[table.words :]):
        if shades:
            cells.append(f'<td class="n shade" style="--share:{shades[at]:.3f}">{_text(cell, MAX_CELL_LENGTH)}</td>')
        else:
            cells.append(_cell("td", cell, at + table.words, table.words))
    return f"<tr>{''.join(cells)}</tr>"


def _cell(tag: str, text: str, place: int, words: int) -> str:
    kind = "n" if place >= words else text if text in ("failed", "warning") and place == 0 else "first" * (place == 0)
    scope = ' scope="col"' if tag == "th" else ""
    return f"<{tag}{scope}{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{_text(text, MAX_CELL_LENGTH)}</{tag}>"


def _text(value: str, longest: int = MAX_TEXT_LENGTH) -> str:
    """Make any text inert: escaped, cut, without signs that steer how text is shown."""
    text = "".join(sign if sign.isprintable() else " " for sign in value)
    return html.escape(text if len(text) <= longest else text[: longest - 1] + "…")
