"""How often three judges promote an equal, a better and a worse challenger while a table grows, and what they show.

    python benchmarks/fair_judge.py --repeats 50 --seed 0

A champion is trained on the start of a table. In each round rows arrive, and three challengers are trained on what is
there: *equal* by the champion's recipe, *better* and *worse* by others. Each judge has a champion of its own, and puts
the equal challenger in its place where that one is not worse; so which recipe is better stays known.

- *ours*: `split_table` and `judge_model`, as the ready flow `train` calls them.
- *honest*: the same challengers, judged by the same gate on rows set apart from the beginning, which nothing was ever
  trained on; with time, on the rows that come next. As many as ours judges on.
- *new split*: the table is split anew by chance in each round, and the higher score on the test rows wins.

The honest score of a model is that on all rows set apart; its gap is the score shown by the judge minus that.
`fair_judge_tables.py` has the tables.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from fair_judge_tables import ROUNDS, TABLES, Table
from sklearn import set_config
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from prefect_mlops.core import Gate
from prefect_mlops.core.evaluation.estimates import Rows
from prefect_mlops.core.evaluation.gates import Comparison, judge_gates
from prefect_mlops.core.evaluation.models import judge_model
from prefect_mlops.core.evaluation.predictions import CachedPredictions
from prefect_mlops.core.evaluation.resampling_units import resampling_units
from prefect_mlops.core.evaluation.scoring import score_model
from prefect_mlops.core.training.fit import fit_estimator
from prefect_mlops.core.training.split import split_table

if TYPE_CHECKING:
    from prefect_mlops.core.reports import Check
    from prefect_mlops.core.values import Split

KINDS = ("equal", "better", "worse")
JUDGES = ("ours", "honest", "new split")
TEST_SHARE = 0.2


class Counts:
    """What a judge decided and showed, by repeat.

    Attributes:
        values: name of a figure, and its values of each repeat.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[list[float]]] = defaultdict(list)
        self._now: dict[str, list[float]] = {}

    def begin(self) -> None:
        """Begin a repeat."""
        self._now = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """Add a value of this repeat."""
        self._now[name].append(float(value))

    def end(self) -> None:
        """End a repeat."""
        for name, values in self._now.items():
            self.values[name].append(values)

    def summary(self) -> dict[str, float]:
        """Return the mean of each figure over the repeats, its standard error, and the size of the gap."""
        found = {}
        for name, repeats in self.values.items():
            means = [float(np.mean(values)) for values in repeats]
            found[name] = float(np.mean(means))
            found[f"{name}, standard error"] = float(np.std(means, ddof=1) / len(means) ** 0.5) if means[1:] else 0.0
        found["gap, size"] = float(np.sqrt(np.mean([value**2 for values in self.values["gap"] for value in values])))
        return found


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted estimator and the columns it learned from."""

    estimator: Any
    columns: tuple[str, ...]


class Answers:
    """Rows, and the answers of models on them, each model asked once."""

    def __init__(self, table: Table, rows: pd.DataFrame) -> None:
        self.table, self.rows = table, rows
        self._known: dict[int, tuple[Fitted, CachedPredictions, float]] = {}

    def of(self, model: Fitted) -> tuple[CachedPredictions, float]:
        """Return a model's answers and its score."""
        if id(model) not in self._known:
            answers = CachedPredictions(model.estimator, self.rows[list(model.columns)])
            numbered, y = pd.DataFrame(index=range(len(self.rows))), self.rows["target"].reset_index(drop=True)
            (score,) = score_model(answers, numbered, y, metrics=[self.table.metric]).values()
            self._known[id(model)] = (model, answers, score)
        return self._known[id(model)][1:]

    def score(self, model: Fitted) -> float:
        """Return a model's score."""
        return self.of(model)[1]


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one challenger.

    Attributes:
        better: the gate `must_gain=0` holds, or the score is higher.
        not_worse: the gate `may_lose` holds, or the score is not lower by more.
        shown: score of the champion as people are shown it; NaN where the comparison was refused.
    """

    better: bool
    not_worse: bool
    shown: float


def fit_all(
    table: Table, seed: int, fit: Callable[[Any, list[str]], Any], kinds: Sequence[str] = KINDS
) -> dict[str, Fitted]:
    """Fit the challengers; the seed is new in each round."""
    recipes = {
        "equal": (table.base(seed), table.features),
        "better": (table.better(seed), table.features),
        "worse": (table.base(seed), table.worse_features),
    }
    return {kind: Fitted(fit(recipes[kind][0], list(recipes[kind][1])), recipes[kind][1]) for kind in kinds}


def by_checks(checks: Sequence[Check]) -> Verdict:
    """Read a report: what it decides, and the champion's score from the sentence that people read."""
    passed = {check.id: check.passed for check in checks}
    found = [one[1] for check in checks if (one := re.search(r"champion (-?\d+\.\d+)", check.observed))]
    shown = float(found[0]) if found else float("nan")
    return Verdict(passed.get("minimum-improvement", False), passed.get("non-inferiority", False), shown)


def gate_of(table: Table) -> Gate:
    """Return the gate of a table; its two conditions are counted apart."""
    return Gate(table.metric, may_lose=table.margin, must_gain=0.0)


def judge_as_we_do(table: Table, challenger: Fitted, champion: Fitted, rows: pd.DataFrame) -> Verdict:
    """Judge as the ready flow does."""
    report = judge_model(
        challenger.estimator,
        champion.estimator,
        rows.drop(columns="target"),
        rows["target"],
        gates=[gate_of(table)],
        order_by=table.order_by,
        group_by=table.group_by,
    )
    return by_checks(report.checks)


def judge_honestly(table: Table, challenger: Fitted, champion: Fitted, few: Answers) -> Verdict:
    """Judge by the gate on rows set apart, which needs no lineage."""
    units = resampling_units(few.rows, order_by=table.order_by, group_by=table.group_by)
    rows = Rows(few.rows["target"].reset_index(drop=True), units)
    comparison = Comparison(few.of(challenger)[0], few.of(champion)[0], rows, few.rows)
    return by_checks(judge_gates(comparison, [gate_of(table)]))


def judge_by_score(table: Table, challenger: Fitted, champion: Fitted, test: Answers) -> Verdict:
    """Take the higher score on the rows of a new split."""
    new, old = test.score(challenger), test.score(champion)
    return Verdict(new > old, new > old - table.margin, old)


def as_many(table: Table, apart: pd.DataFrame, judging: pd.DataFrame) -> pd.DataFrame:
    """Take as many rows set apart as there are judging rows: groups, the next ones in time, or any."""
    if table.group_by and not table.order_by:
        groups = apart[table.group_by].unique()[: judging[table.group_by].nunique()]
        each = round(len(judging) / len(groups))
        return apart[apart[table.group_by].isin(groups) & (apart.groupby(table.group_by).cumcount() < each)]
    return apart.iloc[: len(judging)]


def count(
    challengers: Mapping[str, Fitted],
    champion: Fitted,
    judge: Callable[[Fitted, Fitted], Verdict],
    apart: Answers,
    counts: Counts,
) -> Fitted:
    """Judge the three challengers, count, and return the champion of the next round."""
    verdicts = {kind: judge(challenger, champion) for kind, challenger in challengers.items()}
    for kind, verdict in verdicts.items():
        counts.add(f"{kind}, promoted by must_gain", verdict.better)
        counts.add(f"{kind}, promoted by may_lose", verdict.not_worse)
        counts.add(f"{kind}, gain", apart.score(challengers[kind]) - apart.score(champion))
    equal = verdicts["equal"]
    counts.add("refused to compare", not math.isfinite(equal.shown))
    if math.isfinite(equal.shown):
        counts.add("gap", equal.shown - apart.score(champion))
    return challengers["equal"] if equal.not_worse else champion


def live_once(table: Table, *, rounds: int, chance: np.random.Generator, counts: Mapping[str, Counts]) -> None:
    """Let a table grow once, under all three judges."""
    life, side_seed = table.live(chance), int(chance.integers(2**31))
    options = {"features": table.features, "order_by": table.order_by, "group_by": table.group_by, "seed": side_seed}
    champions: dict[str, Fitted] = {}
    for number in range(rounds + 1):
        rows, seed = life.grown(number), int(chance.integers(2**31))
        split = split_table(rows, "target", test_share=TEST_SHARE, **options)
        train, test = train_test_split(rows, test_size=TEST_SHARE, random_state=seed)

        def as_we_do(estimator: Any, columns: list[str], split: Split = split, seed: int = seed) -> Any:
            return fit_estimator(estimator, split.X_train[columns], split.y_train, seed=seed)

        def on_new_split(estimator: Any, columns: list[str], train: pd.DataFrame = train) -> Any:
            return estimator.fit(train[columns], train["target"])

        kinds = KINDS if number else ("equal",)
        ours, theirs = fit_all(table, seed, as_we_do, kinds), fit_all(table, seed, on_new_split, kinds)
        if not number:
            champions = {"ours": ours["equal"], "honest": ours["equal"], "new split": theirs["equal"]}
            continue
        judging, apart = rows.loc[split.X_test.index], Answers(table, life.apart(number))
        few, drawn = Answers(table, as_many(table, apart.rows, judging)), Answers(table, test)
        judges: dict[str, tuple[dict[str, Fitted], Callable[[Fitted, Fitted], Verdict], int]] = {
            "ours": (ours, lambda new, old, judging=judging: judge_as_we_do(table, new, old, judging), len(judging)),
            "honest": (ours, lambda new, old, few=few: judge_honestly(table, new, old, few), len(few.rows)),
            "new split": (theirs, lambda new, old, drawn=drawn: judge_by_score(table, new, old, drawn), len(test)),
        }
        for name, (challengers, judge, size) in judges.items():
            counts[name].add("rows", size)
            champions[name] = count(challengers, champions[name], judge, apart, counts[name])


def study(
    tables: list[Table], *, rounds: int, repeats: int, seed: int, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Let every table grow many times; return one line for each table and judge."""
    found = []
    for table in tables:
        counts, start = {name: Counts() for name in JUDGES}, time.perf_counter()
        for repeat in range(repeats):
            for one in counts.values():
                one.begin()
            live_once(table, rounds=rounds, chance=np.random.default_rng([seed, repeat]), counts=counts)
            for one in counts.values():
                one.end()
            if (repeat + 1) % 10 == 0 or repeat + 1 == repeats:
                tell(f"{table.name}: {repeat + 1} of {repeats} repeats, {time.perf_counter() - start:.0f} s")
        for name, one in counts.items():
            line: dict[str, Any] = {"table": table.name, "is": table.rows, "metric": table.metric}
            line |= {"margin": table.margin, "judge": name, "repeats": repeats, "rounds": rounds}
            found.append(line | one.summary())
    return found


def markdown(found: list[dict[str, Any]]) -> str:
    """Write the counts as a table, one line for each table and judge."""
    lines = [
        "| table | judge | rows | champion: shown - honest ± standard error, size "
        "| equal: gain, promoted by `must_gain=0`, by `may_lose` | better | worse |",
        "|" + " --- |" * 7,
    ]
    for line in found:
        name = f"{line['table']}: {line['is']}; `{line['metric']}`, `may_lose={line['margin']:g}`"
        cells = [
            name if line["judge"] == JUDGES[0] else "",
            line["judge"],
            f"{line['rows']:.0f}",
            f"{line['gap']:+.4f} ± {line['gap, standard error']:.4f}, {line['gap, size']:.4f}" if "gap" in line else "",
            *(
                f"{line[f'{kind}, gain']:+.4f}, {100 * line[f'{kind}, promoted by must_gain']:.0f} %, "
                f"{100 * line[f'{kind}, promoted by may_lose']:.0f} %"
                for kind in KINDS
            ),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the study and print its table."""
    names = [table.name for table in TABLES]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=ROUNDS, choices=range(1, ROUNDS + 1), metavar=f"1..{ROUNDS}")
    parser.add_argument("--repeats", type=int, default=50, help="lives of each table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tables", nargs="+", default=names, choices=names)
    parser.add_argument("--json", action="store_true", help="print JSON, with standard errors, instead of a table")
    given = parser.parse_args()
    set_config(assume_finite=True, skip_parameter_validation=True)  # most of the time would go into that
    warnings.simplefilter("ignore")
    threadpool_limits(1)
    found = study(
        [table for table in TABLES if table.name in given.tables],
        rounds=given.rounds,
        repeats=given.repeats,
        seed=given.seed,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps(found) if given.json else markdown(found))


if __name__ == "__main__":
    main()
