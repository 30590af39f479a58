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
    """What the columns of both tables are called.

    Attributes:
        id: of the predictions; one id is one thing that was asked and gets one label.
        at: time scored.
        prediction: probability, score, number or class.
        version: of the model; read only where one version is asked for.
        label_id: id of the labels; the same name as `id` where left out.
        label: the ground truth.
        label_at: time the label became known; where left out, the column called like `at`, if there is one.
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
    """Predictions with the labels that are known so far.

    Attributes:
        rows: one row for each prediction that counts, in order of time: ``at`` (UTC), ``prediction``, ``label``
            (missing where not known yet); numbered from 0 in the index.
        findings: failed warnings about both tables.
        notes: sentences about what was counted once or left out on purpose.
    """

    rows: pd.DataFrame
    findings: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Account:
    """What was found on the way."""

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
    more than once counts with its last prediction made before its label was first known: that answer could
    still be acted on. A prediction made after its label was known is left out as possible leakage. So are rows
    without id, time or answer, and labels of ids that were never scored. All of it is counted.

    Args:
        predictions: one row for each answer, in any order.
        labels: one row for each label, in any order; may be empty.
        names: of the columns.
        version: only predictions of this version of the model.
        now: predictions and labels later than this are not there yet; None takes the clock's time.

    Returns:
        The rows that count, and what was found.

    Raises:
        ConfigError: a column is not there, or is not a time where a time has to be.
    """
    import pandas as pd

    names, account = names or LabelColumns(), _Account([], [])
    moment = pd.Timestamp(now or datetime.now().astimezone())
    moment = moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")
    said, known = _predictions(predictions, names), _labels(labels, names)
    said["key"], known["key"] = _keys(said.id, known.id)
    known = _usable_labels(known, said, moment, account)
    if version is not None:
        said = _of_version(said, predictions, names.version, version, account)
    said = _usable_predictions(said, moment, account)
    said = _without_leakage(said, known, account)
    said = _scored_once(said, account)
    # As objects, so that whole numbers stay whole beside missing ones.
    label = known.drop_duplicates("key", keep="last").set_index("key")["label"].astype(object)
    said["label"] = said["key"].map(label) if len(label) else pd.Series(None, index=said.index, dtype=object)
    rows = said.sort_values("at", kind="stable", ignore_index=True)[["at", "prediction", "label"]]
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
        hint = "Say what yours are called in columns=, e.g. columns={'id': 'flight'}."
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
    # Of text pandas would guess a form from the first row, and miss all others.
    form = "ISO8601" if types.infer_dtype(there).startswith(("string", "mixed")) else None
    try:
        found = pd.to_datetime(cells, utc=True, errors="coerce", format=form)
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

    found = [None if missing else _spelled(cell) for cell, missing in zip(cells, cells.isna(), strict=True)]
    return pd.Series(found, index=cells.index, dtype=object)


def _spelled(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _usable_labels(known: pd.DataFrame, said: pd.DataFrame, now: pd.Timestamp, account: _Account) -> pd.DataFrame:
    """Leave out what says nothing, and put the label that counts last among those of one id."""
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
    unscored = ~known["key"].isin(said["key"])
    if unscored.any():
        what = f"{_of(unscored)} labels belong to ids that were never scored, ignored"
        account.find("labels belong to predictions", LABELS, what, known.loc[unscored, "id"])
    known = known[~unscored].sort_values("known", kind="stable", na_position="first")
    again = known[known["key"].duplicated(keep=False)]
    if len(again):
        _say_twice(again, account)
    return known


def _say_twice(again: pd.DataFrame, account: _Account) -> None:
    """Tell labels that came twice with one value from those that contradict each other."""
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
    said: pd.DataFrame, predictions: pd.DataFrame, column: str, version: str | int, account: _Account
) -> pd.DataFrame:
    ours = (_text(_column(predictions, column, PREDICTIONS)) == str(version)).to_numpy()
    if not ours.all():
        account.notes.append(f"{(~ours).sum():,} predictions of other versions than {version} were left out.")
    return said[ours]


def _usable_predictions(said: pd.DataFrame, now: pd.Timestamp, account: _Account) -> pd.DataFrame:
    nameless, timeless, empty = said["key"] < 0, said["at"].isna(), _missing(said["prediction"])
    later = said["at"] > now
    for lost, name, seen in (
        (nameless, "every prediction has an id", "without an id"),
        (timeless, "every prediction has a time", "without a readable time"),
        (empty, "every prediction is there", "missing or infinite"),
        (later, "predictions are not of the future", "dated after now"),
    ):
        if lost.any():
            shown = said.loc[lost, "id"] if lost is not nameless else ()
            account.find(name, PREDICTIONS, f"{_of(lost)} {seen}, left out", shown)
    return said[~nameless & ~timeless & ~empty & ~later]


def _without_leakage(said: pd.DataFrame, known: pd.DataFrame, account: _Account) -> pd.DataFrame:
    """Leave out predictions made after their label was first known."""
    first = known.groupby("key")["known"].min().dropna()
    if not len(first):
        return said
    leaked = said["at"] > said["key"].map(first)
    if leaked.any():
        what = f"{_of(leaked)} predictions were made after their truth was known, left out: they may have seen it"
        account.find("predictions come before their truth", PREDICTIONS, what, said.loc[leaked, "id"])
    return said[~leaked]


def _scored_once(said: pd.DataFrame, account: _Account) -> pd.DataFrame:
    said = said.sort_values("at", kind="stable")
    extra = said["key"].duplicated(keep="last")
    if extra.any():
        again = said[said["key"].duplicated(keep=False)]
        same = again.duplicated(["key", "at", "prediction"], keep="last").sum()
        if same:
            account.notes.append(f"{same:,} predictions came twice, the same: counted once.")
        if extra.sum() > same:
            what = f"{extra.sum() - same:,} predictions were replaced by a later one of the same id before its truth"
            account.find("one prediction for each id", PREDICTIONS, what, said.loc[extra, "id"])
    return said[~extra].copy()


def _missing(cells: pd.Series) -> pd.Series:
    """Tell which cells hold nothing a score can be computed from: missing, or infinite."""
    import numpy as np
    from pandas.api import types

    missing = cells.isna()
    if types.is_float_dtype(cells.dtype):
        missing |= np.isinf(cells.to_numpy(dtype="float64", na_value=np.nan))
    return missing


def _of(chosen: pd.Series[Any]) -> str:
    return f"{chosen.sum():,} of {len(chosen):,}"
