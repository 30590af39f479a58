"""The drift report: which changes affect the model, and whether they exceed the threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prefect_mlops.core.drift.statistical_tests import smallest_visible
from prefect_mlops.core.drift.thresholds import MIN_ROWS, SHARE_FACTOR
from prefect_mlops.core.drift.training_profile import PREDICTION
from prefect_mlops.core.reports import MAX_EXAMPLES, Check, Report

if TYPE_CHECKING:
    from prefect_mlops.core.drift.column_drift import Change
    from prefect_mlops.core.drift.domain_classifier import DomainClassifier
    from prefect_mlops.core.drift.table_drift import TableDrift

SHARE = "share of drifted columns"
WEIGHT = "weight of drifted columns"
PREDICTS = "the model predicts these rows"
SEPARATION = "told apart by a classifier"
_DISTANCES = {"distribution", "length of text", "vocabulary", "hour of the day", "day of the week"}


@dataclass(frozen=True)
class Judge:
    """Turns a comparison of tables into a report.

    Attributes:
        max_drifted_share: largest share of drifted columns, or of their weight, that passes.
        min_change: smallest change that matters.
        weights: share of each feature in the model's importance; empty where unknown, then all weigh the same.
        target: name of the column the model predicts; empty where it was not compared.
        unpredictable: why the model could not predict the rows; empty where it could, or was not used.
        separation: result of the domain classifier; None where it was not used.
        usual_auc: its block baseline.
    """

    max_drifted_share: float
    min_change: float
    weights: Mapping[str, float] = field(default_factory=dict)
    target: str = ""
    unpredictable: str = ""
    separation: DomainClassifier | None = None
    usual_auc: float = 0.5

    def report(self, found: TableDrift, subject: str) -> Report:
        """Report a comparison."""
        return Report(
            kind="drift",
            subject=subject,
            checks=tuple(self._checks(found)),
            rows=found.rows,
            notes=tuple(self._notes(found)),
        )

    def drifted_share(self, found: TableDrift) -> float | None:
        """Return the share of drifted columns, or of their weight; None where no column was judged."""
        weighed = {name: self._weight(name) for name in found.judged_columns if not self._is_output(name)}
        total = sum(weighed.values())
        return sum(weighed.get(name, 0.0) for name in found.drifted_columns) / total if total else None

    def _is_output(self, column: str) -> bool:
        """Check whether a column is the prediction or the target, not a feature."""
        return column in (PREDICTION, self.target)

    def _weight(self, column: str) -> float:
        return self.weights.get(column, 0.0) if self.weights else 1.0

    def _checks(self, found: TableDrift) -> Iterator[Check]:
        yield self._decision(found)
        if self.unpredictable:
            yield Check(
                id="predictable",
                name=PREDICTS,
                passed=False,
                observed=self.unpredictable,
                expected="a prediction for each",
            )
        for finding in found.findings:
            yield Check(
                name=finding.what,
                passed=False,
                severity="error" if finding.broken else "warning",
                subject=finding.column,
                observed=finding.observed,
                expected=finding.expected,
                examples=finding.examples,
            )
        if self.separation is not None:
            yield self._domain_check(self.separation)
        for change in sorted(found.changes, key=lambda change: not self._is_output(change.column)):
            if not change.judged and found.judged_columns:
                continue  # listed in a note
            if change.measure.size > 0 or change.aspect in (*_DISTANCES, "missing values"):
                yield self._column(change, found.alpha)

    def _decision(self, found: TableDrift) -> Check:
        """Make the check that decides about the columns; a failed warning where no column was judged."""
        share = self.drifted_share(found)
        expected = f"at most {self.max_drifted_share:.0%}"
        name = WEIGHT if self.weights else SHARE
        if share is None:
            seen = f"nothing could be judged: {found.rows:,} rows now, {found.reference_rows:,} in the reference"
            return Check(
                id="drifted-share", name=name, passed=False, severity="warning", observed=seen, expected=expected
            )
        judged = [column for column in found.judged_columns if not self._is_output(column)]
        drifted = [column for column in found.drifted_columns if not self._is_output(column)]
        counted = f"{len(drifted)} of {len(judged)}"
        return Check(
            id="drifted-share",
            name=name,
            passed=share <= self.max_drifted_share,
            observed=f"{share:.0%} ({counted}{' columns' if self.weights else ''})",
            expected=expected,
            examples=tuple(sorted(drifted, key=self._weight, reverse=True)[:MAX_EXAMPLES]),
            value=share,
            threshold=self.max_drifted_share,
        )

    def _column(self, change: Change, alpha: float) -> Check:
        is_distance = change.aspect in _DISTANCES
        lost = change.judged and self._too_many_lost(change)
        decides = lost or (change.judged and is_distance and self._is_output(change.column))
        raised = change.minimum > self.min_change * (1 if is_distance else SHARE_FACTOR)
        minimum = f"{change.minimum:.2g}{' (usual in the reference)' if raised else ''}"
        limit = f"{'distance' if is_distance else 'change'} below {minimum}, or p at least {alpha:.2g}"
        if lost:
            limit = f"at most {self.max_drifted_share:.0%} of the rows, as the model has learned nothing about them"
        return Check(
            name=change.aspect,
            passed=change.judged and not change.drifted,
            severity="error" if decides else "warning",
            subject=change.column,
            observed=_observed(change, is_distance=is_distance) + self._importance(change),
            expected=limit if change.judged else "enough rows",
            examples=change.examples,
            value=change.measure.size if change.judged else None,
            threshold=change.minimum if change.judged else None,
        )

    def _too_many_lost(self, change: Change) -> bool:
        """Check whether too many rows have values the model has not learned; the importance does not count then."""
        used = not self._is_output(change.column) and self._weight(change.column) > 0
        return change.lost and used and change.measure.size > self.max_drifted_share

    def _importance(self, change: Change) -> str:
        if not self.weights or not change.drifted or self._is_output(change.column):
            return ""
        weight = self._weight(change.column)
        return f"; {weight:.0%} of the model's importance" if weight else "; the model does not use it"

    def _domain_check(self, result: DomainClassifier) -> Check:
        # The AUC of a perfect classifier when a share `min_change` of the rows moved, or the block baseline.
        limit = max(0.5 + self.min_change / 2, self.usual_auc)
        return Check(
            id="domain-classifier",
            name=SEPARATION,
            passed=result.low <= limit,
            severity="warning",
            observed=f"AUC {result.auc:.3f} ({result.low:.3f} to {result.high:.3f}) on {result.rows:,} sampled rows",
            expected=f"lower bound at most {limit:.2f}",
            value=result.auc,
        )

    def _notes(self, found: TableDrift) -> Iterator[str]:
        if found.tests:
            seen = f"{found.rows:,} now, {found.reference_rows:,} in the reference"
            within = f", sizes within {found.error:.4f}" if found.error else ""
            yield f"Decided by prefect-mlops on all rows: {seen}{within}. p is corrected for {found.tests} tests."
            yield (
                "Tests: Kolmogorov-Smirnov for numbers and length of text; chi-squared or Fisher for categories, "
                "words, times and missing values; corrected after Benjamini and Hochberg."
            )
            visible = smallest_visible(
                rows=found.rows, reference_rows=found.reference_rows, tests=found.tests, alpha=found.alpha
            )
            if visible > self.min_change:
                yield f"With so few rows a distance below about {visible:.2f} may be chance."
        yield from found.remarks
        few = dict.fromkeys(change.column for change in found.changes if not change.judged)
        if few and found.judged_columns:
            named = ", ".join(list(few)[:MAX_EXAMPLES]) + (", …" if len(few) > MAX_EXAMPLES else "")
            yield f"Too few values to judge (below {MIN_ROWS} on a side): {len(few)} columns: {named}."


def sizes_of(report: Report) -> dict[str, float]:
    """Return the largest change of each column that was judged, from a drift report."""
    sizes: dict[str, float] = {}
    for check in report.checks:
        if check.subject and check.value is not None:
            sizes[check.subject] = max(check.value, sizes.get(check.subject, 0.0))
    return sizes


def drifted_columns(report: Report) -> tuple[str, ...]:
    """Return the columns that a drift report found to have drifted or broken."""
    return tuple(dict.fromkeys(check.subject for check in report.failures if check.subject and _decided(check)))


def _decided(check: Check) -> bool:
    return check.value is not None or check.severity == "error"


def _observed(change: Change, *, is_distance: bool) -> str:
    measure = change.measure
    if change.corrected_p is None:
        return measure.words
    chance = "p < 0.001" if change.corrected_p < 0.001 else f"p = {change.corrected_p:.3f}"  # noqa: PLR2004
    if not is_distance:
        return f"{measure.words} ({chance})"
    return f"{measure.statistic} {measure.size:.3f} ({chance}){'; ' * bool(measure.words)}{measure.words}"
