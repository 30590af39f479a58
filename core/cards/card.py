"""The values of a model card: what a version is for, its scores, its training data and its limits."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from prefect_mlops.core.evaluation.importance import Importances
from prefect_mlops.core.reports import Check
from prefect_mlops.core.values import Value

MAX_CHECKS = 100  # failures first; the gate report has all of them
MAX_CLASSES = 12  # a wider confusion table does not fit on a page; the other classes are counted as `OTHER`
OTHER = "(other)"


class Fact(Value):
    """A name and its value, as text."""

    name: str
    value: str


class Score(Value):
    """One score on the test rows.

    Attributes:
        metric: its name; larger is better.
        value: the estimate.
        low: lower end of its 95 % interval; None where there is none.
        high: upper end.
    """

    metric: str
    value: float
    low: float | None = None
    high: float | None = None


class CalibrationBin(Value):
    """Test rows with similar predicted probability.

    Attributes:
        predicted: mean predicted probability of the class.
        observed: share of the rows that are of the class.
        low: lower end of the 95 % interval of ``observed`` (Wilson).
        high: upper end.
        rows: number of rows.
    """

    predicted: float
    observed: float
    low: float
    high: float
    rows: int


class Calibration(Value):
    """Observed shares against predicted probabilities (a reliability curve).

    Attributes:
        positive: the class whose probability it is.
        bins: of about the same number of rows, in order of the prediction.
    """

    positive: str
    bins: tuple[CalibrationBin, ...]

    @property
    def gap(self) -> float:
        """Mean distance between predicted and observed, each row counted once (expected calibration error)."""
        rows = sum(each.rows for each in self.bins)
        return sum(abs(each.predicted - each.observed) * each.rows for each in self.bins) / rows


class ResidualBin(Value):
    """Test rows with similar prediction; residuals are ground truth minus prediction, in units of the target.

    Attributes:
        predicted: mean prediction.
        low: 10 % of the residuals are below.
        median: half of them are below.
        high: 90 % are below.
        rows: number of rows.
    """

    predicted: float
    low: float
    median: float
    high: float
    rows: int


class Residuals(Value):
    """The distribution of residuals, in bins of about the same number of rows, in order of the prediction."""

    bins: tuple[ResidualBin, ...]


class Confusion(Value):
    """The confusion matrix of a classifier.

    Attributes:
        labels: up to `MAX_CLASSES` classes, then `OTHER`.
        counts: number of test rows, (true classes, predicted classes).
        note: why there is no calibration curve for a classifier of two classes; empty for more classes.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    note: str = ""


class Share(Value):
    """A value of a column and the share of rows that have it."""

    value: str
    share: float


class ColumnBaseline(Value):
    """A column of the training rows, the baseline for drift.

    Attributes:
        column: its name.
        kind: type of its values (`core.tables.columns.ColumnKind`).
        missing: share of rows without a value.
        numbers: ``mean``, ``std``, ``min``, ``5%``, ``median``, ``95%``, ``max`` of finite numbers, or of text lengths.
        distinct: number of different values of a categorical or boolean column; None for others.
        top: its most frequent values.
        first: earliest timestamp of a datetime column.
        last: latest timestamp.
    """

    column: str
    kind: str
    missing: float
    numbers: dict[str, float] = Field(default_factory=dict)
    distinct: int | None = None
    top: tuple[Share, ...] = ()
    first: str = ""
    last: str = ""


class TargetLine(Value):
    """The share of a class, or a quantile of the target, among the training rows and among the test rows."""

    name: str
    train: float
    test: float


class Target(Value):
    """The target among the training rows and among the test rows.

    Attributes:
        name: its column.
        classes: True when the lines are shares of classes, False when they are quantiles.
        lines: largest class first, up to `MAX_CLASSES`; or quantiles from small to large.
        distinct: number of classes; 0 for quantiles.
    """

    name: str
    classes: bool
    lines: tuple[TargetLine, ...]
    distinct: int = 0


class Measurements(Value):
    """The measured parts of a card: the behaviour on the test rows, and a profile of the training rows.

    Attributes:
        importances: None where left out.
        calibration: for a classifier of two classes.
        residuals: for a regressor.
        confusion: for other classifiers.
        target: None where left out.
        baseline: up to `MAX_COLUMNS` columns, in the order of the importances.
        left_out: parts that could not be measured, and why.
    """

    importances: Importances | None = None
    calibration: Calibration | None = None
    residuals: Residuals | None = None
    confusion: Confusion | None = None
    target: Target | None = None
    baseline: tuple[ColumnBaseline, ...] = ()
    left_out: tuple[Fact, ...] = ()


class Card(Measurements):
    """A model card; its measured parts are described at `Measurements`.

    Attributes:
        model: name of the registered model.
        version: its number.
        estimator: name of the final estimator.
        purpose: from the spec.
        written: time of writing, in UTC.
        rows_tested: number of test rows that the scores are computed on.
        columns: number of features.
        data: dataset, version, digest and size of the training data.
        scores: on the test rows.
        checks: of the gate, failures first, up to `MAX_CHECKS`.
        checks_total: number of checks before the cut.
        notes: notes of the gate report.
        verdicts: one line for each other report.
        limits: one sentence for each known limit.
        rollback: command that makes the version before it champion again.
        history: command that shows who was champion when, and why.
        provenance: run, commit, lock file, seed and environment, to reproduce the version.
        links: name and address of pages about it.
    """

    model: str
    version: int
    estimator: str
    purpose: str = ""
    written: datetime
    rows_tested: int
    columns: int
    data: tuple[Fact, ...] = ()
    scores: tuple[Score, ...] = ()
    checks: tuple[Check, ...] = ()
    checks_total: int = 0
    notes: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    rollback: str = ""
    history: str = ""
    provenance: tuple[Fact, ...] = ()
    links: tuple[Fact, ...] = ()

    @property
    def outcome(self) -> str:
        """Name the event that the probability is of, like ``late = 1``; empty without calibration."""
        if self.calibration is None:
            return ""
        return f"{self.target.name if self.target else 'class'} = {self.calibration.positive}"
