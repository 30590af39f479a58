"""What the summary of a training says of its decision, and of what kept it from starting."""

from __future__ import annotations

from prefect_mlops.core.promotion.guards import Guard
from prefect_mlops.core.promotion.history import Entry
from prefect_mlops.core.values import Decision
from prefect_mlops.flows.judging import unseen_rows_of, warnings_of
from prefect_mlops.flows.run_summary import RunSummary


def describe_decision(summary: RunSummary, decision: Decision, now: Entry | None = None) -> Decision:
    """Describe a decision in the summary.

    Args:
        summary: of the run.
        decision: made now, or earlier on the same recipe and rows (`Decision.again`).
        now: for an earlier decision, the entry that made the present champion.

    Returns:
        The decision as it is.
    """
    summary.title, outcome = _words(decision, now)
    if decision.dry_run:
        summary.title += " (dry run: nothing was written)"
    if decision.again:
        summary.title += " (decided before)"
    scores = ", ".join(f"{name} {value:.4f}" for name, value in decision.metrics.items())
    judged = unseen_rows_of(summary.reports)
    summary.say(outcome, *filter(None, (judged,)), f"Why: {decision.reason}.")
    summary.say(*warnings_of(summary.reports))
    summary.say(f"Scores on rows it had not seen: {scores}.")
    summary.say(f"Trained on {decision.rows:,} rows, digest {decision.data_digest}.")
    summary.say(*(report.summary for report in summary.reports if report.kind == "data"))
    summary.say(*(note for report in summary.reports for note in report.notes))
    if decision.url:
        summary.links.append(("Model version in MLflow", decision.url))
    return decision


def describe_guard(summary: RunSummary, model_name: str, guard: Guard) -> Decision:
    """Say in the summary which guard holds the training back, and return that as a decision."""
    summary.title = f"braked ({guard.kind})"
    summary.say("Nothing was trained, and nothing changed.", guard.advice)
    summary.say(f"What holds it: {guard.reason}.")
    return Decision(model=model_name, decision="braked", reason=f"{guard.kind}: {guard.reason}. {guard.advice}")


def describe_no_data(summary: RunSummary, model_name: str, dataset: str) -> Decision:
    """Say in the summary that a dataset has no data yet, and return that as a decision."""
    summary.title = "nothing to learn from yet"
    summary.say(f"Nothing has arrived in dataset {dataset!r}.")
    return Decision(model=model_name, decision="waiting", reason=f"nothing has arrived in dataset {dataset!r} yet")


def _words(decision: Decision, now: Entry | None) -> tuple[str, str]:
    """Return the title, and what it means for who is champion."""
    version = f"v{decision.version}" if decision.version else "the challenger"
    old = f"v{decision.replaced}" if decision.replaced else ""
    stays = f"{old} stays champion." if old else "There is no champion."
    if now is not None and now.version != decision.replaced:
        stays = f"v{now.version} is the champion: {now.what}."
    if decision.dry_run and decision.decision == "promoted":
        return f"{version} would be promoted", f"It would replace {old}." if old else "It would be the first champion."
    if decision.decision == "requested":
        return f"{version} passed, and waits for approval", f"{stays} To answer, start the flow decide."
    if decision.decision == "refused":
        return f"{version} refused", stays
    if now is not None and now.version != decision.version:
        return f"{version} promoted", f"v{now.version} is the champion now: {now.what}."
    return f"{version} promoted", f"{version} is the champion; it {f'replaced {old}' if old else 'is the first one'}."
