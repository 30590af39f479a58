"""Merge the profiles of the parts of a table."""

from __future__ import annotations

from prefect_mlops.core.drift import table_profile
from prefect_mlops.tasks._step import step

merge_profiles = step("merge-profiles")(table_profile.merge_profiles)
