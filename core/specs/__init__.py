"""What a project declares: datasets, models and policies; checked when a spec is built.

- ``dataset``: `DatasetSpec`: landing zone, completeness of files, suite, limits
- ``model``: `ModelSpec`: data, features, estimator, split, gates, policies; its digest
- ``policies``: parts of a `ModelSpec`: `Drift`, `Retrain`, `Limits`, `Tune`
- ``fingerprints``: describing functions, estimators and values alike in every process, for digests
- ``loading``: importing a spec by its dotted name
- ``_validation``: the checks of a `ModelSpec`, one function for each group of fields
"""

__all__ = ["dataset", "fingerprints", "loading", "model", "policies"]
