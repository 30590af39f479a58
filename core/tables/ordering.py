"""The values of a column in order of time: periods begin at a moment, and text sorts by its letters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prefect_mlops.core.text import show

if TYPE_CHECKING:
    import pandas as pd

_ISO = re.compile(r"\d{4}-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(?P<offset>Z|[+-]\d\d:?\d\d)?)?)?")
_DIGITS = re.compile(r"\d+")


def as_times(values: pd.Series) -> pd.Series:
    """Return periods as the moments they begin at, and other values as they are, (rows,)."""
    import pandas as pd

    if isinstance(values.dtype, pd.PeriodDtype) or pd.api.types.infer_dtype(values, skipna=True) == "period":
        return pd.Series(pd.PeriodIndex(values).to_timestamp(), index=values.index, name=values.name)
    return values


def text_problem(values: pd.Series) -> str:
    """Say why text cannot be ordered; empty where it can, and for values that are no text.

    Text is in order of time only where all of it has one length and is ISO 8601 with one offset, such as
    ``2024-01-31``, or digits, such as ``0042``.

    Args:
        values: column to order by, (rows,).
    """
    import pandas as pd

    if not (pd.api.types.is_string_dtype(values.dtype) or isinstance(values.dtype, pd.CategoricalDtype)):
        return ""
    texts = values.dropna().unique().tolist()
    if not texts or not all(isinstance(text, str) for text in texts):
        return ""
    shapes = {(len(text), _shape(text)) for text in texts}
    if len(shapes) == 1 and "" not in {shape for _, shape in shapes}:
        return ""
    wrong = next((text for text in texts if not _shape(text)), min(texts, key=len))
    return f"text such as {show(wrong)!r}, which sorts by its letters and not by time"


def _shape(text: str) -> str:
    if found := _ISO.fullmatch(text):
        return f"ISO 8601 {found['offset'] or ''}"
    return "digits" if _DIGITS.fullmatch(text) else ""
