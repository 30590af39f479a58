"""Cached predictions: computed once for all rows, read again for any subset of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_mlops.core.evaluation.model_view import ModelView
from prefect_mlops.core.evaluation.positive_class import BinaryView

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

BLOCK_ROWS = 250_000  # predicted at once: temporary arrays of a model are freed before the next block


class CachedPredictions(ModelView):
    """Takes the place of a fitted estimator in scorers, for the rows it was made for.

    Rows are identified by their number in the index of `features`; all other attributes that a scorer reads
    (``classes_``, tags, parameters) are those of the model.

    Attributes:
        model: the fitted estimator.
        features: (rows, columns), numbered from 0 in the index.
        enough_for: custom metrics by name, and whether they score cached predictions as they score the model.
        understood: metrics by name that `core.evaluation.influence_functions` computed as their scorers do.
    """

    def __init__(self, estimator: Any, X: pd.DataFrame) -> None:
        import numpy as np

        self.model = estimator
        self.features = X.set_axis(np.arange(len(X)), axis=0)
        self.enough_for: dict[str, bool] = {}
        self.understood: set[str] = set()
        self._kept: dict[str, NDArray[Any]] = {}
        self._coded: CachedPredictions | None = None
        self._asked = X  # with its own index: a model may use it

    def all(self, method: str) -> NDArray[Any]:
        """Return the predictions for all rows; (rows,) or (rows, classes).

        More than `BLOCK_ROWS` are predicted in blocks: a prediction depends on its row alone, as scikit-learn's
        ``check_methods_subset_invariance`` requires of every estimator.
        """
        import numpy as np

        if method not in self._kept:
            ask, rows = getattr(self.model, method), self._asked
            starts = range(0, max(1, len(rows)), BLOCK_ROWS)
            predictions = [np.asarray(ask(rows.iloc[start : start + BLOCK_ROWS])) for start in starts]
            self._kept[method] = predictions[0] if len(predictions) == 1 else np.concatenate(predictions)
        return self._kept[method]

    def binary(self, positive: object, *, name: str = "the model") -> CachedPredictions:
        """Return the same predictions of a classifier of two classes, coded so that 1 is the positive class.

        Args:
            positive: the positive class, the same in each call.
            name: what messages call the model.

        Raises:
            ConfigError: the model has not two classes, or none of them is the positive one.
        """
        if self._coded is None:
            self._coded = CachedPredictions(BinaryView(self, positive, name=name), self.features)
        return self._coded

    def _predicted(self, method: str, X: pd.DataFrame) -> NDArray[Any]:
        import numpy as np

        return np.asarray(self.all(method)[X.index.to_numpy()])
