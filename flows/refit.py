"""Train the promoted recipe once more, on the rows of both sides, and let that version go live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.lineage.training_data import attach, lineage_of
from prefect_mlops.core.model_files.smoke_test import MAX_ROWS
from prefect_mlops.core.reports import Report
from prefect_mlops.core.training.split import both_sides
from prefect_mlops.core.values import Decision
from prefect_mlops.flows.judging import reason_of
from prefect_mlops.tasks import (
    log_run,
    promote_model,
    register_model,
    save_training_profile,
    smoke_test_model,
    train_model,
    write_card,
)
from prefect_mlops.tasks.loop import record_decision, refuse_model

if TYPE_CHECKING:
    from prefect_mlops.core.cards.card import Measurements
    from prefect_mlops.flows.training_run import TrainingRun


def refit_champion(
    run: TrainingRun, judged: Decision, measured: Measurements, *, recipe: str, tags: dict[str, str]
) -> Decision:
    """Train the recipe of a version that was just promoted on all rows, and promote the result after its smoke test.

    No row is left that could judge it: its scores, importances and drift baseline are those of the judged version,
    which has not seen the test rows, and its card says so. The next challenger is compared with the judged version.

    Args:
        run: training run that promoted the version.
        judged: the decision on that version.
        measured: what its card shows.
        recipe: fingerprint of what the decision rests on.
        tags: of the MLflow run.

    Returns:
        The decision on the refitted version; ``refused`` where its smoke test fails, and the judged one stays champion.
    """
    spec, version = run.spec, run.version
    fitted = _fitted(run)
    learned = lineage_of(fitted)
    rows = learned.rows if learned else 0
    about = (
        f"This is v{version.version} trained again on all {rows:,} rows, also on those that judged it. The "
        f"scores and measurements are those of v{version.version}, and the next challenger is compared with that"
    )
    scores = run.scores.model_copy(update={"notes": (*run.scores.notes, about)})
    gate = run.gate.model_copy(update={"notes": (f"{about}.", *run.gate.notes)})
    reports = [gate if report is run.gate else report for report in run.summary.reports]
    logged = log_run(
        fitted,
        scores,
        experiment=spec.experiment,
        example=run.split.X_test.head(),
        smoke_test_rows=run.split.X_test.head(MAX_ROWS),
        reports=reports,
        tags={**tags, mlflow_tags.REFIT_OF: str(version.version)},
    )
    made = register_model(logged, spec.name)
    tried = smoke_test_model(made, spec.limits)
    reports = [*(report for report in reports if report is not gate), _with_smoke_test(gate, tried)]
    save_training_profile(
        run.challenger,  # its predictions for the test rows are those for rows it has not seen
        spec=spec,
        split=run.split,
        table=run.table,
        run=logged,
        importances=measured.importances,
    )
    card = write_card(
        fitted,
        measured=measured,
        spec=spec,
        split=run.split,
        scores=scores,
        reports=reports,
        run=logged,
        version=made,
        publish=False,
    )
    run.summary.cards.append(card)
    reason = f"v{version.version} trained again on all {rows:,} rows"
    failed = [check for check in tried.failures if check.severity == "error"]
    decision = judged.model_copy(
        update={
            "decision": "promoted" if tried.passed else "refused",
            "reason": f"{reason}, which passed: {judged.reason}" if tried.passed else f"{reason}: {reason_of(failed)}",
            "rows": rows,
            "data_digest": learned.digest if learned else None,
            "replaced": version.version,
            "refit_of": version.version,
        }
    )
    if tried.passed:
        promote_model(made, decision=decision, recipe=recipe, replaces=version)
    else:
        refuse_model(made, decision, recipe=recipe)
    return record_decision(made, decision, recipe=recipe, reports=reports)


def _fitted(run: TrainingRun) -> Any:
    """Fit a copy of the challenger on both sides; its lineage names the judged version."""
    from sklearn.base import clone

    X, y = both_sides(run.table, run.split, order_by=run.spec.order_by)
    fitted = train_model(clone(run.challenger), X, y, seed=run.spec.seed)
    learned, judged = lineage_of(fitted), lineage_of(run.challenger)
    if learned:  # the rule says again which rows stood on which side, in which order they were learned from
        rule = judged.rule if judged else None
        attach(fitted, learned.model_copy(update={"refit_of": run.version.version, "rule": rule}))
    return fitted


def _with_smoke_test(gate: Report, tried: Report) -> Report:
    """Put the smoke test of the refitted version in the place of the judged one's."""
    kept = [check for check in gate.checks if check.id not in {one.id for one in tried.checks}]
    return gate.model_copy(update={"checks": (*kept, *tried.checks)})
