"""Which rows may judge: those that, by the lineage of each model, none of them has learned from.

A row that a model was trained on says nothing of how the model will do on new rows (leakage), and in a comparison it
favours that model. The lineage says what each has seen: by time, rows up to ``until``; by a hash, the training side of
its rule. Where it does not say, or cannot be applied to the rows, the check fails instead of comparing all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.evaluation.gates import CROSS_VALIDATE
from prefect_mlops.core.lineage.training_data import Lineage, lineage_of
from prefect_mlops.core.reports import Check
from prefect_mlops.core.tables.ordering import as_times
from prefect_mlops.core.text import listed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from prefect_mlops.core.lineage.sides import SideRule

    Mask = npt.NDArray[np.bool_]
    _Hashed = dict[tuple[tuple[str, ...], int], npt.NDArray[np.uint64]]  # by columns and seed

CHECK_ID = "unseen-rows"
NAME, EXPECTED = "unseen rows", "rows that neither model has learned from"
MIN_ROWS = 5  # fewer have no interval, whatever the metric
MAX_NAMED = 3  # columns in a sentence


@dataclass(frozen=True)
class UnseenRows:
    """The rows that may judge.

    Attributes:
        mask: (rows,); all False where it cannot be told.
        check: the finding, for the report.
        identities: (rows,), equal for rows of one group, key or features by the rule of the challenger; None for
            splits by time.
    """

    mask: Mask
    check: Check
    identities: npt.NDArray[np.uint64] | None = None


@dataclass(frozen=True)
class _Known:
    """What one lineage says of the rows: a mask with the words for how it is known, or why it cannot be told."""

    mask: Mask | None
    words: str
    hashes: npt.NDArray[np.uint64] | None = None


def find_unseen_rows(
    models: Mapping[str, Any], rows: pd.DataFrame, *, order_by: str | None = None, set_apart: bool = False
) -> UnseenRows:
    """Find the rows that none of the models has learned from.

    Args:
        models: fitted estimator by its role, the challenger first.
        rows: (rows, columns), with the columns the lineages name: of time, group, key or features.
        order_by: column of time, for lineages from before its name was kept.
        set_apart: the caller vouches for what the lineages do not say: such a model has not learned from these rows.

    Returns:
        The rows, and a check with ``id="unseen-rows"``. It fails where a lineage cannot tell, and where fewer than
        `MIN_ROWS` rows are left.
    """
    import numpy as np

    hashed: _Hashed = {}  # both models mostly go by the same
    known = {role: _known(lineage_of(estimator), rows, order_by, hashed) for role, estimator in models.items()}
    unclear = {role: one.words for role, one in known.items() if one.mask is None}
    if unclear and not set_apart:
        seen = "; ".join(f"cannot tell for the {role}: {why}" for role, why in unclear.items())
        return UnseenRows(np.zeros(len(rows), dtype=bool), _check(seen, passed=False, advice=_advice(unclear)))
    mask, left_out = np.ones(len(rows), dtype=bool), {}
    for role, one in known.items():
        if one.mask is not None:
            mask &= one.mask
            left_out[role] = int((~one.mask).sum())
    count, enough = int(mask.sum()), int(mask.sum()) >= MIN_ROWS
    seen = f"{count:,} of {len(rows):,} rows{_left_out(left_out)}; {_known_by(known, set_apart=set_apart)}"
    check = _check(seen, passed=enough, value=float(count), advice="" if enough else f" ({CROSS_VALIDATE})")
    return UnseenRows(mask, check, next(iter(known.values())).hashes)


def _check(seen: str, *, passed: bool, value: float | None = None, advice: str = "") -> Check:
    return Check(
        id=CHECK_ID,
        name=NAME,
        passed=passed,
        observed=seen,
        expected=f"at least {MIN_ROWS} {EXPECTED}{advice}",
        value=value,
        threshold=None if value is None else MIN_ROWS,
    )


def _left_out(counts: Mapping[str, int]) -> str:
    parts = [f"{count:,} that the {role} may have learned from" for role, count in counts.items() if count]
    return f", without {' and '.join(parts)}" if parts else ""


def _known_by(known: Mapping[str, _Known], *, set_apart: bool) -> str:
    """Say by which rule it is known that the rows are unseen."""
    words = list(dict.fromkeys(one.words for one in known.values() if one.mask is not None))
    parts = [f"known by {' and '.join(words)}"] if words else []
    vouched = [role for role, one in known.items() if one.mask is None]
    if vouched and set_apart:
        parts.append(f"of the {' and the '.join(vouched)} only the caller says so (set_apart)")
    return ", ".join(parts)


def _advice(unclear: Mapping[str, str]) -> str:
    fresh = "set_apart=True vouches for rows that were set apart before it was trained"
    if "champion" in unclear:
        return f". {fresh}; promote makes the challenger champion without this comparison"
    return f". {fresh}"


def _known(
    learned: Lineage | None,
    rows: pd.DataFrame,
    order_by: str | None,
    hashed: _Hashed,
) -> _Known:
    """Ask one lineage about the rows."""
    if learned is None:
        return _Known(None, "it has no lineage, as it was not fitted by train_model")
    if learned.until is not None:
        return _after(learned.until, learned.order_by or order_by or "", rows)
    if learned.refit_of is not None:
        return _Known(None, f"it was trained on all rows after v{learned.refit_of} was judged: compare with that one")
    if learned.rule is not None:
        return _by_rule(learned.rule, rows, hashed)
    return _Known(None, "its lineage does not say how its rows were split off: use split_table")


def _after(until: str | float, column: str, rows: pd.DataFrame) -> _Known:
    """Find the rows after the last one a model was trained on."""
    import pandas as pd

    if column not in rows.columns:
        named = f"column {column!r}" if column else "column of time (order_by)"
        return _Known(None, f"its training ended at {until}, and the test rows have no {named}")
    times = as_times(rows[column])
    try:
        last = pd.Timestamp(until) if isinstance(until, str) and not _is_text(times) else until
        later = (times > last).to_numpy(dtype=bool, na_value=False)
    except (TypeError, ValueError):
        return _Known(None, f"its training ended at {column} = {until}, which cannot be compared with {times.dtype}")
    return _Known(later, f"{column} after {until}")


def _is_text(values: pd.Series) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_string_dtype(values.dtype)) or isinstance(values.iloc[:1].squeeze(), str)


def _by_rule(rule: SideRule, rows: pd.DataFrame, hashed: _Hashed) -> _Known:
    """Find the rows on the test side of a model's split."""
    missing = rule.missing(rows.columns)
    if missing:
        named = listed([repr(name) for name in missing], MAX_NAMED)
        return _Known(None, f"its sides go by {rule.words}, and the test rows have no column {named}: {_where(rule)}")
    same = rule.columns, rule.seed
    if same not in hashed:
        hashed[same] = rule.hashes(rows)
    hashes = hashed[same]
    there, enough = rule.found(hashes)
    if not enough:
        seen = f"{there} of {len(rule.sample)} rows that it was tested on before are among these"
        return _Known(
            None, f"{seen}: their features are computed in another way now, or they are gone; a key identifies rows"
        )
    return _Known(rule.below(hashes), rule.words, hashes)


def _where(rule: SideRule) -> str:
    return "give all features" if rule.by == "features" else "table.loc[split.X_test.index] has it"
