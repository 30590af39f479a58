"""Train again on every data version of a range, in order: how good would the model have been, and when?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core import text
from prefect_mlops.core.errors import CheckError, ConfigError, ConflictError
from prefect_mlops.core.lake.versions import DataVersion, versions_between
from prefect_mlops.core.promotion.history import Entry, read_history
from prefect_mlops.core.specs.model import ModelSpec, is_address, load_spec
from prefect_mlops.core.text import moment
from prefect_mlops.core.values import Backfilled, BackfillState, Decision
from prefect_mlops.flows.run_summary import RunSummary, summarise_run
from prefect_mlops.flows.train import train
from prefect_mlops.flows.training_run import TrainingRun
from prefect_mlops.flows.ui_labels import label
from prefect_mlops.tasks import load_model
from prefect_mlops.tasks.loop import note_entry


@flow(name="backfill", flow_run_name="backfill-{model}")
def backfill(
    model: Annotated[str, label("Model")],
    start: Annotated[str, label("From")] = "",
    end: Annotated[str, label("To")] = "",
    promote: Annotated[bool, label("Promote")] = False,
    dry_run: Annotated[bool, label("Dry run")] = False,
) -> list[Backfilled]:
    """Train on every data version of a range, oldest first, each judged against the best one before it.

    Every trained model becomes a version in the registry, so that its scores can be looked at. The champion stays
    who it is, unless promote is set. Started again, it goes on where it was stopped: what was done for the same
    recipe is answered from the history.

    Args:
        model: Dotted name of the ModelSpec, e.g. prefect_mlops.examples.flights.model
        start: First data version, as @3, or the day it was committed, as 2024-01-31; empty takes the first there is.
        end: Last data version or day, likewise; empty takes the newest.
        promote: Judge against the champion, and let a version that passes replace it, as the train flow does.
        dry_run: Say what would be trained, and train nothing.

    Returns:
        A line for each data version. One whose data the suite refuses is among them, and does not stop the others.

    Raises:
        ConfigError: the spec or the range is wrong.
        ConflictError: with promote, another run is training the model; start again when it has ended.
        BackendError: MLflow or storage failed; what was done is kept.
    """
    spec = load_spec(model)
    with summarise_run("backfill", spec.name) as summary:
        if is_address(spec.dataset):
            raise ConfigError(f"{spec.name}: dataset {spec.dataset!r} is an address, which keeps no data versions")
        versions = versions_between(spec.dataset, start, end)
        known = {line.data: line for line in _lines(read_history(spec.name), spec, promote=promote)}
        done: list[Backfilled] = []
        for place, data in enumerate(versions, 1):
            before = known.get(data.version)
            line = before.model_copy(update={"again": True}) if before else None
            line = line or (_planned(data) if dry_run else _replayed(model, spec, data, promote=promote))
            done.append(line)
            get_run_logger().info("%d of %d: %s", place, len(versions), line.sentence)
        _describe(summary, done)
    create_markdown_artifact(markdown=_table(done), key=_key(spec.name), description=summary.title)
    return done


@flow(name="backfill-version", flow_run_name="backfill-{model}-@{data}")
def backfill_version(model: str, data: int) -> Decision:
    """Train on one data version and judge against the best one of the backfill so far; the champion is left alone.

    Args:
        model: Dotted name of the ModelSpec.
        data: Data version.

    Returns:
        The decision, as it would have been.
    """
    with TrainingRun(model, f"@{data}", trial=True) as run:
        best = _best_before(read_history(run.spec.name), run.spec, data)
        run.load()
        run.train()
        run.judge(against=load_model(run.spec.name, version=best) if best else None)
        run.register(tags={mlflow_tags.BACKFILL: f"@{data}"})
        decision = run.conclude()
        passed = "passed" if decision.decision == "promoted" else "was refused"
        run.summary.title = f"v{decision.version} trained on @{data} {passed}"
        run.summary.say(
            f"Judged against {f'v{best}' if best else 'nothing: it is the first one'}.", f"Why: {decision.reason}."
        )
        run.summary.say("This was a backfill: the champion stays who it is.")
        return decision


def _replayed(model: str, spec: ModelSpec, data: DataVersion, *, promote: bool) -> Backfilled:
    """Train on one version and write down that it is done; the history is what a later run goes on from."""
    try:
        decision = train(model, data=f"@{data.version}") if promote else backfill_version(model, data.version)
    except CheckError as error:  # this version's data is refused; the next one may be good
        return Backfilled(data=data.version, at=data.at, state="failed", reason=str(error))
    if decision.decision == "braked":
        raise ConflictError(f"{spec.name}, data @{data.version}: {decision.reason}")
    passed: BackfillState = "promoted" if promote else "passed"
    line = Backfilled(
        data=data.version,
        at=data.at,
        state=passed if decision.decision == "promoted" else "refused",
        version=decision.version,
        metrics=decision.metrics,
        rows=decision.rows,
        reason=decision.reason,
    )
    details = {"spec": spec.decision_digest, "promote": promote, "line": line.model_dump(mode="json")}
    note_entry(spec.name, "backfilled", version=line.version, reason=line.sentence, details=details)
    return line


def _planned(data: DataVersion) -> Backfilled:
    return Backfilled(data=data.version, at=data.at, state="planned", reason=f"{data.rows:,} rows came with it")


def _best_before(entries: Sequence[Entry], spec: ModelSpec, data: int) -> int | None:
    """Return the version that would be champion by then: the newest one that passed."""
    passed = [line for line in _lines(entries, spec, promote=False) if line.state == "passed" and line.data < data]
    return max(passed, key=lambda line: line.data).version if passed else None


def _lines(entries: Sequence[Entry], spec: ModelSpec, *, promote: bool) -> list[Backfilled]:
    """Return what was backfilled with this recipe; another recipe starts from nothing."""
    kept = [entry.details for entry in entries if entry.kind == "backfilled"]
    mine = [one for one in kept if one.get("spec") == spec.decision_digest and one.get("promote") == promote]
    return [Backfilled.model_validate(one["line"]) for one in mine]


def _describe(summary: RunSummary, done: list[Backfilled]) -> None:
    counts = {state: sum(line.state == state for line in done) for state in dict.fromkeys(line.state for line in done)}
    summary.title = ", ".join(f"{count} {state}" for state, count in counts.items())
    known = sum(line.again for line in done)
    summary.say(f"{len(done)} data versions, {known} of them done before." if known else f"{len(done)} data versions.")
    summary.say(*(line.sentence for line in done))


def _key(model: str) -> str:
    return "backfill-" + re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")


def _table(done: list[Backfilled]) -> str:
    metrics = list(dict.fromkeys(name for line in done for name in line.metrics))
    headers = ["Data", "Committed", "State", "Version", "Rows", *metrics, "Why"]
    rows = [
        [
            f"@{line.data}",
            moment(line.at),
            line.state,
            f"v{line.version}" if line.version else "",
            f"{line.rows:,}",
            *(f"{line.metrics[name]:.4f}" if name in line.metrics else "" for name in metrics),
            line.reason,
        ]
        for line in done
    ]
    return text.table(headers, rows)
