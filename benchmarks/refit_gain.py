"""What a promoted recipe gains by learning from the test rows too (`ModelSpec(refit="all")`), on rows set apart."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from typing import Any

import numpy as np
from fair_judge_tables import TABLES, Table
from sklearn.metrics import get_scorer
from threadpoolctl import threadpool_limits

from prefect_mlops.core.training.fit import fit_estimator
from prefect_mlops.core.training.split import split_table

TEST_SHARE = 0.2


def gain(table: Table, number: int, chance: np.random.Generator) -> tuple[float, float]:
    """Return the honest score of a recipe before the refit, and what the refit adds to it.

    Args:
        table: with its recipe, the champion's of `fair_judge.py`.
        number: round of growth.
        chance: draws the life and the seeds.
    """
    life, seed = table.live(chance), int(chance.integers(2**31))
    rows, apart, columns = life.grown(number), life.apart(number), list(table.features)
    options = {"features": columns, "order_by": table.order_by, "group_by": table.group_by, "seed": seed}
    split = split_table(rows, "target", test_share=TEST_SHARE, **options)
    judged = fit_estimator(table.base(seed), split.X_train, split.y_train, seed=seed)
    refitted = fit_estimator(table.base(seed), rows[columns], rows["target"], seed=seed)
    scorer = get_scorer(table.metric)
    before, after = (float(scorer(model, apart[columns], apart["target"])) for model in (judged, refitted))
    return before, after - before


def study(*, rounds: tuple[int, ...], repeats: int, seed: int) -> list[dict[str, Any]]:
    """Measure every table after some rounds of growth; return one line for each of both."""
    found = []
    for table in TABLES:
        for number in rounds:
            drawn = [gain(table, number, np.random.default_rng([seed, repeat])) for repeat in range(repeats)]
            scores, gains = np.array(drawn).T
            line = {"table": table.name, "metric": table.metric, "round": number, "score": float(scores.mean())}
            error = float(gains.std(ddof=1) / repeats**0.5)
            found.append({**line, "gain": float(gains.mean()), "error": error, "better": float((gains > 0).mean())})
            print(f"{table.name}, round {number}", file=sys.stderr, flush=True)
    return found


def markdown(found: list[dict[str, Any]]) -> str:
    """Write one line for each table and round."""
    lines = ["| table | metric | round | score | gain of the refit ± standard error | better in |", "|" + " --- |" * 6]
    for one in found:
        cells = [one["table"], f"`{one['metric']}`", f"{one['round']}", f"{one['score']:.4f}"]
        cells += [f"{one['gain']:+.4f} ± {one['error']:.4f}", f"{100 * one['better']:.0f} %"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, nargs="+", default=[1, 10], help="of growth, after which it is measured")
    parser.add_argument("--repeats", type=int, default=50, help="lives of each table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    threadpool_limits(1)
    found = study(rounds=tuple(given.rounds), repeats=given.repeats, seed=given.seed)
    print(json.dumps(found) if given.json else markdown(found))


if __name__ == "__main__":
    main()
