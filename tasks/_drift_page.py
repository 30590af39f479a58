"""The page people look at: Evidently's table of distributions, carrying our verdict instead of its own.

Evidently writes values and column names into a script block of the page as they are: ``</script><script>`` in a
category would run. Every text is therefore made inert before Evidently sees it, and the page forbids the network.
"""

from __future__ import annotations

import functools
import html
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.columns import MAX_SHOWN, Column, ColumnKind, read_column

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.comparison import Comparison
    from prefect_mlops.core.reports import Report

SAMPLE_ROWS = 10_000  # rows a side: a histogram of more looks the same, and the page is drawn in under a second
SAMPLE_SEED = 0  # the same tables give the same page
MAX_BARS = 15  # categories shown by name; the others are one bar
TIME_BINS = 12  # bars for a column of timestamps, which Evidently cannot draw
HISTOGRAM_BINS = 10  # bars of the small histograms, as Evidently draws them
TAIL = 0.005  # values further out on either side are drawn at the edge: one outlier would leave a single bar
MAX_FAILURES = 10  # at the top of the page; the report has all of them
MAX_SENTENCE = 400
MAX_TABLE_ROWS = 50  # columns on one page of the table
_LARGEST = 1e150  # the width of a histogram and the square in a correlation have to stay finite
_FINEST = 1e-12  # narrower than this, relative to the values, bars are narrower than floating point can tell apart
_OTHER = "(other values)"
# Angle brackets and ampersand end a script block or start a tag; look-alikes cannot.
_INERT = str.maketrans({"<": "\u2039", ">": "\u203a", "&": "\uff06"})
# Nothing is fetched and nothing can be sent, whatever got into the page.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; font-src data:; img-src data: blob:"
)
_BANNER_STYLE = "font-family:sans-serif;max-width:1280px;margin:16px auto;padding:12px 20px;border-left:6px solid"


class NothingToDrawError(ValueError):
    """No column of the two tables can be drawn."""


@dataclass(frozen=True)
class _Pair:
    """One column of both samples, ready to be drawn."""

    name: str
    label: str
    kind: ColumnKind
    current: pd.Series
    reference: pd.Series

    @property
    def numeric(self) -> bool:
        return self.kind in ("numeric", "text")


def write_page(
    path: Path, *, current: pd.DataFrame, reference: pd.DataFrame, comparison: Comparison, report: Report
) -> list[str]:
    """Draw the page and write it.

    Args:
        path: file to write; its folder is made.
        current: shape (rows, columns), all of it; the sample is drawn here.
        reference: likewise.
        comparison: what was found on all rows.
        report: our verdict, shown at the top.

    Returns:
        Sentences for the report: how many rows the page shows and which columns it leaves out.

    Raises:
        NothingToDrawError: no column can be drawn.
        OSError: the file cannot be written.

    Source:
        Evidently's ``DataDriftTable`` draws the table; verdicts and sizes in it are replaced by ours.
    """
    path.unlink(missing_ok=True)  # yesterday's page must not stand for today's verdict
    samples = (_sample(current), _sample(reference))
    pairs, left_out = _pairs(*samples, comparison.kinds)
    drawn_from = (
        f"drawn from {len(samples[0]):,} of {len(current):,} current and {len(samples[1]):,} of {len(reference):,} "
        "reference rows; the verdict is from all of them"
    )
    if not pairs:
        raise NothingToDrawError("no column can be drawn")
    page = _with_banner(_evidently_page(pairs, comparison), _banner(report, drawn_from))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page.encode("utf-8", "replace"))
    left_out += [name for name in dict.fromkeys(f.column for f in comparison.findings) if name not in comparison.kinds]
    missing = [f"Left out of the page: {', '.join(map(repr, left_out))}."] if left_out else []
    return [f"The page is {drawn_from}.", *missing]


def _sample(frame: pd.DataFrame) -> pd.DataFrame:
    """Draw rows with a seed, in their order, so that what changes along the rows can still be seen."""
    import numpy as np

    if len(frame) <= SAMPLE_ROWS:
        return frame
    places = np.random.default_rng(SAMPLE_SEED).choice(len(frame), SAMPLE_ROWS, replace=False)
    return frame.iloc[np.sort(places)]


def _pairs(
    current: pd.DataFrame, reference: pd.DataFrame, kinds: dict[str, ColumnKind]
) -> tuple[list[_Pair], list[str]]:
    """Prepare what can be drawn and name what cannot."""
    places = [{str(label): place for place, label in enumerate(frame.columns)} for frame in (current, reference)]
    pairs: list[_Pair] = []
    left_out = []
    for name, kind in kinds.items():
        drawn = [
            _drawn(read_column(frame.iloc[:, place[name]]), kind)
            for frame, place in zip((current, reference), places, strict=True)
        ]
        if not _has_an_axis(drawn[0], drawn[1], kind):
            left_out.append(name)
            continue
        label = _unique(_inert(name), {pair.label for pair in pairs})
        pairs.append(_Pair(name, label, kind, *_shown(drawn[0], drawn[1], kind)))
    return pairs, left_out


def _has_an_axis(now: pd.Series, before: pd.Series, kind: ColumnKind) -> bool:
    """Tell whether there is something on both sides and more than one value, far enough apart for bars between them."""
    import pandas as pd

    if len(now) == 0 or len(before) == 0:
        return False
    both = pd.concat([now, before])
    if both.nunique() < 2:  # noqa: PLR2004 - one value is no axis
        return False
    # Evidently also bins each side alone, a constant one half a unit to either side.
    return kind in ("categorical", "boolean") or all(_can_be_binned(side) for side in (now, before, both))


def _can_be_binned(numbers: pd.Series) -> bool:
    width = float(numbers.max() - numbers.min()) or 1.0
    return width > max(_FINEST * float(numbers.abs().max()), 1 / _LARGEST)


def _drawn(column: Column, kind: ColumnKind) -> pd.Series:
    """Turn the values of a column into what is drawn of them."""
    import numpy as np

    values = column.values
    if kind == "text":
        return column.lengths()
    if kind in ("numeric", "datetime"):
        finite: pd.Series = values[np.isfinite(values.to_numpy(dtype="float64"))].clip(-_LARGEST, _LARGEST)
        return finite
    return values.astype(object)


def _shown(now: pd.Series, before: pd.Series, kind: ColumnKind) -> tuple[pd.Series, pd.Series]:
    """Bring both sides onto one axis: numbers stay, times become periods, rare categories become one."""
    if kind in ("numeric", "text"):
        return _trimmed(now, before)
    return _periods(now, before) if kind == "datetime" else _categories(now, before)


def _trimmed(now: pd.Series, before: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Move what is far out to the edge of the picture, unless nothing else would be left to see."""
    lows, highs = zip(*(side.quantile([TAIL, 1 - TAIL]) for side in (now, before)), strict=True)
    low, high = min(lows), max(highs)
    return (now.clip(low, high), before.clip(low, high)) if low < high else (now, before)


def _periods(now: pd.Series, before: pd.Series) -> tuple[pd.Series, pd.Series]:
    import numpy as np
    import pandas as pd

    edges = np.linspace(min(now.min(), before.min()), max(now.max(), before.max()), TIME_BINS + 1)
    unit = "D" if edges[1] - edges[0] >= 86_400 else "s"  # noqa: PLR2004 - seconds in a day
    names = [f"{np.datetime64(int(edge), 's').astype(f'datetime64[{unit}]')}" for edge in edges[:-1]]
    sides = [pd.Series(np.array(names, dtype=object)[np.digitize(side, edges[1:-1])]) for side in (now, before)]
    return sides[0], sides[1]


def _categories(now: pd.Series, before: pd.Series) -> tuple[pd.Series, pd.Series]:
    import pandas as pd

    common = pd.concat([now.value_counts(normalize=True), before.value_counts(normalize=True)])
    kept = common.groupby(level=0, sort=False).sum().sort_values(ascending=False, kind="stable").index[:MAX_BARS]
    labels: dict[Any, str] = {}
    for value in kept:
        labels[value] = _unique(_inert(value), set(labels.values()))
    return now.map(labels).fillna(_OTHER).astype(object), before.map(labels).fillna(_OTHER).astype(object)


def _inert(value: object) -> str:
    """Make text from data harmless wherever a page may put it."""
    return _readable(value, MAX_SHOWN).translate(_INERT) or "(blank)"


def _readable(value: object, longest: int) -> str:
    """Take out what is not for reading, such as line ends and marks that turn the direction of text, and cut."""
    text = "".join(sign if sign.isprintable() else " " for sign in str(value)).strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _unique(label: str, taken: set[str]) -> str:
    """Tell two names apart that became one by being made harmless or cut."""
    number, unique = 2, label
    while unique in taken or unique == _OTHER:
        unique = f"{label} ({number})"
        number += 1
    return unique


def _evidently_page(pairs: Sequence[_Pair], comparison: Comparison) -> str:
    """Let Evidently draw the prepared columns; it reports each call to its makers unless told not to."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, on columns Evidently correlates though nobody asked
        import pandas as pd
        from evidently import DataDefinition, Dataset, Report

        definition = DataDefinition(
            numerical_columns=[pair.label for pair in pairs if pair.numeric],
            categorical_columns=[pair.label for pair in pairs if not pair.numeric],
        )
        current = pd.DataFrame({pair.label: pair.current.reset_index(drop=True) for pair in pairs})
        reference = pd.DataFrame({pair.label: pair.reference.reset_index(drop=True) for pair in pairs})
        table = _table_class()(cells={pair.label: _cells(pair, comparison) for pair in pairs})
        snapshot = Report([table], include_tests=False).run(
            Dataset.from_pandas(current, data_definition=definition),
            Dataset.from_pandas(reference, data_definition=definition),
        )
        return str(snapshot.get_html_str(as_iframe=False))


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
            widget.params["data"].sort(
                key=lambda row: (not row["data_drift"].startswith("drifted"), -row["drift_score"])
            )
            widget.params["rowsPerPage"] = min(len(self.cells), MAX_TABLE_ROWS)
            widget.title = "Columns, those that drifted first"
            return [widget]

    return VerdictTable


def _cells(pair: _Pair, comparison: Comparison) -> dict[str, Any]:
    """Fill the row of one column: our verdict, and small histograms that share their bins.

    Evidently bins each side over its own range, so that a shifted column shows the same picture twice.
    """
    changes = [change for change in comparison.changes if change.column == pair.name]
    drifted = [change.aspect for change in changes if change.drifted]
    judged = any(change.judged for change in changes)
    decisive = max(changes, key=lambda change: (change.drifted, change.aspect in ("distribution", "length of text")))
    cells: dict[str, Any] = {
        "column_type": pair.kind,
        "data_drift": f"drifted: {', '.join(drifted)}" if drifted else "no drift" if judged else "too few rows",
        "stattest_name": decisive.measure.statistic,
        "drift_score": round(decisive.measure.size, 3),
    }
    if pair.numeric:
        import numpy as np

        edges = np.histogram_bin_edges(np.concatenate([pair.current, pair.reference]), bins=HISTOGRAM_BINS)
        for side, values in (("current", pair.current), ("reference", pair.reference)):
            heights = np.histogram(values, bins=edges)[0] / len(values)
            cells[f"{side}_distribution"] = {"x": edges.tolist(), "y": heights.tolist()}
    return cells


def _banner(report: Report, drawn_from: str) -> str:
    """Say at the top whose verdict it is and what the pictures are drawn from."""
    color = "#2e7d32" if report.passed else "#c62828"
    sentences = [_readable(check.sentence, MAX_SENTENCE) for check in report.failures]
    more = len(sentences) - MAX_FAILURES
    shown = sentences[:MAX_FAILURES] + ([f"and {more} more in the report"] if more > 0 else [])
    title = _readable(f"{'Passed' if report.passed else 'Failed'}: drift of {report.subject}", MAX_SENTENCE)
    return (
        f'<div id="verdict" style="{_BANNER_STYLE} {color}"><h2>{html.escape(title)}</h2>'
        f"<ul>{''.join(f'<li>{html.escape(sentence)}</li>' for sentence in shown or ['No failed check.'])}</ul>"
        f"<p>The verdict, here and in the table, is prefect-mlops' own. The pictures are Evidently's, {drawn_from}. "
        f"The outermost {TAIL:.1%} of the values on either side are drawn at the edge.</p></div>"
    )


def _with_banner(page: str, banner: str) -> str:
    """Put the banner first in the page, and forbid the page everything it does not need."""
    head, body = page.partition("<head>"), page.partition("<body>")
    if not head[1] or not body[1]:
        raise ValueError("Evidently's page has no head or body to put the verdict into")
    policy = f'<head><meta http-equiv="Content-Security-Policy" content="{_POLICY}"><title>Drift</title>'
    return page.replace("<head>", policy, 1).replace("<body>", f"<body>{banner}", 1)
