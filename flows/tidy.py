"""Clear up what killed workers and machines left behind in Prefect."""

from __future__ import annotations

from prefect import flow

from prefect_mlops.flows.verdicts import verdict
from prefect_mlops.tasks import crash_dead_runs

FLOWS = ("ingest", "train", "monitor", "check-freshness", "backfill", "replay", "tidy")


@flow(name="tidy")
def tidy() -> list[str]:
    """Mark runs of the ready flows as crashed that give no sign of life any more.

    Returns:
        Names of the runs that were marked.
    """
    with verdict("tidy", "flow runs") as told:
        dead = crash_dead_runs(FLOWS)
        told.title = f"{len(dead)} dead" if dead else "none is dead"
        told.say(*(f"{name}: no sign of life; marked as crashed." for name in dead))
        return dead
