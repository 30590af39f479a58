"""Compare a challenger with the champion on rows that neither was trained on, and say what a decision rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.evaluation.leakage import NO_LEAKAGE
from prefect_mlops.core.evaluation.unseen_rows import CHECK_ID
from prefect_mlops.core.lineage.training_data import lineage_of
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.values import LoadedModel
from prefect_mlops.flows.training_data import with_columns_of
from prefect_mlops.tasks import judge_model, judge_recipes, load_model

if TYPE_CHECKING:
    import pandas as pd

MAX_REASONS = 2  # a group each would fill the page; the report has them all
MAX_WARNINGS = 3


def judge_on(
    spec: ModelSpec,
    rows: pd.DataFrame,
    challenger: Any,
    champion: LoadedModel | None,
    *,
    training_rows: pd.DataFrame | None = None,
    set_apart: bool = False,
) -> Report:
    """Judge on rows, leaving out those that either model may have learned from.

    Args:
        spec: gates, and how rows depend on each other.
        rows: with the target; columns that a champion of another recipe needs are read now. For cross-validation all
            rows of the table, those to learn from too.
        challenger: fitted estimator.
        champion: the live model; None where there is none.
        training_rows: of the challenger; with ``order_by`` and ``group_by`` they say which groups are known.
        set_apart: see `tasks.judge_model`.
    """
    if spec.evaluation == "cross_validation":
        return _judge_recipes(spec, rows, challenger, champion)
    judged = _judged(champion)
    rows = with_columns_of(spec, rows, [challenger, *([judged.estimator] if judged else [])])
    both = spec.order_by and spec.group_by
    report: Report = judge_model(
        challenger,
        judged,
        rows.drop(columns=spec.target),
        rows[spec.target],
        **_options(spec),
        known_groups=None if training_rows is None or not both else training_rows[spec.group_by].unique(),
        set_apart=set_apart,
    )
    if judged is champion or champion is None or judged is None:
        return report.model_copy(update={"subject": spec.name})
    live, other = champion.version.version, judged.version.version
    note = f"The champion v{live} is v{other} trained again on all rows; the challenger was compared with v{other}."
    return report.model_copy(update={"subject": spec.name, "notes": (note, *report.notes)})


def _judge_recipes(spec: ModelSpec, rows: pd.DataFrame, challenger: Any, champion: LoadedModel | None) -> Report:
    """Judge by cross-validation: no row is left out, as both recipes are trained anew."""
    rows = with_columns_of(spec, rows, [challenger, *([champion.estimator] if champion else [])])
    report: Report = judge_recipes(
        challenger,
        champion,
        rows.drop(columns=spec.target),
        rows[spec.target],
        **_options(spec),
    )
    return report.model_copy(update={"subject": spec.name})


def _options(spec: ModelSpec) -> dict[str, Any]:
    """What a spec says of judging, by holdout or cross-validation."""
    return {
        "gates": spec.gates,
        "order_by": spec.order_by,
        "group_by": spec.group_by,
        "seed": spec.seed,
        "positive": spec.positive,
    }


def _judged(champion: LoadedModel | None) -> LoadedModel | None:
    """Return the version to compare with: where the champion was refitted on all rows, the one that was judged then.

    The refitted one has learned from the test rows. The challenger has not, and is refitted too when it wins.
    """
    learned = lineage_of(champion.estimator) if champion else None
    if champion is None or learned is None or learned.refit_of is None:
        return champion
    return load_model(champion.version.name, version=learned.refit_of)


def split_alike(challenger: Any, champion: LoadedModel | None) -> bool:
    """Tell whether the rows of both were split alike, so that the challenger's test rows are those of the champion too.

    By two different rules, rows on the test side of both are all over the table.
    """
    ours, theirs = (lineage_of(one) for one in (challenger, champion.estimator if champion else None))
    if ours is None or theirs is None or ours.rule is None or theirs.rule is None:
        return True
    one, other = ours.rule, theirs.rule
    return (one.by, one.columns, one.seed) == (other.by, other.columns, other.seed)


def unseen_rows_of(reports: Iterable[Report]) -> str:
    """Say on how many rows a challenger was judged, and how it is known that no model had learned from them."""
    checks = (check for report in reports for check in report.checks if check.id == CHECK_ID)
    check = next(checks, None)
    return f"Judged on {check.observed}." if check and check.passed else ""


def warnings_of(reports: Iterable[Report]) -> list[str]:
    """Write the warnings that a challenger was judged with, a sentence for the first few and a count of the others."""
    warned = [check for report in reports if report.kind == "gate" for check in report.failures]
    sentences = [f"Warning: {check.sentence}." for check in warned if check.severity == "warning"]
    more = len(sentences) - MAX_WARNINGS
    return sentences[:MAX_WARNINGS] + ([f"{more} more warnings are in the report of the gates."] if more > 0 else [])


def reason_of(checks: Sequence[Check]) -> str:
    """Say what a decision rests on: the first few checks in full, the others are in the report."""
    own_lines = (CHECK_ID, NO_LEAKAGE)  # the summary says these, or has nothing to say of them
    checks = [check for check in checks if not (check.id in own_lines and check.passed)]
    sentences = [check.sentence for check in checks[:MAX_REASONS]]
    more = len(checks) - len(sentences)
    return "; ".join([*sentences, *([f"and {more} more checks" if more > 1 else "and one more check"] if more else [])])
