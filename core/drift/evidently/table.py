"""The table of the drift page: every column drawn by Evidently, with our verdict instead of its own.

It is drawn from the samples that profiles carry, so it costs the same for tables of any size. Evidently writes values
and column names into a script block as they are: ``</script><script>`` in a category would run. Every text is therefore
made inert before Evidently sees it.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.drift.evidently.columns import Pair, ready_pairs
from prefect_mlops.core.imports import uncollected
from prefect_mlops.core.text import listed

if TYPE_CHECKING:
    from prefect_mlops.core.drift.table_drift import TableDrift
    from prefect_mlops.core.drift.table_profile import TableProfile
    from prefect_mlops.core.drift.training_profile import TrainingProfile

HISTOGRAM_BINS = 10  # bars of the small histograms, as Evidently draws them
MAX_TABLE_ROWS = 50  # columns on one page of the table
MAX_NAMED = 20  # columns named in a note; the others are counted
_SHARES = 1  # Evidently's second button below a distribution; the first shows counts
_MAIN = ("distribution", "length of text")  # what a column is judged by first


class NothingToDrawError(ValueError):
    """No column of the two tables can be drawn."""


@dataclass(frozen=True)
class Drawing:
    """A drawn table.

    Attributes:
        snapshot: Evidently's, with one widget: the table.
        drawn_from: how many rows the pictures are made of, as a sentence part.
        notes: sentences on what is not in the table.
    """

    snapshot: Any
    drawn_from: str
    notes: list[str]


def draw_table(
    *, current: TableProfile, reference: TableProfile, comparison: TableDrift, known: TrainingProfile | None, most: int
) -> Drawing:
    """Draw the columns of two tables.

    Args:
        current: the sample and the number of rows of the one table.
        reference: likewise of the other.
        comparison: what was found on all rows.
        known: which column is the target, and what each is worth to the model.
        most: columns to draw: prediction and target, those that drifted, then the most important ones.

    Raises:
        NothingToDrawError: no column can be drawn.

    Source:
        Evidently's ``DataDriftTable`` draws the table; verdicts and sizes in it are replaced by ours.
    """
    pairs, left_out, too_many = ready_pairs(current.sample, reference.sample, comparison, known=known, most=most)
    if not pairs:
        raise NothingToDrawError("no column can be drawn")
    left_out += [name for name in dict.fromkeys(f.column for f in comparison.findings) if name not in comparison.kinds]
    notes = [f"Left out of the page: {listed([repr(name) for name in left_out], MAX_NAMED)}."] if left_out else []
    if too_many:
        names = listed([repr(name) for name in too_many], MAX_NAMED)
        notes.append(f"The page has room for {most} columns, those that drifted first; not drawn: {names}.")
    drawn_from = (
        f"drawn from {len(current.sample):,} of {current.rows:,} current and {len(reference.sample):,} of "
        f"{reference.rows:,} reference rows; the verdict is from all of them"
    )
    return Drawing(_evidently_table(pairs, comparison), drawn_from, notes)


def _evidently_table(pairs: Sequence[Pair], comparison: TableDrift) -> Any:
    """Let Evidently draw the prepared columns; it sends telemetry unless switched off."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, on columns Evidently correlates unasked
        with uncollected():
            import pandas as pd
            from evidently import DataDefinition, Dataset, Report

        definition = DataDefinition(
            numerical_columns=[pair.label for pair in pairs if pair.numeric],
            categorical_columns=[pair.label for pair in pairs if not pair.numeric],
        )
        current = pd.DataFrame({pair.label: pair.current.reset_index(drop=True) for pair in pairs})
        reference = pd.DataFrame({pair.label: pair.reference.reset_index(drop=True) for pair in pairs})
        table = _table_class()(cells={pair.label: _cells(pair, comparison) for pair in pairs})
        return Report([table], include_tests=False).run(
            Dataset.from_pandas(current, data_definition=definition),
            Dataset.from_pandas(reference, data_definition=definition),
        )


@functools.cache  # Evidently keeps a registry of such classes: one is enough
def _table_class() -> Any:
    """Make Evidently's drift table into one that shows our verdicts."""
    from evidently.core.container import MetricContainer
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType
    from evidently.legacy.metrics import DataDriftTable

    # Evidently computes a test for each column in any case: this one costs nothing and cannot fail.
    kinds = [ColumnType.Numerical, ColumnType.Categorical]
    register_stattest(StatTest("prefect_mlops", "decided on all rows", kinds, 0.5), lambda *_: (0.0, False))

    class VerdictTable(MetricContainer):  # type: ignore[misc] # Evidently has no types
        """Evidently's table of columns, with the cells that hold a verdict replaced."""

        cells: dict[str, Any]

        def generate_metrics(self, context: Any) -> list[Any]:  # noqa: ARG002 - Evidently's signature
            return []

        def render(self, context: Any, child_widgets: Any = None) -> list[Any]:  # noqa: ARG002 - Evidently's signature
            metric = DataDriftTable(columns=list(self.cells), stattest="prefect_mlops")
            widget = context.get_legacy_metric(metric, None, None)[1][-1]
            for row in widget.params["data"]:
                row.update(self.cells[row["column_name"]])
                row["details"]["parts"].reverse()  # the distribution first, then the mean along the rows
            for graph in widget.additionalGraphs:
                _restyle(graph.params)
            order = list(self.cells)
            widget.params["data"].sort(key=lambda row: order.index(row["column_name"]))
            widget.params["rowsPerPage"] = min(len(self.cells), MAX_TABLE_ROWS)
            widget.title = "Prediction and target where there are any, then the columns that drifted, then the others"
            return [widget]

    return VerdictTable


def _restyle(picture: dict[str, Any]) -> None:
    """Show shares, since the sides differ in rows, and drop the style sheet each picture carries: half of its size."""
    layout = picture["layout"]
    layout.pop("template", None)
    for menu in layout.get("updatemenus", ()):
        traces, axes = menu["buttons"][_SHARES]["args"]
        menu["active"] = _SHARES
        layout["yaxis"]["title"] = {"text": axes["yaxis"]["title"]}
        for trace, visible in zip(picture["data"], traces["visible"], strict=True):
            trace["visible"] = visible


def _cells(pair: Pair, comparison: TableDrift) -> dict[str, Any]:
    """Fill the row of one column: our verdict, and small histograms that share their bins.

    Evidently bins each side over its own range, so that a shifted column shows the same picture twice.
    """
    changes = [change for change in comparison.changes if change.column == pair.name]
    drifted = [change.aspect for change in changes if change.drifted]
    judged = any(change.judged for change in changes)
    decisive = max(
        changes,
        key=lambda change: (change.drifted, change.aspect in _MAIN, change.measure.size),
        default=None,
    )
    cells: dict[str, Any] = {
        "column_type": pair.kind,
        "data_drift": f"drifted: {', '.join(drifted)}" if drifted else "no drift" if judged else "not judged",
        "stattest_name": decisive.measure.statistic if decisive else "",
        "drift_score": round(decisive.measure.size, 3) if decisive else 0.0,
    }
    if pair.numeric:
        import numpy as np

        edges = np.histogram_bin_edges(np.concatenate([pair.current, pair.reference]), bins=HISTOGRAM_BINS)
        for side, values in (("current", pair.current), ("reference", pair.reference)):
            heights = np.histogram(values, bins=edges)[0] / len(values)
            cells[f"{side}_distribution"] = {"x": edges.tolist(), "y": heights.tolist()}
    return cells
