"""Try a registered model in a clean process before it may serve."""

from __future__ import annotations

from prefect_mlops.tasks._step import step
from prefect_mlops.tracking import smoke_test

smoke_test_model = step("rehearse-{version.name}-v{version.version}", backend=True)(smoke_test.smoke_test_model)
