"""Fit an estimator so that the result can be explained and repeated."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, DataCheckError, unknown_name
from prefect_mlops.core.lineage import UNTIL_ATTRIBUTE, Lineage, attach, estimator_name, training_digest
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.tasks._step import run_logger, step

if TYPE_CHECKING:
    import pandas as pd

MAX_REASON_LENGTH = 300  # scikit-learn's messages can quote whole arrays
MAX_NAMED_COLUMNS = 5


def _run_name(parameters: dict[str, Any]) -> str:
    return f"train-{estimator_name(parameters['estimator'])}-on-{len(parameters['X'])}-rows"


@step(_run_name)
def train_model(estimator: Any, X: pd.DataFrame, y: pd.Series, *, seed: int = 0) -> Any:
    """Fit a copy of an estimator.

    Every ``random_state`` the estimator leaves at None, however deep, is set to ``seed``: without it a forest or a
    boosting differs each time and cannot be reproduced. What it was trained on is left on the fitted model
    (`core.lineage`), from where `log_run` writes it to MLflow.

    Args:
        estimator: scikit-learn compatible estimator or pipeline; it is cloned, never changed.
        X: features, (rows, columns).
        y: target, (rows,), in the order of ``X``.
        seed: for everything random that has no seed yet.

    Returns:
        The fitted copy.

    Raises:
        ConfigError: not an estimator, or estimator and table do not go together.
        DataCheckError: no rows, rows that do not match, or one class only.

    Source: `sklearn.base.clone`, the estimator's own ``fit``.
    """
    model = _seeded_copy(estimator, seed)
    _require_rows(X, y)
    _require_classes(model, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(X, y)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"training {type(model).__name__} failed: {_why(error, X)}") from error
    _log_once(caught)
    attach(model, _lineage(X, y, seed))
    return model


def _seeded_copy(estimator: Any, seed: int) -> Any:
    from sklearn.base import clone

    if isinstance(estimator, (str, type)) or not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")):
        raise _not_an_estimator(estimator)
    model = clone(estimator)
    unset = {
        name: seed
        for name, value in model.get_params(deep=True).items()
        if value is None and name.rpartition("__")[2] == "random_state"
    }
    return model.set_params(**unset)


def _not_an_estimator(given: Any) -> ConfigError:
    from sklearn.utils import all_estimators

    name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    known = [known_name for known_name, _ in all_estimators()]
    if isinstance(given, type) and name in known:
        return ConfigError(f"estimator is the class {name}: give an instance, {name}()")
    return unknown_name("scikit-learn estimator", name, known, hint="Give an instance, e.g. LogisticRegression().")


def _require_rows(X: pd.DataFrame, y: pd.Series) -> None:
    if len(X) != len(y):
        raise ConfigError(f"X has {len(X)} rows and y has {len(y)}: they have to match")
    if len(X) == 0:
        check = Check(name="has rows to train on", passed=False, observed="0 rows", expected="at least 1")
        raise DataCheckError(
            "there are no rows to train on", Report(kind="data", subject="training rows", checks=(check,))
        )


def _require_classes(model: Any, y: pd.Series) -> None:
    import pandas as pd
    from sklearn.base import is_classifier

    classes = pd.Series(y).dropna().unique().tolist()
    if is_classifier(model) and len(classes) == 1:
        seen = f"the target has one class only, {classes[0]!r}, in {len(y)} rows"
        check = Check(name="target has two classes", passed=False, observed=seen, expected="at least two classes")
        raise DataCheckError(f"nothing to learn: {seen}", Report(kind="data", subject="training rows", checks=(check,)))


def _why(error: Exception, X: pd.DataFrame) -> str:
    text = " ".join(str(error).split())[:MAX_REASON_LENGTH]
    columns = [str(name) for name in getattr(X, "columns", [])]
    if "NaN" in text or "missing" in text:
        holes = [name for place, name in enumerate(columns) if X.iloc[:, place].isna().any()]
        return f"{text} Columns with missing values: {_listed(holes)}; add an imputer to the pipeline."
    if "could not convert" in text:
        words = [name for place, name in enumerate(columns) if X.iloc[:, place].dtype.kind not in "biuf"]
        return f"{text}. Columns that are not numbers: {_listed(words)}; add an encoder to the pipeline."
    return text


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED_COLUMNS} more" if len(names) > MAX_NAMED_COLUMNS else ""
    return ", ".join(repr(name) for name in names[:MAX_NAMED_COLUMNS]) + more


def _lineage(X: pd.DataFrame, y: pd.Series, seed: int) -> Lineage:
    import pandas as pd

    from prefect_mlops.core.digests import column_kinds
    from prefect_mlops.core.tables import source_of

    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X)
    truth = y if isinstance(y, pd.Series) else pd.Series(y)
    return Lineage(
        digest=training_digest(frame, truth),
        rows=len(frame),
        columns=column_kinds(frame),
        gaps=tuple(str(name) for place, name in enumerate(frame.columns) if frame.iloc[:, place].isna().any()),
        target="" if truth.name is None else str(truth.name),
        source=source_of(frame),
        seed=seed,
        until=frame.attrs.get(UNTIL_ATTRIBUTE),
    )


def _log_once(caught: list[warnings.WarningMessage]) -> None:
    """Show each warning of a fit once, in the run's log, instead of once a thread on stderr."""
    for message in dict.fromkeys(" ".join(str(item.message).split()) for item in caught):
        run_logger().warning(message[:MAX_REASON_LENGTH])
