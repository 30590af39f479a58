"""From the dataset to rows to learn from and rows to be judged by: what is read, checked, kept and read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from prefect_mlops.core.addresses import MARKS
from prefect_mlops.core.errors import ConfigError, MLOpsError
from prefect_mlops.core.lake.ingest import without_marks
from prefect_mlops.core.lineage.sides import SideRule
from prefect_mlops.core.lineage.training_data import lineage_of
from prefect_mlops.core.specs.model import ModelSpec
from prefect_mlops.core.tables.errors import bad_content
from prefect_mlops.core.tables.read import described, source_of
from prefect_mlops.core.text import listed, one_line
from prefect_mlops.core.values import LoadedModel, Split, TableRef
from prefect_mlops.data_checks.engine import columns_of, configurations_of, needs_all_columns
from prefect_mlops.data_checks.scopes import ABOUT_COLUMNS, is_own
from prefect_mlops.flows.run_summary import RunSummary
from prefect_mlops.tasks import load_table, split_table, validate_table

if TYPE_CHECKING:
    import pandas as pd

MAX_NAMED = 20  # columns in a message

Rows = TypeVar("Rows", "pd.DataFrame", TableRef)
Splitter: TypeAlias = "Callable[[pd.DataFrame, ModelSpec], Split]"


@dataclass(frozen=True)
class TrainingData:
    """Checked rows, split; stays inside the process.

    Attributes:
        table: the prepared rows, those to learn from first; the sides of the ready split are views of it.
        split: features and target of both sides.
    """

    table: pd.DataFrame
    split: Split

    @property
    def test_rows(self) -> pd.DataFrame:
        """The test rows, with all columns that were read."""
        return self.table.iloc[len(self.split.X_train) :]

    @property
    def training_rows(self) -> pd.DataFrame:
        """The training rows, with all columns that were read."""
        return self.table.iloc[: len(self.split.X_train)]

    @property
    def digest(self) -> str:
        """Digest of every cell of the rows on both sides."""
        from prefect_mlops.core.tables.digests import columns_digest

        split = self.split
        sides = (split.X_train, split.y_train.to_frame(), split.X_test, split.y_test.to_frame())
        return columns_digest((str(name), values) for side in sides for name, values in side.items())


def prepare_training_data(
    spec: ModelSpec,
    data: str,
    summary: RunSummary,
    *,
    split: Splitter | None = None,
    champion: LoadedModel | None = None,
) -> TrainingData:
    """Load, check, prepare and split the rows.

    Of Parquet and Delta tables only the columns are read that the spec needs (`ModelSpec.reading`), once. A suite that
    looks at other columns of a Delta table is asked first, chunk by chunk.

    Args:
        spec: the recipe.
        data: see `ModelSpec.source`.
        summary: gets the report on the data as evidence.
        split: ``f(table, spec) -> Split``, in place of `tasks.split_table` with the spec's options. Both sides keep
            the table's index.
        champion: the sides are drawn by its rule where the table has the columns, so that the rows it has not learned
            from judge the challenger too.

    Raises:
        ConfigError: a split of one's own that raises, or that is no split of the table: rows on both sides, other
            rows, the target among the features.
        DataCheckError: the data does not meet the spec's suite.
    """
    source, known = _known(spec.source(data))
    rule = None if champion is None or split is not None else _rule_of(champion, spec)
    table = spec.prepared(_checked_rows(spec, source, known, summary, besides=rule.columns if rule else ()))
    if split is None:
        sides = None if rule is None or rule.missing(table.columns) else rule
        return TrainingData(table, split_table(table, spec.target, **spec.split_options, sides=sides, in_place=True))
    own = _own_split(split, table, spec)
    return TrainingData(_in_order_of(own, table, spec), own)


def _rule_of(champion: LoadedModel, spec: ModelSpec) -> SideRule | None:
    """Return the rule of the champion's sides with the share of the spec; None where it does not go with the spec.

    A rule by features names those of the champion: with a feature more or less, another rule would put most of the
    rows that the champion has not seen on the training side.
    """
    learned = lineage_of(champion.estimator)
    rule = learned.rule if learned else None
    if rule is None or spec.order_by:
        return None
    named = (spec.group_by,) if spec.group_by else tuple(spec.key)
    wanted = "group" if spec.group_by else "key" if named else "features"
    if rule.by != wanted or (named and rule.columns != named):
        return None
    return rule.model_copy(update={"share": spec.test_share, "sample": ()})


def _own_split(split: Splitter, table: pd.DataFrame, spec: ModelSpec) -> Split:
    """Call a split of one's own, and refuse what is no split of the table."""
    about = f"{spec.name}: the split {getattr(split, '__name__', repr(split))!r}"
    try:
        sides: object = split(table, spec)
    except MLOpsError:
        raise
    except Exception as error:
        seen = f"{type(error).__name__}: {one_line(error)}"
        raise ConfigError(
            f"{about} cannot be made: {seen}. The table has the columns {listed(list(table.columns), MAX_NAMED)}; "
            "PREFECT_MLOPS_DEBUG=1 shows where"
        ) from error
    if not isinstance(sides, Split):
        raise ConfigError(f"{about} answered with {type(sides).__name__}: return a Split(X_train=, X_test=, ...)")
    for side, X, y in (("train", sides.X_train, sides.y_train), ("test", sides.X_test, sides.y_test)):
        if not len(X):
            raise ConfigError(f"{about} has no {side} rows")
        if not X.index.equals(y.index):
            raise ConfigError(f"{about}: X_{side} and y_{side} are not of the same rows: their index differs")
        if spec.target in X.columns:
            raise ConfigError(f"{about}: the target {spec.target!r} is among the features of X_{side}: leakage")
    twice = int(sides.X_test.index.isin(sides.X_train.index).sum())
    if twice:
        raise ConfigError(f"{about}: {twice:,} rows are on both sides, by their index: keep the index of the table")
    return sides


def _in_order_of(sides: Split, table: pd.DataFrame, spec: ModelSpec) -> pd.DataFrame:
    """Return the rows of a split with all their columns, training rows first."""
    rows = sides.X_train.index.append(sides.X_test.index)
    if not table.index.is_unique or not rows.is_unique or not rows.isin(table.index).all():
        raise ConfigError(f"{spec.name}: the rows of a split are found in the table by their index, each once: keep it")
    ordered = table.loc[rows]
    ordered.attrs.update(table.attrs)
    return ordered


def with_columns_of(spec: ModelSpec, rows: pd.DataFrame, models: Iterable[Any]) -> pd.DataFrame:
    """Add to test rows the columns that models of another recipe were trained on or split by: these are read now.

    Args:
        spec: how the rows were made.
        rows: some of those that were read, with their index.
        models: fitted estimators.

    Returns:
        The rows; as they are where nothing is missing, or where it is not to be had.

    Raises:
        DataCheckError: the table has changed since it was read.
    """
    ref, there, asked = source_of(rows), set(rows.columns), [_trained_on(model) for model in models]
    if ref is None or all(names and names <= there for names in asked):
        return rows
    more = _left_out(spec, ref, lambda name: name not in there and (set() in asked or name in set().union(*asked)))
    return rows if more is None else rows.join(more[[name for name in more.columns if name not in there]])


def _trained_on(model: Any) -> set[str]:
    """Return the columns a model was trained on, and by which its rows were split; none where that is unknown."""
    learned = lineage_of(model)
    if learned is None:
        return set(getattr(model, "feature_names_in_", ()))
    split_by = (*(learned.rule.columns if learned.rule else ()), *filter(None, (learned.order_by,)))
    return {*learned.columns, *split_by}


def _left_out(spec: ModelSpec, ref: TableRef, wanted: Callable[[str], bool]) -> pd.DataFrame | None:
    """Read columns the spec has no need of; where there is a preparation all, as they are after it."""
    if spec.prepare is not None and spec.reads is None:  # nothing was left out
        return None
    source, known = _known(ref.uri if ref.version is None else f"{ref.uri}@{ref.version}")
    names = list(known.columns) if known else []
    if spec.prepare is None:
        names = list(filter(wanted, names))
        if not names:
            return None
    more = without_marks(load_table(source, columns=names or None))
    if len(more) != ref.rows:
        seen = f"{ref.rows:,} rows at first, {len(more):,} now"
        raise bad_content(source, name="rows are as they were read", observed=seen, expected="the same rows")
    return spec.prepare(more) if spec.prepare else more


def _known(source: str) -> tuple[str, TableRef | None]:
    """Return the address of exactly the rows there are now, and what is known of them before they are read."""
    try:
        known = described(source)
    except MLOpsError:  # the error is raised, and the read retried, when the rows are read
        return source, None
    if known is None or not known.columns:
        return source, None
    kept = {name: kind for name, kind in known.columns.items() if name not in MARKS}
    at = "" if known.version is None or source.endswith(f"@{known.version}") else f"@{known.version}"
    return f"{source}{at}", known.model_copy(update={"columns": kept})


def _checked_rows(
    spec: ModelSpec, source: str, known: TableRef | None, summary: RunSummary, *, besides: Sequence[str]
) -> pd.DataFrame:
    """Read the columns that training needs, with those that say on which side a row is; ask the suite about its own."""
    needed = spec.reading(known.columns) if known else []
    more = () if spec.prepare else besides  # a preparation gets the columns it asks for
    columns = [name for name in known.columns if name in needed or name in more] if known and needed else []
    if known is None or not columns:
        return _passed(without_marks(load_table(source)), spec, summary)
    asked = _looked_at(spec, known.columns)
    if asked <= set(columns):
        rows = load_table(source, columns=columns)
        _passed(_with_names(rows, known.columns), spec, summary)
        return rows
    if known.version is None:  # a file could be another one when it is read again
        return _passed(load_table(source, columns=list(known.columns)), spec, summary)[columns]
    if not _names_matter(spec, asked - set(known.columns)):
        looked_at = {name: kind for name, kind in known.columns.items() if name in asked}
        known = known.model_copy(update={"columns": looked_at})
    _passed(known, spec, summary)
    return load_table(source, columns=columns)


def _with_names(rows: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Let the suite see the names of columns that were not read: empty ones stand in, which take no memory."""
    import numpy as np
    import pandas as pd

    empty = np.broadcast_to(np.float64("nan"), len(rows))
    whole = pd.DataFrame({name: rows.get(name, empty) for name in names}, copy=False)
    whole.attrs = rows.attrs
    return whole


def _passed(table: Rows, spec: ModelSpec, summary: RunSummary) -> Rows:
    summary.show(validate_table(table, spec.suite)).raise_for_failure()
    return table


def _looked_at(spec: ModelSpec, names: Iterable[str]) -> set[str]:
    """Return the columns whose values the suite may look at; all where an expectation does not say."""
    found: set[str] = set()
    for one in configurations_of(spec.suite):
        if one.type not in ABOUT_COLUMNS or not is_own(one.type):
            found.update(names if needs_all_columns(one) else columns_of(one))
    return found


def _names_matter(spec: ModelSpec, missing: set[str]) -> bool:
    """Tell whether what the suite says depends on which other columns there are."""
    return bool(missing) or any(one.type in ABOUT_COLUMNS for one in configurations_of(spec.suite))
