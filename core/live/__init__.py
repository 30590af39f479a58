"""Live performance: scores of a deployed model from stored predictions and labels that arrive later.

- ``degradation``: each window of time held against a baseline: has the score degraded?
- ``evaluation``: labels matched, windows scored, degradation judged, in one report
- ``labels``: stored predictions matched with their labels by id
- ``stored_predictions``: scoring predictions that were stored, without the model that made them
- ``windows``: windows of time, and the score of each
"""

__all__ = [
    "degradation",
    "evaluation",
    "labels",
    "stored_predictions",
    "windows",
]
