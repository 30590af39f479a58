"""Small values that tasks exchange, and that go into Prefect results, parameters, events and artifacts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.metrics import Metric, metric_name

if TYPE_CHECKING:
    import pandas as pd


class Value(BaseModel):
    """A small frozen JSON value, compared by content; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TableRef(Value):
    """The address and description of a table, without its rows.

    Attributes:
        uri: file, folder or dataset; a password in it is masked.
        version: Delta version, where the table has versions.
        digest: over every cell (`core.tables.digests`); None where the table has not been read yet.
        rows: number of rows; None where not read yet.
        columns: kind of each column by name, in order (`core.tables.digests` names the kinds).
        files: path and digest of the lake's files whose rows are meant; empty for all, and then left out of JSON.
    """

    uri: str
    version: int | None = None
    digest: str | None = None
    rows: int | None = Field(default=None, ge=0)
    columns: dict[str, str] = Field(default_factory=dict)
    files: tuple[tuple[str, str], ...] = ()

    @model_serializer(mode="wrap")
    def _without_empty_files(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave empty ``files`` out: stored JSON from before the field existed is compared as text."""
        fields: dict[str, Any] = handler(self)
        if not self.files:
            fields.pop("files", None)
        return fields


Table: TypeAlias = "pd.DataFrame | TableRef"
"""A table: the rows themselves, or where to read them."""


class Evaluation(Value):
    """Scores of one model on one set of rows; larger is always better.

    Attributes:
        metrics: value by the metric's name.
        rows: number of scored rows.
        intervals: two-sided 95 % interval by the metric's name; without those that could not be computed.
        notes: what to know of the scores, such as classes that the model has not learned.
    """

    metrics: dict[str, float]
    rows: int = Field(ge=1)
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Gate(Value):
    """One condition for promotion, on one metric; larger is better. See docs/gates.md for how it decides.

    A custom metric, given as a function, is not serialised: a gate read back from JSON has its name only.

    Attributes:
        metric: scorer name, e.g. ``"roc_auc"`` or ``"neg_root_mean_squared_error"``, or the name of the function.
        at_least: minimum score of the challenger.
        may_lose: non-inferiority margin: how far the score may fall below the champion's; ignored while there is no
            champion.
        must_gain: minimum improvement: how far the score must rise above the champion's; ignored while there is no
            champion.
        confidence: of each bound, one-sided.
        slices: columns of the test set; in none of their groups may the challenger be clearly worse.
        max_gap: largest difference of the challenger's score between two groups of a slice column.
    """

    metric: str = Field(min_length=1)
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    may_lose: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    must_gain: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    slices: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    max_gap: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    _function: Callable[..., float] | None = PrivateAttr(default=None)

    def __init__(
        self,
        metric: Metric,
        *,
        at_least: float | None = None,
        may_lose: float | None = None,
        must_gain: float | None = None,
        confidence: float = 0.95,
        slices: Sequence[str] = (),
        max_gap: float | None = None,
    ) -> None:
        fields: dict[str, Any] = {"at_least": at_least, "may_lose": may_lose, "must_gain": must_gain}
        fields |= {"confidence": confidence, "slices": slices, "max_gap": max_gap}
        try:
            super().__init__(**{"metric": metric_name(metric), **fields})
        except ValidationError as error:
            raise _config_error("Gate", error) from None
        self._function = metric if callable(metric) else None

    @property
    def scorer(self) -> Metric:
        """The custom metric, or the name of scikit-learn's scorer."""
        return self._function or self.metric

    @model_validator(mode="after")
    def _has_a_condition(self) -> Gate:
        if (self.at_least, self.may_lose, self.must_gain, self.max_gap) == (None,) * 4:
            raise ValueError(f"gate on {self.metric!r} has no condition: give at_least, may_lose, must_gain or max_gap")
        if self.max_gap is not None and not self.slices:
            raise ValueError(f"gate on {self.metric!r}: max_gap compares groups, name their columns in slices")
        if len(set(self.slices)) < len(self.slices):
            raise ValueError(f"gate on {self.metric!r}: slices names a column twice")
        return self


class LoggedRun(Value):
    """A candidate model logged to MLflow.

    Attributes:
        run_id: MLflow run of the candidate.
        parent_run_id: MLflow run of the Prefect flow run; None outside a flow.
        experiment: experiment name.
        model_uri: address of exactly this model (``models:/m-...``).
        data_digest: digest of the rows it was trained on; None where the model was not trained by `train_model`.
        url: MLflow page of the run; None where MLflow has no server.
    """

    run_id: str
    parent_run_id: str | None = None
    experiment: str
    model_uri: str
    data_digest: str | None = None
    url: str | None = None


class ModelVersion(Value):
    """A version in the model registry.

    Attributes:
        name: registered model.
        version: its number, counted from 1.
        run_id: MLflow run that made it.
        model_uri: address of the model it points at.
        alias: alias it was loaded by or given; None otherwise.
        data_digest: digest of the rows it was trained on.
        url: MLflow page of the version; None where MLflow has no server.
    """

    name: str
    version: int = Field(ge=1)
    run_id: str
    model_uri: str
    alias: str | None = None
    data_digest: str | None = None
    url: str | None = None


class Decision(Value):
    """The decision on a challenger, or why there was none.

    Attributes:
        model: registered model.
        version: its version; None where nothing was registered.
        decision: ``promoted`` or ``refused``; ``requested`` when it passed and needs a person's approval; ``braked``
            when a retrain guard prevented the training, ``waiting`` when there is no training data yet.
        reason: why, in a sentence.
        metrics: the challenger's scores by scorer name.
        rows: rows it was trained on.
        data_digest: digest of those rows.
        replaced: version that was champion before; None where there was none.
        refit_of: version that was judged, where this one is its recipe fitted on all rows; None otherwise.
        again: True when the same spec on the same rows was decided before, and nothing was done.
        dry_run: True when nothing was written.
        url: MLflow page of the version; None where MLflow has no server.
    """

    model: str
    version: int | None = None
    decision: Literal["promoted", "refused", "requested", "braked", "waiting"]
    reason: str
    metrics: dict[str, float] = Field(default_factory=dict)
    rows: int = 0
    data_digest: str | None = None
    replaced: int | None = None
    refit_of: int | None = None
    again: bool = False
    dry_run: bool = False
    url: str | None = None


BackfillState = Literal["planned", "passed", "refused", "promoted", "failed"]


class Backfilled(Value):
    """The result of a backfill: a training on an older data version.

    Attributes:
        data: data version.
        at: when it was committed, in UTC.
        state: ``passed`` (it would have become champion), ``refused``, ``promoted``, ``failed`` (the data was
            refused, nothing was trained), or ``planned`` in a dry run.
        version: version in the registry; None where nothing was trained.
        metrics: scores by scorer name.
        rows: rows it was trained on.
        reason: why, in a sentence.
        again: True when it was done before.
    """

    data: int
    at: datetime
    state: BackfillState
    version: int | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    rows: int = 0
    reason: str = ""
    again: bool = False

    @property
    def sentence(self) -> str:
        """The result in a sentence: data version, state, scores."""
        version = f" v{self.version}" if self.version else ""
        scores = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items()) or self.reason
        return f"@{self.data}{version} {self.state}{' before' if self.again else ''}: {scores}"


@dataclass(frozen=True)
class LoadedModel:
    """A registered model, loaded by the safe loader; stays inside the process.

    Attributes:
        version: which one it is.
        estimator: the fitted scikit-learn estimator.
    """

    version: ModelVersion
    estimator: Any


@dataclass(frozen=True)
class Split:
    """A table cut into training and test rows; stays inside the process.

    Attributes:
        X_train: features of the training rows.
        X_test: features of the test set, which the model must not see before it is evaluated (leakage).
        y_train: targets of the training rows, same index as ``X_train``.
        y_test: targets of the test rows, same index as ``X_test``.
    """

    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: pd.Series
    y_test: pd.Series


def _config_error(subject: str, error: ValidationError) -> ConfigError:
    """List the invalid fields with their problems in one line."""
    problems = "; ".join(
        ": ".join(filter(None, (".".join(map(str, item["loc"])), item["msg"]))) for item in error.errors()
    )
    return ConfigError(f"{subject}: {problems}")
