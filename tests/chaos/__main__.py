"""Run the chaos test by hand: ``python -m tests.chaos --rounds 50``. See docs/chaos.md."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Report
    from tests.chaos.harness import Tally


def chaos(
    rounds: Annotated[int, typer.Option(min=1, help="How many times files arrive and something breaks.")] = 20,
    seed: Annotated[int, typer.Option(help="Which files and faults; the moments differ all the same.")] = 0,
    home: Annotated[
        Path | None, typer.Option(help="New folder for servers, lake and logs. [default: a temporary one, removed]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a report.")] = False,
) -> None:
    """Kill servers, workers and flows while files arrive, and count the rows at the end.

    Runs a Prefect server, a worker, a watcher and a lake of its own, in a folder of its own. In each round files are
    dropped (new, repeated, copied, changed, half-written, damaged, empty, oddly named) and something is killed with
    kill -9, paused, or told several times. At the end each row of the good content has to be in the lake once, every
    other file in the ledger with a reason, nothing may be running, and the champion has to be the one history names.

    A round takes some seconds, settling at the end some minutes. Exit code 1 when anything is not as it has to be.

    Example: python -m tests.chaos --rounds 50 --home /tmp/chaos
    """
    from prefect_mlops.core.errors import ConfigError
    from tests.chaos.harness import run_chaos

    if home is not None and home.exists() and any(home.iterdir()):
        raise ConfigError(f"{home} is not empty: chaos needs a folder of its own")
    with tempfile.TemporaryDirectory(prefix="prefect-mlops-chaos-", ignore_cleanup_errors=True) as scratch:
        report, tally = run_chaos(home or Path(scratch), rounds=rounds, seed=seed, tell=_say)
    print(json.dumps(_as_json(report, tally)) if as_json else _as_text(report, tally))
    if not report.passed:
        raise typer.Exit(1)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _as_json(report: Report, tally: Tally) -> dict[str, object]:
    told = {field.name: getattr(tally, field.name) for field in dataclasses.fields(tally)}  # asdict spoils counters
    return {"passed": report.passed, **told, "checks": report.model_dump(mode="json")["checks"]}


def _as_text(report: Report, tally: Tally) -> str:
    def listed(title: str, counts: dict[str, int]) -> list[str]:
        return [title, *(f"  {count:>7,}  {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))]

    checks = [f"  {'ok' if check.passed else 'WRONG':<5}  {check.sentence}" for check in report.checks]
    verdict = "Everything is as it has to be." if report.passed else "Something is not as it has to be."
    return "\n".join(
        [
            f"{tally.rounds} rounds with seed {tally.seed} in {tally.seconds:,.0f} seconds",
            *listed("Files dropped", dict(tally.files)),
            *listed("Faults", dict(tally.faults)),
            *listed("At the end", tally.counts),
            "Invariant",
            *checks,
            verdict,
        ]
    )


if __name__ == "__main__":
    from prefect_mlops.core.errors import MLOpsError

    try:
        typer.run(chaos)
    except MLOpsError as error:
        sys.exit(f"error: {error}")
