"""Merge the profiles of the parts of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefect_mlops.core.drift import table_profile
from prefect_mlops.tasks._step import step

if TYPE_CHECKING:
    from prefect_mlops.core.drift.table_profile import TableProfile


@step("merge-profiles")
def merge_profiles(parts: Sequence[TableProfile]) -> TableProfile:
    """Make the profile of a table from those of its parts.

    Args:
        parts: from `profile_table`, each with another number of part, in the order of the table.

    Returns:
        The profile of all rows. Which rows are sampled depends on the parts, how often a value occurs does not.

    Raises:
        ConfigError: a part was stored, and its sample cannot be merged.
    """
    return table_profile.merge_profiles(parts)
