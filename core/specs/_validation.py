"""The checks of a `ModelSpec`: each returns what is wrong with one group of fields, or an empty text.

They run in order when the spec is built; a later check relies on the types that the first one has checked.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.addresses import history_uri, is_address, table_uri
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.specs.policies import Drift, Limits, Retrain, Tune
from prefect_mlops.core.values import Gate

if TYPE_CHECKING:
    from prefect_mlops.core.specs.model import ModelSpec

MAX_SEED = 2**32 - 1  # the largest seed that NumPy, and so scikit-learn, takes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def find_problem(spec: ModelSpec) -> str:
    """Return the first problem of a spec, with the field named; empty where there is none."""
    return next((problem for check in _CHECKS if (problem := check(spec))), "")


def _wrong_kind(spec: ModelSpec) -> str:
    """Return which field holds a value of the wrong type, before it is used."""
    a_number = (int, float)
    expected: dict[str, tuple[str, Any]] = {
        **dict.fromkeys(("name", "dataset", "target", "experiment", "purpose"), ("text", str)),
        **dict.fromkeys(("order_by", "group_by"), ("a column name or None", (str, type(None)))),
        "key": ("a column name or a list of them", (str, list, tuple)),
        "test_share": ("a number", a_number),
        "seed": ("a whole number", int),
        **dict.fromkeys(("stratify", "row_wise"), ("True or False", bool)),
        "drift": ("a Drift, e.g. Drift(min_change=0.2)", Drift),
        "retrain": ("a Retrain, e.g. Retrain(cool_down=timedelta(hours=6))", Retrain),
        "limits": ("a Limits, e.g. Limits(size_mb=100)", Limits),
        "tune": ("a Tune, e.g. Tune(space={'max_depth': (2, 12)}), or None", (Tune, type(None))),
        "approval": ("'none' or 'required'", str),
        "approvers": ("a list of names", (list, tuple)),
        "approval_expires": ("a timedelta", timedelta),
        "gates": ("a list of Gate", (list, tuple)),
        "metrics": ("a list of scorer names and functions", (list, tuple)),
        "checks": ("a list of functions", (list, tuple)),
    }
    for name, (words, kinds) in expected.items():
        value = getattr(spec, name)
        if not isinstance(value, kinds) or isinstance(value, bool) != (kinds is bool):  # True is an int to Python
            return f"{name}: expected {words}, got {value!r:.80}"
    prepare: object = spec.prepare  # declared as a function, but Python takes anything
    if prepare is not None and not callable(prepare):
        return f"prepare: expected a function from table to table, got {prepare!r:.80}"
    return ""


def _wrong_name(spec: ModelSpec) -> str:
    if not _NAME.fullmatch(spec.name):
        return "name: use 1 to 100 letters, digits and '_ . -', beginning with a letter or digit"
    try:
        history_uri(spec.name)
    except ConfigError as error:
        return f"name: {error}"
    if not spec.dataset:
        return "dataset: name a dataset of the lake or give an address"
    if not is_address(spec.dataset):
        try:
            table_uri("datasets", spec.dataset)
        except ConfigError as error:
            return f"dataset: {error}"
    return ""


def _wrong_sides(spec: ModelSpec) -> str:
    if not all(isinstance(name, str) and name for name in spec.key) or len(set(spec.key)) < len(spec.key):
        return f"key: give names of columns, each once, got {list(spec.key)!r:.80}"
    for name, columns in (("order_by", (spec.order_by,)), ("group_by", (spec.group_by,)), ("key", spec.key)):
        if spec.target in columns:
            return f"{name}: {spec.target!r} is the target, and the sides would have nothing in common to learn"
    return ""


def _wrong_columns(spec: ModelSpec) -> str:
    if not spec.target:
        return "target: name the column to predict"
    if spec.features is None:
        return ""
    if isinstance(spec.features, str) or not list(spec.features):
        return "features: give a list of column names"
    if spec.target in spec.features:
        return f"features: {spec.target!r} is the target; a model that sees it has nothing to predict"
    twice = sorted({name for name in spec.features if list(spec.features).count(name) > 1})
    return f"features: {', '.join(twice)} named twice" if twice else ""


def _wrong_reads(spec: ModelSpec) -> str:
    if spec.reads is None:
        return ""
    if not isinstance(spec.reads, (list, tuple)) or not spec.reads:
        return "reads: give a list of column names"
    return "reads: it names the columns that prepare uses, and there is no prepare" if spec.prepare is None else ""


def _wrong_parts(spec: ModelSpec) -> str:
    if isinstance(spec.estimator, type) or not (
        hasattr(spec.estimator, "fit") and hasattr(spec.estimator, "get_params")
    ):
        return f"estimator: expected a scikit-learn compatible estimator, got {spec.estimator!r:.80}"
    if not getattr(spec.suite, "expectations", None):
        return "suite: expected a Great Expectations suite with at least one expectation"
    if not spec.gates or not all(isinstance(gate, Gate) for gate in spec.gates):
        return "gates: give at least one Gate, e.g. Gate('roc_auc', at_least=0.7)"
    if wrong := [check for check in spec.checks if not callable(check)]:
        return f"checks: expected functions from a TrainingRun to a Check or Report, got {wrong[0]!r:.80}"
    return ""


def _wrong_policies(spec: ModelSpec) -> str:
    if not 0 < spec.test_share < 1:
        return f"test_share: {spec.test_share} is not between 0 and 1"
    if not 0 <= spec.seed <= MAX_SEED:
        return f"seed: {spec.seed} is not from 0 to {MAX_SEED}"
    for name in ("drift", "retrain", "limits", "tune"):
        policy = getattr(spec, name)
        if policy is not None and policy.problem:
            return f"{name}: {policy.problem}"
    return ""


def _wrong_refit(spec: ModelSpec) -> str:
    if spec.refit not in ("none", "all"):
        return f"refit: expected 'none' or 'all', got {spec.refit!r:.80}"
    if spec.refit == "all" and spec.approval == "required":
        return "refit: with approval='required' a person would approve another version than the one that goes live"
    return ""


def _wrong_evaluation(spec: ModelSpec) -> str:
    if spec.evaluation not in ("holdout", "cross_validation"):
        return f"evaluation: expected 'holdout' or 'cross_validation', got {spec.evaluation!r:.80}"
    if spec.evaluation == "holdout":
        return ""
    if spec.tune is not None:
        return "evaluation: 'cross_validation' with tune would judge on rows that the search has chosen parameters by"
    if sliced := [gate.metric for gate in spec.gates if gate.slices]:
        return f"evaluation: 'cross_validation' judges no slices, and the gate on {sliced[0]!r} has some"
    return ""


def _wrong_approval(spec: ModelSpec) -> str:
    if spec.approval not in ("none", "required"):
        return f"approval: expected 'none' or 'required', got {spec.approval!r:.80}"
    if not all(isinstance(name, str) and name.strip("@ ") for name in spec.approvers):
        return f"approvers: give names, and groups as '@group', got {list(spec.approvers)!r:.80}"
    if spec.approvers and spec.approval == "none":
        return "approvers: approval is 'none', so they are never asked; set approval='required'"
    if spec.approval_expires <= timedelta(0):
        return f"approval_expires: a positive time, got {spec.approval_expires}"
    return ""


def _wrong_positive(spec: ModelSpec) -> str:
    positive: object = spec.positive  # Python takes anything
    if positive is None:
        return ""
    if not isinstance(positive, (bool, int, float, str)) or positive != positive:  # noqa: PLR0124 - NaN differs from itself
        return f"positive: expected one class of the target, as text, a number, True or False, got {positive!r:.80}"
    from sklearn.base import is_regressor

    return "positive: the estimator is a regressor, and has no classes" if is_regressor(spec.estimator) else ""


def _wrong_split(spec: ModelSpec) -> str:
    if spec.order_by and spec.stratify:
        return "order_by: a split in time leaves no room for stratify"
    if spec.group_by and spec.stratify:
        return "group_by: whole groups cannot also keep the target's shares; choose one"
    return ""


_CHECKS = (
    _wrong_kind,
    _wrong_name,
    _wrong_columns,
    _wrong_sides,
    _wrong_reads,
    _wrong_parts,
    _wrong_policies,
    _wrong_approval,
    _wrong_refit,
    _wrong_evaluation,
    _wrong_positive,
    _wrong_split,
)
