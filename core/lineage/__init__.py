"""Lineage: the training data, code and environment of a model.

- ``training_data``: digest, columns and source of the training rows, carried by the fitted estimator
- ``sides``: on which side of a split a row stands, by a hash of what identifies it
- ``environment``: git commit and diff, lock file, installed packages, Python, processor and threads
"""

__all__ = ["environment", "sides", "training_data"]
