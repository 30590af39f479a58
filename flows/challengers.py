"""A challenger's way from the data to the decision, as every flow that trains takes it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import MLOpsError
from prefect_mlops.core.history import Entry
from prefect_mlops.core.lake import without_marks
from prefect_mlops.core.leases import give_up
from prefect_mlops.core.lineage import lineage_of
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs import ModelSpec
from prefect_mlops.core.values import Decision, Evaluation, LoadedModel, ModelVersion, Split
from prefect_mlops.flows.verdicts import Verdict
from prefect_mlops.tasks import (
    evaluate_model,
    judge_model,
    load_table,
    log_run,
    register_model,
    split_table,
    train_model,
    validate_table,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trial:
    """Checked rows, split, and the name of what a decision on them rests on; stays inside the process."""

    spec: ModelSpec
    table: pd.DataFrame
    split: Split
    recipe: str


@dataclass(frozen=True)
class Judged:
    """A trained challenger and what was found of it; stays inside the process."""

    challenger: Any
    scores: Evaluation
    gate: Report
    decision: Decision


def prepare_trial(spec: ModelSpec, data: str, told: Verdict) -> Trial:
    """Load, check, prepare and split the rows.

    Raises:
        DataCheckError: the data does not meet the spec's suite.
    """
    rows = without_marks(load_table(spec.source(data)))
    checks = told.show(validate_table(rows, spec.suite))
    checks.raise_for_failure()
    table = spec.prepared(rows)
    split = split_table(table, spec.target, **spec.split_options)
    return Trial(spec, table, split, _recipe(spec, split))


def judge_trial(trial: Trial, champion: LoadedModel | None, told: Verdict) -> Judged:
    """Train a challenger and judge it against the champion."""
    spec, split = trial.spec, trial.split
    challenger = train_model(spec.estimator, split.X_train, split.y_train, seed=spec.seed)
    scores = evaluate_model(challenger, split.X_test, split.y_test, metrics=spec.metrics)
    gate = told.show(_judge(spec, trial.table, split, challenger, champion))
    return Judged(challenger, scores, gate, _decision(spec, scores, gate, champion, trained=challenger))


def register_challenger(
    trial: Trial, judged: Judged, told: Verdict, *, tags: dict[str, str] | None = None
) -> ModelVersion:
    """Log the challenger to MLflow, with its evidence, and make it a version in the registry."""
    example = trial.split.X_test.head()
    run = log_run(
        judged.challenger,
        judged.scores,
        experiment=trial.spec.experiment,
        example=example,
        reports=told.reports,
        tags=tags,
    )
    return register_model(run, trial.spec.name)


@contextlib.contextmanager
def turn(lease: Entry) -> Iterator[Entry]:
    """Give the turn at the model back when the block is left by an error or a cancellation, with the reason.

    A killed process writes nothing; then the lease runs out. Every other end is written by `promote_model` or
    `refuse_model`.
    """
    try:
        yield lease
    except BaseException as error:
        reason = str(error) if isinstance(error, MLOpsError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(Exception):  # what went wrong first is what has to be told
            give_up(lease, reason)
        raise


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
    )
