"""A model's whole recipe, declared once, in Python, by the person who understands it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from prefect_mlops.core.addresses import history_uri, table_uri
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.metrics import require_metrics
from prefect_mlops.core.specs.fingerprints import described
from prefect_mlops.core.specs.loading import load_object
from prefect_mlops.core.specs.policies import Drift, Limits, Retrain, Tune
from prefect_mlops.core.values import Gate

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.metrics import Metric

MAX_SEED = 2**32 - 1  # what NumPy, and so scikit-learn, takes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What to learn, from which data, how, and what it has to reach.

    A wrong spec is refused when it is built, with the field named.

    Attributes:
        name: registered model in MLflow; letters, digits, ``_ . -``.
        dataset: a dataset of the lake (lower case letters, digits, ``_ -``), or any address `load_table` takes.
        target: column to predict.
        estimator: unfitted scikit-learn compatible estimator or pipeline.
        suite: Great Expectations suite the data has to meet, before ``prepare``.
        gates: conditions for promotion; at least one.
        features: columns to learn from; None takes all but target, ``order_by`` and ``group_by``.
        metrics: scorer names, and functions ``f(estimator, X, y) -> float``, to record beside those of the gates.
        prepare: makes the table with features and target out of the dataset's rows; must be importable.
        reads: columns of the dataset that ``prepare`` looks at; it is given no others, and training reads no others.
            None reads all. Without ``prepare`` the names in the spec tell: `reading`.
        row_wise: ``prepare`` looks at each row by itself, so it may be given a large table in parts.
        order_by: column of time; test rows are then the last ones.
        group_by: column whose groups stay on one side of the split.
        stratify: keep the target's shares on both sides.
        test_share: share of rows to judge on, between 0 and 1.
        seed: for everything random.
        experiment: MLflow experiment; the model's name when empty.
        drift: how much of a change matters.
        retrain: what holds back trainings that triggers and schedules start.
        purpose: what the model is for, in a sentence.
        limits: what the model may cost to run.
        tune: how to look for good parameters first; None trains the estimator as it is.
        approval: ``required`` when a person has to agree before a challenger that passed is promoted.
        approvers: names of who may approve, and of groups as ``@group`` (`Settings.groups`); empty for anybody.
        approval_expires: how long a request waits; after it, it counts as refused.
    """

    name: str
    dataset: str
    target: str
    estimator: Any
    suite: Any
    gates: Sequence[Gate]
    features: Sequence[str] | None = None
    metrics: Sequence[Metric] = ()
    prepare: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    reads: Sequence[str] | None = None
    row_wise: bool = False
    order_by: str | None = None
    group_by: str | None = None
    stratify: bool = False
    test_share: float = 0.2
    seed: int = 0
    experiment: str = ""
    drift: Drift = field(default_factory=Drift)
    retrain: Retrain = field(default_factory=Retrain)
    purpose: str = ""
    limits: Limits = field(default_factory=Limits)
    tune: Tune | None = None
    approval: Literal["none", "required"] = "none"
    approvers: Sequence[str] = ()
    approval_expires: timedelta = timedelta(days=7)

    def __post_init__(self) -> None:
        for wrong in _CHECKS:
            if problem := wrong(self):
                raise ConfigError(f"ModelSpec {self.name!r}: {problem}")
        try:
            object.__setattr__(self, "metrics", require_metrics([*(gate.scorer for gate in self.gates), *self.metrics]))
        except ConfigError as error:
            raise ConfigError(f"ModelSpec {self.name!r}: metrics: {error}") from None
        object.__setattr__(self, "gates", tuple(self.gates))
        object.__setattr__(self, "approvers", tuple(self.approvers))
        for name in ("features", "reads"):
            given = getattr(self, name)
            object.__setattr__(self, name, tuple(given) if given is not None else None)
        object.__setattr__(self, "experiment", self.experiment or self.name)

    def source(self, data: str | None = None) -> str:
        """Return the address to read from.

        Args:
            data: None or empty for the dataset as it is now, ``@3`` for its version 3, or any address instead of it.
        """
        if data and not data.startswith("@"):
            return data
        at = data or ""
        return f"{self.dataset if is_address(self.dataset) else _lake_dataset(self.dataset)}{at}"

    def prepared(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Make the table with features and target; where the rows were read from stays known."""
        if self.prepare is None:
            return rows
        attributes = dict(rows.attrs)
        if self.reads is None:
            table = self.prepare(rows)
        else:
            try:
                table = self.prepare(rows[self.reading(rows.columns)])
            except KeyError as error:
                if not set(self.reads) <= set(rows.columns):  # it is the table that lacks one
                    raise
                raise ConfigError(
                    f"ModelSpec {self.name!r}: reads: prepare asks for {error}, which is none of {list(self.reads)}: "
                    "name every column it looks at, as the dataset has it"
                ) from error
        table.attrs.update(attributes)
        return table

    def reading(self, names: Iterable[str]) -> list[str]:
        """Return which columns of a dataset a training needs, in their order; all where nothing tells.

        Args:
            names: columns of the dataset.
        """
        if self.prepare is not None:
            needed = self.reads
        else:
            slices = [name for gate in self.gates for name in gate.slices]
            asked = (self.target, self.order_by, self.group_by, *slices)
            needed = self.features and (*self.features, *(name for name in asked if name))
        return [name for name in names if needed is None or name in needed]

    @property
    def split_options(self) -> dict[str, Any]:
        """How the rows are split, as `tasks.split_table` takes it."""
        names = ("features", "test_share", "order_by", "group_by", "stratify", "seed")
        return {name: getattr(self, name) for name in names}

    @property
    def preparation(self) -> str:
        """Name how rows become features: with another one, rows of then and now cannot be compared."""
        parts = [self.target, described(self.prepare), list(self.features or ())]
        return "sha256:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """Name the recipe: with the same digest, training again on the same rows has nothing new to offer.

        Functions that ``prepare`` calls, and estimators of your own, are known by name only: after changing one of
        those, start the flow with ``force``.
        """
        parts = {
            "scikit-learn": version("scikit-learn"),
            "name": self.name,
            "target": self.target,
            "estimator": [repr(type(self.estimator)), described_parameters(self.estimator)],
            "gates": [[gate.model_dump(), described(gate.scorer)] for gate in self.gates],
            "metrics": [described(metric) for metric in self.metrics],
            "prepare": described(self.prepare),
            "split": self.split_options,
            "tune": described(self.tune.model_dump()) if self.tune else "",
        }
        return "sha256:" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def described_parameters(estimator: Any) -> dict[str, str]:
    """Describe every parameter of an estimator, however deep, the same in every process."""
    if not hasattr(estimator, "get_params"):
        return {}
    return {name: described(value) for name, value in estimator.get_params(deep=False).items()}


def load_spec(name: str) -> ModelSpec:
    """Import a spec by its dotted name.

    Args:
        name: e.g. ``"flights.model"``: the object ``model`` of the module ``flights``.

    Returns:
        The spec.

    Raises:
        ConfigError: no such module or object, with the nearest names; or the object is no `ModelSpec`.
    """
    return load_object(name, ModelSpec, word="model")


def is_address(text: str) -> bool:
    """Tell an address (a path or URI) from the name of a dataset in the lake."""
    return "/" in text or "\\" in text or bool(PurePosixPath(text).suffix)


def _lake_dataset(name: str) -> str:
    uri = table_uri("datasets", name)
    return uri if "://" in uri else f"delta://{uri}"


def _wrong_kind(spec: ModelSpec) -> str:
    """Say which field holds something of another kind, before anything is asked of it."""
    a_number = (int, float)
    expected: dict[str, tuple[str, Any]] = {
        **dict.fromkeys(("name", "dataset", "target", "experiment", "purpose"), ("text", str)),
        **dict.fromkeys(("order_by", "group_by"), ("a column name or None", (str, type(None)))),
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


def _wrong_columns(spec: ModelSpec) -> str:
    if not spec.target:
        return "target: name the column to predict"
    for name in ("order_by", "group_by"):
        if getattr(spec, name) == spec.target:
            return f"{name}: {spec.target!r} is the target, and the sides would have nothing in common to learn"
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
    return "reads: it names what prepare looks at, and there is no prepare" if spec.prepare is None else ""


def _wrong_parts(spec: ModelSpec) -> str:
    if isinstance(spec.estimator, type) or not (
        hasattr(spec.estimator, "fit") and hasattr(spec.estimator, "get_params")
    ):
        return f"estimator: expected a scikit-learn compatible estimator, got {spec.estimator!r:.80}"
    if not getattr(spec.suite, "expectations", None):
        return "suite: expected a Great Expectations suite with at least one expectation"
    if not spec.gates or not all(isinstance(gate, Gate) for gate in spec.gates):
        return "gates: give at least one Gate, e.g. Gate('roc_auc', at_least=0.7)"
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


def _wrong_approval(spec: ModelSpec) -> str:
    if spec.approval not in ("none", "required"):
        return f"approval: expected 'none' or 'required', got {spec.approval!r:.80}"
    if not all(isinstance(name, str) and name.strip("@ ") for name in spec.approvers):
        return f"approvers: give names, and groups as '@group', got {list(spec.approvers)!r:.80}"
    if spec.approvers and spec.approval == "none":
        return "approvers: nobody is asked, because approval is 'none'; set approval='required'"
    if spec.approval_expires <= timedelta(0):
        return f"approval_expires: a positive time, got {spec.approval_expires}"
    return ""


def _wrong_split(spec: ModelSpec) -> str:
    if spec.order_by and (spec.group_by or spec.stratify):
        return "order_by: a split in time leaves no room for group_by or stratify"
    if spec.group_by and spec.stratify:
        return "group_by: whole groups cannot also keep the target's shares; choose one"
    return ""


_CHECKS = (
    _wrong_kind,
    _wrong_name,
    _wrong_columns,
    _wrong_reads,
    _wrong_parts,
    _wrong_policies,
    _wrong_approval,
    _wrong_split,
)
