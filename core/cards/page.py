"""The card as one HTML page: no network, no script, light and dark, printable."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from prefect_mlops.core.cards import plots
from prefect_mlops.core.cards.sections import build_sections, subtitle, web_links
from prefect_mlops.core.text import MAX_CELL_LENGTH, one_line

if TYPE_CHECKING:
    from jinja2 import Template

    from prefect_mlops.core.cards.card import Card

MAX_TEXT_LENGTH = 1_000  # characters of a sentence; a cell of a table is cut as in markdown
_FIGURES = {
    "importances": plots.draw_importances,
    "calibration": plots.draw_calibration,
    "residuals": plots.draw_residuals,
}


def render_page(card: Card) -> str:
    """Render a card as one HTML page.

    Args:
        card: any card; its values are escaped, and only http(s) addresses become links.

    Returns:
        The page, with its style and SVG figures inline; it loads nothing and runs no script.

    Source: Jinja2 renders ``card.html.j2``, matplotlib draws the figures.
    """
    return _template().render(
        card=card, subtitle=subtitle(card), links=web_links(card), sections=build_sections(card), figures=_FIGURES
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("prefect_mlops.core.cards", package_path="."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"text": _printable, "cell": partial(_printable, longest=MAX_CELL_LENGTH)}
    return environment.get_template("card.html.j2")


def _printable(value: str, longest: int = MAX_TEXT_LENGTH) -> str:
    """Cut a text, and replace control characters, among them those that reverse the direction of text."""
    return one_line("".join(sign if sign.isprintable() else " " for sign in value), longest)
