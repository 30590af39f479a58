"""Column drift: the changes of one column between two tables, and what needs no test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from prefect_mlops.core.drift import statistical_tests
from prefect_mlops.core.drift.thresholds import EMPTY_COLUMN_P, HOUR_DAYS, MIN_ROWS, SHARE_FACTOR, WEEKDAY_DAYS
from prefect_mlops.core.reports import MAX_EXAMPLES
from prefect_mlops.core.tables.columns import MAX_CATEGORIES, UNIQUE_SHARE, ColumnKind
from prefect_mlops.core.text import show

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.drift.column_profile import ColumnProfile
    from prefect_mlops.core.drift.quantiles import Distribution
    from prefect_mlops.core.drift.table_profile import TableProfile

_WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
_KINDS: dict[str, ColumnKind] = {
    "empty": "empty",
    "boolean": "boolean",
    "numeric": "numeric",
    "datetime": "datetime",
    "datetime with time zone": "datetime",
}

Aspect = Literal[
    "distribution",
    "length of text",
    "vocabulary",
    "hour of the day",
    "day of the week",
    "missing values",
    "values not seen before",
    "values out of range",
]


@dataclass(frozen=True)
class Change:
    """One tested aspect of one column.

    Attributes:
        column: its name.
        kind: what it holds.
        aspect: what was compared.
        measure: size and p-value before correction.
        minimum: smallest size that matters.
        corrected_p: p-value corrected for all tests of the comparison; None where there were too few rows to judge.
        drifted: the change is at least `minimum`, and significant.
        examples: a few of the values.
        lost: the rows hold values that the model has not learned.
    """

    column: str
    kind: ColumnKind
    aspect: Aspect
    measure: statistical_tests.Measure
    minimum: float
    corrected_p: float | None = None
    drifted: bool = False
    examples: tuple[str, ...] = ()
    lost: bool = False

    @property
    def judged(self) -> bool:
        """False where there were too few rows for a test."""
        return self.measure.p_value is not None


@dataclass(frozen=True)
class Finding:
    """Something about a column that is certain and needs no test.

    Attributes:
        column: its name.
        what: the finding in words.
        broken: the schema is broken: readers of this column fail or misread it.
        observed: what was seen.
        expected: what the reference has.
        examples: a few values it is about.
    """

    column: str
    what: str
    broken: bool
    observed: str
    expected: str = ""
    examples: tuple[str, ...] = ()


@dataclass
class ColumnOutcome:
    """What one column adds to a comparison.

    Attributes:
        kind: what both sides are compared as; None where they cannot be.
        changes: the tested questions.
        findings: what is certain.
        remark: what could not be compared, in a sentence.
    """

    kind: ColumnKind | None = None
    changes: list[Change] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    remark: str = ""


def compare_column(name: str, current: TableProfile, reference: TableProfile, min_change: float) -> ColumnOutcome:
    """Run every test that applies to one column.

    Args:
        name: in at least one of the tables.
        current: profile of the table.
        reference: what it is compared with.
        min_change: smallest distance of two distributions that matters; half of it for shares of lost rows.

    Returns:
        Changes with raw p-values: they are corrected together with those of the other columns.
    """
    if name in current.repeated or name in reference.repeated:
        times = [side.repeated.get(name, int(name in side.columns)) for side in (current, reference)]
        seen = f"{times[0]} columns now, {times[1]} in the reference"
        return ColumnOutcome(findings=[Finding(name, "one column for one name", True, seen, "one on each side")])
    now, before = current.columns.get(name), reference.columns.get(name)
    if now is None or before is None:
        return ColumnOutcome(findings=[_absent(name, now, before)])
    if finding := _retyped(name, now, before):
        return ColumnOutcome(findings=[finding])
    outcome = ColumnOutcome(kind=joint_kind(now, before))
    outcome.findings = list(_certain(name, now, before))
    if not any(finding.broken for finding in outcome.findings):
        outcome.changes = list(_tested(name, outcome.kind or "empty", now, before, min_change))
    if outcome.kind == "datetime" and (days := min(now.times.days, before.times.days)) < WEEKDAY_DAYS:
        outcome.remark = (
            f"{name} spans {days:.1f} days on one side: its hours are compared from {HOUR_DAYS} days on, "
            f"its weekdays from {WEEKDAY_DAYS}."
        )
    return outcome


def joint_kind(now: ColumnProfile, before: ColumnProfile) -> ColumnKind:
    """Return the kind to compare two columns as.

    Args:
        now: the one side.
        before: the other, of the same kind or ``empty``.

    Returns:
        The kind both are compared as. Whether strings are categories or text can only be seen on both together.
    """
    kind = now.kind if before.kind == "empty" else before.kind
    sides = [side for side in (now, before) if side.kind != "empty"]
    if sides and (all if kind == "numeric" else any)(side.nominal for side in sides):
        return "categorical"
    if kind in _KINDS:
        return _KINDS[kind]
    if now.counts is None or before.counts is None:
        return "text"
    distinct = len(now.counts.keys() | before.counts.keys())
    return "text" if distinct > min(MAX_CATEGORIES, UNIQUE_SHARE * (now.values + before.values)) else "categorical"


def _absent(name: str, now: ColumnProfile | None, before: ColumnProfile | None) -> Finding:
    if before is not None:
        return Finding(name, "column is there", True, "missing", f"{before.type_words}, as in the reference")
    words = now.type_words if now is not None else "there"
    return Finding(name, "column is known", False, f"{words}, not in the reference", "not there")


def _retyped(name: str, now: ColumnProfile, before: ColumnProfile) -> Finding | None:
    torn = "torn" in (now.kind, before.kind)
    if not torn and (now.kind == before.kind or "empty" in (now.kind, before.kind)):
        return None
    shown = list(now.counts or ())[:MAX_EXAMPLES] or ([now.numbers.low, now.numbers.high] if now.numbers.rows else [])
    examples = tuple(dict.fromkeys(show(value) for value in shown))
    return Finding(name, "type is unchanged", True, now.type_words, before.type_words, examples)


def _certain(name: str, now: ColumnProfile, before: ColumnProfile) -> Iterator[Finding]:
    enough = now.rows >= MIN_ROWS
    chance = ((before.nulls + 1) / (before.rows + 2)) ** now.rows  # Laplace's estimate, all rows missing by chance
    if now.kind == "empty" and before.kind != "empty" and enough and chance < EMPTY_COLUMN_P:
        share = 1 - before.nulls / before.rows
        yield Finding(
            name,
            "has values",
            True,
            "every value is missing",
            f"{statistical_tests.percent(share)} of the reference has one",
        )
    if now.infinite and not before.infinite:
        share = now.infinite / now.values
        yield Finding(
            name,
            "values are finite",
            False,
            f"{statistical_tests.percent(share)} infinite",
            "none, as in the reference",
        )


def _tested(
    name: str, kind: ColumnKind, now: ColumnProfile, before: ColumnProfile, min_change: float
) -> Iterator[Change]:
    """Run every test that applies to a column: the correction for multiple tests counts all of them."""
    if min(now.rows, before.rows) >= MIN_ROWS and now.nulls + before.nulls:
        nulls = statistical_tests.measure_share(
            count=now.nulls, rows=now.rows, reference_count=before.nulls, reference_rows=before.rows
        )
        more = now.nulls * before.rows > before.nulls * now.rows
        yield Change(name, kind, "missing values", nulls, min_change * SHARE_FACTOR, lost=more)
    if kind == "numeric":
        yield from _tested_numbers(name, now, before, min_change)
    elif kind == "text":
        yield from _tested_text(name, now, before, min_change)
    elif kind == "datetime":
        yield from _tested_times(name, now, before, min_change)
    elif kind != "empty":
        yield from _tested_categories(name, kind, now, before, min_change)
    elif min(now.rows, before.rows) < MIN_ROWS:
        nothing = statistical_tests.measure_categories(current=_counts(now), reference=_counts(before))
        yield Change(name, kind, "distribution", nothing, min_change)


def _tested_numbers(name: str, now: ColumnProfile, before: ColumnProfile, min_change: float) -> Iterator[Change]:
    sides = [side.numbers.distribution() for side in (now, before)]
    measure = statistical_tests.measure_numbers(current=sides[0], reference=sides[1])
    if measure.p_value is None:
        yield Change(name, "numeric", "distribution", measure, min_change)
        return
    if now.numbers.finite and before.numbers.finite:
        old = before.numbers
        words = statistical_tests.shift_words(now=now.numbers.mean, before=old.mean, spread=old.spread)
    else:
        words = "only infinite values on one side"
    yield Change(name, "numeric", "distribution", replace(measure, words=words), min_change)
    yield _out_of_range(name, sides[0], now, before, min_change)


def _out_of_range(
    name: str, points: Distribution, now: ColumnProfile, before: ColumnProfile, min_change: float
) -> Change:
    low, high = before.numbers.low, before.numbers.high
    ends = [end for end in (now.numbers.low, now.numbers.high) if not low <= end <= high]
    count = max(round(points.outside(low, high)), len(ends))  # of a summary the ends are exact, the share nearly
    unseen = statistical_tests.measure_unseen(unseen=count, rows=now.values, reference_rows=before.values, seen_once=1)
    words = f"{unseen.words} outside {low:.6g} to {high:.6g}"
    examples = tuple(dict.fromkeys(f"{end:.6g}" for end in ends))
    return Change(
        name,
        "numeric",
        "values out of range",
        replace(unseen, words=words),
        min_change * SHARE_FACTOR,
        examples=examples,
        lost=True,
    )


def _tested_text(name: str, now: ColumnProfile, before: ColumnProfile, min_change: float) -> Iterator[Change]:
    sides = [side.lengths() for side in (now, before)]
    lengths = statistical_tests.measure_numbers(current=sides[0], reference=sides[1])
    if lengths.p_value is None:
        yield Change(name, "text", "length of text", lengths, min_change)
        return
    means = [float((side.points * side.weights).sum() / side.weights.sum()) for side in sides]
    words = f"mean {means[1]:.4g} → {means[0]:.4g} characters"
    yield Change(name, "text", "length of text", replace(lengths, words=words), min_change)
    vocabulary = statistical_tests.measure_words(
        current=now.words(), rows=now.values, reference=before.words(), reference_rows=before.values
    )
    yield Change(name, "text", "vocabulary", vocabulary, min_change)


def _tested_times(name: str, now: ColumnProfile, before: ColumnProfile, min_change: float) -> Iterator[Change]:
    """Compare what repeats; that time goes on is no change."""
    days = min(now.times.days, before.times.days)
    hours = [_named(side.times.hours, [f"{hour:02}h" for hour in range(24)]) for side in (now, before)]
    if min(now.values, before.values) < MIN_ROWS or days >= HOUR_DAYS:
        measure = statistical_tests.measure_categories(current=hours[0], reference=hours[1])
        yield Change(name, "datetime", "hour of the day", measure, min_change)
    if days >= WEEKDAY_DAYS:
        weekdays = [_named(side.times.weekdays, _WEEKDAYS) for side in (now, before)]
        measure = statistical_tests.measure_categories(current=weekdays[0], reference=weekdays[1])
        yield Change(name, "datetime", "day of the week", measure, min_change)


def _named(rows: NDArray[Any], names: list[str]) -> pd.Series:
    import pandas as pd

    counts = pd.Series(rows, index=pd.Index(names, dtype=object))
    return counts[counts > 0]


def _counts(side: ColumnProfile) -> pd.Series:
    """Return rows by value, most frequent first; names are objects, so that strings of different storage meet."""
    import pandas as pd

    common = (side.counts or Counter()).most_common()
    return pd.Series([rows for _, rows in common], index=pd.Index([name for name, _ in common], dtype=object))


def _tested_categories(
    name: str, kind: ColumnKind, now: ColumnProfile, before: ColumnProfile, min_change: float
) -> Iterator[Change]:
    counts, known = _counts(now), _counts(before)
    measure = statistical_tests.measure_categories(current=counts, reference=known)
    yield Change(name, kind, "distribution", measure, min_change)
    if kind == "categorical" and measure.p_value is not None:
        new = counts[~counts.index.isin(known.index)]
        unseen = statistical_tests.measure_unseen(
            unseen=int(new.sum()),
            rows=int(counts.sum()),
            reference_rows=int(known.sum()),
            seen_once=int((known == 1).sum()),
        )
        words = f"{len(new):,} new, in {unseen.words}"
        examples = tuple(show(value) for value in new.index[:MAX_EXAMPLES])
        yield Change(
            name,
            kind,
            "values not seen before",
            replace(unseen, words=words),
            min_change * SHARE_FACTOR,
            examples=examples,
            lost=True,
        )


def constant(change: Change, now: ColumnProfile) -> Iterator[Finding]:
    """Find that a column that drifted has one value left; a rare second value missing by chance has not drifted."""
    if change.drifted and change.aspect == "distribution" and (left := now.only_value) is not None:
        yield Finding(change.column, "has more than one value", False, "constant now", "several", (show(left),))
