"""The model card: what a version is for, how good it is, what it learned from and where its limits are.

- ``card``: the values of a card, which are written as ``card.json``
- ``data``: what the training rows, the target and the split say, and the limits that follow from them
- ``measures``: importances, drift baseline; calibration, residuals or confusion on the test rows
- ``assembly``: the card from measurements, scores, reports and lineage
- ``sections``: the card as titled text and tables, and as markdown
- ``page``: the card as one HTML page, rendered by ``card.html.j2``
- ``plots``: the figures of the page, as inline SVG
"""

__all__ = ["assembly", "card", "data", "measures", "page", "plots", "sections"]
