"""Types a model file may name and still be loaded: skops' own defaults, plus this reviewed list, plus the site's.

A skops file names the Python types it is rebuilt from. skops trusts scikit-learn's estimators and the numpy and scipy
types they hold; the types here are what common estimators need beside those. Each was read: rebuilding one fills in
attributes or arrays and calls nothing that the file chooses. The list belongs to the site and never comes from the
model's own file, which could vouch for itself.
"""

from __future__ import annotations

from prefect_mlops.core.settings import Settings

REVIEWED = frozenset(
    {
        # Compiled containers of numbers: trees, the predictors of histogram boosting, search trees of neighbours.
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.tree._tree.Tree",
        # Distances: a number at most.
        "sklearn.metrics._dist_metrics.ChebyshevDistance64",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        # Losses with a power, and the state of optimisers.
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        # Parts of calibrated classifiers, column selectors and splines: attributes only.
        "scipy.interpolate._bsplines.BSpline",
        "scipy.interpolate._bsplines._BSpline",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.compose._column_transformer.make_column_selector",
        "sklearn.utils._bunch.Bunch",
        "sklearn.utils._metadata_requests.MetadataRequest",
        "sklearn.utils._metadata_requests.MethodMetadataRequest",
        "numpy.dtype",
        # What a search keeps: scorers, splitters, itself.
        "sklearn.metrics._scorer._CurveScorer",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.model_selection._search_successive_halving.HalvingGridSearchCV",
        "sklearn.model_selection._search_successive_halving.HalvingRandomSearchCV",
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.model_selection._split.TimeSeriesSplit",
        # Functions of the data they are given; none opens, imports or evaluates anything.
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "sklearn.feature_selection._mutual_info.mutual_info_classif",
        "sklearn.feature_selection._mutual_info.mutual_info_regression",
        "sklearn.feature_selection._univariate_selection.chi2",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.metrics._classification.accuracy_score",
        "sklearn.metrics._classification.balanced_accuracy_score",
        "sklearn.metrics._classification.f1_score",
        "sklearn.metrics._ranking.roc_auc_score",
        "sklearn.utils.validation.check_array",
        # Histogram boosting holds partial(check_array, ...) for categorical columns. A partial can only wrap a type
        # that is itself on a trusted list, so it adds no reach.
        "functools.partial",
    }
)


def trusted_types() -> frozenset[str]:
    """Return the types this site allows: the reviewed ones and those of ``PREFECT_MLOPS_TRUSTED_TYPES``."""
    return REVIEWED | frozenset(Settings().trusted_types)
