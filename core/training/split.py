"""Training and test rows (holdout) of a table: by time, or by a hash of the rows' group, key or features."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, DataCheckError, unknown_name
from prefect_mlops.core.lineage.sides import SideRule
from prefect_mlops.core.lineage.training_data import HOLDOUT_ATTRIBUTE
from prefect_mlops.core.tables.arrow import release_memory
from prefect_mlops.core.tables.errors import bad_content
from prefect_mlops.core.tables.formats import require_unique
from prefect_mlops.core.tables.ordering import as_times, text_problem
from prefect_mlops.core.tables.read import as_frame, table_name
from prefect_mlops.core.text import listed
from prefect_mlops.core.values import Split, Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

FIRST_ROWS = 1_000
MOST_HELD_BACK = 2.0  # times the share that was asked for, where rows of one moment stay together
MIN_IDENTITIES = 10  # different test rows, where rows repeat: fewer are a handful of cases, however many rows
MAX_NAMED = 8  # columns or strata listed in a message; beyond it the count says enough


def split_table(  # noqa: PLR0913 - a spec's options of the split, one by one
    table: Table,
    target: str,
    *,
    features: Sequence[str] | None = None,
    test_share: float = 0.2,
    order_by: str | None = None,
    group_by: str | None = None,
    key: str | Sequence[str] = (),
    stratify: bool = False,
    seed: int = 0,
    sides: SideRule | None = None,
    in_place: bool = False,
) -> Split:
    """Cut a table into training and test rows.

    Without ``order_by`` a hash decides on which side a row is, so that it stays there when the table grows: of its
    group, of its key, or of its features, where neither is named. The share of test rows is then met by chance, as if
    each were drawn by itself. Rows keep their order, index and types. Where the last rows of the table are held back,
    the sides are views of it and take no memory of their own.

    Args:
        table: (rows, columns), or where to read them.
        target: column to predict; without gaps, with at least two values.
        features: columns to learn from, in this order. None takes all but the target, ``order_by``, ``group_by`` and
            ``key``: a clock or an id is rarely a feature; name them here where they are.
        test_share: share of the rows to hold back, above 0 and below 1; of the groups with ``group_by``.
        order_by: hold back the last rows by this column, as when the model will meet the future. Rows equal to the
            boundary value all go to the test side, so no moment stands on both sides. Text is refused unless it sorts
            in order of time: ISO 8601 or digits, all of one length.
        group_by: keep rows with one value of this column on one side. With ``order_by`` the time alone decides, and a
            group may have rows on both sides.
        key: column or columns that identify a row, such as an id: rows whose features are corrected later then stay on
            their side.
        stratify: refuse sides that do not both have each value of the target.
        seed: changes which rows are held back by a hash.
        sides: rule to draw the sides by, in place of ``test_share``, ``key`` and ``seed``: that of a model's lineage,
            for the sides it was trained and judged on.
        in_place: put the training rows before the test rows in the given frame itself, so that the sides can be views
            of it whichever rows are held back.

    Returns:
        Features and targets of both sides.

    Raises:
        ConfigError: unknown column, target among the features, a share out of range, options that exclude each other.
        DataCheckError: the rows cannot be split so; ``.report`` says what was seen.
        BackendError: the table could not be read.

    Source: `core.lineage.sides` for the hash.
    """
    import pandas as pd

    key = (key,) if isinstance(key, str) else tuple(key)
    _require_options(
        target, test_share=test_share, order_by=order_by, group_by=group_by, key=key, stratify=stratify, sides=sides
    )
    frame, name = as_frame(table), table_name(table)
    require_unique(name, frame.columns)
    chosen = _features(frame, name, target, features, (order_by, group_by, *key))
    _require_target(frame[target], name)
    if order_by is not None:
        times = _times(_known(frame, name, order_by), name)
        held_back = _last(times, name, test_share)
        last = times[~held_back].max()
        known: dict[str, Any] = {} if pd.isna(last) else {"until": _sortable(last), "order_by": str(order_by)}
    else:
        wanted = sides or _rule(chosen, group_by, key, share=float(test_share), seed=seed)
        held_back, rule = _by_rule(frame, name, wanted)
        known = {"rule": rule.model_dump(mode="json")}
    own = in_place or frame is not table
    train, test = _sides(frame if own else frame[[*chosen, target]], held_back, in_place=own)
    split = Split(X_train=train[chosen], X_test=test[chosen], y_train=train[target], y_test=test[target])
    _require_sides(split, name, stratify=stratify)
    split.X_train.attrs[HOLDOUT_ATTRIBUTE] = json.dumps(known)  # text: pandas copies attrs deeply at every step
    return split


def both_sides(table: pd.DataFrame, split: Split, *, order_by: str | None) -> tuple[pd.DataFrame, pd.Series]:
    """Return features and target of the rows on both sides, training rows first, for a fit on all of them.

    Args:
        table: (rows, columns), what ``split`` was made of, training rows first.
        split: its sides.
        order_by: column of time; the lineage of a model that is fitted on these rows ends at the last one.

    Returns:
        Features (rows, columns) and target (rows,).
    """
    features, target = table[list(split.X_train.columns)], table[split.y_train.name]
    last = None if order_by is None else _times(table[order_by], table_name(table)).max()
    known = {} if last is None else {"until": _sortable(last), "order_by": str(order_by)}
    features.attrs[HOLDOUT_ATTRIBUTE] = json.dumps(known)
    return features, target


def _rule(chosen: Sequence[str], group_by: str | None, key: tuple[str, ...], *, share: float, seed: int) -> SideRule:
    """Return by what a row is identified: its group, else its key, else its features."""
    if group_by is not None:
        return SideRule(by="group", columns=(str(group_by),), share=share, seed=seed)
    if key:
        return SideRule(by="key", columns=tuple(map(str, key)), share=share, seed=seed)
    return SideRule(by="features", columns=tuple(sorted(map(str, chosen))), share=share, seed=seed)


def _by_rule(frame: pd.DataFrame, name: str, rule: SideRule) -> tuple[npt.NDArray[np.bool_], SideRule]:
    """Return which rows are on the test side, and the rule with a sample of them."""
    import numpy as np

    hashes = rule.hashes(frame)
    if rule.by != "features":
        for column in rule.columns:
            _known(frame, name, column)
    held_back = rule.below(hashes)
    if not held_back.any() or held_back.all():
        count = len(np.unique(hashes))
        what = f"values of {', '.join(rule.columns)}" if rule.by != "features" else "combinations of features"
        seen = f"{count:,} {what} in {len(frame):,} rows, {'all' if held_back.any() else 'none'} on the test side"
        raise _too_few(name, seen)
    if rule.by == "features" and len(frame) > len(distinct := np.unique(hashes)):
        test = int(rule.below(distinct).sum())
        if test < min(MIN_IDENTITIES, int(held_back.sum())):
            seen = f"{len(distinct):,} combinations of features in {len(frame):,} rows, {test:,} on the test side"
            expected = f"at least {MIN_IDENTITIES} there: name what identifies a row, with key or group_by"
            raise bad_content(name, name="rows can be told apart", observed=seen, expected=expected)
    return held_back, rule.with_sample(hashes)


def _sides(
    frame: pd.DataFrame, held_back: npt.NDArray[np.bool_], *, in_place: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both sides: views where the test rows are the last ones, or are made the last ones."""
    import numpy as np

    train = len(frame) - int(held_back.sum())
    if held_back[:train].any():
        if not in_place:
            return frame[~held_back], frame[held_back]
        order = np.argsort(held_back, kind="stable")
        for place in range(frame.shape[1]):  # one column at a time stands in memory twice
            frame.isetitem(place, frame.iloc[:, place].array.take(order))
            release_memory()
        frame.index = frame.index.take(order)
    return frame.iloc[:train], frame.iloc[train:]


def _require_options(
    target: str,
    *,
    test_share: float,
    order_by: str | None,
    group_by: str | None,
    key: tuple[str, ...],
    stratify: bool,
    sides: SideRule | None,
) -> None:
    number = isinstance(test_share, (int, float)) and not isinstance(test_share, bool)
    if not number or not 0 < test_share < 1:
        raise ConfigError(f"test_share is a share above 0 and below 1, e.g. 0.2, got {test_share!r}")
    if stratify and (order_by or group_by):
        by = "order_by" if order_by else "group_by"
        raise ConfigError(f"{by} and stratify exclude each other: {by} decides alone which rows are held back")
    if sides is not None and order_by:
        raise ConfigError("order_by and sides exclude each other: order_by decides alone which rows are held back")
    deciding = {"order_by": (order_by,), "group_by": (group_by,), "key": key}
    for option, columns in deciding.items():
        if target in columns:
            raise ConfigError(f"{option} is the target {target!r}: the sides would have nothing in common to learn")


def _features(
    frame: pd.DataFrame,
    name: str,
    target: str,
    features: Sequence[str] | None,
    not_by_default: tuple[str | None, ...],
) -> list[str]:
    """Return the columns to learn from, after checking every name that was given."""
    if isinstance(features, str):
        raise ConfigError(f"features is a list of names, got the text {features!r}: write features=[{features!r}]")
    for kind, columns in (("target", (target,)), ("feature", features or ()), ("column", not_by_default)):
        for column in columns:
            if column is not None and column not in frame.columns:
                raise unknown_name(f"{kind} of {name}", str(column), map(str, frame.columns))
    if features is None:
        chosen = [column for column in frame.columns if column not in (target, *not_by_default)]
    else:
        chosen = list(features)
    if target in chosen:
        raise ConfigError(f"the target {target!r} is among the features: the model would be told the answer")
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(f"features names each column of {name} to learn from once, and at least one; got {chosen!r}")
    return chosen


def _sortable(last: Any) -> str | float:
    """Say in JSON how far the training rows go, so that a later judge can leave out what a model has seen."""
    if hasattr(last, "isoformat"):
        return str(last.isoformat())
    if isinstance(last, str):
        return last
    whole = math.isfinite(last) and int(last) == last  # nanoseconds since 1970 are no exact floats
    return int(last) if whole else float(last)


def _known(frame: pd.DataFrame, name: str, column: str) -> pd.Series:
    """Return a column that decides the sides; a row without a value could go to either."""
    values = frame[column]
    missing = int(values.isna().sum())
    if missing:
        seen = f"{missing:,} of {len(values):,} rows without {column!r}"
        raise bad_content(
            name, name="every row has its place", observed=seen, expected=f"a value of {column!r} in each"
        )
    return values


def _times(values: pd.Series, name: str) -> pd.Series:
    """Return the values to order by; periods as the moments they begin at."""
    if problem := text_problem(values):
        expected = f"a time: make one of {values.name!r} in prepare, e.g. pd.to_datetime(..., format='%d.%m.%Y')"
        raise bad_content(name, name="rows can be ordered", observed=problem, expected=expected)
    return as_times(values)


def _require_target(values: pd.Series, name: str) -> None:
    if len(values) < 2:  # noqa: PLR2004 - one row for each side
        raise _too_few(name, f"{len(values)} rows")
    missing = int(values.isna().sum())
    if missing:
        seen = f"{missing:,} of {len(values):,} rows without {values.name!r}"
        raise bad_content(name, name="target is known", observed=seen, expected="a target in each row: drop the others")
    if not _varies(values):
        seen = f"{len(values):,} rows, all with {values.name!r} = {values.iloc[0]!r}"
        raise bad_content(name, name="target varies", observed=seen, expected="at least two values to tell apart")


def _last(values: pd.Series, name: str, test_share: float) -> npt.NDArray[np.bool_]:
    import numpy as np

    place = len(values) - max(1, round(len(values) * test_share))
    try:
        if isinstance(values.dtype, np.dtype) and values.dtype.kind in "biufM":  # no need to sort all of them
            boundary = np.partition(values.to_numpy(), place)[place]
        else:
            boundary = values.sort_values().iloc[place]
        held_back: npt.NDArray[np.bool_] = (values >= boundary).to_numpy(dtype=bool)
    except TypeError as error:
        seen = f"values of {values.name!r} (type {values.dtype}) that have no order"
        raise bad_content(
            name, name="rows can be ordered", observed=seen, expected="numbers, dates or text of one kind"
        ) from error
    _require_share(values, name, test_share, held_back)
    return held_back


def _require_share(values: pd.Series, name: str, test_share: float, held_back: npt.NDArray[np.bool_]) -> None:
    """Refuse times so few that far more rows are held back than was asked for."""
    share = float(held_back.mean())
    if share <= MOST_HELD_BACK * test_share or share == 1:  # without a training row the sides are refused
        return
    seen = f"{values.nunique():,} values of {values.name!r}, so that {share:.0%} of the rows would be held back"
    expected = (
        f"at most {MOST_HELD_BACK:g} times the test_share of {test_share:g}: a finer time, or a larger test_share"
    )
    raise bad_content(name, name="share can be held back", observed=seen, expected=expected)


def _require_sides(split: Split, name: str, *, stratify: bool) -> None:
    train, test = split.y_train, split.y_test
    if not len(train) or not len(test):
        raise _too_few(name, f"{len(train):,} training and {len(test):,} test rows")
    if stratify and (lacking := [repr(kind) for kind in set(train.unique().tolist()) ^ set(test.unique().tolist())]):
        seen = f"{len(lacking):,} values of {train.name!r} on one side only: {listed(sorted(lacking), MAX_NAMED)}"
        raise bad_content(name, name="strata can be split", observed=seen, expected="a row of each value on both sides")
    if not _varies(train):
        seen = f"only {train.name!r} = {train.iloc[0]!r} in {len(train):,} training rows"
        expected = "at least two values to learn from: hold back fewer rows, or more rows"
        raise bad_content(name, name="target varies in training", observed=seen, expected=expected)
    empty = [repr(column) for column, cells in split.X_train.items() if cells.isna().all()]
    if empty:
        seen = f"{len(empty):,} columns without any value in {len(train):,} training rows: {listed(empty, MAX_NAMED)}"
        raise bad_content(name, name="features have values", observed=seen, expected="other features, or other rows")


def _varies(values: pd.Series) -> bool:
    """Tell whether there are two values; one value is no question. The first rows mostly tell."""
    return any(some.nunique() > 1 for some in (values.iloc[:FIRST_ROWS], values))


def _too_few(name: str, seen: str) -> DataCheckError:
    return bad_content(name, name="both sides have rows", observed=seen, expected="at least one row on each side")
