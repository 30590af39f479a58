"""The card as sections of text and tables, which its page and its markdown share; and the markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prefect_mlops.core import _text
from prefect_mlops.core.cards.data import percent

if TYPE_CHECKING:
    from prefect_mlops.core.cards.card import Card, ColumnBaseline, Confusion
    from prefect_mlops.core.reports import Check

BAR_WIDTH = 20  # characters of the longest text bar
_WHOLE = 1_000  # numbers from here on are shown without decimals
_LARGEST = 1e15  # and from here on with an exponent

Figure = Literal["importances", "calibration", "residuals"]


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        headers: not escaped yet.
        rows: cells, likewise.
        words: columns, from the left, that hold words; the others hold numbers.
        shades: share from 0 to 1 for each number cell, drawn behind it; empty for none.
        bars: share from 0 to 1 for each row, for text without pictures; empty for none.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    shades: Sequence[Sequence[float]] = ()
    bars: Sequence[float] = ()


@dataclass(frozen=True)
class Section:
    """A part of the card.

    Attributes:
        title: its heading.
        text: sentences before the tables.
        points: sentences of a list.
        tables: shown one under the other.
        code: commands.
        figure: the picture of its first table.
    """

    title: str
    text: Sequence[str] = ()
    points: Sequence[str] = ()
    tables: Sequence[Table] = ()
    code: Sequence[str] = ()
    figure: Figure | None = None


def subtitle(card: Card) -> str:
    """Say in a line what kind of thing the card is about."""
    written = card.written.strftime("%Y-%m-%d %H:%M UTC")
    return f"{card.estimator}, {card.columns:,} columns, card written {written}"


def sections(card: Card) -> tuple[Section, ...]:
    """Cut a card into sections, most asked for first; parts that are not there are left out."""
    return tuple(section for part in _PARTS for section in part(card))


def to_markdown(card: Card) -> str:
    """Render a card as markdown for an artifact; every value escaped."""
    parts = [f"# {_text.escape(f'{card.model} v{card.version}')}"]
    if card.purpose:
        parts.append(_text.escape(card.purpose))
    parts.append(_text.escape(subtitle(card)))
    links = [f"[{_text.escape(link.name)}]({_address(link.value)})" for link in card.links if web(link.value)]
    if links:
        parts.append(" · ".join(links))
    for section in sections(card):
        parts.append(f"## {_text.escape(section.title)}")
        parts += [_text.escape(line) for line in section.text]
        if section.points:
            parts.append("\n".join(f"- {_text.escape(line)}" for line in section.points))
        parts += [_table(table) for table in section.tables]
        parts += [f"    {' '.join(line.split())}" for line in section.code]
    return "\n\n".join(parts) + "\n"


def web(address: str) -> bool:
    """Tell whether an address is one a page may link to."""
    return address.startswith(("http://", "https://"))


def _address(url: str) -> str:
    """Keep an address from ending its markdown link."""
    return "".join(f"%{ord(sign):02X}" if sign in '()<>[]|"`\\ \n\r\t' else sign for sign in url)


def _table(table: Table) -> str:
    headers = [_text.escape(header) for header in table.headers]  # some are names from data
    if not table.bars:
        return _text.table(headers, table.rows)
    bars = ["█" * max(round(BAR_WIDTH * bar), int(bar > 0)) for bar in table.bars]
    return _text.table([*headers, ""], [[*row, bar] for row, bar in zip(table.rows, bars, strict=True)])


def number(value: float) -> str:
    """Write a number for reading: four digits that count, thousands apart."""
    if _WHOLE <= abs(value) < _LARGEST:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _scores(card: Card) -> Iterator[Section]:
    if not card.scores:
        return
    text = [f"On {card.rows_tested:,} rows that it was not trained on; larger is better."]
    if not any(score.low is not None for score in card.scores):
        rows = [[score.metric, f"{score.value:.4f}"] for score in card.scores]
        yield Section("Scores", text, tables=[Table(["Metric", "Score"], rows)])
        return
    rows = [[score.metric, f"{score.value:.4f}", _interval(score.low, score.high)] for score in card.scores]
    yield Section("Scores", text, tables=[Table(["Metric", "Score", "95% interval"], rows)])


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _gate(card: Card) -> Iterator[Section]:
    if not card.checks and not card.verdicts:
        return
    headers = ["Answer", "Subject", "Check", "Observed", "Expected"]
    rows = [[_answer(check), check.subject, check.name, check.observed, check.expected] for check in card.checks]
    more = card.checks_total - len(card.checks)
    tables = [Table(headers, rows, words=len(headers))] if rows else []
    text = [*card.notes, *([f"{more:,} more checks are in the gate report."] if more > 0 else [])]
    yield Section("Checks", text, card.verdicts, tables)


def _answer(check: Check) -> str:
    if check.passed:
        return "passed"
    return "failed" if check.severity == "error" else "warning"


def _importances(card: Card) -> Iterator[Section]:
    found = card.importances
    if found is None or not found.columns:
        return
    largest = max((each.drop for each in found.columns), default=0.0)
    text = [
        f"How far {found.metric} falls when the values of one column are shuffled, on {found.rows:,} test rows: mean "
        f"and standard deviation of {found.repeats} shuffles. Columns that say the same share their importance."
    ]
    more = card.columns - len(found.columns)
    if more > 0:
        text.append(f"The {len(found.columns):,} most important of {card.columns:,} columns.")
    rows = [[each.column, f"{each.drop:.4f}", f"{each.spread:.4f}"] for each in found.columns]
    bars = [max(each.drop, 0.0) / largest if largest > 0 else 0.0 for each in found.columns]
    table = Table(["Column", f"Drop of {found.metric}", "Std. dev."], rows, bars=bars)
    yield Section("What it goes by", text, tables=[table], figure="importances")


def _calibration(card: Card) -> Iterator[Section]:
    if card.calibration is None:
        return
    bins = card.calibration.bins
    text = [
        f"Test rows with similar predicted probability of {card.outcome}, and the share of them for which it was so. "
        f"On average the two are {100 * card.calibration.gap:.1f} percentage points apart."
    ]
    rows = [
        [
            percent(each.predicted),
            percent(each.observed),
            f"{percent(each.low)} to {percent(each.high)}",
            f"{each.rows:,}",
        ]
        for each in bins
    ]
    table = Table(["Predicted", "Observed", "95% interval", "Rows"], rows, words=0)
    yield Section("Calibration", text, tables=[table], figure="calibration")


def _residuals(card: Card) -> Iterator[Section]:
    if card.residuals is None:
        return
    text = [
        f"Truth minus prediction, in units of {_target_name(card)}, for test rows with similar prediction: the median, "
        "and between which values 80% of the rows are."
    ]
    rows = [
        [number(each.predicted), number(each.low), number(each.median), number(each.high), f"{each.rows:,}"]
        for each in card.residuals.bins
    ]
    table = Table(["Predicted", "10%", "Median", "90%", "Rows"], rows, words=0)
    yield Section("Residuals", text, tables=[table], figure="residuals")


def _target_name(card: Card) -> str:
    return card.target.name if card.target else "the target"


def _confusion(card: Card) -> Iterator[Section]:
    if card.confusion is not None:
        text = ["Test rows by true class (lines) and predicted class (columns).", card.confusion.note]
        yield Section("Confusion", [line for line in text if line], tables=[_confusion_table(card.confusion)])


def _confusion_table(confusion: Confusion) -> Table:
    rows = [
        [label, *(f"{count:,}" for count in line)]
        for label, line in zip(confusion.labels, confusion.counts, strict=True)
    ]
    shades = [[count / max(sum(line), 1) for count in line] for line in confusion.counts]
    return Table(["True class", *confusion.labels], rows, shades=shades)


def _data(card: Card) -> Iterator[Section]:
    tables = [Table(["", ""], [[fact.name, fact.value] for fact in card.data], words=2)] if card.data else []
    if card.target is not None:
        show = percent if card.target.classes else number
        lines = [[line.name, show(line.train), show(line.test)] for line in card.target.lines]
        first = f"{'Class' if card.target.classes else 'Quantile'} of {card.target.name}"
        tables.append(Table([first, "Training rows", "Test rows"], lines))
    if tables:
        yield Section("Data", tables=tables)


def _baseline(card: Card) -> Iterator[Section]:
    if not card.baseline:
        return
    text = ["The training rows, column by column. What monitoring calls drift is a change against these."]
    more = card.columns - len(card.baseline)
    if more > 0:
        text.append(f"{len(card.baseline):,} columns, the most important first; {more:,} more are not shown.")
    numeric = [each for each in card.baseline if each.kind in ("numeric", "text")]
    named = [each for each in card.baseline if each not in numeric]
    tables = []
    if numeric:
        names = ["mean", "std", "min", "5%", "median", "95%", "max"]
        rows = [
            [
                each.column if each.kind == "numeric" else f"{each.column} (length of text)",
                *(number(each.numbers[name]) if name in each.numbers else "" for name in names),
                percent(each.missing),
            ]
            for each in numeric
        ]
        headers = ["Numbers", "Mean", "Std. dev.", "Min", "5%", "Median", "95%", "Max", "Missing"]
        tables.append(Table(headers, rows))
    if named:
        rows = [[each.column, each.kind, _typical(each), _distinct(each), percent(each.missing)] for each in named]
        tables.append(Table(["Others", "Kind", "Most frequent", "Values", "Missing"], rows, words=3))
    yield Section("Drift baseline", text, tables=tables)


def _typical(each: ColumnBaseline) -> str:
    if each.first:
        return f"{each.first} to {each.last}"
    return ", ".join(f"{top.value} {percent(top.share)}" for top in each.top)


def _distinct(each: ColumnBaseline) -> str:
    return "" if each.distinct is None else f"{each.distinct:,}"


def _limits(card: Card) -> Iterator[Section]:
    if card.limits:
        yield Section("Limits", points=card.limits)


def _rollback(card: Card) -> Iterator[Section]:
    if card.rollback:
        text = ["Make the champion before this one champion again, or see who was champion when, and why:"]
        yield Section("How to roll back", text, code=[line for line in (card.rollback, card.history) if line])


def _provenance(card: Card) -> Iterator[Section]:
    if card.provenance:
        rows = [[fact.name, fact.value] for fact in card.provenance]
        yield Section("Where it comes from", tables=[Table(["", ""], rows, words=2)])


def _left_out(card: Card) -> Iterator[Section]:
    if card.left_out:
        yield Section("Left out of this card", points=[f"{fact.name}: {fact.value}" for fact in card.left_out])


_PARTS = (
    _scores,
    _gate,
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
