"""The figures of a model card: inline SVG whose colors are CSS variables of the page, for light and dark."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from prefect_mlops.core.drawing import DRAWING, METADATA, cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prefect_mlops.core.cards.card import Card

MAX_BARS = 15  # columns in the figure; the table beside it has the others
_WIDTH = 5.2  # inches, at 72 points each: what fits beside a table
# Placeholders for colors of the page. A column name that contains one is shown misspelled, nothing worse.
_COLORS = {"#0a0b01": "var(--ink)", "#0a0b02": "var(--muted)", "#0a0b03": "var(--rule)", "#0a0b04": "var(--accent)"}
_INK, _MUTED, _RULE, _ACCENT = _COLORS


def draw_importances(card: Card) -> str:
    """Draw a bar for each of the most important columns, with the standard deviation of its shuffles."""
    importances = card.importances
    if importances is None:
        return ""
    shown = importances.columns[:MAX_BARS][::-1]

    def draw(axes: Axes) -> None:
        axes.barh(range(len(shown)), [each.drop for each in shown], height=0.62, color=_ACCENT)
        axes.errorbar(
            [each.drop for each in shown],
            range(len(shown)),
            xerr=[each.spread for each in shown],
            fmt="none",
            ecolor=_INK,
            elinewidth=1,
        )
        axes.set_yticks(range(len(shown)), [cut(each.column) for each in shown], parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.axvline(0, color=_MUTED, linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=_RULE, linewidth=0.6)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(f"drop of {cut(importances.metric)} (bar: mean, line: standard deviation)", parse_math=False)

    largest = ", ".join(each.column for each in importances.columns[:3])
    alt = f"Bar chart of the drop of {importances.metric} when a column is shuffled; largest for {largest}."
    return _svg(draw, alt, height=0.7 + 0.25 * len(shown), salt="importances")


def draw_calibration(card: Card) -> str:
    """Draw observed shares against predicted probabilities, with the diagonal of perfect calibration."""
    if card.calibration is None:
        return ""
    bins = card.calibration.bins
    top = min(1.0, 1.08 * max(max(each.predicted, each.high) for each in bins))

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import PercentFormatter

        observed = [each.observed for each in bins]
        ends = [[each.observed - each.low for each in bins], [each.high - each.observed for each in bins]]
        axes.plot([0, top], [0, top], color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.errorbar(
            [each.predicted for each in bins],
            observed,
            yerr=[[max(end, 0.0) for end in side] for side in ends],
            color=_ACCENT,
            marker="o",
            markersize=4,
            linewidth=1.4,
            elinewidth=1,
        )
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.grid(color=_RULE, linewidth=0.6)
        axes.locator_params(nbins=6)
        axes.set_xlabel(f"predicted probability of {cut(card.outcome)}", parse_math=False)
        axes.set_ylabel("share of rows for which it was so")

    gap = f"{100 * card.calibration.gap:.1f} percentage points"
    alt = f"Observed share against predicted probability in {len(bins)} bins; {gap} apart on average."
    return _svg(draw, alt, height=3.6, salt="calibration")


def draw_residuals(card: Card) -> str:
    """Draw residuals against the prediction: the median and the middle 80%."""
    if card.residuals is None:
        return ""
    bins = card.residuals.bins
    target = cut(card.target.name) if card.target else "target"

    def draw(axes: Axes) -> None:
        at = [each.predicted for each in bins]
        low, high = [each.low for each in bins], [each.high for each in bins]
        if len(bins) == 1:  # a band of one point is invisible
            axes.vlines(at, low, high, color=_ACCENT, linewidth=1.4)
        axes.fill_between(at, low, high, color=_ACCENT, alpha=0.22, linewidth=0)
        axes.plot(at, [each.median for each in bins], color=_ACCENT, marker="o", markersize=4, linewidth=1.4)
        axes.axhline(0, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.grid(color=_RULE, linewidth=0.6)
        axes.locator_params(nbins=6)
        axes.set_xlabel(f"predicted {target}", parse_math=False)
        axes.set_ylabel("actual minus predicted")

    alt = (
        f"Actual minus predicted value against the prediction in {len(bins)} bins: median, and middle 80% of the rows."
    )
    return _svg(draw, alt, height=3.2, salt="residuals")


def _svg(draw: Callable[[Axes], None], alt: str, *, height: float, salt: str) -> str:
    """Draw a figure as an SVG element for a page: no prolog, no metadata, no outside address."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    # Text stays text; a fixed salt makes the ids inside the SVG the same each time.
    with DRAWING, warnings.catch_warnings(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        warnings.simplefilter("ignore")  # glyphs that matplotlib's font lacks; the browser's font has them
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = _axes(figure)
        draw(axes)
        axes.xaxis.label.set_color(_MUTED)
        axes.yaxis.label.set_color(_MUTED)
        figure.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(METADATA))
    return _inlined(buffer.getvalue(), alt, salt=salt)


def _axes(figure: Figure) -> Axes:
    axes: Axes = figure.subplots()
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_RULE)
    axes.tick_params(color=_RULE, labelcolor=_INK, labelsize=9)
    return axes


def _inlined(picture: str, alt: str, *, salt: str) -> str:
    body = picture[picture.index("<svg") :]
    view_box = re.search(r'viewBox="([-0-9. ]+)"', body)
    inner = body[body.index(">") + 1 :]
    inner = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", inner, flags=re.DOTALL)
    # Ids of groups repeat in every picture, and must be unique on a page.
    inner = re.sub(r'<g id="[\w.]+">', "<g>", inner)
    inner = re.sub(r"font-family: [^;\"<]*; ?", "", inner)  # that of the page applies
    for placeholder, color in _COLORS.items():
        inner = inner.replace(placeholder, color)
    view = view_box.group(1) if view_box else "0 0 374 260"
    return f'<svg class="{salt}" role="img" aria-label="{html.escape(alt)}" viewBox="{view}">{inner}'
