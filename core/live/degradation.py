"""Degradation: each window of a live model against the baseline, corrected for a year of tests.

Daily tests give a false alarm sooner or later. So the chance of one is split over all windows of a year, however many
windows are given: the result for a window does not change with time.

Source:
    Bonferroni's correction: it holds although all windows are compared with one baseline. Non-inferiority by the bound
    of an interval: Schuirmann 1987.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.evaluation.estimates import ScoreEstimate
from prefect_mlops.core.evaluation.intervals import SHOWN, Estimate, alone, gap
from prefect_mlops.core.live.stored_predictions import IN_UNITS
from prefect_mlops.core.reports import Check
from prefect_mlops.core.specs.policies import Degradation
from prefect_mlops.core.values import Evaluation

if TYPE_CHECKING:
    from prefect_mlops.core.live.windows import Course, Window

MAY_LOSE = 0.02  # non-inferiority margin where none is given, of scores without a unit
BASELINE_WINDOWS: int = Degradation.model_fields["baseline"].default
LOOKS = 2  # tests of a window while its last labels arrive: so correlated that they count as two
_YEAR = timedelta(days=365)

Baseline = Evaluation | int
Margins = float | Mapping[str, float] | None


@dataclass(frozen=True)
class _WindowTests:
    """The windows of one metric, compared with its baseline.

    Attributes:
        metric: scikit-learn scorer name.
        course: the windows.
        margin: smallest loss that matters.
        each: one-sided confidence of each bound.
        score: of the baseline; NaN where there is none yet.
        baseline: number of first windows it consists of; 0 where it was measured elsewhere.
        start: numbers of these windows.
        losses: baseline minus score of each later window, by number.
    """

    metric: str
    course: Course
    margin: float
    each: float
    score: float
    baseline: int
    start: tuple[int, ...]
    losses: dict[int, Estimate]

    def degraded(self, number: int) -> bool:
        return self.losses[number].lower(self.each) > self.margin


def judge_decay(
    course: Course, *, baseline: Baseline = BASELINE_WINDOWS, may_lose: Margins = None, confidence: float = 0.95
) -> list[Check]:
    """Compare each judged window with the baseline; the newest decides.

    A window has degraded when the lower bound of its loss is above `may_lose`, at a confidence shared by all metrics
    and all windows of a year, each counted `LOOKS` times. Where no score degrades beyond `may_lose`, the chance of any
    false alarm within a year of daily tests is at most ``1 - confidence``. An earlier window that degraded is a warning
    only.

    Args:
        course: the windows, as `core.live.windows.follow` measured them.
        baseline: scores of training or promotion, or the number of first judged windows to compare with.
        may_lose: smallest loss that matters, for all metrics or by metric, in units of the score; None is `MAY_LOSE`.
        confidence: that a year without degradation is a year without an alarm.

    Returns:
        One deciding check for each metric, then one for each window and metric.

    Raises:
        ConfigError: a baseline without the metric, or a number out of range.
    """
    metrics = tuple(course.measured)
    if not 0.5 < confidence < 1:  # noqa: PLR2004 - as for a gate
        raise ConfigError(f"confidence is between 0.5 and 1, got {confidence}")
    margins = _margins(metrics, may_lose)
    each = 1 - (1 - confidence) / monitoring_runs_a_year(course)
    tests_by_metric = [_test_windows(course, metric, baseline, margins[metric], each) for metric in metrics]
    return [
        *(_decision(tests) for tests in tests_by_metric),
        *(check for tests in tests_by_metric for check in _each_window(tests)),
    ]


def monitoring_runs_a_year(course: Course) -> int:
    """Count the tests of a year over all metrics, by the length of the windows there are."""
    lengths = sorted(window.end - window.start for window in course.windows)
    windows = math.ceil(_YEAR / lengths[len(lengths) // 2]) if lengths else 1
    return LOOKS * max(windows, 1) * len(course.measured)


def _margins(metrics: tuple[str, ...], may_lose: Margins) -> dict[str, float]:
    given = dict(may_lose) if isinstance(may_lose, Mapping) else {}
    for metric in given:
        if metric not in metrics:
            raise unknown_name("metric of may_lose", metric, metrics)
    found = {}
    for metric in metrics:
        margin = given.get(metric) if isinstance(may_lose, Mapping) else may_lose
        if margin is None and metric in IN_UNITS:
            raise ConfigError(f"{metric} is in units of the target: say in may_lose which loss matters")
        found[metric] = MAY_LOSE if margin is None else margin
        if isinstance(margin, bool) or not isinstance(found[metric], int | float) or not 0 <= found[metric] < math.inf:
            raise ConfigError(f"may_lose of {metric} is a number from 0 on, got {margin!r:.80}")
    return found


def _test_windows(course: Course, metric: str, baseline: Baseline, margin: float, each: float) -> _WindowTests:
    measured = course.measured[metric]
    judged = [number for number, found in enumerate(measured) if found is not None]
    before: Estimate | ScoreEstimate | None
    start: tuple[int, ...]
    if isinstance(baseline, Evaluation):
        start, before = (), _known(baseline, metric)
    else:
        if isinstance(baseline, bool) or not isinstance(baseline, int) or baseline < 1:
            raise ConfigError(f"baseline is an Evaluation or a number of windows from 1 on, got {baseline!r:.80}")
        start = tuple(judged[:baseline])
        before = course.pooled(metric, start) if len(start) == baseline else None
    losses = {}
    for number in judged[len(start) :]:
        window = measured[number]
        loss = loss_of(before, window) if before is not None and window is not None else None
        if loss is not None and not loss.problem:
            losses[number] = loss
    score = math.nan if before is None else before.score if isinstance(before, ScoreEstimate) else before.value
    wanted = 0 if isinstance(baseline, Evaluation) else baseline
    return _WindowTests(metric, course, margin, each, score, wanted, start, losses)


def _known(baseline: Evaluation, metric: str) -> Estimate:
    """Read a score that was measured elsewhere; without an interval it is taken as exact."""
    from scipy import special

    if metric not in baseline.metrics:
        raise unknown_name("metric of the baseline", metric, baseline.metrics)
    score, interval = baseline.metrics[metric], baseline.intervals.get(metric)
    error = max(score - interval[0], 0.0) / float(special.ndtri((1 + SHOWN) / 2)) if interval else 0.0
    return Estimate(score, error, math.inf, baseline.rows, baseline.rows, "known")


def loss_of(before: Estimate | ScoreEstimate, window: ScoreEstimate) -> Estimate:
    """Estimate how far a window is below the baseline.

    A small window has few blocks, so its variance is uncertain, which matters in the tail: Student's t takes no more
    degrees of freedom than the window has alone.
    """
    now = alone(window)
    few = min(now.freedom, max(now.units - 1, 1))
    if isinstance(before, ScoreEstimate):
        loss = gap(before, window)
        return replace(loss, freedom=min(loss.freedom, few))
    error = math.sqrt(before.error**2 + now.error**2)
    return replace(now, value=before.value - now.value, error=error, freedom=few, share=False)


def _decision(tests: _WindowTests) -> Check:
    """Decide by the newest judged window; without one the check is a failed warning."""
    name, expected = "score has not decayed", f"a lower bound of the loss of at most {tests.margin:g}"
    windows = tests.course.windows
    if not tests.losses:
        seen = f"too little to judge: {_why_none(tests)}"
        return Check(
            id="degradation",
            name=name,
            passed=False,
            severity="warning",
            subject=tests.metric,
            observed=seen,
            expected=expected,
        )
    newest = max(tests.losses)
    loss, window = tests.losses[newest], windows[newest]
    seen = f"{window.scores[tests.metric]:.4g} in {window.name}, baseline {tests.score:.4g}, loss {loss.value:+.4g}"
    seen += f" (lower bound {loss.lower(tests.each):+.4g}, {loss.units:,} blocks)"
    later = len(windows) - 1 - newest
    seen += f"; {later} later {'window is' if later == 1 else 'windows are'} not judged yet" if later else ""
    return Check(
        id="degradation",
        name=name,
        passed=not tests.degraded(newest),
        subject=tests.metric,
        observed=seen,
        expected=expected,
        value=loss.lower(tests.each),
        threshold=tests.margin,
    )


def _why_none(tests: _WindowTests) -> str:
    windows = tests.course.windows
    if not windows:
        return "no predictions"
    if not any(window.labelled for window in windows):
        return f"none of {sum(window.rows for window in windows):,} predictions is labelled"
    judged = sum(found is not None for found in tests.course.measured[tests.metric])
    counted = f"{judged} of {len(windows)} windows can be judged"
    return f"{counted}, the first {tests.baseline} are the baseline" if tests.baseline else counted


def _each_window(tests: _WindowTests) -> Iterator[Check]:
    for number, window in enumerate(tests.course.windows):
        tested = number in tests.losses
        yield Check(
            id="window-score",
            name="score of a window",
            passed=not (tested and tests.degraded(number)),
            severity="warning",
            subject=window.name,
            observed=_seen(tests, number, window),
            expected=f"a lower bound of the loss of at most {tests.margin:g}" if tested else "",
        )


def _seen(tests: _WindowTests, number: int, window: Window) -> str:
    metric = tests.metric
    labelled = f"{window.labelled:,} of {window.rows:,} labelled"
    if metric in window.problems:
        return f"{metric}, {labelled}: too little to judge, {window.problems[metric]}"
    interval = window.intervals.get(metric)
    bounds = f" ({interval[0]:.4g} to {interval[1]:.4g})" if interval else ""
    seen = f"{metric} {window.scores[metric]:.4g}{bounds}, {labelled}"
    if not window.over:
        return f"{seen}; not over yet"
    return f"{seen}; part of the baseline" if number in tests.start else seen
