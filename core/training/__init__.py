"""Training: split a table, fit an estimator so that the result can be explained and repeated.

- ``split``: training and test rows: by time, by group, stratified, or by chance
- ``folds``: cross-validation folds of the training rows
- ``estimators``: seeds of an estimator; checks of estimator and rows before training
- ``fit``: the fit itself; the fitted estimator carries the lineage of its rows
"""

__all__ = ["estimators", "fit", "folds", "split"]
