"""The training data of a card: facts, target, column baselines, and the limits that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.cards.card import MAX_CLASSES, Calibration, ColumnBaseline, Fact, Share, Target, TargetLine
from prefect_mlops.core.drift.column_drift import joint_kind
from prefect_mlops.core.drift.column_profile import ColumnProfile, profile_column
from prefect_mlops.core.evaluation.importance import MAX_COLUMNS, Importances
from prefect_mlops.core.tables.columns import Column, read_column
from prefect_mlops.core.text import listed, plain

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.lineage.training_data import Lineage
    from prefect_mlops.core.reports import Check
    from prefect_mlops.core.values import Split

TOP = 5  # most frequent values shown of a column
RARE = 0.1  # share of a class; below, scores over all rows hardly depend on it
FEW_ROWS = 1_000  # test rows; below, the second digit of a score is mostly noise
LEAKAGE = 0.8  # share of one column in the importance; above, leakage is likely
MISCALIBRATED = 0.05  # expected calibration error; above, probabilities mislead decisions
MAX_NAMED = 8  # columns named in one sentence


def describe_data(lineage: Lineage | None, split: Split, *, dataset: str) -> tuple[Fact, ...]:
    """List the facts about the training rows and the test rows."""
    facts = [Fact(name="Dataset", value=dataset)]
    if lineage is not None:
        if lineage.source:
            at = "" if lineage.source.version is None else f", version {lineage.source.version}"
            facts.append(Fact(name="Read from", value=f"{lineage.source.uri}{at}"))
        facts.append(Fact(name="Digest of the training rows", value=lineage.digest))
    trained = lineage.rows if lineage else len(split.X_train)
    until = f", until {lineage.until}" if lineage and lineage.until is not None else ""
    gaps = f", {len(lineage.gaps)} of them with gaps" if lineage and lineage.gaps else ""
    facts += [
        Fact(name="Training rows", value=f"{trained:,}{until}"),
        Fact(name="Test rows", value=f"{len(split.X_test):,}{', all of them later' if until else ''}"),
        Fact(name="Features", value=f"{split.X_train.shape[1]:,}{gaps}"),
        *([Fact(name="Holdout, not learned from", value=lineage.holdout)] if lineage and lineage.holdout else []),
    ]
    return tuple(facts)


def describe_target(y_train: pd.Series, y_test: pd.Series, *, classes: bool) -> Target:
    """Describe the target among training and test rows: shares of classes, or quantiles."""
    import numpy as np

    name = plain(y_train.name)
    if not classes:
        sides = [side.to_numpy(dtype="float64", na_value=np.nan) for side in (y_train, y_test)]
        names = ("min", "5%", "25%", "median", "75%", "95%", "max")
        train, test = (np.nanquantile(side, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]) for side in sides)
        lines = [TargetLine(name=key, train=a, test=b) for key, a, b in zip(names, train, test, strict=True)]
        return Target(name=name, classes=False, lines=tuple(lines))
    shares = [side.astype(object).value_counts(normalize=True) for side in (y_train, y_test)]
    lines = [
        TargetLine(name=plain(value), train=float(share), test=float(shares[1].get(value, 0.0)))
        for value, share in shares[0].head(MAX_CLASSES).items()
    ]
    return Target(name=name, classes=True, lines=tuple(lines), distinct=len(shares[0]))


def describe_columns(X: pd.DataFrame, *, first: Sequence[str] = ()) -> tuple[ColumnBaseline, ...]:
    """Describe up to `MAX_COLUMNS` columns of the training rows, those named in ``first`` before the others."""
    rank = {name: place for place, name in enumerate(first)}
    names = [plain(name) for name in X.columns]
    order = sorted(range(len(names)), key=lambda place: rank.get(names[place], len(rank)))
    return tuple(_baseline(names[place], X.iloc[:, place]) for place in order[:MAX_COLUMNS])


def _baseline(name: str, cells: pd.Series) -> ColumnBaseline:
    column = read_column(cells)
    kind = joint_kind(profile_column(cells), ColumnProfile())
    common = {"column": name, "kind": kind, "missing": column.nulls / column.rows if column.rows else 0.0}
    if kind == "numeric":
        return ColumnBaseline.model_validate(common | {"numbers": _numbers(column.values.to_numpy(dtype="float64"))})
    if kind == "text":
        return ColumnBaseline.model_validate(common | {"numbers": _numbers(column.lengths().to_numpy())})
    if kind == "datetime":
        return ColumnBaseline.model_validate(common | dict(zip(("first", "last"), _span(column), strict=False)))
    if kind == "empty":
        return ColumnBaseline.model_validate(common)
    counts = column.counts()
    top = [Share(value=plain(value), share=count / len(column.values)) for value, count in counts.head(TOP).items()]
    return ColumnBaseline.model_validate(common | {"distinct": len(counts), "top": tuple(top)})


def _numbers(values: NDArray[Any]) -> dict[str, float]:
    import numpy as np

    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return {}
    with np.errstate(over="ignore"):
        low, median, high = np.quantile(finite, [0.05, 0.5, 0.95])
        numbers = {
            "mean": finite.mean(),
            "std": finite.std(),
            "min": finite.min(),
            "5%": low,
            "median": median,
            "95%": high,
            "max": finite.max(),
        }
    return {name: float(value) for name, value in numbers.items() if np.isfinite(value)}


def _span(column: Column) -> list[str]:
    import numpy as np

    ends = (column.values.min(), column.values.max())
    return [str(np.datetime64(int(end), "s")).replace("T", " ") for end in ends if np.isfinite(end)]


def find_limits(
    *,
    lineage: Lineage | None,
    ordered: bool,
    rows_tested: int,
    target: Target | None,
    baseline: Sequence[ColumnBaseline],
    importances: Importances | None,
    calibration: Calibration | None,
    checks: Sequence[Check],
) -> tuple[str, ...]:
    """Derive the limits of the model from the facts of its card, one sentence each."""
    return (
        *_time_limits(lineage, ordered=ordered),
        *_value_limits(baseline),
        *_missing_limits(baseline),
        *_target_limits(target, rows_tested),
        *_importance_limits(importances),
        *_calibration_limits(calibration),
        *_gate_limits(checks),
    )


def _time_limits(lineage: Lineage | None, *, ordered: bool) -> Iterator[str]:
    if lineage is None:
        yield "What it was trained on is not known: it was not trained by train_model."
    if lineage is not None and lineage.until is not None:
        yield f"It has seen nothing after {lineage.until}; what changed since then is new to it."
    elif not ordered:
        yield "Test rows are not later than training rows, so the scores do not show how it degrades over time."


def _value_limits(baseline: Sequence[ColumnBaseline]) -> Iterator[str]:
    categories = [f"{each.column} ({each.distinct:,})" for each in baseline if each.distinct and each.kind != "boolean"]
    if categories:
        yield f"Values seen in training: {listed(categories, MAX_NAMED)}. Any other value is new to it."
    if any(each.kind == "numeric" for each in baseline):
        yield "Numbers outside of the ranges under “Drift baseline” were not in training."
    empty = [each.column for each in baseline if each.kind == "empty"]
    if empty:
        yield f"Without any value in training: {listed(empty, MAX_NAMED)}."


def _missing_limits(baseline: Sequence[ColumnBaseline]) -> Iterator[str]:
    gaps = [each for each in baseline if each.missing and each.kind != "empty"]
    if gaps:
        names = listed([f"{each.column} ({percent(each.missing)})" for each in gaps], MAX_NAMED)
        yield f"Values were missing in training in {names}; in the other columns a gap is new to it."
    elif baseline:
        yield "No value was missing in training; a gap is new to it."


def _target_limits(target: Target | None, rows_tested: int) -> Iterator[str]:
    if rows_tested < FEW_ROWS:
        yield f"The scores rest on {rows_tested:,} rows only."
    if target is None or not target.classes:
        return
    rare = [f"{line.name} ({percent(line.train)})" for line in target.lines if line.train < RARE]
    more = target.distinct - len(target.lines)
    if rare or more:
        rest = f", and {more:,} more classes" if more else ""
        names = listed(rare, MAX_NAMED)
        yield f"Rare in training: {names}{rest}; scores over all rows hardly show how these are treated."


def _importance_limits(importances: Importances | None) -> Iterator[str]:
    if importances is None or not importances.columns:
        return
    if importances.largest_share > LEAKAGE:
        yield (
            f"{importances.columns[0].column} carries {importances.largest_share:.0%} of all importance. Is it known "
            "at the time of the prediction? If not, this is leakage."
        )
    if importances.negligible:
        noun = "column makes" if importances.negligible == 1 else "columns make"
        named = [each.column for each in importances.columns if each.drop <= importances.noise(each.spread)]
        yield (
            f"{importances.negligible:,} {noun} no difference to {importances.metric} beyond chance"
            f"{f': {listed(named, MAX_NAMED)}' if named else ''}."
        )


def _calibration_limits(calibration: Calibration | None) -> Iterator[str]:
    if calibration is not None and calibration.gap > MISCALIBRATED:
        yield (
            f"Predicted probabilities are {100 * calibration.gap:.1f} percentage points off on average: they rank the "
            "rows, but are not the observed frequencies."
        )


def _gate_limits(checks: Sequence[Check]) -> Iterator[str]:
    small = [check.subject for check in checks if check.passed and "too few" in check.observed]
    if small:
        yield f"Test rows were too few for the gate to judge {listed(small, MAX_NAMED)}."
    yield from (f"{check.sentence}." for check in checks if not check.passed and check.severity == "warning")


def percent(part: float) -> str:
    """Write a share of rows as a percentage; a small one is not rounded to 0%, nor a large one to 100%."""
    if 0 < part < 0.001:  # noqa: PLR2004 - the last digit shown
        return "< 0.1%"
    if 0.999 < part < 1:  # noqa: PLR2004 - likewise
        return "> 99.9%"
    return f"{100 * part:.1f}%" if 0 < part < 1 else f"{100 * part:.0f}%"
