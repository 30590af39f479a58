"""Ground truth: stored predictions and the labels that arrive later, matched by id.

Labels come late, out of order, twice, or for ids that were never scored. The rules for that stand here, once; every
row that is left out is counted and reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.reports import MAX_EXAMPLES, Check
from prefect_mlops.core.text import show

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

PREDICTIONS, LABELS = "predictions", "labels"


@dataclass(frozen=True)
class LabelColumns:
    """The names of the columns of both tables.

    Attributes:
        id: of the predictions; each id has one label.
        at: time scored.
        prediction: probability, score, number or class.
        version: of the model; read only where one version is asked for.
        label_id: id of the labels; the same name as `id` where left out.
        label: the ground truth.
        label_at: time the label became known; where left out, the column named as `at`, if there is one.
    """

    id: str = "id"
    at: str = "at"
    prediction: str = "prediction"
    version: str = "version"
    label_id: str = ""
    label: str = "label"
    label_at: str = ""

    @classmethod
    def of(cls, columns: Mapping[str, str] | None) -> LabelColumns:
        """Read the names a caller gave.

        Raises:
            ConfigError: one is not known here, or is no text.
        """
        given = dict(columns or {})
        for key, name in given.items():
            if key not in cls.__dataclass_fields__:
                raise unknown_name("entry of columns", str(key), cls.__dataclass_fields__)
            if not isinstance(name, str) or not name:
                raise ConfigError(f"columns: the name of {key!r} is a text, got {name!r:.80}")
        return cls(**given)


@dataclass(frozen=True)
class GroundTruth:
    """Predictions with the labels known so far.

    Attributes:
        rows: one row for each prediction that counts, in order of time: ``at`` (UTC), ``prediction``, ``label``
            (missing where not known yet); numbered from 0 in the index.
        findings: failed warnings about both tables.
        notes: sentences about rows counted once or left out.
    """

    rows: pd.DataFrame
    findings: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Account:
    """Findings and notes, collected while matching."""

    findings: list[Check]
    notes: list[str]

    def find(self, name: str, subject: str, observed: str, examples: Iterable[object] = ()) -> None:
        shown = tuple(show(value) for value, _ in zip(examples, range(MAX_EXAMPLES), strict=False))
        self.findings.append(
            Check(name=name, passed=False, severity="warning", subject=subject, observed=observed, examples=shown)
        )


def match_labels(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    names: LabelColumns | None = None,
    version: str | int | None = None,
    now: datetime | None = None,
) -> GroundTruth:
    """Match predictions with their labels.

    A label that comes twice with one value counts once; with different values the one known last counts. An id scored
    more than once counts with its last prediction made before its label was first known. A prediction made after its
    label was known is left out as possible leakage. So are rows without id, time or prediction, and labels of ids that
    were never scored. All of it is counted.

    Args:
        predictions: one row for each prediction, in any order.
        labels: one row for each label, in any order; may be empty.
        names: of the columns.
        version: only predictions of this version of the model.
        now: later predictions and labels are left out; None takes the clock's time.

    Returns:
        The rows that count, and what was found.

    Raises:
        ConfigError: a column is not there, or is not a time where a time has to be.
    """
    import pandas as pd

    names, account = names or LabelColumns(), _Account([], [])
    moment = pd.Timestamp(now or datetime.now().astimezone())
    moment = moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")
    scored, known = _predictions(predictions, names), _labels(labels, names)
    scored["key"], known["key"] = _keys(scored.id, known.id)
    known = _usable_labels(known, scored, moment, account)
    if version is not None:
        scored = _of_version(scored, predictions, names.version, version, account)
    scored = _usable_predictions(scored, moment, account)
    scored = _without_leakage(scored, known, account)
    scored = _scored_once(scored, account)
    # As objects, so that whole numbers stay whole beside missing ones.
    label = known.drop_duplicates("key", keep="last").set_index("key")["label"].astype(object)
    scored["label"] = scored["key"].map(label) if len(label) else pd.Series(None, index=scored.index, dtype=object)
    rows = scored.sort_values("at", kind="stable", ignore_index=True)[["at", "prediction", "label"]]
    return GroundTruth(rows, tuple(account.findings), tuple(account.notes))


def _predictions(table: pd.DataFrame, names: LabelColumns) -> pd.DataFrame:
    import pandas as pd

    columns = {"id": names.id, "at": names.at, "prediction": names.prediction}
    found = {key: _column(table, name, PREDICTIONS) for key, name in columns.items()}
    found["at"] = _moments(found["at"], names.at, PREDICTIONS)
    return pd.DataFrame(found).reset_index(drop=True)


def _labels(table: pd.DataFrame, names: LabelColumns) -> pd.DataFrame:
    """Return id, label and time known; without a column of times, none is known."""
    import pandas as pd

    found = {
        "id": _column(table, names.label_id or names.id, LABELS),
        "label": _column(table, names.label, LABELS),
    }
    if names.label_at or names.at in table.columns:
        name = names.label_at or names.at
        found["known"] = _moments(_column(table, name, LABELS), name, LABELS)
    else:
        found["known"] = pd.Series(pd.NaT, index=found["id"].index, dtype="datetime64[us, UTC]")
    return pd.DataFrame(found).reset_index(drop=True)


def _column(table: pd.DataFrame, name: str, role: str) -> pd.Series:
    """Return a column; a table without rows or columns has each of them, empty."""
    import pandas as pd

    if table.shape == (0, 0):
        return pd.Series([], dtype=object)
    if name not in table.columns:
        hint = "Name your columns in columns=, e.g. columns={'id': 'flight'}."
        raise unknown_name(f"column of the {role}", name, [str(column) for column in table.columns], hint=hint)
    if list(table.columns).count(name) > 1:
        raise ConfigError(f"the {role} have {list(table.columns).count(name)} columns called {name!r}")
    cells = table[name]
    return cells.astype(object) if isinstance(cells.dtype, pd.CategoricalDtype) else cells


def _moments(cells: pd.Series, name: str, role: str) -> pd.Series:
    """Read times as UTC; those without a zone are taken as UTC, unreadable ones are missing."""
    import pandas as pd
    from pandas.api import types

    there = cells.dropna()
    if not len(there):
        return pd.Series(pd.NaT, index=cells.index, dtype="datetime64[us, UTC]")
    if types.is_numeric_dtype(cells.dtype) or types.infer_dtype(there) in ("integer", "floating", "boolean"):
        raise ConfigError(f"column {name!r} of the {role} has to hold times, it holds numbers such as {there.iloc[0]}")
    # For text pandas would guess the format from the first row, and misread the others.
    iso_format = "ISO8601" if types.infer_dtype(there).startswith(("string", "mixed")) else None
    try:
        found = pd.to_datetime(cells, utc=True, errors="coerce", format=iso_format)
    except (TypeError, ValueError):
        found = pd.Series(pd.NaT, index=cells.index, dtype="datetime64[us, UTC]")
    if found.isna().all():
        raise ConfigError(
            f"column {name!r} of the {role} has to hold times, saw {show(there.iloc[0])!r}: "
            "give datetimes, or text such as 2026-03-01T12:00:00Z"
        )
    return found.dt.as_unit("us")


def _keys(first: pd.Series, second: pd.Series) -> tuple[NDArray[Any], NDArray[Any]]:
    """Number the ids of both tables; a missing one is -1. 7, 7.0 and "7" are one id, "007" is another."""
    import pandas as pd
    from pandas.api import types

    both = [first, second]
    if not all(types.is_integer_dtype(cells.dtype) or isinstance(cells.dtype, pd.StringDtype) for cells in both) or (
        first.dtype.kind != second.dtype.kind
    ):
        both = [_text(cells) for cells in both]
    codes = pd.factorize(pd.concat(both, ignore_index=True))[0]
    return codes[: len(first)], codes[len(first) :]


def _text(cells: pd.Series) -> pd.Series:
    import pandas as pd

    found = [None if missing else _cell_text(cell) for cell, missing in zip(cells, cells.isna(), strict=True)]
    return pd.Series(found, index=cells.index, dtype=object)


def _cell_text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _usable_labels(known: pd.DataFrame, scored: pd.DataFrame, now: pd.Timestamp, account: _Account) -> pd.DataFrame:
    """Leave out unusable labels; of those of one id, the one that counts comes last."""
    nameless = known["key"] < 0
    if nameless.any():
        account.find("every label has an id", LABELS, f"{_of(nameless)} without an id, left out")
    empty = ~nameless & _missing(known["label"])
    if empty.any():
        account.notes.append(f"{_of(empty)} labels are missing values: their rows count as not labelled.")
    later = known["known"] > now
    if later.any():
        account.notes.append(f"{_of(later)} labels are dated after now, and not counted yet.")
    known = known[~nameless & ~empty & ~later]
    unscored = ~known["key"].isin(scored["key"])
    if unscored.any():
        what = f"{_of(unscored)} labels belong to ids that were never scored, ignored"
        account.find("labels belong to predictions", LABELS, what, known.loc[unscored, "id"])
    known = known[~unscored].sort_values("known", kind="stable", na_position="first")
    again = known[known["key"].duplicated(keep=False)]
    if len(again):
        _report_repeated(again, account)
    return known


def _report_repeated(again: pd.DataFrame, account: _Account) -> None:
    """Report labels repeated with one value, and labels that contradict each other."""
    try:
        values = again.groupby("key", sort=False)["label"].nunique()
    except TypeError:
        raise ConfigError(
            "the labels hold values that cannot be compared, such as lists: give one value a row"
        ) from None
    differ = values[values > 1].index
    same = len(values) - len(differ)
    if same:
        account.notes.append(f"{same:,} ids were labelled more than once with the same value: counted once.")
    if len(differ):
        what = f"{len(differ):,} ids have labels that contradict each other; the one known last counts"
        shown = again.drop_duplicates("key").set_index("key").loc[differ[:MAX_EXAMPLES], "id"]
        account.find("one truth for each id", LABELS, what, shown)


def _of_version(
    scored: pd.DataFrame, predictions: pd.DataFrame, column: str, version: str | int, account: _Account
) -> pd.DataFrame:
    ours = (_text(_column(predictions, column, PREDICTIONS)) == str(version)).to_numpy()
    if not ours.all():
        account.notes.append(f"{(~ours).sum():,} predictions of other versions than {version} were left out.")
    return scored[ours]


def _usable_predictions(scored: pd.DataFrame, now: pd.Timestamp, account: _Account) -> pd.DataFrame:
    nameless, timeless, empty = scored["key"] < 0, scored["at"].isna(), _missing(scored["prediction"])
    later = scored["at"] > now
    for left_out, name, seen in (
        (nameless, "every prediction has an id", "without an id"),
        (timeless, "every prediction has a time", "without a readable time"),
        (empty, "every prediction is there", "missing or infinite"),
        (later, "predictions are not of the future", "dated after now"),
    ):
        if left_out.any():
            shown = scored.loc[left_out, "id"] if left_out is not nameless else ()
            account.find(name, PREDICTIONS, f"{_of(left_out)} {seen}, left out", shown)
    return scored[~nameless & ~timeless & ~empty & ~later]


def _without_leakage(scored: pd.DataFrame, known: pd.DataFrame, account: _Account) -> pd.DataFrame:
    """Leave out predictions made after their label was first known."""
    first = known.groupby("key")["known"].min().dropna()
    if not len(first):
        return scored
    leaked = scored["at"] > scored["key"].map(first)
    if leaked.any():
        what = f"{_of(leaked)} predictions were made after their label was known, left out: possible leakage"
        account.find("predictions come before their truth", PREDICTIONS, what, scored.loc[leaked, "id"])
    return scored[~leaked]


def _scored_once(scored: pd.DataFrame, account: _Account) -> pd.DataFrame:
    scored = scored.sort_values("at", kind="stable")
    extra = scored["key"].duplicated(keep="last")
    if extra.any():
        again = scored[scored["key"].duplicated(keep=False)]
        same = again.duplicated(["key", "at", "prediction"], keep="last").sum()
        if same:
            account.notes.append(f"{same:,} predictions came twice, the same: counted once.")
        if extra.sum() > same:
            what = f"{extra.sum() - same:,} predictions were replaced by a later one of the same id before its label"
            account.find("one prediction for each id", PREDICTIONS, what, scored.loc[extra, "id"])
    return scored[~extra].copy()


def _missing(cells: pd.Series) -> pd.Series:
    """Return which cells are missing or infinite: no score can be computed from them."""
    import numpy as np
    from pandas.api import types

    missing = cells.isna()
    if types.is_float_dtype(cells.dtype):
        missing |= np.isinf(cells.to_numpy(dtype="float64", na_value=np.nan))
    return missing


def _of(chosen: pd.Series[Any]) -> str:
    return f"{chosen.sum():,} of {len(chosen):,}"
