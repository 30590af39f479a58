"""The score of a live model over time, and whether it has degraded.

A window is a stretch of time; its rows are those scored in it. Rows close in time depend on each other, so intervals
rest on blocks within the window (`core.evaluation.resampling_units`), and a difference of two windows on the
blocks of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pydantic import Field

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.evaluation.intervals import alone, shown
from prefect_mlops.core.evaluation.resampling_units import MIN_BLOCKS, ResamplingUnits, resampling_units
from prefect_mlops.core.live.stored_predictions import (
    StoredPredictions,
    positive_note,
    read_stored,
    require_working,
)
from prefect_mlops.core.specs.policies import Degradation
from prefect_mlops.core.values import Value

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.evaluation.estimates import ScoreEstimate
    from prefect_mlops.core.live.labels import GroundTruth

MIN_ROWS = 50  # labelled rows of a window; with fewer, an interval decides nothing
ENOUGH_ROWS = 1000  # labelled rows of the median window, where the length of windows is chosen here
# Early labels are seldom a random sample: failures are often known first.
MIN_LABELLED: float = Degradation.model_fields["min_labelled"].default
MAX_WINDOWS = 1000  # more mean a wrong length
_CHOICES = ("D", "W-MON", "MS")
_STARTS = {"day": "D", "week": "W-MON", "W": "W-MON", "W-SUN": "W-MON", "month": "MS", "M": "MS", "ME": "MS"}
_STARTS |= {"Q": "QS", "QE": "QS", "Y": "YS", "YE": "YS"}  # a window is named by its first day, so it begins there


class Window(Value):
    """A stretch of time and the scores of what was predicted in it.

    Attributes:
        start: first moment, in UTC.
        end: first moment after it, in UTC.
        rows: predictions made in it.
        labelled: how many of them have a label.
        over: it has ended; one that has not is shown and not judged.
        scores: value by scorer name, larger is better; without those that cannot be computed.
        intervals: two-sided 95 % interval by scorer name; without those that could not be computed.
        problems: why it is not judged, by scorer name.
    """

    start: datetime
    end: datetime
    rows: int = Field(ge=0)
    labelled: int = Field(ge=0)
    over: bool = True
    scores: dict[str, float] = Field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    problems: dict[str, str] = Field(default_factory=dict)

    @property
    def share_labelled(self) -> float:
        """The share of its predictions whose label is known."""
        return self.labelled / self.rows if self.rows else 0.0

    @property
    def name(self) -> str:
        """Its time as text: a day, or the first and the last day."""
        if self.start.hour or self.start.minute or (self.end - self.start).days < 1:
            return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M}"
        last = datetime.fromtimestamp(self.end.timestamp() - 1, tz=self.end.tzinfo)
        return f"{self.start:%Y-%m-%d}" + (f" to {last:%Y-%m-%d}" if last.date() != self.start.date() else "")


@dataclass(frozen=True)
class Course:
    """The windows of a model, and what is needed to compare them.

    Attributes:
        windows: in order of time; stretches without predictions are left out.
        measured: score and spread of each window by metric, None where it is not judged.
        stored_predictions: with their labels, by metric; without metrics that cannot be computed.
        places: numbers of the labelled rows of each window.
        units: the resampling unit of each labelled row.
        notes: how windows and rows were read.
    """

    windows: tuple[Window, ...]
    measured: dict[str, tuple[ScoreEstimate | None, ...]]
    stored_predictions: dict[str, StoredPredictions]
    places: tuple[NDArray[Any], ...]
    units: ResamplingUnits
    notes: tuple[str, ...] = ()

    def pooled(self, metric: str, chosen: Sequence[int]) -> ScoreEstimate:
        """Measure some windows together."""
        import numpy as np

        return self.stored_predictions[metric].measure(
            self.units, np.concatenate([self.places[number] for number in chosen])
        )


def score_windows(
    ground_truth: GroundTruth,
    *,
    metrics: Sequence[str],
    every: str | None = None,
    min_labelled: float = MIN_LABELLED,
    positive: object = None,
    now: datetime | None = None,
) -> tuple[Window, ...]:
    """Score a model over time, from its stored predictions and their labels.

    Args:
        ground_truth: from `core.live.labels.match_labels`.
        metrics: scikit-learn scorer names, of those in `core.live.stored_predictions.WORKING`; larger is better.
        every: length of a window: ``"day"``, ``"week"``, ``"month"`` or a pandas offset alias such as ``"12h"``; None
            takes the shortest of day, week and month that has `ENOUGH_ROWS` labelled rows in the middle window.
        min_labelled: a window with a smaller share of labels is shown and not judged.
        positive: the positive class of a binary target; None takes the last in order.
        now: windows that end later are not over; None takes the clock's time.

    Returns:
        The windows that hold predictions, in order of time.

    Raises:
        ConfigError: a metric that cannot be computed from these predictions, an invalid length or share,
            or more than `MAX_WINDOWS` windows.

    Source: `core.evaluation.estimates` for scores, `core.evaluation.intervals` for their intervals.
    """
    return follow(
        ground_truth, metrics=metrics, every=every, min_labelled=min_labelled, positive=positive, now=now
    ).windows


def follow(
    ground_truth: GroundTruth,
    *,
    metrics: Sequence[str],
    every: str | None = None,
    min_labelled: float = MIN_LABELLED,
    positive: object = None,
    now: datetime | None = None,
) -> Course:
    """Score a model over time, and keep what comparing windows needs; see `score_windows`."""
    import numpy as np

    wanted = require_working(metrics)
    if not 0 < min_labelled <= 1:
        raise ConfigError(f"min_labelled is a share above 0 and up to 1, got {min_labelled}")
    rows, moment = ground_truth.rows, now or datetime.now().astimezone()
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    there = rows["label"].notna().to_numpy()
    cut = _cut(rows["at"], there, every)
    labelled = rows[there].reset_index(drop=True)
    of = cut.of[there]
    units, tied = _units(labelled, of)
    places = tuple(np.flatnonzero(of == number) for number in range(len(cut.spans)))
    stored = _stored_by_metric(wanted, labelled, positive)
    counts = np.bincount(cut.of, minlength=len(cut.spans))
    measured: dict[str, list[ScoreEstimate | None]] = {metric: [] for metric in wanted}
    windows = []
    for number, (start, end) in enumerate(cut.spans):
        window = Window(start=start, end=end, rows=counts[number], labelled=len(places[number]), over=end <= moment)
        scores = {}
        for metric in wanted:
            found = _measure(stored.get(metric), units, places[number], window, min_labelled)
            scores[metric] = found
            measured[metric].append(None if isinstance(found, str) or not window.over else found)
        windows.append(_filled(window, scores))
    assumed = positive_note(stored, labelled["label"]) if positive is None else ""
    notes = [*cut.notes, *tied, *(note for note in (*(found.note for found in stored.values()), assumed) if note)]
    kept = {metric: tuple(found) for metric, found in measured.items()}
    return Course(tuple(windows), kept, stored, places, units, tuple(notes))


def _stored_by_metric(metrics: Sequence[str], labelled: pd.DataFrame, positive: object) -> dict[str, StoredPredictions]:
    if not len(labelled):
        return {}
    found = {}
    for metric in metrics:
        predictions, labels = labelled["prediction"].infer_objects(), labelled["label"].infer_objects()
        stored = read_stored(metric, predictions, labels, positive=positive)
        if stored is not None:
            found[metric] = stored
    return found


def _measure(
    stored: StoredPredictions | None, units: ResamplingUnits, chosen: NDArray[Any], window: Window, min_labelled: float
) -> ScoreEstimate | str:
    """Measure a window, or return why it is not judged."""
    if window.share_labelled < min_labelled:
        return f"{min_labelled:.0%} labelled are needed"
    if len(chosen) < MIN_ROWS:
        return f"at least {MIN_ROWS} labelled rows are needed"
    if stored is None:
        return "all labels there are, are of one class: say which one is the positive one (positive=)"
    problem = stored.problem(chosen)
    if problem:
        return problem
    try:
        found = stored.measure(units, chosen)
    except DataCheckError as error:
        return str(error)
    return alone(found).problem or found


def _filled(window: Window, found: dict[str, ScoreEstimate | str]) -> Window:
    scores = {metric: one for metric, one in found.items() if not isinstance(one, str)}
    intervals = {metric: shown(one) for metric, one in scores.items()}
    return window.model_copy(
        update={
            "scores": {metric: one.score for metric, one in scores.items()},
            "intervals": {metric: interval for metric, interval in intervals.items() if interval is not None},
            "problems": {metric: one for metric, one in found.items() if isinstance(one, str)},
        }
    )


@dataclass(frozen=True)
class _Cut:
    """Windows as first moments and ends, the number of each row's window, and how the length was chosen."""

    spans: list[tuple[datetime, datetime]]
    of: NDArray[Any]
    notes: tuple[str, ...] = ()


def _cut(at: pd.Series, there: NDArray[Any], every: str | None) -> _Cut:
    """Cut time into windows, and leave out those without a row."""
    import numpy as np

    if every is not None or not len(at):
        return _cut_every(at, _CHOICES[0] if every is None else every)
    for choice in _CHOICES:
        cut = _cut_every(at, choice, most=None)
        counts = np.bincount(cut.of[there])
        counts = counts[counts > 0]
        if len(counts) and np.median(counts) >= ENOUGH_ROWS:
            break
    words = {"D": "day", "W-MON": "week", "MS": "month"}[choice]
    return _Cut(cut.spans, cut.of, (f"Windows of a {words}, chosen by the number of labelled rows.",))


def _cut_every(at: pd.Series, every: str, *, most: int | None = MAX_WINDOWS) -> _Cut:
    import numpy as np
    import pandas as pd

    offset = _offset(every)
    if not len(at):
        return _Cut([], np.zeros(0, dtype="int64"))
    try:
        begins = at.dt.floor(offset)
    except ValueError:  # months have no fixed length
        edges = pd.date_range(offset.rollback(at.min().normalize()), at.max() + 2 * offset, freq=offset)
        begins = pd.Series(edges[np.searchsorted(edges, at, side="right") - 1])
    used, of = np.unique(begins.dt.tz_localize(None).to_numpy(), return_inverse=True)
    if most is not None and len(used) > most:
        raise ConfigError(
            f"every={every!r} makes {len(used):,} windows, at most {most:,} can be read: take longer ones"
        )
    starts = pd.DatetimeIndex(used).tz_localize("UTC")
    spans = [(start.to_pydatetime(), (start + offset).to_pydatetime()) for start in starts]
    return _Cut(spans, of)


def _offset(every: str) -> Any:
    import pandas as pd

    wrong = f"every={every!r} is no length of a window: take 'day', 'week', 'month' or a pandas alias such as '12h'"
    try:
        offset = pd.tseries.frequencies.to_offset(_STARTS.get(every, every))
    except (ValueError, TypeError):
        raise ConfigError(wrong) from None
    if offset is None or pd.Timestamp(0) + offset <= pd.Timestamp(0):
        raise ConfigError(wrong)
    return offset


def _units(labelled: pd.DataFrame, of: NDArray[Any]) -> tuple[ResamplingUnits, list[str]]:
    """Put the rows of each window into blocks in time, numbered through in order of time.

    Scores of one batch share a time stamp; where a window has too few stamps, its rows are taken as they come.
    """
    import numpy as np
    import pandas as pd

    blocks, next_free, tied = np.zeros(len(of), dtype="int64"), 0, False
    for number in np.unique(of):
        chosen = np.flatnonzero(of == number)
        rows = labelled.iloc[chosen][["at"]]
        if rows["at"].nunique() < MIN_BLOCKS:
            tied, rows = True, pd.DataFrame({"at": np.arange(len(chosen))})
        found = resampling_units(rows, order_by="at", group_by=None).of
        blocks[chosen] = next_free + found
        next_free += int(found.max()) + 1
    few = "Some windows have few times of scoring: within one time, rows were taken in the order of the table."
    return ResamplingUnits("blocks", blocks), [few] if tied else []
