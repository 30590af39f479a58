"""Policies of a `ModelSpec`: drift thresholds, retrain guards, limits on cost, tuning."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect_mlops.core.values import Value


class Drift(Value):
    """Drift thresholds; `tasks.detect_drift` documents the meaning of each.

    Attributes:
        min_change: threshold for the size of a change in one column.
        max_drifted_share: threshold for the share of columns, or of their weight in the model, that may have drifted.
    """

    min_change: float = 0.1
    max_drifted_share: float = 0.2  # of ten columns the third alarms, of four or fewer the first

    @property
    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        if not 0 <= self.min_change < 1:
            return f"min_change is from 0 to below 1, got {self.min_change}"
        if not 0 <= self.max_drifted_share <= 1:
            return f"max_drifted_share is from 0 to 1, got {self.max_drifted_share}"
        return ""


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
    """How to look for good parameters before a challenger is trained; see `tasks.tune_model`.

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
