"""The drift page: distributions drawn by Evidently, verdicts of prefect-mlops.

- ``columns``: the sampled values of both sides, made ready and harmless for Evidently
- ``page``: the HTML page: the verdict on top, without network access
- ``table``: Evidently's table of columns, with its verdicts replaced
"""

__all__ = [
    "columns",
    "page",
    "table",
]
