"""The sections of a card, as text and tables that the HTML page and the markdown share; and the markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prefect_mlops.core import text
from prefect_mlops.core.cards.data import percent

if TYPE_CHECKING:
    from prefect_mlops.core.cards.card import Card, ColumnBaseline, Fact
    from prefect_mlops.core.reports import Check

BAR_WIDTH = 20  # characters of the longest text bar
_NO_DECIMALS_FROM = 1_000
_EXPONENT_FROM = 1e15
_NUMBERS = ("mean", "std", "min", "5%", "median", "95%", "max")  # keys of `ColumnBaseline.numbers`
_NUMBER_HEADERS = ("Mean", "Std. dev.", "Min", "5%", "Median", "95%", "Max")


@dataclass(frozen=True)
class Table:
    """A table of unescaped text.

    Attributes:
        headers: one for each column; all empty for pairs of name and value.
        rows: cells, one for each column.
        words: number of columns, from the left, that hold words; the others hold numbers.
        shades: on the page, the background of each number cell, from 0 to 1; empty for none.
        bars: in markdown, the length of a bar for each row, from 0 to 1; empty for none.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    shades: Sequence[Sequence[float]] = ()
    bars: Sequence[float] = ()


@dataclass(frozen=True)
class Section:
    """A titled part of the card: sentences, a list, tables, commands, and on the page a figure beside the tables."""

    title: str
    text: Sequence[str] = ()
    points: Sequence[str] = ()
    tables: Sequence[Table] = ()
    code: Sequence[str] = ()
    figure: Literal["importances", "calibration", "residuals"] | None = None


def render_markdown(card: Card) -> str:
    """Render a card as markdown for an artifact.

    Args:
        card: any card; its values are escaped, and only http(s) addresses become links.

    Returns:
        Tables with bars of text, and no pictures.
    """
    parts = [f"# {text.escape(f'{card.model} v{card.version}')}"]
    parts += [text.escape(line) for line in (card.purpose, subtitle(card)) if line]
    if links := web_links(card):
        parts.append(" · ".join(f"[{text.escape(link.name)}]({_percent_encode(link.value)})" for link in links))
    for section in build_sections(card):
        parts.append(f"## {text.escape(section.title)}")
        parts += [text.escape(line) for line in section.text]
        if section.points:
            parts.append("\n".join(f"- {text.escape(line)}" for line in section.points))
        parts += [_markdown_table(table) for table in section.tables]
        parts += [f"    {' '.join(line.split())}" for line in section.code]
    return "\n\n".join(parts) + "\n"


def _percent_encode(url: str) -> str:
    """Encode the characters that would end a markdown link."""
    return "".join(f"%{ord(sign):02X}" if sign in '()<>[]|"`\\ \n\r\t' else sign for sign in url)


def _markdown_table(table: Table) -> str:
    headers = [text.escape(header) for header in table.headers]  # some are names from data
    if not table.bars:
        return text.table(headers, table.rows)
    bars = ["█" * max(round(BAR_WIDTH * bar), int(bar > 0)) for bar in table.bars]
    return text.table([*headers, ""], [[*row, bar] for row, bar in zip(table.rows, bars, strict=True)])


def subtitle(card: Card) -> str:
    """Name the estimator, the number of columns and when the card was written, in one line."""
    written = card.written.strftime("%Y-%m-%d %H:%M UTC")
    return f"{card.estimator}, {card.columns:,} columns, card written {written}"


def web_links(card: Card) -> list[Fact]:
    """Keep the links of a card that lead to http or https addresses."""
    return [link for link in card.links if link.value.startswith(("http://", "https://"))]


def number(value: float) -> str:
    """Write a number for reading: four significant digits, thousands apart."""
    if _NO_DECIMALS_FROM <= abs(value) < _EXPONENT_FROM:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def build_sections(card: Card) -> tuple[Section, ...]:
    """Divide a card into sections, in the order of reading; parts that the card does not have are left out."""
    builders = (
        _scores,
        _checks,
        _importances,
        _calibration,
        _residuals,
        _confusion,
        _limits,
        _rollback,
        _data,
        _baseline,
        _provenance,
        _left_out,
    )
    return tuple(section for build in builders for section in build(card))


def _scores(card: Card) -> Iterator[Section]:
    if not card.scores:
        return
    text = [f"On {card.rows_tested:,} rows that it was not trained on; larger is better."]
    headers, rows = ["Metric", "Score"], [[score.metric, f"{score.value:.4f}"] for score in card.scores]
    if any(score.low is not None for score in card.scores):
        headers.append("95% interval")
        for row, score in zip(rows, card.scores, strict=True):
            row.append("" if score.low is None or score.high is None else f"{score.low:.4f} to {score.high:.4f}")
    yield Section("Scores", text, tables=[Table(headers, rows)])


def _checks(card: Card) -> Iterator[Section]:
    if not card.checks and not card.verdicts:
        return
    headers = ["Answer", "Subject", "Check", "Observed", "Expected"]
    rows = [[_answer(check), check.subject, check.name, check.observed, check.expected] for check in card.checks]
    hidden = card.checks_total - len(card.checks)
    text = [*card.notes, *([f"{hidden:,} more checks are in the gate report."] if hidden > 0 else [])]
    yield Section("Checks", text, card.verdicts, [Table(headers, rows, words=len(headers))] if rows else [])


def _answer(check: Check) -> str:
    if check.passed:
        return "passed"
    return "failed" if check.severity == "error" else "warning"


def _importances(card: Card) -> Iterator[Section]:
    measured = card.importances
    if measured is None or not measured.columns:
        return
    text = [
        f"How far {measured.metric} falls when the values of one column are shuffled, on {measured.rows:,} test rows: "
        f"mean and standard deviation of {measured.repeats} shuffles. Correlated columns share their importance."
    ]
    if card.columns > len(measured.columns):
        text.append(f"The {len(measured.columns):,} most important of {card.columns:,} columns.")
    rows = [[each.column, f"{each.drop:.4f}", f"{each.spread:.4f}"] for each in measured.columns]
    largest = max(each.drop for each in measured.columns)
    bars = [max(each.drop, 0.0) / largest if largest > 0 else 0.0 for each in measured.columns]
    table = Table(["Column", f"Drop of {measured.metric}", "Std. dev."], rows, bars=bars)
    yield Section("Feature importances", text, tables=[table], figure="importances")


def _calibration(card: Card) -> Iterator[Section]:
    if card.calibration is None:
        return
    text = [
        f"Test rows with similar predicted probability of {card.outcome}, and the observed share. "
        f"On average the two are {100 * card.calibration.gap:.1f} percentage points apart."
    ]
    rows = [
        [
            percent(each.predicted),
            percent(each.observed),
            f"{percent(each.low)} to {percent(each.high)}",
            f"{each.rows:,}",
        ]
        for each in card.calibration.bins
    ]
    table = Table(["Predicted", "Observed", "95% interval", "Rows"], rows, words=0)
    yield Section("Calibration", text, tables=[table], figure="calibration")


def _residuals(card: Card) -> Iterator[Section]:
    if card.residuals is None:
        return
    unit = card.target.name if card.target else "the target"
    text = [
        f"Actual minus predicted value, in units of {unit}, for test rows with similar prediction: the median, and the "
        "range of the middle 80% of the rows."
    ]
    rows = [
        [number(each.predicted), number(each.low), number(each.median), number(each.high), f"{each.rows:,}"]
        for each in card.residuals.bins
    ]
    table = Table(["Predicted", "10%", "Median", "90%", "Rows"], rows, words=0)
    yield Section("Residuals", text, tables=[table], figure="residuals")


def _confusion(card: Card) -> Iterator[Section]:
    if card.confusion is None:
        return
    labels, counts, note = card.confusion.labels, card.confusion.counts, card.confusion.note
    text = ["Test rows by true class (lines) and predicted class (columns).", *([note] if note else [])]
    rows = [[label, *(f"{count:,}" for count in line)] for label, line in zip(labels, counts, strict=True)]
    shades = [[count / max(sum(line), 1) for count in line] for line in counts]
    yield Section("Confusion", text, tables=[Table(["True class", *labels], rows, shades=shades)])


def _limits(card: Card) -> Iterator[Section]:
    if card.limits:
        yield Section("Limits", points=card.limits)


def _rollback(card: Card) -> Iterator[Section]:
    if card.rollback:
        text = ["Make the champion before this one champion again, or see who was champion when, and why:"]
        yield Section("How to roll back", text, code=[line for line in (card.rollback, card.history) if line])


def _data(card: Card) -> Iterator[Section]:
    tables = [_facts(card.data)] if card.data else []
    if card.target is not None:
        kind, write = ("Class", percent) if card.target.classes else ("Quantile", number)
        rows = [[line.name, write(line.train), write(line.test)] for line in card.target.lines]
        tables.append(Table([f"{kind} of {card.target.name}", "Training rows", "Test rows"], rows))
    if tables:
        yield Section("Data", tables=tables)


def _facts(facts: Sequence[Fact]) -> Table:
    return Table(["", ""], [[fact.name, fact.value] for fact in facts], words=2)


def _baseline(card: Card) -> Iterator[Section]:
    if not card.baseline:
        return
    text = ["The training rows, column by column. What monitoring calls drift is a change against these."]
    hidden = card.columns - len(card.baseline)
    if hidden > 0:
        text.append(f"{len(card.baseline):,} columns, the most important first; {hidden:,} more are not shown.")
    numeric = [_numeric_row(each) for each in card.baseline if each.kind in ("numeric", "text")]
    others = [_other_row(each) for each in card.baseline if each.kind not in ("numeric", "text")]
    tables = [Table(["Numbers", *_NUMBER_HEADERS, "Missing"], numeric)] if numeric else []
    if others:
        tables.append(Table(["Others", "Kind", "Most frequent", "Values", "Missing"], others, words=3))
    yield Section("Drift baseline", text, tables=tables)


def _numeric_row(column: ColumnBaseline) -> list[str]:
    name = column.column if column.kind == "numeric" else f"{column.column} (length of text)"
    numbers = [number(column.numbers[key]) if key in column.numbers else "" for key in _NUMBERS]
    return [name, *numbers, percent(column.missing)]


def _other_row(column: ColumnBaseline) -> list[str]:
    frequent = ", ".join(f"{top.value} {percent(top.share)}" for top in column.top)
    values = "" if column.distinct is None else f"{column.distinct:,}"
    span = f"{column.first} to {column.last}" if column.first else ""
    return [column.column, column.kind, span or frequent, values, percent(column.missing)]


def _provenance(card: Card) -> Iterator[Section]:
    if card.provenance:
        yield Section("Provenance", tables=[_facts(card.provenance)])


def _left_out(card: Card) -> Iterator[Section]:
    if card.left_out:
        yield Section("Left out of this card", points=[f"{fact.name}: {fact.value}" for fact in card.left_out])
