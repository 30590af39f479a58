"""Drift: how new data differs from what a model was trained on, and whether that matters.

- ``block_baseline``: how much blocks of neighbouring training rows differ from the rest, without any drift
- ``column_drift``: one column of two tables compared: type, missing values, distribution
- ``column_profile``: a mergeable summary of one column, in memory that does not grow with the rows
- ``detection``: both sides profiled, compared and judged in one call; the page of the verdict
- ``domain_classifier``: a classifier two-sample test: can the rows of two tables be separated?
- ``evidently``: the page that Evidently draws of a comparison
- ``monitoring_page``: the history of monitoring runs as a picture and as markdown
- ``monitoring``: monitoring runs and their numbers; alpha spending over all runs of a champion
- ``quantiles``: a deterministic quantile sketch with a bound on its error
- ``statistical_tests``: the tests of single columns, and the correction for many of them
- ``table_drift``: two table profiles compared column by column, with corrected p-values
- ``table_profile``: a mergeable summary of a table, with a sample of its rows
- ``thresholds``: every threshold and level of significance of this package
- ``training_profile``: the training profile: made, stored and read; what a model is compared with
- ``verdict``: the report of a comparison: what fails, what warns
"""

__all__ = [
    "block_baseline",
    "column_drift",
    "column_profile",
    "detection",
    "domain_classifier",
    "evidently",
    "monitoring",
    "monitoring_page",
    "quantiles",
    "statistical_tests",
    "table_drift",
    "table_profile",
    "thresholds",
    "training_profile",
    "verdict",
]
