"""A challenger's way from the data to the decision, as every flow that trains takes it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.cards import Card
from prefect_mlops.core.errors import MLOpsError
from prefect_mlops.core.history import Entry
from prefect_mlops.core.lake import without_marks
from prefect_mlops.core.leases import give_up
from prefect_mlops.core.lineage import lineage_of
from prefect_mlops.core.rehearsal import MAX_ROWS
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs import ModelSpec
from prefect_mlops.core.values import Decision, Evaluation, LoadedModel, LoggedRun, ModelVersion, Split
from prefect_mlops.flows.verdicts import Verdict
from prefect_mlops.tasks import (
    evaluate_model,
    judge_model,
    keep_reference,
    load_table,
    log_run,
    register_model,
    split_table,
    train_model,
    tune_model,
    validate_table,
    write_card,
)
from prefect_mlops.tasks.tuning import Tuned

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.references import Reference


MAX_REASONS = 2  # a group each would fill the page; the report has them all


@dataclass(frozen=True)
class Trial:
    """Checked rows, split, and the name of what a decision on them rests on; stays inside the process."""

    dotted: str
    spec: ModelSpec
    table: pd.DataFrame
    split: Split
    recipe: str


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


def prepare_trial(dotted: str, spec: ModelSpec, data: str, told: Verdict) -> Trial:
    """Load, check, prepare and split the rows.

    Args:
        dotted: name the spec was loaded by, for whoever trains the model again.
        spec: the recipe.
        data: see `ModelSpec.source`.
        told: gets the report on the data as evidence.

    Raises:
        DataCheckError: the data does not meet the spec's suite.
    """
    rows = without_marks(load_table(spec.source(data)))
    checks = told.show(validate_table(rows, spec.suite))
    checks.raise_for_failure()
    table = spec.prepared(rows)
    split = split_table(table, spec.target, **spec.split_options)
    return Trial(dotted, spec, table, split, _recipe(spec, split))


def train_challenger(trial: Trial) -> Trained:
    """Train on the training rows, after a search for good parameters where the spec asks for one."""
    spec, split = trial.spec, trial.split
    tuned = _tuned(trial) if spec.tune else None
    estimator = tuned.applied_to(spec.estimator) if tuned else spec.estimator
    challenger = train_model(estimator, split.X_train, split.y_train, seed=spec.seed)
    rows = _judging_rows(trial).drop(columns=spec.target)
    scores = evaluate_model(
        challenger, rows, split.y_test, metrics=spec.metrics, order_by=spec.order_by, group_by=spec.group_by
    )
    return Trained(challenger, scores, tuned)


def _tuned(trial: Trial) -> Tuned:
    """Search on the training rows; in time order where the spec has one, for folds that look into the past only."""
    spec, X, y = trial.spec, trial.split.X_train, trial.split.y_train
    assert spec.tune is not None  # noqa: S101 - asked by the caller
    rows = trial.table.loc[X.index]
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


def _judging_rows(trial: Trial) -> pd.DataFrame:
    """Return the test rows with all columns: a champion of another recipe may need others than the challenger."""
    return trial.table.loc[trial.split.X_test.index]


def judge_challenger(
    trial: Trial, challenger: Trained, champion: LoadedModel | None, told: Verdict, *, extra: Sequence[Check] = ()
) -> Judged:
    """Judge a challenger against the champion.

    Args:
        trial: rows to judge on.
        challenger: who wants to be champion.
        champion: who is; None where nobody is.
        told: gets the report as evidence, in place of one from before.
        extra: checks of the challenger that count beside the gates.
    """
    gate = judge_on(trial.spec, _judging_rows(trial), challenger.estimator, champion)
    told.reports[:] = [report for report in told.reports if report.kind != "gate"]
    told.show(gate)
    learned = lineage_of(challenger.estimator)
    decision = Decision(
        model=trial.spec.name,
        decision="refused",
        reason="",
        metrics=challenger.scores.metrics,
        rows=learned.rows if learned else 0,
        data_digest=learned.digest if learned else None,
        replaced=champion.version.version if champion else None,
    )
    return with_checks(Judged(gate, decision), extra, told)


def with_checks(judged: Judged, checks: Sequence[Check], told: Verdict) -> Judged:
    """Let more checks count than the gates, such as those of a rehearsal."""
    gate = judged.gate.model_copy(update={"checks": (*judged.gate.checks, *checks)})
    told.reports[:] = [gate if report is judged.gate else report for report in told.reports]
    return Judged(gate, _decided(judged.decision, gate))


def register_challenger(
    trial: Trial, challenger: Trained, told: Verdict, *, tags: dict[str, str] | None = None
) -> tuple[LoggedRun, ModelVersion]:
    """Log the challenger to MLflow, with its evidence, and make it a version in the registry."""
    rows = trial.split.X_test
    facts = {"prefect_mlops.spec": trial.dotted, "prefect_mlops.spec.digest": trial.spec.digest}
    if challenger.tuned:
        facts["prefect_mlops.tuned"] = json.dumps(challenger.tuned.params)
        facts["prefect_mlops.tuned.run"] = challenger.tuned.run_id
    run = log_run(
        challenger.estimator,
        challenger.scores,
        experiment=trial.spec.experiment,
        example=rows.head(),
        rehearsal=rows.head(MAX_ROWS),
        reports=told.reports,
        tags={**facts, **(tags or {})},
    )
    return run, register_model(run, trial.spec.name)


def card_of(trial: Trial, challenger: Trained, told: Verdict, run: LoggedRun, version: ModelVersion) -> Card:
    """Write the challenger's card; its page comes after the verdict and the evidence."""
    card: Card = write_card(
        challenger.estimator,
        spec=trial.spec,
        split=trial.split,
        scores=challenger.scores,
        reports=told.reports,
        run=run,
        version=version,
        publish=False,
    )
    return card


def keep_reference_of(trial: Trial, challenger: Trained, card: Card, run: LoggedRun) -> Reference:
    """Keep what the challenger was trained on, summarised: once it is champion, new data is compared with that."""
    kept: Reference = keep_reference(
        challenger.estimator,
        spec=trial.spec,
        split=trial.split,
        table=trial.table,
        run=run,
        importances=card.importances,
    )
    return kept


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


def judge_on(spec: ModelSpec, rows: pd.DataFrame, challenger: Any, champion: LoadedModel | None) -> Report:
    """Judge on rows, leaving out those that either model was trained on.

    Args:
        spec: gates, and the column of time that tells who was trained on what.
        rows: with the target and all columns: a champion of another recipe may need others than the challenger.
        challenger: fitted estimator.
        champion: who is live; None where nobody is.
    """
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
    told = [check.sentence for check in checks[:MAX_REASONS]]
    more = len(checks) - len(told)
    return "; ".join([*told, *([f"and {more} more checks" if more > 1 else "and one more check"] if more else [])])
