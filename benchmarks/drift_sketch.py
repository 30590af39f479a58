"""How long summarising ten million numbers takes, with our quantiles and with Apache DataSketches' KLL.

Needs ``pip install datasketches``, which the project itself does not use: its coins cannot be seeded.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from prefect_mlops.core.drift.quantiles import Quantiles

CHUNK = 125_000


def median_seconds(summarise: Callable[[], object], runs: int) -> float:
    """Return the median time of several runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        summarise()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Summarise the same numbers with both, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    try:
        import datasketches
    except ModuleNotFoundError:
        parser.error("it needs `pip install datasketches`")
    values = np.random.default_rng(0).normal(size=given.rows)
    chunks = [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]

    def ours() -> Quantiles:
        found = Quantiles()
        for chunk in chunks:
            found.add(chunk)
        return found

    def theirs() -> object:
        found = datasketches.kll_doubles_sketch(16_384)
        for chunk in chunks:
            found.update(chunk)
        return found

    mine = ours()
    print("| summary | seconds | stated error of a rank |")
    print("|---|---|---|")
    print(f"| ours | {median_seconds(ours, given.runs):.2f} | {mine.error / mine.rows:.5f} |")
    error = theirs().normalized_rank_error(True)  # type: ignore[attr-defined]
    print(f"| KLL, k = 16,384 | {median_seconds(theirs, given.runs):.2f} | {error:.5f} |")


if __name__ == "__main__":
    main()
