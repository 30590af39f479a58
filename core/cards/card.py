"""The model card: what a version is for, what it can do, what it learned from, and where it stops being good."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from prefect_mlops.core.evaluation.importance import Importances
from prefect_mlops.core.reports import Check
from prefect_mlops.core.values import Value

MAX_CHECKS = 100  # failed ones first; all of them are in the report
MAX_CLASSES = 12  # by name; a confusion table of more does not fit on a page
OTHER = "(other)"


class Fact(Value):
    """A name and what there is to say about it."""

    name: str
    value: str


class Score(Value):
    """One score on the test rows.

    Attributes:
        metric: its name; larger is better.
        value: the score.
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
    """Whether predicted probabilities are what happens.

    Attributes:
        positive: the class whose probability it is.
        bins: in order of the prediction, with about the same number of rows each.
    """

    positive: str
    bins: tuple[CalibrationBin, ...]

    @property
    def gap(self) -> float:
        """Mean distance between predicted and observed, each row counted once (expected calibration error)."""
        rows = sum(each.rows for each in self.bins)
        return sum(abs(each.predicted - each.observed) * each.rows for each in self.bins) / rows


class ResidualBin(Value):
    """Test rows with similar prediction; residuals are truth minus prediction, in units of the target.

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
    """How far predictions are off, in order of the prediction, with about the same number of rows in each bin."""

    bins: tuple[ResidualBin, ...]


class Confusion(Value):
    """Which classes are taken for which.

    Attributes:
        labels: up to `MAX_CLASSES`, then `OTHER`.
        counts: test rows; one line for each true class, one place for each predicted one.
        note: why there is this table instead of a calibration curve; empty where no such curve is expected.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    note: str = ""


class Share(Value):
    """A value of a column or of the target, and the shares of rows that have it."""

    value: str
    share: float


class ColumnBaseline(Value):
    """What a column looked like in training; what drift is seen against.

    Attributes:
        column: its name.
        kind: what it holds (`core.tables.columns.ColumnKind`).
        missing: share of rows without a value.
        numbers: ``mean``, ``std``, ``min``, ``5%``, ``median``, ``95%``, ``max`` of finite numbers; lengths for text.
        distinct: number of different values of a categorical or boolean column; None for others.
        top: its most frequent values.
        first: earliest time stamp, for a column of them.
        last: latest time stamp.
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
    """One line about the target on both sides of the split: the share of a class, or a quantile."""

    name: str
    train: float
    test: float


class Target(Value):
    """The target on both sides of the split.

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
    """What a model shows on its test rows, and what its training rows looked like.

    Attributes:
        importances: None where left out.
        calibration: for a classifier of two classes.
        residuals: for a regressor.
        confusion: for other classifiers.
        target: None where left out.
        baseline: up to `MAX_COLUMNS` columns, in the order of the importances.
        left_out: parts that could not be made, and why.
    """

    importances: Importances | None = None
    calibration: Calibration | None = None
    residuals: Residuals | None = None
    confusion: Confusion | None = None
    target: Target | None = None
    baseline: tuple[ColumnBaseline, ...] = ()
    left_out: tuple[Fact, ...] = ()


class Card(Measurements):
    """Everything that is told about a version of a model.

    Attributes:
        model: registered model.
        version: its number.
        estimator: name of the estimator that decides.
        purpose: from the spec.
        written: when, in UTC.
        rows_tested: test rows the scores rest on.
        columns: number of features.
        data: what it learned from.
        scores: on the test rows.
        checks: of the gate, failures first, up to `MAX_CHECKS`.
        checks_total: how many there were.
        notes: sentences of the gate that are not checks.
        verdicts: other reports, in a line each.
        limits: facts to know before relying on it, a sentence each.
        rollback: command that makes the version before it champion again.
        history: command that shows who was champion when, and why.
        provenance: what it can be rebuilt from.
        links: name and address of pages about it.

    What was measured comes from `Measurements`.
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
        """Name what a probability is of, as ``late = 1``; empty where there is no calibration."""
        if self.calibration is None:
            return ""
        return f"{self.target.name if self.target else 'class'} = {self.calibration.positive}"
