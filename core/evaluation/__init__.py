"""Evaluation: scores of a model, their uncertainty, and the gates that compare a challenger with the champion.

- ``models``: a model scored, or a challenger compared with the champion, in one call
- ``unseen_rows``: which rows may judge: those that, by their lineage, none of the models has learned from
- ``model_view``: takes the place of a fitted model in scorers, with predictions of its own
- ``predictions``: cached predictions: computed once for all rows of the test set, read again for any subset of them
- ``positive_class``: two classes of any kind as 0 and 1, for scores of one class
- ``scoring``: scores by scikit-learn scorer names and custom metrics; why a score cannot be computed
- ``estimates``: one score on some rows, with its variation over the resampling units
- ``influence_functions``: the derivative of a metric by the weight of each row, in closed form
- ``resampling_units``: which rows depend on each other: rows, groups, or blocks in time
- ``intervals``: standard errors and confidence bounds of one score and of a paired difference
- ``gates``: thresholds of a gate: minimum score, non-inferiority margin, minimum improvement
- ``slices``: the same comparison within groups of rows, corrected for their number; the gap between groups
- ``cross_validation``: two recipes trained anew on the same folds, where rows are too few for a holdout
- ``leakage``: features that know the answer, are newer than their row, or number the rows
- ``importance``: permutation importances of the columns
"""

__all__ = [
    "cross_validation",
    "estimates",
    "gates",
    "importance",
    "influence_functions",
    "intervals",
    "leakage",
    "model_view",
    "models",
    "positive_class",
    "predictions",
    "resampling_units",
    "scoring",
    "slices",
    "unseen_rows",
]
