"""The pipeline, in the order of its data."""

from __future__ import annotations

import work
from kedro.pipeline import Pipeline, node

from flights import nodes


def register_pipelines() -> dict[str, Pipeline]:
    """Return the one pipeline there is."""
    return {
        "__default__": Pipeline(
            [
                node(nodes.check, "rows", "checked"),
                node(work.prepare_rows, "checked", "prepared"),
                node(work.split_rows, "prepared", ["train", "test"]),
                node(work.fit_model, ["train", "params:settings"], "model"),
                node(nodes.measure, ["model", "test"], ["scores", "metrics"]),
                node(nodes.promote, ["scores", "champion", "test"], "promoted"),
                node(nodes.draw, "prepared", "drift_page"),
            ]
        )
    }
