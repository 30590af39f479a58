"""The history of monitoring runs: a picture as a data URI, and the page of markdown around it."""

from __future__ import annotations

import base64
import io
import logging
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from prefect_mlops.core import text
from prefect_mlops.core.drawing import DRAWING, METADATA, cut
from prefect_mlops.core.drift.thresholds import MONITORING_ALPHA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prefect_mlops.core.drift.monitoring import MonitoringRun

MAX_RUNS = 30  # rows of the table, and places in the picture: a month of daily runs
MAX_COLUMNS = 8  # in the picture; those that changed most
MAX_NAMES = 3  # columns or metrics named in a cell of the table
_SHADES = 8
_SHARE = "drifted"  # name of the score of drift runs
_LARGE = 0.4  # the scale of sizes reaches at least this far: small changes stay pale
_LABEL_LENGTH = 16  # characters of a file's name below its place
_WIDTH = 8.2  # inches, at 72 points each: the column of an artifact's page
# The light colors of a card: a picture in an artifact cannot follow the theme of the page.
_PAGE, _INK, _MUTED, _RULE, _ACCENT, _BAD = "#ffffff", "#1f2328", "#59636e", "#d8dee4", "#2f6fb3", "#b3261e"

_logger = logging.getLogger(__name__)

_Place = tuple[int, int | None, str, int]  # champion, data version, subject, earlier runs of its kind on it


def plot_history(runs: Sequence[MonitoringRun]) -> str:
    """Draw the last runs: how much each column had changed and where it drifted, and the score with its interval.

    A drift run and a performance run on the same data stand in one place. Without a performance run the share of
    drifted columns is drawn in place of the score.

    Args:
        runs: of one model, oldest first.

    Returns:
        An SVG picture with a background of its own; empty where there are no runs.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    placed = _placed(runs)
    columns = _most_changed(run for together in placed.values() for run in together)
    name, points = _points(placed)
    heights = [0.24 * len(columns) + 0.2] * bool(columns) + [1.5] * bool(points)
    if not heights:
        return ""
    buffer = io.StringIO()
    # Text stays text, so the reader's fonts draw it in any script; names inside the picture are the same each time.
    with DRAWING, warnings.catch_warnings(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "looks"}):
        warnings.simplefilter("ignore")  # signs that matplotlib's font lacks, while it measures them
        figure = Figure(figsize=(_WIDTH, sum(heights) + 1.3), facecolor=_PAGE)
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
        grid = list(figure.subplots(len(heights), squeeze=False, sharex=True, height_ratios=heights)[:, 0])
        if columns:
            _draw_sizes(figure, grid[0], placed, columns)
        if points:
            _draw_scores(grid[-1], name, points)
        _draw_places(grid, placed)
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(METADATA))
    drawn = buffer.getvalue()
    return re.sub(r' d="[^"]*"', _rounded, drawn[drawn.index("<svg") :])


def history_page(model: str, runs: Sequence[MonitoringRun]) -> str:
    """Write the history of runs as markdown: the picture, and a table of the last runs, newest first.

    Args:
        model: registered model.
        runs: of it, oldest first.

    Returns:
        Markdown in which every value is escaped.
    """
    title = f"## Monitoring runs of {text.escape(model)}"
    if not runs:
        return f"{title}\n\nNone yet.\n"
    shown = runs[-MAX_RUNS:][::-1]
    parts = [title, _summary(runs[-1])]
    if picture := _picture(runs):
        uri = base64.b64encode(picture.encode()).decode()
        parts.append(f"![{text.escape(_alt(runs))}](data:image/svg+xml;base64,{uri})")
    # Long names last: an artifact's page is half a screen wide, breaks no cell, and cuts off what does not fit.
    for kind, last in (("drift", "Largest sizes (• drifted)"), ("performance", "Score")):
        if rows := [run for run in shown if run.kind == kind]:
            parts.append(f"### {kind.capitalize()}, newest run first\n\n{_table(rows, last)}")
    if len(runs) > MAX_RUNS:
        parts.append(f"{len(runs) - MAX_RUNS} older runs are not shown.")
    return "\n\n".join(parts) + "\n"


def _picture(runs: Sequence[MonitoringRun]) -> str:
    try:
        return plot_history(runs)
    except Exception:  # the tables hold the same numbers: an error of matplotlib costs the picture only
        _logger.warning("the picture of the runs could not be drawn", exc_info=True)
        return ""


def _summary(run: MonitoringRun) -> str:
    answer = "found nothing" if run.passed else "failed"
    return (
        f"The last one, {run.kind} run {run.number} of v{run.champion}, {answer}. It was on "
        f"{text.escape(run.subject)}, tested at level {run.level:.2g}. Levels shrink from run to run, so that "
        f"all {run.kind} runs of a champion together raise a false alarm with a chance of at most "
        f"{MONITORING_ALPHA:.0%}."
    )


def _alt(runs: Sequence[MonitoringRun]) -> str:
    failed = sum(not run.passed for run in runs)
    return f"Changes by column and scores over the last monitoring runs, oldest left; {failed} of {len(runs)} failed."


def _table(runs: Sequence[MonitoringRun], last: str) -> str:
    """Render runs of one kind, leaving out the columns that would be empty from top to bottom."""
    columns = {
        "Run": [f"{run.number} at v{run.champion}" for run in runs],
        "Data": ["" if run.data is None else str(run.data) for run in runs],
        "Verdict": ["passed" if run.passed else "failed" for run in runs],
        "Drifted": [_drifted(run) for run in runs],
        last: [", ".join((_sizes if run.kind == "drift" else _scores)(run)[:MAX_NAMES]) for run in runs],
        "Rows": ["" if run.rows is None else f"{run.rows:,}" for run in runs],
        "Name": [cut(run.subject) for run in runs],
    }
    filled = {header: cells for header, cells in columns.items() if any(cells)}
    return text.table(list(filled), zip(*filled.values(), strict=True))


def _drifted(run: MonitoringRun) -> str:
    return f"{len(run.drifted)} of {len(run.sizes)}" if run.sizes else f"{len(run.drifted) or ''}"


def _sizes(run: MonitoringRun) -> list[str]:
    """Name every column that drifted, then the others, each from the largest size on."""
    sizes = {**dict.fromkeys(run.drifted, math.nan), **run.sizes}
    order = sorted(sizes, key=lambda name: (name not in run.drifted, -run.sizes.get(name, 0)))
    return [f"{'• ' * (name in run.drifted)}{cut(name)} {sizes[name]:.2f}".removesuffix(" nan") for name in order]


def _scores(run: MonitoringRun) -> list[str]:
    found = []
    for name, score in run.scores.items():
        ends = run.intervals.get(name)
        found.append(f"{cut(name)} {score:.4g}" + (f" ({ends[0]:.4g} to {ends[1]:.4g})" if ends else ""))
    return found


def _placed(runs: Sequence[MonitoringRun]) -> dict[_Place, list[MonitoringRun]]:
    """Put runs of different kinds on the same data side by side, the last places only."""
    placed: dict[_Place, list[MonitoringRun]] = {}
    for run in runs:
        again = 0
        while any(other.kind == run.kind for other in placed.get(_place(run, again), [])):
            again += 1
        placed.setdefault(_place(run, again), []).append(run)
    return dict(list(placed.items())[-MAX_RUNS:])


def _place(run: MonitoringRun, again: int) -> _Place:
    return run.champion, run.data, run.subject, again


def _most_changed(runs: Iterable[MonitoringRun]) -> list[str]:
    """Return the columns to draw: those that drifted most often first, then those with the largest size."""
    weights: dict[str, tuple[int, float]] = {}
    for run in runs:
        for name, size in run.sizes.items():
            times, largest = weights.get(name, (0, 0.0))
            weights[name] = (times + (name in run.drifted), max(largest, size))
    return sorted(weights, key=lambda name: weights[name], reverse=True)[:MAX_COLUMNS]


def _draw_sizes(figure: Figure, axes: Axes, placed: dict[_Place, list[MonitoringRun]], columns: list[str]) -> None:
    """Draw a cell for each column and place, the darker the larger the change, with a dot where it drifted."""
    from matplotlib.colors import LinearSegmentedColormap

    cells = [[_size(runs, name) for runs in placed.values()] for name in columns]
    top = max([_LARGE, *(size for row in cells for size in row if not math.isnan(size))])
    shades = LinearSegmentedColormap.from_list("sizes", ["#f3f6fa", _ACCENT], N=_SHADES)
    mesh = axes.pcolormesh(cells, cmap=shades, vmin=0, vmax=top, edgecolor=_PAGE, linewidth=1, clip_on=False)
    dots = [
        (place + 0.5, row + 0.5)
        for place, runs in enumerate(placed.values())
        for row, name in enumerate(columns)
        if any(name in run.drifted for run in runs)
    ]
    axes.scatter([x for x, _ in dots], [y for _, y in dots], s=16, color=_BAD, edgecolor=_PAGE, linewidth=0.8)
    axes.set_yticks([row + 0.5 for row in range(len(columns))], [_label(name) for name in columns], parse_math=False)
    axes.set_ylim(len(columns), 0)
    axes.set_title("size of change by column; a dot where it drifted", loc="left", fontsize=9, color=_MUTED, pad=16)
    _style(axes)
    axes.spines[:].set_visible(False)
    scale = figure.colorbar(mesh, ax=axes, aspect=12, pad=0.01)
    scale.outline.set_visible(False)
    scale.ax.tick_params(length=0, labelsize=8, labelcolor=_MUTED)


def _size(runs: Sequence[MonitoringRun], name: str) -> float:
    return next((run.sizes[name] for run in runs if name in run.sizes), math.nan)


def _points(placed: dict[_Place, list[MonitoringRun]]) -> tuple[str, list[tuple[float, MonitoringRun]]]:
    """Return the score to draw, the first one of the newest performance run, and at which places there is one."""
    newest = [run for runs in reversed(placed.values()) for run in runs if run.kind == "performance"]
    name = next((next(iter(run.scores)) for run in newest if run.scores), _SHARE)
    kind = "drift" if name == _SHARE else "performance"
    found = [(place + 0.5, run) for place, runs in enumerate(placed.values()) for run in runs if run.kind == kind]
    return name, [(x, run) for x, run in found if name in run.scores]


def _draw_scores(axes: Axes, name: str, points: list[tuple[float, MonitoringRun]]) -> None:
    """Draw a score with its interval; red where the run failed."""
    axes.plot([x for x, _ in points], [run.scores[name] for _, run in points], color=_ACCENT, linewidth=1.2)
    for x, run in points:
        color = _ACCENT if run.passed else _BAD
        if ends := run.intervals.get(name):
            axes.vlines(x, *ends, color=color, linewidth=1)
        axes.plot(x, run.scores[name], "o", markersize=4.5, color=color, markeredgecolor=_PAGE, markeredgewidth=0.6)
    if name == _SHARE:
        axes.set_ylim(0, max(0.3, *(1.05 * run.scores[name] for _, run in points)))  # small shares stay small
    title = "weight of what drifted" if name == _SHARE else f"{_label(name)} with its interval"
    title = f"{title}; red where the run failed"
    axes.set_title(title, loc="left", fontsize=9, color=_MUTED, parse_math=False)
    _style(axes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=_RULE, linewidth=0.6)
    axes.locator_params(axis="y", nbins=5)


def _draw_places(grid: Sequence[Axes], placed: dict[_Place, list[MonitoringRun]]) -> None:
    """Name the places below the picture, and the champions above it where they change."""
    numbered = all(data is not None for _, data, _, _ in placed)
    labels = [str(data) if numbered else _short(subject) for _, data, subject, _ in placed]
    turn = 0 if all(len(label) <= 3 for label in labels) else 90  # noqa: PLR2004 - digits that fit side by side
    grid[-1].set_xticks([x + 0.5 for x in range(len(labels))], labels, rotation=turn, parse_math=False)
    for label, runs in zip(grid[-1].get_xticklabels(), placed.values(), strict=True):
        label.set_color(_INK if all(run.passed for run in runs) else _BAD)
    grid[-1].set_xlim(0, max(len(labels), 6))  # few runs are not stretched
    grid[-1].set_xlabel("data version" if numbered else "data", fontsize=9, color=_MUTED)
    before = None
    for x, (champion, *_) in enumerate(placed):
        if champion != before:
            for axes in grid:
                axes.axvline(x, color=_MUTED, linewidth=1)
            place = (x, 1)
            words = f" v{champion}"
            grid[0].annotate(words, place, xycoords=("data", "axes fraction"), va="bottom", fontsize=8, color=_INK)
        before = champion


def _short(subject: str) -> str:
    label = subject if len(subject) <= _LABEL_LENGTH else "…" + subject[1 - _LABEL_LENGTH :]  # names differ at the end
    return _label(label)


def _label(name: str) -> str:
    """Cut a name, and replace what neither a picture nor XML can hold."""
    return "".join(letter if letter.isprintable() else "?" for letter in cut(name))


def _rounded(path: re.Match[str]) -> str:
    """Write a path to a tenth of a point, in one line: half the size."""
    return re.sub(r"(\.\d)\d+", r"\1", path[0]).replace(" \n", " ")


def _style(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.spines[["left", "bottom"]].set_color(_RULE)
    axes.tick_params(length=0, labelcolor=_INK, labelsize=9)
