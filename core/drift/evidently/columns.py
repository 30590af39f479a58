"""Columns of two samples, made ready to be drawn: which ones, on what axis, under which harmless name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.drift.training_profile import PREDICTION
from prefect_mlops.core.tables.columns import Column, ColumnKind, read_column
from prefect_mlops.core.text import MAX_SHOWN

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.drift.column_drift import Change
    from prefect_mlops.core.drift.table_drift import TableDrift
    from prefect_mlops.core.drift.training_profile import TrainingProfile

MAX_BARS = 15  # categories shown by name; the others are one bar
TIME_BINS = 12  # bars for a column of timestamps, which Evidently cannot draw
TAIL = 0.005  # values further out on either side are drawn at the edge: one outlier would leave a single bar
_LARGEST = 1e150  # the width of a histogram and the square in a correlation have to stay finite
_FINEST = 1e-12  # narrower than this, relative to the values, bars are narrower than floating point resolves
_OTHER = "(other values)"
# Angle brackets and ampersand end a script block or start a tag; look-alikes cannot.
_INERT = str.maketrans({"<": "\u2039", ">": "\u203a", "&": "\uff06"})


@dataclass(frozen=True)
class Pair:
    """One column of both samples, ready to be drawn."""

    name: str
    label: str
    kind: ColumnKind
    current: pd.Series
    reference: pd.Series

    @property
    def numeric(self) -> bool:
        """Whether both samples are drawn as a histogram."""
        return self.kind in ("numeric", "text")


def ready_pairs(
    current: pd.DataFrame, reference: pd.DataFrame, comparison: TableDrift, *, known: TrainingProfile | None, most: int
) -> tuple[list[Pair], list[str], list[str]]:
    """Prepare the columns that can be drawn.

    Args:
        current: the sample of the one table, columns named by text.
        reference: likewise of the other.
        comparison: what was found on all rows.
        known: which column is the target, and what each is worth to the model.
        most: columns to prepare: prediction and target, those that drifted, then the most important ones.

    Returns:
        The columns; the names of those that cannot be drawn; the names of those there is no room for.
    """
    pairs: list[Pair] = []
    left_out: list[str] = []
    shown = labels(comparison.kinds)
    names = _ranked(comparison, known)
    for place, name in enumerate(names):
        if len(pairs) == most:
            return pairs, left_out, names[place:]
        kind = comparison.kinds[name]
        sides = _sides(current, reference, name, kind)
        if sides is None:
            left_out.append(name)
        else:
            pairs.append(Pair(name, shown[name], kind, *sides))
    return pairs, left_out, []


def labels(names: Iterable[str]) -> dict[str, str]:
    """Give each column a name that is harmless wherever a page may put it, and different from all others."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        found[name] = _unique(inert(name), taken)
        taken.add(found[name])
    return found


def inert(value: object, longest: int = MAX_SHOWN) -> str:
    """Make text from data harmless wherever a page may put it."""
    return readable(value, longest).translate(_INERT) or "(blank)"


def readable(value: object, longest: int) -> str:
    """Take out what is not for reading, such as line ends and marks that turn the direction of text, and cut."""
    text = "".join(sign if sign.isprintable() else " " for sign in str(value)).strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"


def largest(changes: Iterable[Change]) -> Change | None:
    """Find the change of a column that moved most rows; None where nothing could be judged."""
    judged = [change for change in changes if change.judged]
    return max(judged, key=lambda change: change.measure.size, default=None)


def _ranked(comparison: TableDrift, known: TrainingProfile | None) -> list[str]:
    """Order columns for a page that has no room for all of them."""
    outcomes = (PREDICTION, known.target if known else "")
    weights = known.weights if known else {}
    changes: dict[str, list[Change]] = {name: [] for name in comparison.kinds}
    for change in comparison.changes:
        changes.setdefault(change.column, []).append(change)

    def place(name: str) -> tuple[bool, bool, float, float]:
        most = largest(changes[name])
        drifted = any(change.drifted for change in changes[name])
        return name not in outcomes, not drifted, -weights.get(name, 0.0), -most.measure.size if most else 0.0

    return sorted(comparison.kinds, key=place)


def _sides(
    current: pd.DataFrame, reference: pd.DataFrame, name: str, kind: ColumnKind
) -> tuple[pd.Series, pd.Series] | None:
    """Prepare both sides of one column; None where they cannot be drawn."""
    if name not in current.columns or name not in reference.columns:
        return None
    try:
        now, before = (_drawn(read_column(frame[name]), kind) for frame in (current, reference))
        return _shown(now, before, kind) if _has_an_axis(now, before, kind) else None
    except (TypeError, ValueError):  # the few rows of the sample can seem to be of another kind than all rows
        return None


def _has_an_axis(now: pd.Series, before: pd.Series, kind: ColumnKind) -> bool:
    """Check whether both sides have values, and more than one, far enough apart for bars between them."""
    import pandas as pd

    if len(now) == 0 or len(before) == 0:
        return False
    both = pd.concat([now, before])
    if both.nunique() < 2:  # noqa: PLR2004 - one value is no axis
        return False
    # Evidently also bins each side alone, a constant one half a unit to either side.
    return kind in ("categorical", "boolean") or all(_can_be_binned(side) for side in (now, before, both))


def _can_be_binned(numbers: pd.Series) -> bool:
    width = float(numbers.max() - numbers.min()) or 1.0
    return width > max(_FINEST * float(numbers.abs().max()), 1 / _LARGEST)


def _drawn(column: Column, kind: ColumnKind) -> pd.Series:
    """Turn the values of a column into what is drawn of them."""
    import numpy as np

    values = column.values
    if kind == "text":
        return column.lengths()
    if kind in ("numeric", "datetime"):
        finite: pd.Series = values[np.isfinite(values.to_numpy(dtype="float64"))].clip(-_LARGEST, _LARGEST)
        return finite
    return values.astype(object)


def _shown(now: pd.Series, before: pd.Series, kind: ColumnKind) -> tuple[pd.Series, pd.Series]:
    """Bring both sides onto one axis: numbers stay, times become periods, rare categories become one."""
    if kind in ("numeric", "text"):
        return _trimmed(now, before)
    return _periods(now, before) if kind == "datetime" else _categories(now, before)


def _trimmed(now: pd.Series, before: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Move what is far out to the edge of the picture, unless nothing else would be left to see."""
    lows, highs = zip(*(side.quantile([TAIL, 1 - TAIL]) for side in (now, before)), strict=True)
    low, high = min(lows), max(highs)
    return (now.clip(low, high), before.clip(low, high)) if low < high else (now, before)


def _periods(now: pd.Series, before: pd.Series) -> tuple[pd.Series, pd.Series]:
    import numpy as np
    import pandas as pd

    edges = np.linspace(min(now.min(), before.min()), max(now.max(), before.max()), TIME_BINS + 1)
    unit = "D" if edges[1] - edges[0] >= 86_400 else "s"  # noqa: PLR2004 - seconds in a day
    names = [f"{np.datetime64(int(edge), 's').astype(f'datetime64[{unit}]')}" for edge in edges[:-1]]
    sides = [pd.Series(np.array(names, dtype=object)[np.digitize(side, edges[1:-1])]) for side in (now, before)]
    return sides[0], sides[1]


def _categories(now: pd.Series, before: pd.Series) -> tuple[pd.Series, pd.Series]:
    import pandas as pd

    common = pd.concat([now.value_counts(normalize=True), before.value_counts(normalize=True)])
    kept = common.groupby(level=0, sort=False).sum().sort_values(ascending=False, kind="stable").index[:MAX_BARS]
    found: dict[Any, str] = {}
    for value in kept:
        found[value] = _unique(inert(value), set(found.values()))
    return now.map(found).fillna(_OTHER).astype(object), before.map(found).fillna(_OTHER).astype(object)


def _unique(label: str, taken: Iterable[str]) -> str:
    """Make two names distinct that became equal by escaping or cutting."""
    number, unique = 2, label
    while unique in taken or unique == _OTHER:
        unique = f"{label} ({number})"
        number += 1
    return unique
