"""A model's answers, computed once for all rows and given again for any selection of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

BLOCK_ROWS = 250_000  # asked about at once: what a model makes of them on its way is gone before the next
_METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function")


class CachedPredictions:
    """Stands in for a fitted estimator wherever it is scored, on the rows it was made for.

    Rows are told by their number, which stands in the index of `features`; whatever else a scorer asks for
    (``classes_``, tags, parameters) the model itself answers.

    Attributes:
        model: the fitted estimator.
        features: what it is asked about, (rows, columns), numbered from 0 in the index.
        enough_for: functions that were tried on these answers, and whether they score them as the model itself.
        understood: metrics by name that `core.evaluation.influence_functions` computed as their scorers do.
    """

    def __init__(self, model: Any, X: pd.DataFrame) -> None:
        import numpy as np

        self.model = model
        self.features = X.set_axis(np.arange(len(X)), axis=0)
        self.enough_for: dict[str, bool] = {}
        self.understood: set[str] = set()
        self._kept: dict[str, NDArray[Any]] = {}
        self._asked = X  # with its own index: a model may use it

    def all(self, method: str) -> NDArray[Any]:
        """Return the answers to all rows; (rows,) or (rows, classes).

        More than `BLOCK_ROWS` are asked about in blocks: an answer depends on its row alone, as scikit-learn's
        ``check_methods_subset_invariance`` asks of every estimator.
        """
        import numpy as np

        if method not in self._kept:
            ask, rows = getattr(self.model, method), self._asked
            starts = range(0, max(1, len(rows)), BLOCK_ROWS)
            answers = [np.asarray(ask(rows.iloc[start : start + BLOCK_ROWS])) for start in starts]
            self._kept[method] = answers[0] if len(answers) == 1 else np.concatenate(answers)
        return self._kept[method]

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # not there yet, as while being copied: asking it would ask for it again
            raise AttributeError(name)
        import numpy as np

        found = getattr(self.model, name)
        if name not in _METHODS:
            return found

        def answer(X: pd.DataFrame) -> NDArray[Any]:
            return np.asarray(self.all(name)[X.index.to_numpy()])

        answer.__name__ = name  # scikit-learn reads from it how to take the answers
        return answer
