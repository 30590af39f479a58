"""What is found in each month of 2013 when the model of the example learned from January to March.

    python benchmarks/drift_months.py --picture months.png

The spring is split: the model learns from three quarters of it, and what it says of the last quarter, which it has not
seen, is what its predictions are compared with. Weights are its permutation importances there.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from drift_tables import Answer, ask_evidently
from sklearn.model_selection import train_test_split

from prefect_mlops.core.drift.detection import detect_drift
from prefect_mlops.core.drift.training_profile import PREDICTION, TrainingProfile, make_training_profile
from prefect_mlops.core.evaluation.importance import measure_importances
from prefect_mlops.examples.flights import model
from prefect_mlops.examples.flights.arrivals import write_month

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Check, Report

SPRING, YEAR = (1, 2, 3), range(1, 13)
SPLIT_SEED = 0


def months() -> dict[int, pd.DataFrame]:
    """Read every month as the demo writes it, and prepare it as the model's spec does."""
    with tempfile.TemporaryDirectory() as folder:
        return {month: model.prepared(pd.read_csv(write_month(Path(folder), month))) for month in YEAR}


def learn(spring: pd.DataFrame, seed: int) -> tuple[Any, TrainingProfile]:
    """Train the model and make what it is compared with."""
    X, y = spring[list(model.features or ())], spring[model.target]
    places = train_test_split(np.arange(len(X)), test_size=0.25, random_state=seed, stratify=y)
    (learned, known), (unseen, truth) = ((X.iloc[np.sort(side)], y.iloc[np.sort(side)]) for side in places)  # in order
    fitted = model.estimator.set_params(histgradientboostingclassifier__random_state=seed).fit(learned, known)
    importances = measure_importances(fitted, unseen, truth, metric="roc_auc", seed=seed)
    return fitted, make_training_profile(learned, known, estimator=fitted, unseen=unseen, importances=importances)


def sizes(report: Report) -> dict[str, float]:
    """Return the size of the change of each column's distribution, as the report has it."""
    return {check.subject: _size(check) for check in report.checks if check.name == "distribution"}


def _size(check: Check) -> float:
    found = re.search(r"\d\.\d{3}", check.observed)
    return float(found[0]) if found else float("nan")


def named(report: Report, reference: TrainingProfile) -> str:
    """Write which columns a report names, with what was seen."""
    cells = []
    for check in report.failures:
        if not check.subject:
            continue
        if check.name == "distribution":
            seen = f"{_size(check):.2f}"
        else:  # as far as it is about shares
            seen = f"{check.name} {re.split(r' of the rows| outside', check.observed)[0]}"
        weight = reference.weights.get(check.subject)
        cells.append(f"{check.subject} {seen}" + ("" if weight is None else f" ({weight:.0%})"))
    return "; ".join(cells) or "nothing"


def judge(fitted: Any, reference: TrainingProfile, tables: dict[int, pd.DataFrame]) -> list[dict[str, Any]]:
    """Judge every month."""
    features = [*reference.features]
    before = pd.concat([tables[month] for month in SPRING], ignore_index=True)[features]
    lines = []
    for month, table in tables.items():
        report = detect_drift(current=table[[*features, reference.target]], reference=reference, estimator=fitted)
        theirs: Answer = ask_evidently(table[features].reset_index(drop=True), before)
        lines.append(
            {
                "month": month,
                "rows": len(table),
                "report": report,
                "sizes": sizes(report),
                "theirs": theirs,
                "auc": _auc(fitted, table, reference),
            }
        )
    return lines


def _auc(fitted: Any, table: pd.DataFrame, reference: TrainingProfile) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(table[reference.target], fitted.predict_proba(table[list(reference.features)])[:, 1]))


def markdown(lines: list[dict[str, Any]], reference: TrainingProfile) -> str:
    """Write a line for each month, and one for each column."""
    text = [
        "| month | rows | verdict | decided by | named: size (weight) | classifier | Evidently flags | model's AUC |",
        "|" + " --- |" * 8,
    ]
    for line in lines:
        report: Report = line["report"]
        apart = next((one for one in report.checks if "classifier" in one.name), None)
        theirs = f"{line['theirs'].named} of {len(reference.features)}{', alarm' * line['theirs'].alarm}"
        cells = [
            str(line["month"]) + " (learned from)" * (line["month"] in SPRING),
            f"{line['rows']:,}",
            "passed" if report.passed else "**failed**",
            report.checks[0].observed,
            named(report, reference),
            "" if apart is None else f"{apart.observed.partition(' on')[0]}{'' if apart.passed else ', warns'}",
            theirs,
            f"{line['auc']:.3f}",
        ]
        text.append("| " + " | ".join(cells) + " |")
    text += ["", "Size of the change of the distribution by month (named from 0.1 on, or from what is usual):", ""]
    text += [
        "| column | weight |" + "".join(f" {line['month']} |" for line in lines),
        "|" + " --- |" * (2 + len(lines)),
    ]
    for column in [*reference.features, reference.target, PREDICTION]:
        weight = reference.weights.get(column)
        seen = [line["sizes"].get(column) for line in lines]
        cells = [column, "-" if weight is None else f"{weight:.0%}"]
        cells += ["-" if size is None else f"{size:.2f}" for size in seen]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def draw(path: Path, tables: dict[int, pd.DataFrame], fitted: Any, lines: list[dict[str, Any]], spring: Any) -> None:
    """Draw every named column month by month: boxes for numbers, shares for categories, red where it was named."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    subjects = [{check.subject for check in line["report"].failures if check.subject} for line in lines]
    columns = sorted(set().union(*subjects))
    tables = {0: spring, **tables}
    tables = {month: _with_predictions(table, fitted) for month, table in tables.items()}
    figure, axes = plt.subplots(len(columns), 1, figsize=(13, 2.6 * len(columns)), squeeze=False)
    for axis, column in zip(axes[:, 0], columns, strict=True):
        _draw_column(axis, {month: table[column] for month, table in tables.items()})
        for place, names in enumerate(subjects, 2):
            if column in names:
                axis.axvspan(place - 0.5, place + 0.5, color="red", alpha=0.15)
        axis.set_title(f"{column} (red: named)", fontsize=9, loc="left")
        axis.set_xticks(range(1, len(tables) + 1), ["1-3", *map(str, YEAR)])
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def _with_predictions(table: pd.DataFrame, fitted: Any) -> pd.DataFrame:
    return table.assign(**{PREDICTION: fitted.predict_proba(table[list(model.features or ())])[:, 1]})


def _draw_column(axis: Any, by_month: dict[int, pd.Series]) -> None:
    cells = list(by_month.values())
    if pd.api.types.is_numeric_dtype(cells[0]) and cells[0].nunique() > 2:  # noqa: PLR2004
        values = [one.dropna().to_numpy() for one in cells]
        low, high = np.quantile(np.concatenate(values), [0.005, 0.995])
        axis.violinplot([one[(one >= low) & (one <= high)] for one in values], widths=0.9, showextrema=False)
        axis.boxplot(values, widths=0.15, showfliers=False, whis=(5, 95))
        axis.set_ylim(low, high)
        return
    names = cells[0].value_counts().index[:8]
    bottom = np.zeros(len(cells))
    for name in names:
        shares = np.array([(one == name).mean() for one in cells])
        axis.bar(range(1, len(cells) + 1), shares, bottom=bottom, width=0.8, label=str(name))
        bottom += shares
    axis.legend(fontsize=6, ncols=8, loc="lower left")


def main() -> None:
    """Judge the year and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--picture", type=Path, help="PNG file to draw the named columns into")
    parser.add_argument("--seed", type=int, default=SPLIT_SEED)
    given = parser.parse_args()
    tables = months()
    spring = pd.concat([tables[month] for month in SPRING], ignore_index=True)
    fitted, reference = learn(spring, given.seed)
    lines = judge(fitted, reference, tables)
    print(markdown(lines, reference))
    if given.picture:
        draw(given.picture, tables, fitted, lines, spring)


if __name__ == "__main__":
    main()
