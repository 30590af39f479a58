"""A classifier that separates two tables: finds changes between columns, which tests of single columns miss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.drift.table_profile import in_order
from prefect_mlops.core.drift.thresholds import MIN_ROWS
from prefect_mlops.core.evaluation.importance import one_thread
from prefect_mlops.core.evaluation.influence_functions import auc_influence
from prefect_mlops.core.tables.columns import read_column

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.tables.columns import ColumnKind

MAX_CELLS = 600_000  # rows of both samples times columns; about a second of two cores
_SAMPLE = 4_000  # rows a side, for the block baseline
_NORMAL_95 = 1.959964
_LARGEST = 1e150


@dataclass(frozen=True)
class DomainClassifier:
    """How well a classifier separates current rows from those of the reference.

    Attributes:
        auc: area under its ROC curve on rows it was not trained on; 0.5 when it cannot separate the two.
        low: lower end of the 95 % interval.
        high: upper end.
        rows: rows it was tested on.
    """

    auc: float
    low: float
    high: float
    rows: int


def classify_domains(
    *, current: pd.DataFrame, reference: pd.DataFrame, kinds: Mapping[str, ColumnKind], seed: int = 0
) -> DomainClassifier | None:
    """Train a classifier to separate two samples, and measure how well it does.

    Args:
        current: sample, (rows, columns).
        reference: sample, (reference rows, columns).
        kinds: what the columns to use hold; times, which always differ, and empty columns are left out.
        seed: of the two folds and of the classifier.

    Returns:
        None with fewer than `MIN_ROWS` rows a side, or without a column to use.

    Source: Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests"; a
        `sklearn.ensemble.HistGradientBoostingClassifier` learns from one half of the rows and is tested on the other;
        DeLong's interval over the test rows.
    """
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import train_test_split

    names = [name for name, kind in kinds.items() if kind not in ("datetime", "empty")]
    names = [name for name in names if name in current.columns and name in reference.columns]
    if not names or min(len(current), len(reference)) < MIN_ROWS:
        return None
    table = np.column_stack([_figures(current[name], reference[name], kinds[name]) for name in names])
    is_current = np.repeat([True, False], [len(current), len(reference)])
    halves = train_test_split(table, is_current, test_size=0.5, stratify=is_current, random_state=seed)
    X_train, X_test, y_train, y_test = halves
    classifier = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=15, random_state=seed)
    with one_thread():
        scores = classifier.fit(X_train, y_train).predict_proba(X_test)[:, 1]
    auc, influences = auc_influence(y_test, scores)
    error = float(np.sqrt(len(influences) / (len(influences) - 1) * (influences**2).sum()))
    margin = _NORMAL_95 * error
    return DomainClassifier(auc, max(0.0, auc - margin), min(1.0, auc + margin), len(scores))


def block_baseline_auc(
    table: pd.DataFrame, kinds: Mapping[str, ColumnKind], *, order: NDArray[Any] | None = None
) -> float:
    """Return how well a classifier separates the first and the last quarter of a table from the rest; the larger AUC.

    Args:
        table: rows in order of arrival, (rows, columns).
        kinds: what the columns to use hold.
        order: places of the rows in order of arrival, where that is another one.

    Returns:
        0.5 for a table that is too small or too wide.
    """
    quarter, largest = len(table) // 4, 0.5
    if _SAMPLE * 2 * len(kinds) > MAX_CELLS:
        return largest
    last = len(table) - quarter
    for block in (slice(0, quarter), slice(last, len(table))) if quarter else ():
        rest = slice(quarter, len(table)) if block.start == 0 else slice(0, last)
        current, reference = (in_order(table, order, _thinned(part)) for part in (block, rest))
        found = classify_domains(current=current, reference=reference, kinds=kinds)
        largest = max(largest, found.auc if found else 0.5)
    return largest


def _thinned(part: slice) -> slice:
    return slice(part.start, part.stop, max(1, (part.stop - part.start) // _SAMPLE))


def _figures(now: pd.Series, before: pd.Series, kind: ColumnKind) -> NDArray[Any]:
    """Turn both sides of a column into numbers a tree can split; missing stays missing."""
    import numpy as np
    import pandas as pd

    both = pd.concat([now.astype(object), before.astype(object)], ignore_index=True)
    there = both.notna()
    figures = np.full(len(both), np.nan)
    values = read_column(both[there]).values
    if kind == "numeric":
        figures[there] = values.to_numpy("float64").clip(-_LARGEST, _LARGEST)
    elif kind == "text":
        figures[there] = [len(str(value)) for value in values]
    else:  # the most frequent first, so that neighbours are alike
        names = [str(value) for value in values]
        places = {name: place for place, (name, _) in enumerate(Counter(names).most_common())}
        figures[there] = [places[name] for name in names]
    return figures
