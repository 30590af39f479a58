"""The functions of the pipeline; what they return is kept by the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import work
from mlflow import MlflowClient

if TYPE_CHECKING:
    import pandas as pd


def check(rows: pd.DataFrame) -> pd.DataFrame:
    """Stop the run where the rows fail their checks."""
    work.check_rows(rows)
    return rows


def measure(model: Any, test: pd.DataFrame) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Measure the new model, for the next node and in the form kedro-mlflow logs."""
    scores = work.score_model(model, test)
    return scores, {name: {"value": value, "step": 0} for name, value in scores.items()}


def promote(scores: dict[str, float], champion: Any, test: pd.DataFrame) -> str:
    """Make the version that the catalog has just registered the live one, if it is good enough."""
    if not work.judge(scores, work.score_model(champion, test)):
        raise ValueError("refused: worse than the champion")
    versions = MlflowClient().search_model_versions(f"name='{work.MODEL}'")
    newest = max(versions, key=lambda found: int(found.version)).version
    work.promote(newest)
    return newest


def draw(prepared: pd.DataFrame) -> str:
    """Draw Evidently's page."""
    return work.compare_rows(prepared).get_html_str(as_iframe=False)
