"""Policies: drift thresholds, degradation, retrain guards, limits on cost, tuning."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect_mlops.core.values import Evaluation, Value


class Drift(Value):
    """Drift thresholds, for `tasks.detect_drift`.

    Attributes:
        min_change: threshold for the size of a change in one column: smallest distance of two distributions that
            matters, from 0 to 1; 0.1 is a tenth of the rows elsewhere. Half of it for shares of missing, unseen or
            out-of-range values.
        max_drifted_share: threshold for the share of columns, or of their weight in the model, that may have drifted.
            Evidently's own default, a half, is silent while four of ten columns are broken.
        multivariate: whether a classifier is asked to tell the two sides apart, which warns of changes between
            columns; None asks it where the samples have at most 600,000 cells.
    """

    min_change: float = 0.1
    max_drifted_share: float = 0.2  # of ten columns the third alarms, of four or fewer the first
    multivariate: bool | None = None

    @property
    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        if not 0 <= self.min_change < 1:
            return f"min_change is from 0 to below 1, got {self.min_change}"
        if not 0 <= self.max_drifted_share <= 1:
            return f"max_drifted_share is from 0 to 1, got {self.max_drifted_share}"
        return ""


class Degradation(Value):
    """When the score of a live model counts as degraded, for `tasks.evaluate_live`.

    Attributes:
        baseline: scores of training or promotion, or how many of the first judged windows to compare with.
        may_lose: non-inferiority margin: smallest loss that matters, for all metrics or by metric; None is 0.02.
            Metrics in units of the target need it.
        every: length of a window: ``"day"``, ``"week"``, ``"month"`` or a pandas offset alias; None takes the shortest
            of the three with enough labelled rows. Name it in what runs every day, so that windows stay what they are.
        min_labelled: smallest share of labels with which a window is judged; early labels are seldom a random sample.
        confidence: that a year without degradation is a year without an alarm.
        positive: the positive class of a binary target; None takes the last in order, as scikit-learn does.
    """

    baseline: Evaluation | int = 3  # windows; one week may be a strange one
    may_lose: float | dict[str, float] | None = None
    every: str | None = None
    min_labelled: float = 0.8
    confidence: float = 0.95
    positive: bool | int | float | str | None = None


class Retrain(Value):
    """Retrain guards: what holds back trainings that triggers and schedules start.

    Attributes:
        cool_down: cool-down: shortest time from one decision to the next training.
        refused_in_a_row: circuit breaker: after so many refused challengers in a row no more are trained until a person
            intervenes; 0 for never.
        lease: how long the training lock holds; after it another training may start, as after a killed run.
    """

    cool_down: timedelta = timedelta(0)
    refused_in_a_row: int = 3
    lease: timedelta = timedelta(hours=2)

    @property
    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        if self.cool_down < timedelta(0):
            return f"cool_down is not negative, got {self.cool_down}"
        if self.refused_in_a_row < 0:
            return f"refused_in_a_row is 0 or more, got {self.refused_in_a_row}"
        if self.lease <= timedelta(0):
            return f"lease is a positive time, got {self.lease}"
        return ""


class Limits(Value):
    """What a model may cost to run; measured in a clean process before it is promoted. None does not limit.

    Attributes:
        size_mb: size of the model's files, in MB (1,000,000 bytes).
        seconds_per_1000_rows: time for the predictions of 1,000 rows, in seconds.
        memory_mb: memory the process takes on top of its imports while it predicts, in MB.
    """

    size_mb: float | None = None
    seconds_per_1000_rows: float | None = None
    memory_mb: float | None = None

    @property
    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        wrong = [f"{name} is above 0, got {value}" for name, value in self if value is not None and value <= 0]
        return "; ".join(wrong)


class Tune(Value):
    """How to search for good parameters before a challenger is trained; see `tasks.tune_model`.

    Attributes:
        space: what to try, by parameter name: a list of choices, a (low, high) pair of whole numbers or of floats, or
            an Optuna distribution.
        trials: how many combinations to try.
        seconds: stop looking for more after this time; None for no limit.
        metric: scorer name to tune for; empty for that of the first gate.
        folds: parts of the cross-validation.
    """

    space: dict[str, Any]
    trials: int = 30
    seconds: float | None = None
    metric: str = ""
    folds: int = 5

    @property
    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        fewest_folds = 2
        if not self.space:
            return "space: name at least one parameter to try"
        if self.trials < 1:
            return f"trials is 1 or more, got {self.trials}"
        if self.folds < fewest_folds:
            return f"folds is {fewest_folds} or more, got {self.folds}"
        if self.seconds is not None and self.seconds <= 0:
            return f"seconds is above 0 or None, got {self.seconds}"
        return ""
