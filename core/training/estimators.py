"""Seeds of an estimator; checks of estimator and rows before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, DataCheckError, unknown_name
from prefect_mlops.core.reports import Check, Report

if TYPE_CHECKING:
    import pandas as pd


def seeded_copy(estimator: Any, seed: int) -> Any:
    """Return an unfitted copy with every ``random_state`` set that was left at None.

    Raises:
        ConfigError: not an estimator.
    """
    from sklearn.base import clone

    if isinstance(estimator, (str, type)) or not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")):
        raise _not_an_estimator(estimator)
    copy = clone(estimator)
    unset = {
        name: seed
        for name, value in copy.get_params(deep=True).items()
        if value is None and name.rpartition("__")[2] == "random_state"
    }
    return copy.set_params(**unset)


def _not_an_estimator(given: Any) -> ConfigError:
    from sklearn.utils import all_estimators

    name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    known = [known_name for known_name, _ in all_estimators()]
    if isinstance(given, type) and name in known:
        return ConfigError(f"estimator is the class {name}: give an instance, {name}()")
    return unknown_name("scikit-learn estimator", name, known, hint="Give an instance, e.g. LogisticRegression().")


def require_rows(X: pd.DataFrame, y: pd.Series) -> None:
    """Refuse features and target that do not match, and a table without rows.

    Raises:
        ConfigError: they do not match.
        DataCheckError: there are no rows.
    """
    if len(X) != len(y):
        raise ConfigError(f"X has {len(X)} rows and y has {len(y)}: they have to match")
    if len(X) == 0:
        check = Check(name="has rows to train on", passed=False, observed="0 rows", expected="at least 1")
        raise DataCheckError(
            "there are no rows to train on", Report(kind="data", subject="training rows", checks=(check,))
        )


def require_classes(estimator: Any, y: pd.Series) -> None:
    """Refuse a classifier's target with one class only.

    Raises:
        DataCheckError: there is nothing to tell apart.
    """
    import pandas as pd
    from sklearn.base import is_classifier

    classes = pd.Series(y).dropna().unique().tolist()
    if is_classifier(estimator) and len(classes) == 1:
        seen = f"the target has one class only, {classes[0]!r}, in {len(y)} rows"
        check = Check(name="target has two classes", passed=False, observed=seen, expected="at least two classes")
        raise DataCheckError(f"nothing to learn: {seen}", Report(kind="data", subject="training rows", checks=(check,)))
