"""The training profile: a summary of the training rows, stored with the model, that monitoring compares with."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.drift.block_baseline import BlockBaseline, measure_block_baseline
from prefect_mlops.core.drift.column_drift import joint_kind
from prefect_mlops.core.drift.column_profile import BUCKETS, LONGEST, ColumnProfile, Text, Times, profile_column
from prefect_mlops.core.drift.domain_classifier import block_baseline_auc
from prefect_mlops.core.drift.quantiles import Distribution, Quantiles
from prefect_mlops.core.drift.table_profile import SAMPLE_ROWS, SAMPLE_SEED, TableProfile, in_order, profile_chunks
from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.model_files.smoke_test import predictions_of, questions_for
from prefect_mlops.core.tables.chunks import CHUNK_ROWS

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.evaluation.importance import Importances
    from prefect_mlops.core.specs.model import ModelSpec
    from prefect_mlops.core.values import Split

PROFILE_FILE = "profile.json.gz"
SAMPLE_FILE = "sample.parquet"
PREDICTION = "prediction of the model"
FORMAT = 1
MAX_BYTES = 256 << 20  # unpacked; a thousand numeric columns
_TWO = 2


@dataclass(frozen=True)
class TrainingProfile:
    """A summary of what a model was trained on.

    Attributes:
        profile: of the training rows: features, target, and as `PREDICTION` its predictions for unseen rows.
        features: names of the columns it uses.
        target: name of the column it predicts; empty where unknown.
        weights: share of each feature in the model's importance, adding up to 1; empty where not measured.
        preparation: names how the rows were prepared (`ModelSpec.preparation`); empty where unknown.
        usual: the block baseline: changes between blocks of the training rows.
    """

    profile: TableProfile
    features: tuple[str, ...]
    target: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    preparation: str = ""
    usual: BlockBaseline = field(default_factory=BlockBaseline)


def make_training_profile(
    X: pd.DataFrame,
    y: pd.Series | None = None,
    *,
    estimator: Any = None,
    unseen: pd.DataFrame | None = None,
    importances: Importances | None = None,
    preparation: str = "",
    order: NDArray[Any] | None = None,
) -> TrainingProfile:
    """Summarise what a model was trained on.

    Args:
        X: features of the training rows, (rows, features), in order of arrival, which the block baseline needs.
        y: their target.
        estimator: fitted estimator, for the profile of its predictions.
        unseen: features of rows it was not trained on, in order of arrival: on training rows a model is
            overconfident.
        importances: permutation importances of the features.
        preparation: names how the rows were prepared.
        order: places of the training rows in order of arrival, where ``X`` and ``y`` are in another order.
    """
    features = tuple(str(name) for name in X.columns)
    target = "" if y is None or y.name is None else str(y.name)
    table = X if y is None or not target or target in features else X.assign(**{target: y.to_numpy()})
    starts = range(0, max(1, len(table)), CHUNK_ROWS)
    profile = compacted(profile_chunks(in_order(table, order, slice(start, start + CHUNK_ROWS)) for start in starts))
    kinds = {name: joint_kind(one, one) for name, one in profile.columns.items() if name in features}
    baseline = replace(
        measure_block_baseline(table, profile, order=order), auc=block_baseline_auc(table, kinds, order=order)
    )
    if estimator is not None and unseen is not None and len(unseen):
        profile, predictions = with_predictions(profile, estimator, unseen)
        of_predictions = measure_block_baseline(predictions, profile, scale=len(predictions) / len(unseen))
        baseline = replace(baseline, sizes={**baseline.sizes, **of_predictions.sizes})
    weights = weights_of(importances, features) if importances else {}
    return TrainingProfile(profile, features, target, weights, preparation, baseline)


def profile_split(
    estimator: Any,
    *,
    spec: ModelSpec,
    split: Split,
    table: pd.DataFrame | None = None,
    importances: Importances | None = None,
) -> TrainingProfile:
    """Summarise what an estimator was trained on, as its spec and its split say.

    Args:
        estimator: the fitted one.
        spec: its recipe.
        split: training rows; of the test rows its predictions are summarised, and what each feature is worth.
        table: what the split was made of, for the order in time where the spec has an ``order_by``; None takes rows in
            their own order.
        importances: what each feature is worth, where that is known already.

    Source: `sklearn.inspection.permutation_importance` for the weights.
    """
    times = table[spec.order_by] if table is not None and spec.order_by else None
    unseen = _order(split.X_test, times)
    return make_training_profile(
        split.X_train,
        split.y_train,
        order=_order(split.X_train, times),
        estimator=estimator,
        unseen=split.X_test if unseen is None else split.X_test.iloc[unseen],
        importances=importances or _importances(estimator, spec, split),
        preparation=spec.preparation,
    )


def _order(rows: pd.DataFrame, times: pd.Series | None) -> NDArray[Any] | None:
    """Return the places of rows in the order of time; None where they stand in it."""
    if times is None:
        return None
    ends = (times.iloc[: len(rows)], times.iloc[-len(rows) :])  # mostly; looking up labels takes memory for all of them
    of = next((end for end in ends if end.index.equals(rows.index)), None)
    of = times.loc[rows.index] if of is None else of
    return None if of.is_monotonic_increasing else of.argsort(kind="stable").to_numpy()


def _importances(estimator: Any, spec: ModelSpec, split: Split) -> Importances | None:
    from prefect_mlops.core.evaluation.importance import NotMeasurableError, measure_importances

    with contextlib.suppress(NotMeasurableError, ValueError):  # without weights every column counts the same
        return measure_importances(
            estimator, split.X_test, split.y_test, metric=spec.gates[0].scorer, seed=spec.seed, positive=spec.positive
        )
    return None


def compacted(profile: TableProfile) -> TableProfile:
    """Reduce a profile to the size that is stored: fewer points of long columns."""
    columns = {name: replace(one, numbers=one.numbers.compacted()) for name, one in profile.columns.items()}
    return replace(profile, columns=columns)


def with_predictions(profile: TableProfile, estimator: Any, rows: pd.DataFrame) -> tuple[TableProfile, pd.DataFrame]:
    """Add the predictions of a model as one more column.

    Args:
        profile: gets the column `PREDICTION`, and so does its sample.
        estimator: fitted estimator.
        rows: features, as the model takes them; of more than `SAMPLE_ROWS` a seeded sample is used, in order.

    Returns:
        The profile, and the predictions in a column `PREDICTION`.

    Raises:
        Exception: any the model raises on these rows.
    """
    import numpy as np
    import pandas as pd

    if len(rows) > SAMPLE_ROWS:
        rows = rows.iloc[np.sort(np.random.default_rng(SAMPLE_SEED).choice(len(rows), SAMPLE_ROWS, replace=False))]
    predictions = scores_of(estimator, rows)
    sample = profile.sample.assign(**{PREDICTION: predictions.reindex(range(len(profile.sample)))})
    columns = profile.columns | {PREDICTION: profile_column(pd.Series(predictions))}
    return replace(profile, columns=columns, sample=sample), pd.DataFrame({PREDICTION: predictions})


def scores_of(estimator: Any, rows: pd.DataFrame) -> pd.Series:
    """Return one value for each row: the probability of the second of two classes, else the prediction itself.

    Args:
        estimator: fitted estimator.
        rows: features, (rows, features).
    """
    import pandas as pd

    predictions = predictions_of(estimator, rows, questions_for(estimator)[1:])
    probabilities = predictions.get("predict_proba", predictions.get("decision_function"))
    if probabilities is not None and "predict_proba" in predictions and probabilities.shape[1:] == (_TWO,):
        return pd.Series(probabilities[:, 1])
    if probabilities is not None and probabilities.ndim == 1:
        return pd.Series(probabilities)
    classes = predictions_of(estimator, rows, ["predict"])["predict"]
    if probabilities is not None and classes.ndim == 1:  # with more than two classes the class is a category
        return pd.Series(classes.astype(str), dtype=object)
    return pd.Series(classes if classes.ndim == 1 else classes[:, 0])


def weights_of(importances: Importances, features: Sequence[str]) -> dict[str, float]:
    """Return the share of each feature in the model's importance; empty where no feature counts.

    A feature has weight 0 where shuffling it costs no more than noise.

    Args:
        importances: permutation importances; of wide tables the most important columns only.
        features: names of all features.
    """
    gains = {
        one.column: max(0.0, one.drop) if one.drop > importances.noise(one.spread) else 0.0
        for one in importances.columns
    }
    total = sum(gains.values())
    if not total or not set(gains) <= set(features):
        return {}
    weights = {name: gains.get(name, 0.0) / total for name in features}
    return weights if any(weights.values()) else {}


def write_training_profile(training: TrainingProfile, folder: Path) -> None:
    """Write a training profile as JSON and Parquet; reading it unpickles nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    profile = training.profile
    kept = {
        "format": FORMAT,
        "rows": profile.rows,
        "features": list(training.features),
        "target": training.target,
        "weights": dict(training.weights),
        "preparation": training.preparation,
        "usual": {name: dict(aspects) for name, aspects in training.usual.sizes.items()},
        "usual_auc": training.usual.auc,
        "repeated": profile.repeated,
        "columns": {name: _packed(summary) for name, summary in profile.columns.items()},
    }
    (folder / PROFILE_FILE).write_bytes(gzip.compress(json.dumps(kept).encode(), compresslevel=3, mtime=0))
    _save_sample(profile.sample, folder / SAMPLE_FILE)


def read_training_profile(folder: Path) -> TrainingProfile:
    """Read a training profile.

    Raises:
        ConfigError: it is damaged, larger than it may be, or of a newer version of this library.
    """
    try:
        with gzip.open(folder / PROFILE_FILE) as stream:
            text = stream.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ConfigError(f"{PROFILE_FILE} unpacks to more than {MAX_BYTES:,} bytes")
        kept = json.loads(text)
        if kept["format"] != FORMAT:
            raise ConfigError(f"{PROFILE_FILE} has format {kept['format']!r}, and this version reads {FORMAT}")
        columns = {str(name): _unpacked(summary) for name, summary in kept["columns"].items()}
        profile = TableProfile(columns, int(kept["rows"]), _load_sample(folder / SAMPLE_FILE), dict(kept["repeated"]))
        weights = {str(name): float(weight) for name, weight in kept["weights"].items()}
        features = tuple(map(str, kept["features"]))
        baseline = BlockBaseline(
            {str(name): _pairs(aspects) for name, aspects in kept["usual"].items()}, float(kept["usual_auc"])
        )
        return TrainingProfile(profile, features, str(kept["target"]), weights, str(kept["preparation"]), baseline)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{PROFILE_FILE} cannot be read: {type(error).__name__}: {error}") from error


def _pairs(aspects: Mapping[str, Iterable[Sequence[float]]]) -> dict[str, list[tuple[int, float]]]:
    return {aspect: [(int(rows), float(size)) for rows, size in seen] for aspect, seen in aspects.items()}


def profile_digest(profile: TableProfile) -> str:
    """Digest a profile: the same rows, read in the same way, have the same digest."""
    columns = {name: _packed(summary) for name, summary in sorted(profile.columns.items())}
    text = json.dumps({"rows": profile.rows, "columns": columns}, sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _packed(summary: ColumnProfile) -> dict[str, Any]:
    """Turn a column profile into JSON, without unused parts."""
    kept: dict[str, Any] = {"kind": summary.kind, "rows": summary.rows, "nulls": summary.nulls}
    kept |= {"nominal": True} if summary.nominal else {}
    kept |= {"infinite": summary.infinite} if summary.infinite else {}
    if summary.numbers.rows:
        numbers = summary.numbers.compacted()
        whole = numbers.distribution()
        even = bool(len(whole.weights)) and bool((whole.weights == whole.weights[0]).all())
        moments = ("rows", "low", "high", "mean", "squares", "finite", "error")
        kept["numbers"] = {name: getattr(numbers, name) for name in moments} | {
            "points": whole.points.tolist(),
            "weights": float(whole.weights[0]) if even else whole.weights.tolist(),
        }
    if summary.times.hours.sum():
        times = summary.times
        kept["times"] = {
            "hours": times.hours.tolist(),
            "weekdays": times.weekdays.tolist(),
            "low": times.low,
            "high": times.high,
        }
    if summary.counts:
        kept["counts"] = [[_plain(value), rows] for value, rows in summary.counts.items()]
    if summary.text is not None:
        kept["text"] = {"lengths": _sparse(summary.text.lengths), "words": _sparse(summary.text.words)}
    return kept


def _unpacked(kept: Mapping[str, Any]) -> ColumnProfile:
    import numpy as np

    summary = ColumnProfile(kept["kind"], int(kept["rows"]), int(kept["nulls"]), bool(kept.get("nominal")))
    summary.infinite = int(kept.get("infinite", 0))
    if numbers := kept.get("numbers"):
        points = np.asarray(numbers["points"], "float64")
        weights = np.broadcast_to(np.asarray(numbers["weights"], "float64"), points.shape)
        summary.numbers = Quantiles.of(
            Distribution(points, weights),
            rows=int(numbers["rows"]),
            finite=int(numbers["finite"]),
            **{name: float(numbers[name]) for name in ("low", "high", "mean", "squares", "error")},
        )
    if times := kept.get("times"):
        hours, weekdays = (np.asarray(times[name], "int64") for name in ("hours", "weekdays"))
        summary.times = Times(hours, weekdays, float(times["low"]), float(times["high"]))
    summary.counts = Counter({value: int(rows) for value, rows in kept.get("counts", ())})
    if text := kept.get("text"):
        summary.counts = None
        summary.text = Text(_dense(text["lengths"], LONGEST + 1), _dense(text["words"], BUCKETS))
    return summary


def _plain(value: object) -> object:
    return value if isinstance(value, (str, bool, int, float)) else str(value)


def _sparse(rows: NDArray[Any]) -> list[list[int]]:
    import numpy as np

    places = np.nonzero(rows)[0]
    return [places.tolist(), rows[places].tolist()]


def _dense(kept: Iterable[Sequence[int]], size: int) -> NDArray[Any]:
    import numpy as np

    places, rows = kept
    whole = np.zeros(size, "int64")
    whole[np.asarray(places, "int64")] = rows
    return whole


def _save_sample(sample: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for name, cells in sample.items():
        try:
            columns[str(name)] = pa.array(cells, from_pandas=True)
        except (pa.ArrowException, ValueError, TypeError):  # a column of mixed objects is shown as text
            columns[str(name)] = pa.array([None if cell is None else _written(cell) for cell in cells], pa.string())
    pq.write_table(pa.table(columns), path)


def _written(cell: object) -> str:
    return str(cell).encode("utf-8", "replace").decode()


def _load_sample(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        described = pq.read_metadata(path)
        size = sum(described.row_group(place).total_byte_size for place in range(described.num_row_groups))
        if described.num_rows > SAMPLE_ROWS or size > MAX_BYTES:
            raise ConfigError(f"{SAMPLE_FILE} holds {described.num_rows:,} rows and {size:,} bytes, more than are kept")
        rows = pq.read_table(path)
    except pa.ArrowException as error:
        raise ConfigError(f"{SAMPLE_FILE} cannot be read: {error}") from error
    frame: pd.DataFrame = rows.to_pandas()
    return frame
