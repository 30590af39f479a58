"""The command ``demo``: a model's life on real data, from the first file to the drift report."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from prefect_mlops.core.lake.ledger import Arrival
    from prefect_mlops.core.reports import Report
    from prefect_mlops.core.values import Decision

DEFAULT_HOME = Path("prefect-mlops-demo")
DATASET = "prefect_mlops.examples.flights.flights"
MODEL = "prefect_mlops.examples.flights.model"
WORSE = "prefect_mlops.examples.flights.worse"
MAX_WHY = 140  # the ledger keeps the whole reason; a table has to fit a terminal
Say = Callable[[str], None]


@dataclass
class DemoOutcome:
    """What the demo did; filled in while it runs."""

    files: list[Arrival] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    drift: Report | None = None
    page: Path | None = None
    champion: int | None = None

    @property
    def changed(self) -> bool:
        """Whether anything was done that had not been done by an earlier run."""
        return not all([*(file.again for file in self.files), *(decision.again for decision in self.decisions)])


def demo(
    home: Annotated[
        Path, typer.Option(help="Folder for everything the demo makes: files, lake, databases, reports.")
    ] = DEFAULT_HOME,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Live through a model's life on the flights that left New York in 2013.

    Three good months arrive, are checked and train a first champion. April arrives damaged in three ways. A
    challenger is judged against the champion on rows neither has seen; a deliberately worse one is refused. July has
    drifted. Nothing has to be configured and nothing outside of the folder is touched; run again, it changes nothing
    that is done.

    Example: prefect-mlops demo --home /tmp/flights
    """
    started = time.monotonic()
    outcome = _live(home.expanduser().absolute(), _progress(started))
    seconds = round(time.monotonic() - started, 1)
    if as_json:
        print(json.dumps(_as_json(outcome, home, seconds)))
    else:
        _show(outcome, home, seconds)


def _progress(started: float) -> Say:
    """Say on stderr what is happening and since when; stdout stays for the result."""

    def say(sentence: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {sentence}", file=sys.stderr, flush=True)

    return say


def _live(home: Path, say: Say) -> DemoOutcome:
    from prefect_mlops.deployments.local.stack import embedded_environment, local_stack

    os.environ.update(embedded_environment(home))
    # The run's log goes to Prefect's page; the terminal shows the demo.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    preloading = threading.Thread(target=_preload, daemon=True)
    preloading.start()
    with local_stack(home, progress=say) as stack:
        os.environ.update(stack.environment)
        preloading.join()
        outcome = _run_steps(home, say)
        _send_what_is_left()
        return outcome


def _preload() -> None:
    """Import what the demo needs while the server starts; it waits on the disk and another process, not on us."""
    for name in ("sklearn.ensemble", "mlflow.sklearn", "great_expectations", "evidently"):
        importlib.import_module(name)


def _send_what_is_left() -> None:
    """Let logs and events reach the server before it goes; they are sent in the background."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=10)


def _run_steps(home: Path, say: Say) -> DemoOutcome:
    from prefect_mlops.examples.flights import arrivals as files
    from prefect_mlops.flows.ingest import ingest
    from prefect_mlops.flows.monitor import monitor
    from prefect_mlops.flows.train import train
    from prefect_mlops.tracking.registry import find_version

    landing = home / "landing" / "flights"
    outcome = DemoOutcome()

    def arrive(*paths: Path) -> int:
        names = [path.name for path in paths]
        taken = ingest(DATASET, names).arrivals
        outcome.files += taken
        for arrival in taken:
            say(f"  {arrival.path}: {_state(arrival)}")
        return max(arrival.version or 0 for arrival in outcome.files)

    def challenge(model: str, version: int) -> None:
        decision = train(model, data=f"@{version}")
        outcome.decisions.append(decision)
        say(f"  v{decision.version} {_decided(decision)}: {decision.reason}")

    say("January, February and March arrive and are checked")
    version = arrive(*(files.write_month(landing, month) for month in (1, 2, 3)))
    say("A first model is trained and judged")
    challenge(MODEL, version)
    say("April arrives damaged: a column renamed, an upload broken off, and 3 % of the rows impossible")
    version = arrive(
        files.write_renamed(landing, 4), files.write_truncated(landing, 4), files.write_impossible(landing, 4)
    )
    say("A challenger learns from April too and is judged against the champion on rows neither has seen")
    challenge(MODEL, version)
    say("A deliberately worse challenger tries")
    challenge(WORSE, version)
    say("July arrives: has the world moved?")
    arrive(files.write_month(landing, 7))
    outcome.drift = monitor(MODEL)
    assert outcome.drift is not None  # noqa: S101 - there is a champion, and July has arrived
    outcome.page = next(iter(sorted((home / "reports").glob("drift-*.html"))), None)
    say(f"  {outcome.drift.summary}")
    champion = find_version("flights-late")
    assert champion is not None  # noqa: S101 - the drift was that of its training data
    outcome.champion = champion.version
    return outcome


def _state(arrival: Arrival) -> str:
    before = " (seen before, nothing done)" if arrival.again else ""
    counts = f"{arrival.rows:,} rows committed" + (f", {arrival.refused:,} in quarantine" if arrival.refused else "")
    return (counts if arrival.rows else f"{arrival.state}. {arrival.reason}") + before


def _decided(decision: Decision) -> str:
    return decision.decision + (" (decided before, nothing done)" if decision.again else "")


def _as_json(outcome: DemoOutcome, home: Path, seconds: float) -> dict[str, Any]:
    drift = outcome.drift
    assert drift is not None  # noqa: S101 - the demo ends with it or with an error
    return {
        "model": outcome.decisions[0].model,
        "champion": outcome.champion,
        "versions": [
            {
                "version": decision.version,
                "data_digest": decision.data_digest,
                "metrics": decision.metrics,
                "decision": decision.decision,
                "reason": decision.reason,
                "again": decision.again,
            }
            for decision in outcome.decisions
        ],
        "files": [
            {
                **arrival.model_dump(
                    mode="json", include={"path", "state", "rows", "refused", "reason", "version", "again"}
                )
            }
            for arrival in outcome.files
        ],
        "drift": {
            "passed": drift.passed,
            "summary": drift.summary,
            "columns": sorted({check.subject for check in drift.failures if check.subject}),
            "page": str(outcome.page) if outcome.page else None,
        },
        "changed": outcome.changed,
        "seconds": seconds,
        "show": _show_command(home),
    }


def _show_command(home: Path) -> str:
    """Give the command as it can be typed: by its path where the environment is not on the search path."""
    name = Path(sys.argv[0])
    command = name.name if shutil.which(name.name) else os.path.relpath(name)
    return f"{command} up --home {shlex.quote(str(home))}"


def _show(outcome: DemoOutcome, home: Path, seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    assert outcome.drift is not None  # noqa: S101 - the demo ends with it or with an error
    console = Console()
    files = Table("File", "State", "Rows", "Bad", "Why", title="What arrived", title_justify="left")
    for arrival in outcome.files:
        name = arrival.path.removesuffix(".csv.gz")
        why = arrival.reason if len(arrival.reason) <= MAX_WHY else arrival.reason[: MAX_WHY - 1] + "…"
        files.add_row(*map(Text, (name, arrival.state, f"{arrival.rows:,}", f"{arrival.refused:,}", why)))
    versions = Table("Version", "Decision", "roc_auc", "Why", title="What was decided", title_justify="left")
    for decision in outcome.decisions:
        score = f"{decision.metrics['roc_auc']:.4f}"
        versions.add_row(*map(Text, (f"v{decision.version}", decision.decision, score, decision.reason)))
    console.print(files)
    console.print(versions)
    print(f"Champion: v{outcome.champion}")
    summary = outcome.drift.summary
    print(summary[0].upper() + summary[1:])
    print(f"Drift report: {outcome.page}")
    if not outcome.changed:
        print("Everything had been done by an earlier run; nothing was changed.")
    print(f"\n{seconds} seconds. To see it all in the browser:\n\n    {_show_command(home)}\n")
