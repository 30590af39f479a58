"""A view of a fitted model: it takes the model's place in scorers, and predicts in a way of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function")


class ModelView:
    """Has the methods and attributes of a model, with predictions of its own.

    Attributes:
        model: the fitted estimator.
    """

    model: Any

    def _predicted(self, method: str, X: pd.DataFrame) -> NDArray[Any]:
        """Return the predictions of one of `METHODS` for rows; (rows,) or (rows, classes)."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # not there yet, as while being copied: asking it would ask for it again
            raise AttributeError(name)
        found = getattr(self.model, name)
        if name not in METHODS:
            return found

        def predict(X: pd.DataFrame) -> NDArray[Any]:
            return self._predicted(name, X)

        predict.__name__ = name  # scikit-learn reads from it how to use the predictions
        return predict
