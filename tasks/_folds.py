"""Cut training rows into folds, so that what a model is scored on is new to it in the way that matters."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.text import one_line
from prefect_mlops.tasks._step import run_logger

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Places: TypeAlias = npt.NDArray[np.intp]


def cut_rows(
    model: Any, X: pd.DataFrame, y: pd.Series, *, folds: int, ordered: bool, groups: pd.Series | None, seed: int
) -> tuple[pd.DataFrame, pd.Series, list[tuple[Places, Places]]]:
    """Cut rows into folds.

    Args:
        model: an estimator; the folds of a classifier keep the target's shares.
        X: features, (rows, columns).
        y: target, (rows,), in the order of ``X``.
        folds: how many.
        ordered: score each fold on rows after those it was trained on.
        groups: (rows,); rows with one value stay in one fold.
        seed: of the shuffling.

    Returns:
        Features, target, and for each fold the places of the rows to train on and to score on.

    Raises:
        ConfigError: options that exclude each other, or rows that cannot be cut so.

    Source: `sklearn.model_selection`.
    """
    import pandas as pd

    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X)
    truth = y if isinstance(y, pd.Series) else pd.Series(y)
    codes = None if groups is None else _codes(groups, len(frame), ordered=ordered)
    splitter = _splitter(model, folds, ordered=ordered, grouped=codes is not None, seed=seed)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cut = list(splitter.split(frame, truth, codes))
    except ValueError as error:
        why = one_line(error)
        raise ConfigError(f"tune_model: folds: {len(frame)} rows cannot be cut into {folds} parts: {why}") from None
    for item in caught:
        run_logger().warning("folds: %s", one_line(item.message))
    return frame, truth, cut


def _codes(groups: pd.Series, rows: int, *, ordered: bool) -> Places:
    """Number the groups, after checking that each row has one."""
    import pandas as pd

    if ordered:
        raise ConfigError("tune_model: ordered and groups exclude each other: each decides alone how rows are cut")
    if len(groups) != rows:
        raise ConfigError(f"tune_model: X has {rows} rows and groups has {len(groups)}: they have to match")
    codes, _ = pd.factorize(pd.Series(groups))
    if (codes < 0).any():
        raise ConfigError(f"tune_model: groups: {int((codes < 0).sum())} of {rows} rows belong to none")
    return codes


def _splitter(model: Any, folds: int, *, ordered: bool, grouped: bool, seed: int) -> Any:
    from sklearn import model_selection
    from sklearn.base import is_classifier

    if ordered:
        return model_selection.TimeSeriesSplit(folds)
    if grouped and not is_classifier(model):
        return model_selection.GroupKFold(folds)
    plain = model_selection.StratifiedKFold if is_classifier(model) else model_selection.KFold
    kind = model_selection.StratifiedGroupKFold if grouped else plain
    return kind(folds, shuffle=True, random_state=seed)
