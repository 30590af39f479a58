"""Compare a challenger with the champion on rows that neither was trained on, and say what a decision rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.lineage.training_data import lineage_of
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.values import LoadedModel
from prefect_mlops.flows.training_data import with_columns_of
from prefect_mlops.tasks import judge_model

if TYPE_CHECKING:
    import pandas as pd

MAX_REASONS = 2  # a group each would fill the page; the report has them all


def judge_on(spec: ModelSpec, rows: pd.DataFrame, challenger: Any, champion: LoadedModel | None) -> Report:
    """Judge on rows, leaving out those that either model was trained on.

    Args:
        spec: gates, and the column of time that tells who was trained on what.
        rows: with the target; columns that a champion of another recipe needs are read now.
        challenger: fitted estimator.
        champion: the live model; None where there is none.
    """
    rows = with_columns_of(spec, rows, [challenger, *([champion.estimator] if champion else [])])
    new, note = _unseen(spec, rows, challenger, champion)
    if len(new) == 0:
        nothing = Check(
            id="unseen-rows",
            name="rows neither model has seen",
            passed=False,
            observed=f"0 of {len(rows):,} test rows",
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
    """Return the test rows that are new to both models, and a sentence on how that is known."""
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


def reason_of(checks: Sequence[Check]) -> str:
    """Say what a decision rests on: the first few checks in full, the others are in the report."""
    sentences = [check.sentence for check in checks[:MAX_REASONS]]
    more = len(checks) - len(sentences)
    return "; ".join([*sentences, *([f"and {more} more checks" if more > 1 else "and one more check"] if more else [])])
