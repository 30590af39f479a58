"""Compare a table with its reference: schema, missing values and distributions, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prefect_mlops.core.drift import statistical_tests, thresholds
from prefect_mlops.core.drift.column_drift import Change, Finding, compare_column, constant
from prefect_mlops.core.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from prefect_mlops.core.drift.table_profile import TableProfile
    from prefect_mlops.core.tables.columns import ColumnKind

ALPHA = thresholds.REPORT_ALPHA


@dataclass(frozen=True)
class TableDrift:
    """The result of comparing two tables.

    Attributes:
        changes: every tested aspect, in order of the columns.
        findings: what needs no test, in order of the columns.
        kinds: what each comparable column holds.
        rows: rows of the current table.
        reference_rows: rows of the reference.
        tests: number of tests the p-values were corrected for.
        alpha: level of the corrected p-values.
        error: bound on the error of any size, from summarising long columns; 0 where every value was kept.
        remarks: sentences on what could not be compared.
    """

    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    kinds: dict[str, ColumnKind]
    rows: int
    reference_rows: int
    tests: int
    alpha: float = ALPHA
    error: float = 0.0
    remarks: tuple[str, ...] = ()

    @property
    def judged_columns(self) -> tuple[str, ...]:
        """Columns that were judged at least once."""
        return tuple(dict.fromkeys(change.column for change in self.changes if change.judged))

    @property
    def drifted_columns(self) -> tuple[str, ...]:
        """Those of the judged columns that drifted in any aspect."""
        drifted = {change.column for change in self.changes if change.drifted}
        return tuple(column for column in self.judged_columns if column in drifted)


def compare_profiles(
    *,
    current: TableProfile,
    reference: TableProfile,
    columns: Sequence[str] | None = None,
    alpha: float = ALPHA,
    min_change: float = thresholds.MIN_CHANGE,
    usual: Mapping[tuple[str, str], float] | None = None,
) -> TableDrift:
    """Compare a table with its reference.

    A column drifted when a change is larger than `min_change` *and* its p-value, corrected for all tests of all
    columns, is below `alpha`. When nothing changed, at most a share `alpha` of all comparisons names any column.

    The tests assume independent rows. Where many rows repeat one measurement, such as the weather of an hour on every
    flight of it, there are effectively fewer rows; the block baseline `usual` then raises the minimum.

    Args:
        current: profile of the table.
        reference: what it is compared with, mostly the training rows.
        columns: names to compare; None compares all of both tables.
        alpha: level of the corrected p-value, between 0 and 1.
        min_change: smallest distance of two distributions that matters, from 0 to 1; shares of missing, unseen and
            out-of-range rows, which are lost to a model rather than moved, matter from half of it.
        usual: minimum by column and aspect, from `core.drift.block_baseline`.

    Returns:
        Every test and every finding; damaged tables give findings, not errors.

    Raises:
        ConfigError: `alpha` or `min_change` is out of range, `columns` is empty or names one that is in neither table.

    Source:
        `core.drift.statistical_tests` names the tests and who computes them.
    """
    if not 0 < alpha < 1 or not 0 <= min_change < 1:
        raise ConfigError(f"alpha is between 0 and 1 and min_change from 0 to below 1, saw {alpha} and {min_change}")
    names = _names(columns, [*reference.columns, *reference.repeated, *current.columns, *current.repeated])
    outcomes = {name: compare_column(name, current, reference, min_change) for name in names}
    usual = usual or {}
    changes = [
        replace(change, minimum=max(change.minimum, usual.get((change.column, change.aspect), 0.0)))
        for outcome in outcomes.values()
        for change in outcome.changes
    ]
    judged = _decide(changes, alpha)
    constant_columns = [finding for change in judged for finding in constant(change, current.columns[change.column])]
    return TableDrift(
        changes=tuple(judged),
        findings=(*(finding for outcome in outcomes.values() for finding in outcome.findings), *constant_columns),
        kinds={name: outcome.kind for name, outcome in outcomes.items() if outcome.kind},
        rows=current.rows,
        reference_rows=reference.rows,
        tests=sum(change.judged for change in changes),
        alpha=alpha,
        error=current.error + reference.error,
        remarks=tuple(outcome.remark for outcome in outcomes.values() if outcome.remark),
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


def _decide(changes: list[Change], alpha: float) -> list[Change]:
    """Correct the p-values for all tests together, then decide which columns drifted."""
    raw = [change.measure.p_value for change in changes]
    corrected = iter(statistical_tests.correct([value for value in raw if value is not None]))
    decided = []
    for change in changes:
        p_value = next(corrected) if change.judged else None
        drifted = p_value is not None and p_value < alpha and change.measure.size >= change.minimum
        decided.append(replace(change, corrected_p=p_value, drifted=drifted))
    return decided
