"""Compare a table with the one it should look like: schema, missing values and distributions, column by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from prefect_mlops.core import statistics
from prefect_mlops.core.columns import Column, ColumnKind, joint_kind, read_column, show
from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.reports import MAX_EXAMPLES

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

ALPHA = 0.01  # chance that a report without any change names a column: a daily one cries wolf about 3 times a year
MIN_CHANGE = 0.1  # a tenth of the rows elsewhere: below this, models rarely notice and people never do

Aspect = Literal["distribution", "length of text", "missing values", "values not seen before", "values out of range"]


@dataclass(frozen=True)
class Change:
    """One tested question about one column.

    Attributes:
        column: its name.
        kind: what it holds.
        aspect: what was compared.
        measure: size and p-value before correction.
        minimum: smallest size that matters.
        corrected_p: p-value corrected for all tests of the comparison; None where there were too few rows to judge.
        drifted: the change is larger than `minimum` and chance does not explain it.
        examples: a few values it is about.
    """

    column: str
    kind: ColumnKind
    aspect: Aspect
    measure: statistics.Measure
    minimum: float
    corrected_p: float | None = None
    drifted: bool = False
    examples: tuple[str, ...] = ()

    @property
    def judged(self) -> bool:
        """False where there were too few rows for any answer."""
        return self.measure.p_value is not None


@dataclass(frozen=True)
class Finding:
    """Something about a column that is certain and needs no test.

    Attributes:
        column: its name.
        what: the finding in words.
        broken: the schema is broken: whoever reads this column will fail or read something else.
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


@dataclass(frozen=True)
class Comparison:
    """What came out of comparing two tables.

    Attributes:
        changes: every tested question, in order of the columns.
        findings: what is certain, in order of the columns.
        kinds: what each comparable column holds.
        rows: rows of the current table.
        reference_rows: rows of the reference.
        tests: number of tests the p-values were corrected for.
    """

    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    kinds: dict[str, ColumnKind]
    rows: int
    reference_rows: int
    tests: int

    @property
    def judged_columns(self) -> tuple[str, ...]:
        """Columns that count for a verdict: judged at least once, timestamps left out since they move on by nature."""
        return tuple(
            dict.fromkeys(change.column for change in self.changes if change.judged and change.kind != "datetime")
        )

    @property
    def drifted_columns(self) -> tuple[str, ...]:
        """Those of the judged columns that drifted in any aspect."""
        drifted = {change.column for change in self.changes if change.drifted}
        return tuple(column for column in self.judged_columns if column in drifted)


@dataclass
class _Outcome:
    """What one column adds to the comparison."""

    kind: ColumnKind | None = None
    changes: list[Change] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def compare_tables(
    *,
    current: pd.DataFrame,
    reference: pd.DataFrame,
    columns: Sequence[str] | None = None,
    alpha: float = ALPHA,
    min_change: float = MIN_CHANGE,
) -> Comparison:
    """Compare a table with the one it should look like.

    A column drifted when a change is larger than `min_change` *and* its p-value, corrected for all tests of all
    columns, is below `alpha`. When nothing changed, at most a share `alpha` of all comparisons names any column.

    The tests take rows to be independent. Where many rows repeat one measurement, such as the weather of an hour on
    every flight of it, there are fewer rows than it seems, and `min_change` has to be raised to what is usual.

    Args:
        current: shape (rows, columns).
        reference: shape (reference rows, columns), usually what the model was trained on.
        columns: names to compare; None compares all of both tables.
        alpha: level of the corrected p-value, between 0 and 1.
        min_change: smallest distance of two distributions that matters, from 0 to 1; shares of missing, unseen and
            out-of-range rows, which are lost to a model rather than moved, matter from half of it.

    Returns:
        Every test and every finding; damaged tables give findings, not errors.

    Raises:
        ConfigError: `alpha` or `min_change` is out of range, `columns` is empty or names one that is in neither table.

    Source:
        `core.statistics` names the tests and who computes them.
    """
    if not 0 < alpha < 1 or not 0 <= min_change < 1:
        raise ConfigError(f"alpha is between 0 and 1 and min_change from 0 to below 1, saw {alpha} and {min_change}")
    now, before = _by_name(current), _by_name(reference)
    names = _names(columns, [*before, *now])
    outcomes = {name: _compare_column(name, now.get(name, []), before.get(name, []), min_change) for name in names}
    changes = [change for outcome in outcomes.values() for change in outcome.changes]
    judged = _decide(changes, alpha)
    constant = [finding for change in judged for finding in _constant(change, now[change.column][0])]
    return Comparison(
        changes=tuple(judged),
        findings=(*(finding for outcome in outcomes.values() for finding in outcome.findings), *constant),
        kinds={name: outcome.kind for name, outcome in outcomes.items() if outcome.kind},
        rows=len(current),
        reference_rows=len(reference),
        tests=sum(change.judged for change in changes),
    )


def _names(wanted: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Return which columns to compare, each once."""
    if wanted is None:
        return list(dict.fromkeys(known))
    if isinstance(wanted, str) or not wanted:
        raise ConfigError(f"columns is a list of names, got {wanted!r}; leave it out to compare all")
    for name in wanted:
        if name not in known:
            raise unknown_name("column of the current or the reference table", name, known)
    return list(dict.fromkeys(wanted))


def _by_name(frame: pd.DataFrame) -> dict[str, list[pd.Series]]:
    """Return the columns by name as text; a name can stand over several columns."""
    found: dict[str, list[pd.Series]] = {}
    for place, label in enumerate(frame.columns):
        found.setdefault(str(label), []).append(frame.iloc[:, place])
    return found


def _compare_column(name: str, now: list[pd.Series], before: list[pd.Series], min_change: float) -> _Outcome:
    if len(now) > 1 or len(before) > 1:
        seen = f"{len(now)} columns now, {len(before)} in the reference"
        return _Outcome(findings=[Finding(name, "one column for one name", True, seen, "one on each side")])
    if not now or not before:
        return _Outcome(findings=[_absent(name, now, before)])
    column, base = read_column(now[0]), read_column(before[0])
    if column.kind != base.kind and "empty" not in (column.kind, base.kind):
        examples = tuple(dict.fromkeys(show(value) for value in column.values.iloc[:100]))[:MAX_EXAMPLES]
        return _Outcome(
            findings=[Finding(name, "type is unchanged", True, column.type_words, base.type_words, examples)]
        )
    outcome = _Outcome(kind=joint_kind(column, base))
    outcome.findings = list(_certain(name, column, base))
    if not any(finding.broken for finding in outcome.findings):
        outcome.changes = list(_tested(name, outcome.kind or "empty", column, base, min_change))
    return outcome


def _absent(name: str, now: list[pd.Series], before: list[pd.Series]) -> Finding:
    if not now:
        return Finding(
            name, "column is there", True, "missing", f"{read_column(before[0]).type_words}, as in the reference"
        )
    return Finding(
        name, "column is known", False, f"{read_column(now[0]).type_words}, not in the reference", "not there"
    )


def _certain(name: str, column: Column, base: Column) -> Iterator[Finding]:
    import numpy as np

    enough = column.rows >= statistics.MIN_ROWS
    chance = ((base.nulls + 1) / (base.rows + 2)) ** column.rows  # Laplace's estimate, all rows missing by chance
    if column.kind == "empty" and base.kind != "empty" and enough and chance < ALPHA / 10:
        share = 1 - base.nulls / base.rows
        yield Finding(
            name, "has values", True, "every value is missing", f"{statistics.percent(share)} of the reference has one"
        )
    if column.kind == base.kind == "numeric" and not np.isinf(base.values).any() and np.isinf(column.values).any():
        share = float(np.isinf(column.values).mean())
        yield Finding(
            name, "values are finite", False, f"{statistics.percent(share)} infinite", "none, as in the reference"
        )


def _tested(name: str, kind: ColumnKind, column: Column, base: Column, min_change: float) -> Iterator[Change]:
    """Ask every question that can be asked of a column, whether or not the answer is interesting: all are counted."""
    share = min_change / 2
    if min(column.rows, base.rows) >= statistics.MIN_ROWS and column.nulls + base.nulls:
        nulls = statistics.measure_share(
            count=column.nulls, rows=column.rows, reference_count=base.nulls, reference_rows=base.rows
        )
        yield Change(name, kind, "missing values", nulls, share)
    if kind in ("numeric", "datetime", "text"):
        yield from _tested_numbers(name, kind, column, base, min_change)
    elif kind != "empty":
        yield from _tested_categories(name, kind, column, base, min_change)
    elif min(column.rows, base.rows) < statistics.MIN_ROWS:
        nothing = statistics.measure_categories(current=column.counts(), reference=base.counts())
        yield Change(name, kind, "distribution", nothing, min_change)


def _tested_numbers(name: str, kind: ColumnKind, column: Column, base: Column, min_change: float) -> Iterator[Change]:
    import numpy as np

    sides = [side.lengths() if kind == "text" else side.values for side in (column, base)]
    now, before = (side.to_numpy(dtype="float64") for side in sides)
    measure = statistics.measure_numbers(current=now, reference=before)
    if kind == "datetime" and measure.p_value is not None:
        measure = replace(measure, words=_span_words(now, before))
    yield Change(name, kind, "length of text" if kind == "text" else "distribution", measure, min_change)
    if kind == "numeric" and measure.p_value is not None:
        outside = now[(now < before.min()) | (now > before.max())]
        unseen = statistics.measure_unseen(unseen=len(outside), rows=len(now), reference_rows=len(before), seen_once=1)
        words = f"{unseen.words} outside {before.min():.6g} to {before.max():.6g}"
        examples = tuple(f"{value:.6g}" for value in np.unique(outside)[[0, -1]]) if len(outside) else ()
        yield Change(
            name, kind, "values out of range", replace(unseen, words=words), min_change / 2,
            examples=tuple(dict.fromkeys(examples)),
        )  # fmt: skip


def _span_words(now: NDArray[Any], before: NDArray[Any]) -> str:
    import numpy as np

    def day(seconds: float) -> str:
        return str(np.datetime64(int(seconds), "s")).replace("T00:00:00", "")

    days = (now.mean() - before.mean()) / 86_400
    return f"{day(before.min())} to {day(before.max())} → {day(now.min())} to {day(now.max())} (mean {days:+.4g} days)"


def _tested_categories(
    name: str, kind: ColumnKind, column: Column, base: Column, min_change: float
) -> Iterator[Change]:
    now, before = column.counts(), base.counts()
    measure = statistics.measure_categories(current=now, reference=before)
    yield Change(name, kind, "distribution", measure, min_change)
    if kind == "categorical" and measure.p_value is not None:
        new = now[~now.index.isin(before.index)]
        unseen = statistics.measure_unseen(
            unseen=int(new.sum()),
            rows=int(now.sum()),
            reference_rows=int(before.sum()),
            seen_once=int((before == 1).sum()),
        )
        words = f"{len(new):,} new, in {unseen.words}"
        examples = tuple(show(value) for value in new.index[:MAX_EXAMPLES])
        yield Change(
            name, kind, "values not seen before", replace(unseen, words=words), min_change / 2, examples=examples
        )


def _decide(changes: list[Change], alpha: float) -> list[Change]:
    """Correct for all tests together, then say of each change whether it counts."""
    raw = [change.measure.p_value for change in changes]
    corrected = iter(statistics.correct([value for value in raw if value is not None]))
    decided = []
    for change in changes:
        p_value = next(corrected) if change.judged else None
        drifted = p_value is not None and p_value < alpha and change.measure.size >= change.minimum
        decided.append(replace(change, corrected_p=p_value, drifted=drifted))
    return decided


def _constant(change: Change, cells: pd.Series) -> Iterator[Finding]:
    """Say that a column that drifted has one value left; a rare second value missing by chance has not drifted."""
    if change.drifted and change.aspect == "distribution" and len(left := read_column(cells).values.unique()) == 1:
        yield Finding(change.column, "has more than one value", False, "constant now", "several", (show(left[0]),))
