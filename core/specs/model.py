"""`ModelSpec`: a model declared once, in Python: data, features, estimator, split, gates and policies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from prefect_mlops.core.addresses import is_address, table_uri
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.metrics import require_metrics
from prefect_mlops.core.specs._validation import MAX_SEED, find_problem
from prefect_mlops.core.specs.fingerprints import described
from prefect_mlops.core.specs.loading import load_object
from prefect_mlops.core.specs.policies import Drift, Limits, Retrain, Tune

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.metrics import Metric
    from prefect_mlops.core.reports import Check, Report
    from prefect_mlops.core.values import Gate

__all__ = ["MAX_SEED", "ModelSpec", "described_parameters", "is_address", "load_spec"]


class SplitOptions(TypedDict):
    """Keywords of `tasks.split_table` that a spec decides, typed so that a call with them has a type."""

    features: Sequence[str] | None
    test_share: float
    order_by: str | None
    group_by: str | None
    key: tuple[str, ...]
    stratify: bool
    seed: int


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
        features: columns to learn from; None takes all but target, ``order_by``, ``group_by`` and ``key``.
        metrics: scorer names, and functions ``f(estimator, X, y) -> float``, to record beside those of the gates.
        prepare: makes the table with features and target out of the dataset's rows; must be importable.
        reads: columns of the dataset that ``prepare`` reads; it is given no others, and training reads no others.
            None reads all. Without ``prepare`` they follow from the spec: `reading`.
        row_wise: ``prepare`` treats each row by itself, so it may be given a large table in parts.
        order_by: column of time; test rows are then the last ones. Not text, unless it sorts in order of time.
        group_by: column whose groups stay on one side of the split; with ``order_by`` time alone decides the sides,
            and groups are what varies by chance.
        key: column or columns that identify a row. Without ``order_by`` and ``group_by`` a hash of them decides on
            which side a row is, for ever; where it is not named, a hash of the features.
        positive: the positive one of two classes, for metrics that score one class, such as ``f1``: metrics given by
            name see 1 for it and 0 for the other. None for classes that are 0 and 1, and for other targets.
        stratify: refuse sides that do not both have each value of the target.
        test_share: share of rows in the test set (holdout), between 0 and 1.
        evaluation: ``holdout`` judges a challenger and the champion on the test rows; ``cross_validation`` trains both
            recipes anew on the same folds of all rows and compares these, where test rows are too few to tell. Not with
            ``tune``, nor slices in gates.
        refit: ``all`` trains the recipe once more on the rows of both sides after its promotion, and promotes that
            version; ``none`` keeps the judged one.
        seed: for everything random.
        experiment: MLflow experiment; the model's name when empty.
        drift: how much of a change matters.
        retrain: what holds back trainings that triggers and schedules start.
        purpose: what the model is for, in a sentence.
        limits: what the model may cost to run.
        tune: how to search for good parameters first; None trains the estimator as it is.
        approval: ``required`` when a person has to agree before a challenger that passed is promoted.
        approvers: names of who may approve, and of groups as ``@group`` (`Settings.groups`); empty for anyone.
        approval_expires: how long a request waits; after it, it counts as refused.
        checks: functions ``f(run) -> Check | Report`` that can refuse a challenger beside the gates; ``run`` is the
            `flows.training_run.TrainingRun`. They are asked when the challenger is judged.
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
    key: str | Sequence[str] = ()
    positive: bool | int | float | str | None = None
    stratify: bool = False
    test_share: float = 0.2
    evaluation: Literal["holdout", "cross_validation"] = "holdout"
    refit: Literal["none", "all"] = "none"
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
    checks: Sequence[Callable[[Any], Check | Report]] = ()

    def __post_init__(self) -> None:
        if problem := find_problem(self):
            raise ConfigError(f"ModelSpec {self.name!r}: {problem}")
        try:
            object.__setattr__(self, "metrics", require_metrics([*(gate.scorer for gate in self.gates), *self.metrics]))
        except ConfigError as error:
            raise ConfigError(f"ModelSpec {self.name!r}: metrics: {error}") from None
        object.__setattr__(self, "gates", tuple(self.gates))
        object.__setattr__(self, "approvers", tuple(self.approvers))
        object.__setattr__(self, "checks", tuple(self.checks))
        object.__setattr__(self, "key", (self.key,) if isinstance(self.key, str) else tuple(self.key))
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
                    "name every column it uses, as the dataset has it"
                ) from error
        table.attrs.update(attributes)
        return table

    def reading(self, names: Iterable[str]) -> list[str]:
        """Return which columns of a dataset a training needs, in their order; all where the spec names none.

        Args:
            names: columns of the dataset.
        """
        if self.prepare is not None:
            needed = self.reads
        else:
            slices = [name for gate in self.gates for name in gate.slices]
            asked = (self.target, self.order_by, self.group_by, *self.key, *slices)
            needed = self.features and (*self.features, *(name for name in asked if name))
        return [name for name in names if needed is None or name in needed]

    @property
    def split_options(self) -> SplitOptions:
        """How the rows are split, as `tasks.split_table` takes it."""
        return {
            "features": self.features,
            "test_share": self.test_share,
            "order_by": self.order_by,
            "group_by": self.group_by,
            "key": tuple(self.key),
            "stratify": self.stratify,
            "seed": self.seed,
        }

    @property
    def preparation(self) -> str:
        """Digest of how rows become features: rows prepared in another way cannot be compared."""
        parts = [self.target, described(self.prepare), list(self.features or ())]
        return _digest(parts)

    @property
    def training_digest(self) -> str:
        """Digest of what changes the model: two trainings with the same one on the same rows give the same model.

        Functions that ``prepare`` calls, and estimators of your own, are known by name only: after changing one of
        those, start the flow with ``force``.
        """
        parts = self._training_parts()
        if self.tune:
            parts["tune metric"] = described(self.tune.metric or self.gates[0].scorer)
            parts |= self._positive_part()
        return _digest(parts)

    @property
    def decision_digest(self) -> str:
        """Digest of what a decision depends on: training, gates, metrics, limits, approval, checks, refit, evaluation.

        With the same training and another decision digest, a trained challenger is judged anew, not trained anew.
        """
        decides: dict[str, Any] = {"limits": self.limits.model_dump(), "approval": self.approval, "checks": self.checks}
        usual = {"refit": "none", "evaluation": "holdout"}
        later = {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        if decides == {"limits": Limits().model_dump(), "approval": "none", "checks": ()} and not later:
            return self.digest  # as decisions were recorded before these were part of it
        decides |= {"checks": [described(check) for check in self.checks], **later}
        return _digest({"digest": self.digest, **decides})

    @property
    def digest(self) -> str:
        """Digest of training, gates, metrics and positive class, as the records of a version name its spec."""
        return _digest(
            {
                **self._training_parts(),
                "gates": [[gate.model_dump(), described(gate.scorer)] for gate in self.gates],
                "metrics": [described(metric) for metric in self.metrics],
                **self._positive_part(),
            }
        )

    def _positive_part(self) -> dict[str, Any]:
        """Give what decisions without a positive class were recorded without."""
        return {} if self.positive is None else {"positive": self.positive}

    def _training_parts(self) -> dict[str, Any]:
        return {
            "scikit-learn": version("scikit-learn"),
            "name": self.name,
            "target": self.target,
            "estimator": [repr(type(self.estimator)), described_parameters(self.estimator)],
            "prepare": described(self.prepare),
            # without a key as digests were recorded before there was one
            "split": {name: value for name, value in self.split_options.items() if name != "key" or value},
            "tune": described(self.tune.model_dump()) if self.tune else "",
        }


def _digest(parts: Any) -> str:
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


def _lake_dataset(name: str) -> str:
    uri = table_uri("datasets", name)
    return uri if "://" in uri else f"delta://{uri}"
