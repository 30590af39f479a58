"""Tables to compare: batches of rows whose columns may have moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def batch(rows: int = 1000, *, seed: int = 0, moved: int = 0, columns: int = 10) -> pd.DataFrame:
    """Half numbers, half categories; the first `moved` columns are shifted."""
    rng = np.random.default_rng(seed)
    table: dict[str, Any] = {}
    for number in range(columns):
        by = 1.0 if number < moved else 0.0
        numeric = number % 2 == 0
        table[f"c{number}"] = (
            rng.normal(by, 1, rows) if numeric else rng.choice(list("abc"), rows, p=[0.5 - by / 4, 0.25, 0.25 + by / 4])
        )
    return pd.DataFrame(table)
