"""A challenger's way from the data to the decision, as every flow that trains takes it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.cards.card import Card, Measurements
from prefect_mlops.core.errors import MLOpsError
from prefect_mlops.core.lineage.training_data import lineage_of
from prefect_mlops.core.model_files.smoke_test import MAX_ROWS
from prefect_mlops.core.promotion.history import Entry
from prefect_mlops.core.promotion.lock import give_up
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.values import Decision, Evaluation, LoadedModel, LoggedRun, ModelVersion
from prefect_mlops.flows.run_summary import RunSummary
from prefect_mlops.flows.training_data import TrainingData, judging_rows, with_columns_of
from prefect_mlops.tasks import (
    evaluate_model,
    judge_model,
    log_run,
    measure_model,
    register_model,
    save_training_profile,
    train_model,
    tune_model,
    write_card,
)
from prefect_mlops.tasks.tuning import Tuned

if TYPE_CHECKING:
    import pandas as pd
    from prefect.futures import PrefectFuture

    from prefect_mlops.core.drift.training_profile import TrainingProfile


__all__ = [
    "Judged",
    "Registering",
    "Trained",
    "TrainingData",
    "card_of",
    "judge_challenger",
    "judge_on",
    "measure_challenger",
    "reason_of",
    "register_challenger",
    "save_profile_of",
    "train_challenger",
    "training_lock",
    "with_checks",
]

MAX_REASONS = 2  # a group each would fill the page; the report has them all


@dataclass(frozen=True)
class Trained:
    """A trained challenger and its scores on rows it has not seen; stays inside the process."""

    estimator: Any
    scores: Evaluation
    tuned: Tuned | None = None


@dataclass(frozen=True)
class Judged:
    """What was found of a challenger; stays inside the process."""

    gate: Report
    decision: Decision


@dataclass(frozen=True)
class Registering:
    """A challenger on its way into MLflow.

    Attributes:
        run: becomes its run.
        version: becomes its version; a task that is submitted with it begins once it is there.
    """

    run: PrefectFuture[LoggedRun]
    version: PrefectFuture[ModelVersion]

    def result(self) -> tuple[LoggedRun, ModelVersion]:
        """Wait for run and version.

        Raises:
            ConfigError: the model cannot be stored.
            BackendError: MLflow failed.
        """
        return self.run.result(), self.version.result()


def train_challenger(training: TrainingData) -> Trained:
    """Train on the training rows, after a search for good parameters where the spec asks for one."""
    spec, split = training.spec, training.split
    tuned = _tuned(training) if spec.tune else None
    estimator = tuned.applied_to(spec.estimator) if tuned else spec.estimator
    challenger = train_model(estimator, split.X_train, split.y_train, seed=spec.seed)
    rows = judging_rows(training).drop(columns=spec.target)
    scores = evaluate_model(
        challenger, rows, split.y_test, metrics=spec.metrics, order_by=spec.order_by, group_by=spec.group_by
    )
    return Trained(challenger, scores, tuned)


def _tuned(training: TrainingData) -> Tuned:
    """Search on the training rows; in time order where the spec has one, for folds that look into the past only."""
    spec, X, y = training.spec, training.split.X_train, training.split.y_train
    assert spec.tune is not None  # noqa: S101 - asked by the caller
    rows = training.table.iloc[: len(X)]
    if spec.order_by:
        order = rows[spec.order_by].argsort(kind="stable")
        X, y = X.iloc[order], y.iloc[order]
    options = {**dict(spec.tune), "metric": spec.tune.metric or spec.gates[0].scorer}
    tuned: Tuned = tune_model(
        spec.estimator,
        X,
        y,
        **options,
        experiment=spec.experiment,
        seed=spec.seed,
        ordered=spec.order_by is not None,
        groups=rows[spec.group_by] if spec.group_by else None,
    )
    return tuned


def judge_challenger(
    training: TrainingData,
    challenger: Trained,
    champion: LoadedModel | None,
    summary: RunSummary,
    *,
    extra: Sequence[Check] = (),
) -> Judged:
    """Judge a challenger against the champion.

    Args:
        training: rows to judge on.
        challenger: who wants to be champion.
        champion: who is; None where there is none.
        summary: gets the report as evidence, in place of one from before.
        extra: checks of the challenger that count beside the gates.
    """
    gate = judge_on(training.spec, judging_rows(training), challenger.estimator, champion)
    summary.reports[:] = [report for report in summary.reports if report.kind != "gate"]
    summary.show(gate)
    learned = lineage_of(challenger.estimator)
    decision = Decision(
        model=training.spec.name,
        decision="refused",
        reason="",
        metrics=challenger.scores.metrics,
        rows=learned.rows if learned else 0,
        data_digest=learned.digest if learned else None,
        replaced=champion.version.version if champion else None,
    )
    return with_checks(Judged(gate, decision), extra, summary)


def with_checks(judged: Judged, checks: Sequence[Check], summary: RunSummary) -> Judged:
    """Let more checks count than the gates, such as those of a rehearsal."""
    gate = judged.gate.model_copy(update={"checks": (*judged.gate.checks, *checks)})
    summary.reports[:] = [gate if report is judged.gate else report for report in summary.reports]
    return Judged(gate, _decided(judged.decision, gate))


def register_challenger(
    training: TrainingData, challenger: Trained, summary: RunSummary, *, tags: dict[str, str] | None = None
) -> Registering:
    """Log the challenger to MLflow, with its evidence, and make it a version in the registry.

    Most of this waits for a server, so it is submitted: the caller works on and asks for the result later.
    """
    rows = training.split.X_test
    facts = {mlflow_tags.SPEC: training.dotted, mlflow_tags.SPEC_DIGEST: training.spec.digest}
    if challenger.tuned:
        facts[mlflow_tags.TUNED] = json.dumps(challenger.tuned.params)
        facts[mlflow_tags.TUNED_RUN] = challenger.tuned.run_id
    run = log_run.submit(
        challenger.estimator,
        challenger.scores,
        experiment=training.spec.experiment,
        example=rows.head(),
        rehearsal=rows.head(MAX_ROWS),
        reports=tuple(summary.reports),
        tags={**facts, **(tags or {})},
    )
    return Registering(run, register_model.submit(run, training.spec.name, return_state=False))


def measure_challenger(training: TrainingData, challenger: Trained) -> Measurements:
    """Measure what the challenger's card tells, and what its reference weighs columns by."""
    measured: Measurements = measure_model(challenger.estimator, spec=training.spec, split=training.split)
    return measured


def card_of(
    training: TrainingData,
    challenger: Trained,
    measured: Measurements,
    summary: RunSummary,
    registered: tuple[LoggedRun, ModelVersion],
) -> Card:
    """Write the challenger's card; its page comes after the verdict and the evidence."""
    run, version = registered
    card: Card = write_card(
        challenger.estimator,
        measured=measured,
        spec=training.spec,
        split=training.split,
        scores=challenger.scores,
        reports=summary.reports,
        run=run,
        version=version,
        publish=False,
    )
    return card


def save_profile_of(
    training: TrainingData, challenger: Trained, measured: Measurements, run: LoggedRun
) -> TrainingProfile:
    """Keep what the challenger was trained on, summarised: once it is champion, new data is compared with that."""
    kept: TrainingProfile = save_training_profile(
        challenger.estimator,
        spec=training.spec,
        split=training.split,
        table=training.table,
        run=run,
        importances=measured.importances,
    )
    return kept


@contextlib.contextmanager
def training_lock(lease: Entry) -> Iterator[Entry]:
    """Release the training lock when the block is left by an error or a cancellation, and record the reason.

    A killed process writes nothing; then the lock expires. Every other end is written by `promote_model` or
    `refuse_model`.
    """
    try:
        yield lease
    except BaseException as error:
        reason = str(error) if isinstance(error, MLOpsError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(Exception):  # the first error is the one to report
            give_up(lease, reason)
        raise


def judge_on(spec: ModelSpec, rows: pd.DataFrame, challenger: Any, champion: LoadedModel | None) -> Report:
    """Judge on rows, leaving out those that either model was trained on.

    Args:
        spec: gates, and the column of time that tells who was trained on what.
        rows: with the target; columns that a champion of another recipe needs are read now.
        challenger: fitted estimator.
        champion: who is live; None where there is none.
    """
    rows = with_columns_of(spec, rows, [challenger, *([champion.estimator] if champion else [])])
    new, note = _unseen(spec, rows, challenger, champion)
    if len(new) == 0:
        nothing = Check(
            name="rows neither model has seen",
            passed=False,
            observed=f"0 of {len(rows):,} judging rows",
            expected="rows that arrived after both were trained",
        )
        return Report(kind="gate", subject=spec.name, checks=(nothing,), rows=0, notes=(note,))
    report = judge_model(
        challenger,
        champion,
        new.drop(columns=spec.target),
        new[spec.target],
        gates=spec.gates,
        order_by=spec.order_by,
        group_by=spec.group_by,
        seed=spec.seed,
    )
    return report.model_copy(update={"subject": spec.name, "notes": (*report.notes, note)})


def _unseen(
    spec: ModelSpec, rows: pd.DataFrame, challenger: Any, champion: LoadedModel | None
) -> tuple[pd.DataFrame, str]:
    """Return the judging rows that are new to both models, and a sentence on how that is known."""
    learned = [lineage_of(challenger), *([lineage_of(champion.estimator)] if champion else [])]
    ends = [one.until if one else None for one in learned]
    if spec.order_by is None or None in ends[1:]:
        note = f"Judged on {len(rows):,} rows the challenger has not seen. "
        seen = "The champion may have learned from some of them: only a spec with order_by can tell."
        return rows, note + (seen if champion else "There is no champion yet.")
    new = rows
    for end in ends:
        new = new if end is None else new[new[spec.order_by] > _as_like(end, new[spec.order_by])]
    if champion is None:
        return new, f"Judged on {len(new):,} rows the challenger has not seen; there is no champion yet."
    return new, f"Judged on {len(new):,} rows after {ends[1]}, where the champion's training ended."


def _as_like(until: str | float, order: pd.Series) -> Any:
    import pandas as pd

    return pd.Timestamp(until) if order.dtype.kind == "M" else until


def _decided(decision: Decision, gate: Report) -> Decision:
    failed = [check for check in gate.failures if check.severity == "error"]
    word, checks = ("promoted", gate.checks) if gate.passed else ("refused", failed)
    return decision.model_copy(update={"decision": word, "reason": reason_of(checks)})


def reason_of(checks: Sequence[Check]) -> str:
    """Say what a decision rests on: the first few checks in full, the others are in the report."""
    sentences = [check.sentence for check in checks[:MAX_REASONS]]
    more = len(checks) - len(sentences)
    return "; ".join([*sentences, *([f"and {more} more checks" if more > 1 else "and one more check"] if more else [])])
