"""What a metric may be: the name of a scikit-learn scorer, or a custom function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from prefect_mlops.core.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

Metric: TypeAlias = "str | Callable[[Any, pd.DataFrame, pd.Series], float]"
"""A scikit-learn scorer's name, or a function ``f(estimator, X, y) -> float``; larger is better."""


def metric_name(metric: Metric) -> str:
    """Return the name a metric's values are kept under: the scorer's, or that of the function.

    Raises:
        ConfigError: it is neither, the function has no name to keep, takes other arguments, or is called like a scorer.
    """
    if isinstance(metric, str):
        return metric
    given: object = metric  # declared as a function, but Python takes anything
    if not callable(given) or isinstance(given, type):
        raise ConfigError(f"metric: expected a scorer's name or a function of (estimator, X, y), got {given!r:.80}")
    name = str(getattr(given, "__name__", ""))
    if not name.isidentifier():
        raise ConfigError(
            f"metric {given!r:.80} has no name to keep its values under: define it with def, as f(estimator, X, y)"
        )
    if not _takes_three(given):
        raise ConfigError(f"metric {name!r} takes {_arguments(given)}: a metric takes (estimator, X, y)")
    _own_name(name)
    return name


def _own_name(name: str) -> None:
    from sklearn.metrics import get_scorer_names

    if name in get_scorer_names():
        raise ConfigError(f"metric {name!r} is a function with the name of a scikit-learn scorer: give it its own name")


def _takes_three(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind("estimator", "X", "y")
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature: a wrong one fails when it is called
        return True
    return True


def _arguments(function: Callable[..., Any]) -> str:
    return f"{inspect.signature(function)}"[:80]


def require_metrics(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """Return the metrics once each, in order.

    Args:
        metrics: scikit-learn scorer names, and functions ``f(estimator, X, y) -> float``.

    Raises:
        ConfigError: none was given, one is neither a scorer name nor a usable function, or two functions share a name.
    """
    from sklearn.metrics import get_scorer_names

    found: dict[str, Metric] = {}
    known = get_scorer_names()
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        name = metric_name(metric)
        if isinstance(metric, str) and name not in known:
            hint = "A metric is a scikit-learn scorer name or a function of (estimator, X, y); larger is better."
            raise unknown_name("metric", name, known, hint=hint)
        if found.setdefault(name, metric) != metric:
            raise ConfigError(f"two metrics are called {name!r}: give one of the functions another name")
    if not found:
        raise ConfigError("no metric was given: name at least one scikit-learn scorer, e.g. 'roc_auc' or 'r2'")
    return tuple(found.values())
