"""Train a challenger, judge it against the champion on rows neither has seen, promote or refuse it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow

from prefect_mlops.core.lake import without_marks
from prefect_mlops.core.lineage import lineage_of
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs import ModelSpec, load_spec
from prefect_mlops.core.values import Decision, Evaluation, LoadedModel, Split
from prefect_mlops.flows.forms import label
from prefect_mlops.flows.verdicts import Verdict, verdict
from prefect_mlops.tasks import (
    announce,
    evaluate_model,
    find_decision,
    find_model,
    judge_model,
    load_table,
    log_run,
    promote_model,
    record_decision,
    register_model,
    split_table,
    train_model,
    validate_table,
)

if TYPE_CHECKING:
    import pandas as pd


@flow(name="train", flow_run_name="train-{model}")
def train(
    model: Annotated[str, label("Model")],
    data: Annotated[str, label("Data")] = "",
    dry_run: Annotated[bool, label("Dry run")] = False,
    force: Annotated[bool, label("Decide again")] = False,
) -> Decision:
    """Train a challenger and let it replace the champion if it passes every gate.

    The same recipe on the same rows is decided once: started again, the flow says what was decided and changes
    nothing. A refused challenger is registered all the same, without the alias, so that the refusal can be looked up.

    Args:
        model: Dotted name of the ModelSpec, e.g. prefect_mlops.examples.flights.model
        data: Empty takes the spec's dataset as it is now, @3 its version 3; or the address of any table like it.
        dry_run: Train and judge, but log, register and promote nothing.
        force: Train and judge again, although the same recipe was decided on the same rows before.

    Returns:
        The decision; the run is completed whether the challenger was promoted or refused.

    Raises:
        ConfigError: the spec or the request is wrong.
        DataCheckError: the data does not meet the spec's suite.
        BackendError: MLflow or storage failed.
    """
    spec = load_spec(model)
    with verdict("train", spec.name) as told:
        rows = without_marks(load_table(spec.source(data)))
        checks = told.show(validate_table(rows, spec.suite))
        checks.raise_for_failure()
        table = spec.prepared(rows)
        split = split_table(table, spec.target, **spec.split_options)
        recipe = _recipe(spec, split)
        champion = find_model(spec.name)
        known = None if force or dry_run else find_decision(spec.name, recipe)
        if known is not None:
            return _tell(told, known.model_copy(update={"again": True}))
        challenger = train_model(spec.estimator, split.X_train, split.y_train, seed=spec.seed)
        scores = evaluate_model(challenger, split.X_test, split.y_test, metrics=spec.metrics)
        gate = told.show(_judge(spec, table, split, challenger, champion))
        decision = _decision(spec, scores, gate, champion, trained=challenger, dry_run=dry_run)
        if not dry_run:
            example = split.X_test.head()
            run = log_run(challenger, scores, experiment=spec.experiment, example=example, reports=told.reports)
            version = register_model(run, spec.name)
            if gate.passed:
                version = promote_model(version)
            decision = record_decision(version, decision, recipe=recipe)
            announce(gate)
        return _tell(told, decision)


def _recipe(spec: ModelSpec, split: Split) -> str:
    """Name what a decision rests on: the recipe, and every cell of the rows on both sides."""
    from prefect_mlops.core.digests import columns_digest

    sides = (split.X_train, split.y_train.to_frame(), split.X_test, split.y_test.to_frame())
    rows = columns_digest((str(name), values) for side in sides for name, values in side.items())
    return "sha256:" + hashlib.sha256(f"{spec.digest} {rows}".encode()).hexdigest()


def _judge(spec: ModelSpec, table: pd.DataFrame, split: Split, challenger: Any, champion: LoadedModel | None) -> Report:
    """Judge on the test rows, leaving out those the champion was trained on.

    All columns are there, not only the challenger's: a champion of another recipe may need others.
    """
    rows, note = _unseen(spec, table.loc[split.X_test.index], champion)
    if len(rows) == 0:
        nothing = Check(
            name="rows the champion has not seen",
            passed=False,
            observed=f"0 of {len(split.X_test):,} judging rows",
            expected="rows that arrived after the champion was trained",
        )
        return Report(kind="gate", subject=spec.name, checks=(nothing,), rows=0, notes=(note,))
    report = judge_model(challenger, champion, rows.drop(columns=spec.target), rows[spec.target], gates=spec.gates)
    return report.model_copy(update={"subject": spec.name, "notes": (*report.notes, note)})


def _unseen(spec: ModelSpec, rows: pd.DataFrame, champion: LoadedModel | None) -> tuple[pd.DataFrame, str]:
    """Return the judging rows that are new to both models, and a sentence on how that is known."""
    if champion is None:
        return rows, f"Judged on {len(rows):,} rows the challenger has not seen; there is no champion yet."
    learned = lineage_of(champion.estimator)
    if spec.order_by is None or learned is None or learned.until is None:
        note = f"Judged on {len(rows):,} rows the challenger has not seen. The champion may have learned from some of "
        return rows, note + "them: only a spec with order_by can tell."
    new = rows[rows[spec.order_by] > _as_like(learned.until, rows[spec.order_by])]
    return new, f"Judged on {len(new):,} rows after {learned.until}, where the champion's training ended."


def _as_like(until: str | float, order: pd.Series) -> Any:
    import pandas as pd

    return pd.Timestamp(until) if order.dtype.kind == "M" else until


def _decision(
    spec: ModelSpec,
    scores: Evaluation,
    gate: Report,
    champion: LoadedModel | None,
    *,
    trained: Any,
    dry_run: bool,
) -> Decision:
    learned = lineage_of(trained)
    failed = "; ".join(check.sentence for check in gate.failures if check.severity == "error")
    passed = "; ".join(check.sentence for check in gate.checks)
    return Decision(
        model=spec.name,
        decision="promoted" if gate.passed else "refused",
        reason=passed if gate.passed else failed,
        metrics=scores.metrics,
        rows=learned.rows if learned else 0,
        data_digest=learned.digest if learned else None,
        replaced=champion.version.version if champion else None,
        dry_run=dry_run,
    )


def _tell(told: Verdict, decision: Decision) -> Decision:
    """Put the decision into plain words."""
    version = f"v{decision.version}" if decision.version else "the challenger"
    old = f"v{decision.replaced}" if decision.replaced else None
    if decision.decision == "promoted":
        told.title = f"{version} promoted"
        outcome = f"{version} is the champion" + (f"; it replaced {old}." if old else "; it is the first one.")
    else:
        told.title = f"{version} refused"
        outcome = f"{old} stays champion." if old else "There is no champion."
    if decision.dry_run:
        told.title += " (dry run: nothing was written)"
    if decision.again:
        told.title += " (decided before)"
        told.say(
            "The same recipe was decided on the same rows before; nothing was done. Start with force to decide again."
        )
    scores = ", ".join(f"{name} {value:.4f}" for name, value in decision.metrics.items())
    told.say(outcome, f"Why: {decision.reason}.", f"Scores on rows it had not seen: {scores}.")
    told.say(f"Trained on {decision.rows:,} rows, digest {decision.data_digest}.")
    told.say(*(report.summary for report in told.reports if report.kind == "data"))
    told.say(*(note for report in told.reports for note in report.notes))
    if decision.url:
        told.links.append(("Model version in MLflow", decision.url))
    return decision
