"""Slices: whether the challenger is worse than the champion in a group of rows, and the gaps between groups.

Any of these checks refuses, so an equal challenger would fail by chance as soon as the groups are many. All groups of
all slices and all pairs of groups of one report are one family, and each bound is taken at a confidence that keeps
the chance of any false refusal at that of one.

Source:
    Bonferroni's correction: it holds whatever the groups have in common.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.evaluation.gates import Comparison, counted, seen_both
from prefect_mlops.core.evaluation.intervals import Estimate, difference, gap
from prefect_mlops.core.evaluation.resampling_units import codes_of, column_of
from prefect_mlops.core.reports import Check
from prefect_mlops.core.text import show

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prefect_mlops.core.evaluation.estimates import ScoreEstimate
    from prefect_mlops.core.values import Gate

MIN_ROWS = 50  # of a group; with fewer, a corrected bound decides nothing
MIN_OF_CLASS = 5  # rows of either class of a binary target, for the same reason
MAX_GROUPS = 100  # of a column; more are numbers or identifiers, not groups
MAX_GROUPS_SHOWN = 10  # of a slice in the report; the rest is counted
_BINARY = 2


@dataclass(frozen=True)
class _Group:
    """One group of one slice: its score estimates, or why there are none."""

    label: str
    rows: int
    challenger: ScoreEstimate | None = None
    champion: ScoreEstimate | None = None
    problem: str = ""

    @functools.cached_property
    def apart(self) -> Estimate | None:
        if self.challenger is None or self.champion is None:
            return None
        found = difference(self.challenger, self.champion)
        return None if found.problem else found


@dataclass(frozen=True)
class _Level:
    """The confidence of one of many bounds, so that all of them together have the confidence of the gate."""

    confidence: float
    asked: int

    @property
    def each(self) -> float:
        return 1 - (1 - self.confidence) / max(self.asked, 1)

    @property
    def words(self) -> str:
        of_all = f" for all {self.asked:,} comparisons" if self.asked > 1 else ""
        return f"{100 * self.confidence:g} %{of_all}"


@dataclass(frozen=True)
class _Slice:
    """The groups of one column, by the metric of one gate."""

    gate: Gate
    column: str
    groups: list[_Group]

    @property
    def judged(self) -> list[_Group]:
        return [group for group in self.groups if group.apart is not None]

    @property
    def pairs(self) -> list[tuple[_Group, _Group, Estimate]]:
        if self.gate.max_gap is None:
            return []
        found = []
        for one, two in itertools.combinations([group for group in self.groups if group.challenger], 2):
            high, low = sorted((one, two), key=lambda group: -group.challenger.score)  # type: ignore[union-attr]
            estimate = gap(high.challenger, low.challenger)  # type: ignore[arg-type]
            if not estimate.problem:
                found.append((high, low, estimate))
        return found


def judge_slices(comparison: Comparison, gates: Sequence[Gate]) -> list[Check]:
    """Check for groups the challenger is clearly worse for, and for gaps between groups.

    Args:
        comparison: the models and the test set.
        gates: those without slices are ignored.

    Returns:
        Checks of groups, failures first and the rest counted, and one check of the gaps of each slice.

    Raises:
        ConfigError: a slice names no column, or one with more than `MAX_GROUPS` values.
    """
    columns = {name: _places(comparison, name) for gate in gates for name in gate.slices}
    found = [_measured(comparison, gate, name, columns[name]) for gate in gates for name in gate.slices]
    pairs = [one.pairs for one in found]
    asked = sum(len(one.judged) for one in found) + 2 * sum(map(len, pairs))  # a gap may go either way
    checks: list[Check] = []
    for one, gaps in zip(found, pairs, strict=True):
        level = _Level(one.gate.confidence, asked)
        if comparison.champion is not None:
            checks += _compared(one, level)
        if one.gate.max_gap is not None:
            checks.append(_gap_check(one, gaps, level))
    return checks


def _places(comparison: Comparison, name: str) -> dict[str, NDArray[Any]]:
    """Return the numbers of the rows of each group, by its label; missing values are a group of their own."""
    import numpy as np

    codes, values = codes_of(column_of(comparison.table, name, "slices"), name)
    if len(values) > MAX_GROUPS:
        raise ConfigError(
            f"slices: column {name!r} has {len(values):,} values in the test rows, at most {MAX_GROUPS} can be "
            "compared: put them into a few groups in prepare, e.g. with pandas.cut, and name that column"
        )
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=len(values)))[:-1])
    labels = ["missing" if value is None else show(value) for value in values]
    return {
        label if labels.count(label) == 1 else f"{label} ({code})": part
        for code, (label, part) in enumerate(zip(labels, parts, strict=True))
    }


def _measured(comparison: Comparison, gate: Gate, column: str, places: dict[str, NDArray[Any]]) -> _Slice:
    classes = comparison.rows.y.nunique()
    groups = []
    for label, chosen in places.items():
        problem = _too_few(comparison, chosen, classes=classes)
        challenger, champion = None, None
        if not problem:
            try:
                challenger, champion = comparison.measure(gate, chosen)
            except (ConfigError, DataCheckError):  # it is defined on all rows, so this group lacks a class
                problem = f"{gate.metric} is not defined on its rows"
        groups.append(_Group(label, len(chosen), challenger, champion, problem))
    return _Slice(gate, column, groups)


def _too_few(comparison: Comparison, chosen: NDArray[Any], *, classes: int) -> str:
    if len(chosen) < MIN_ROWS:
        return "too few rows to judge"
    counts = comparison.rows.y.iloc[chosen].value_counts()
    if classes == _BINARY and (len(counts) < _BINARY or counts.min() < MIN_OF_CLASS):
        return "too few rows of one class to judge"
    return ""


def _compared(one: _Slice, level: _Level) -> list[Check]:
    """Check each group; show failures first, then the smallest differences."""
    margin = one.gate.may_lose or 0.0
    judged = sorted(((group, group.apart) for group in one.judged), key=lambda pair: pair[1].value if pair[1] else 0.0)
    checks = [_group_check(one, group, apart, margin=margin, level=level) for group, apart in judged if apart]
    checks.sort(key=lambda check: check.passed)
    small = [_small_check(one, group) for group in one.groups if group.apart is None]
    shown, rest = [*checks, *small][:MAX_GROUPS_SHOWN], [*checks, *small][MAX_GROUPS_SHOWN:]
    if not rest:
        return shown
    failed = sum(not check.passed for check in rest)
    few = min(len(small), len(rest))
    seen = f"{len(rest)} groups, {failed} clearly worse" + (f", {few} with too few rows to judge" if few else "")
    return [
        *shown,
        Check(
            id="other-groups-non-inferiority",
            name="not worse for the other groups",
            passed=failed == 0,
            subject=f"{one.gate.metric} by {one.column}",
            observed=seen,
            expected="none clearly worse",
        ),
    ]


def _group_check(one: _Slice, group: _Group, apart: Estimate, *, margin: float, level: _Level) -> Check:
    """Refuse where even the upper bound lies below minus the margin."""
    upper = apart.upper(level.each)
    seen = seen_both(group.challenger.score, group.champion.score) if group.challenger and group.champion else ""
    if apart.none:
        seen += f", none ({counted(apart)})"
    else:
        seen += f" ({level.words} up to {upper:+.4f}, {counted(apart)}, {apart.method})"
    return Check(
        id="group-non-inferiority",
        name="not worse for this group",
        passed=not upper < -margin,
        subject=f"{one.gate.metric} for {one.column} = {group.label}",
        observed=seen,
        expected=f"an upper bound of at least {-margin if margin else 0:g}",
        value=upper,
        threshold=-margin,
    )


def _small_check(one: _Slice, group: _Group) -> Check:
    return Check(
        id="group-non-inferiority",
        name="not worse for this group",
        passed=True,
        subject=f"{one.gate.metric} for {one.column} = {group.label}",
        observed=f"{group.problem or 'too few independent rows to judge'} ({group.rows:,})",
    )


def _gap_check(one: _Slice, pairs: list[tuple[_Group, _Group, Estimate]], level: _Level) -> Check:
    """Refuse where the lower bound of a gap is above the allowed one; name the largest of those gaps."""
    allowed = one.gate.max_gap or 0.0
    subject, name = f"{one.gate.metric} by {one.column}", "gap between groups"
    expected = f"a lower bound of at most {allowed:g}"
    if not pairs:
        seen = f"too few rows to judge: {len(one.groups)} groups, no two of them large enough"
        return Check(id="group-gap", name=name, passed=True, subject=subject, observed=seen, expected=expected)
    bounds = [(estimate.lower(level.each), high, low, estimate) for high, low, estimate in pairs]
    bound, high, low, estimate = max(bounds, key=lambda pair: (pair[0] > allowed, pair[3].value))
    scores = [f"{group.label} {group.challenger.score:.4f}" for group in (high, low) if group.challenger]
    seen = f"{' and '.join(scores)}, gap {estimate.value:.4f}"
    seen += f" ({level.words} from {bound:.4f}, {counted(estimate)})"
    return Check(
        id="group-gap",
        name=name,
        passed=not bound > allowed,
        subject=subject,
        observed=seen,
        expected=expected,
        value=bound,
        threshold=allowed,
    )
