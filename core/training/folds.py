"""Cross-validation folds: each model is scored on rows it has not seen: later ones, other groups, or others."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.lineage.sides import SideRule
from prefect_mlops.core.lineage.training_data import HOLDOUT_ATTRIBUTE
from prefect_mlops.core.text import one_line

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Places: TypeAlias = npt.NDArray[np.intp]


_logger = logging.getLogger(__name__)


def cut_rows(
    estimator: Any,
    X: pd.DataFrame,
    y: pd.Series,
    *,
    folds: int,
    ordered: bool,
    groups: pd.Series | None,
    seed: int,
    warn: Callable[[str], object] = _logger.warning,
) -> tuple[pd.DataFrame, pd.Series, list[tuple[Places, Places]]]:
    """Cut rows into folds.

    Args:
        estimator: the folds of a classifier keep the target's shares.
        X: features, (rows, columns).
        y: target, (rows,), in the order of ``X``.
        folds: how many.
        ordered: score each fold on rows after those it was trained on.
        groups: (rows,); rows with one value stay in one fold. None takes those of one group, key or features, by the
            rule that `split_table` left on ``X``.
        seed: of the shuffling.
        warn: called with each warning of scikit-learn.

    Returns:
        Features, target, and for each fold the places of the rows to train on and to score on.

    Raises:
        ConfigError: options that exclude each other, or rows that cannot be cut so.

    Source: `sklearn.model_selection`.
    """
    import pandas as pd

    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X)
    truth = y if isinstance(y, pd.Series) else pd.Series(y)
    if groups is None and not ordered:
        groups = _repeated(frame, warn)
    codes = None if groups is None else _codes(groups, len(frame), ordered=ordered)
    splitter = _splitter(estimator, folds, ordered=ordered, grouped=codes is not None, seed=seed)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cut = list(splitter.split(frame, truth, codes))
    except ValueError as error:
        why = one_line(error)
        raise ConfigError(f"folds: {len(frame)} rows cannot be cut into {folds} parts: {why}") from None
    for item in caught:
        warn(f"folds: {one_line(item.message)}")
    return frame, truth, cut


def _repeated(X: pd.DataFrame, warn: Callable[[str], object]) -> pd.Series | None:
    """Return the identity of each row where rows share one; None where all differ, or it is not known."""
    known = json.loads(X.attrs.get(HOLDOUT_ATTRIBUTE, "{}")).get("rule")
    if known is None:
        return None
    rule = SideRule.model_validate(known)
    missing = rule.missing(X.columns)
    if missing and rule.by == "group":
        warn(f"folds: the rows were split by {', '.join(missing)}, which is not among them: give it as groups")
    return rule.identities(X)


def _codes(groups: pd.Series, rows: int, *, ordered: bool) -> Places:
    """Number the groups, after checking that each row has one."""
    import pandas as pd

    if ordered:
        raise ConfigError("folds: ordered and groups exclude each other: each decides alone how rows are cut")
    if len(groups) != rows:
        raise ConfigError(f"folds: X has {rows} rows and groups has {len(groups)}: they have to match")
    codes, _ = pd.factorize(pd.Series(groups))
    if (codes < 0).any():
        raise ConfigError(f"folds: groups: {int((codes < 0).sum())} of {rows} rows belong to none")
    return codes


def _splitter(estimator: Any, folds: int, *, ordered: bool, grouped: bool, seed: int) -> Any:
    from sklearn import model_selection
    from sklearn.base import is_classifier

    if ordered:
        return model_selection.TimeSeriesSplit(folds)
    if grouped and not is_classifier(estimator):
        return model_selection.GroupKFold(folds)
    plain = model_selection.StratifiedKFold if is_classifier(estimator) else model_selection.KFold
    kind = model_selection.StratifiedGroupKFold if grouped else plain
    return kind(folds, shuffle=True, random_state=seed)
