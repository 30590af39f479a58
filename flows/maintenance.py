"""Clear up what killed workers, crashes and hands left behind."""

from __future__ import annotations

from prefect import flow

from prefect_mlops.flows.run_summary import summarise_run
from prefect_mlops.tasks.loop import crash_zombie_runs, sweep_models

FLOWS = ("ingest", "train", "monitor", "check-freshness", "backfill", "replay", "decide", "rollback", "maintenance")


@flow(name="maintenance")
def maintenance() -> list[str]:
    """Mark runs as crashed that give no sign of life, let aliases follow the history, expire overdue requests.

    Returns:
        Names of the runs that were marked.
    """
    with summarise_run("maintenance", "flow runs and models") as summary:
        dead = crash_zombie_runs(FLOWS)
        swept = sweep_models()
        summary.title = f"{len(dead)} runs dead, {len(swept)} models mended" if dead or swept else "all is well"
        summary.say(*(f"{name}: no sign of life; marked as crashed." for name in dead))
        summary.say(*(one.sentence for one in swept))
        return dead
