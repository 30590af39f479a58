"""Check many small tables at once: Great Expectations takes the same time for twenty rows as for thousands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.data_checks.engine import Outcome, configurations_of, outcomes
from prefect_mlops.data_checks.scopes import ABOUT_COLUMNS, ABOUT_ROWS, is_own, is_plain
from prefect_mlops.data_checks.suites import Suite, unusable_table
from prefect_mlops.data_checks.wording import weight_of

if TYPE_CHECKING:
    import pandas as pd

_ROW_COUNT = "expect_table_row_count_to_be_between"  # answered here: in every inferred suite


def can_pass_together(suite: Suite) -> bool:
    """Check whether `pass_together` can be True for a suite.

    Raises:
        ConfigError: no suite, or one without expectations.
    """
    known = ABOUT_ROWS | ABOUT_COLUMNS | {_ROW_COUNT}
    return all(
        configuration.type in known and not configuration.kwargs.get("row_condition") and is_own(configuration.type)
        for configuration in configurations_of(suite)
    )


def pass_together(frames: Sequence[pd.DataFrame], suite: Suite) -> bool:
    """Check whether each of some tables certainly passes a suite, with one evaluation for all of them.

    Args:
        frames: each (rows, columns), with the same columns and types; not changed.
        suite: a ``gx.ExpectationSuite`` or a list of expectations.

    Returns:
        True when `check_table` would pass each of them. False when one may fail, or has to be checked by itself: tables
        that differ in their columns, or a suite that is not about single rows and columns.

    Raises:
        ConfigError: no suite, or one without expectations.

    Source: `great_expectations`, through `data_checks.engine`.
    """
    import pandas as pd

    if not can_pass_together(suite) or not _alike(frames):
        return False
    configurations = configurations_of(suite)
    counts = [configuration for configuration in configurations if configuration.type == _ROW_COUNT]
    if not all(_counted(configuration, len(frame)) for configuration in counts for frame in frames):
        return False
    others = [configuration for configuration in configurations if configuration.type != _ROW_COUNT]
    if not frames or not others:
        return True
    return all(map(_certain, outcomes(pd.concat(frames, ignore_index=True), others)))


def _alike(frames: Sequence[pd.DataFrame]) -> bool:
    if any(unusable_table(frame, "") is not None for frame in frames):
        return False
    shapes = [list(frame.dtypes.items()) for frame in frames]
    return all(shape == shapes[0] for shape in shapes) and all(
        is_plain(dtype) for shape in shapes[:1] for _, dtype in shape
    )


def _counted(configuration: Any, rows: int) -> bool:
    given = {name: value for name, value in configuration.kwargs.items() if value is not None}
    least, most = given.get("min_value", 0), given.get("max_value", rows)
    plain = all(type(bound) is int for bound in (least, most)) and not (
        given.get("strict_min") or given.get("strict_max")
    )
    return weight_of(configuration) != "error" or (plain and least <= rows <= most)


def _certain(outcome: Outcome) -> bool:
    """Check whether an expectation passes on every row, whatever `mostly` allows.

    One of severity warning or info may fail, but has to be computable.
    """
    if outcome.problem:
        return False
    if weight_of(outcome.configuration) != "error":
        return True
    return outcome.success and not outcome.result.get("unexpected_count", 0)
