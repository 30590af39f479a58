"""How often drift is found where there is none: tables drawn from the same rows, judged by us and by Evidently.

    python benchmarks/drift_alarms.py --trials 200

Reference and batch are drawn without a row in common from the flights of July 2013, or of April to September where a
month has too few. So nothing changed, while ties, gaps and odd distributions are real. Rows that follow one another,
as files bring them, are no such draw: ``--neighbours`` shows what becomes of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from drift_tables import TEN, THIRTY, Answer, as_reference, ask_evidently, ask_ours, draws, pool, weights_for

from prefect_mlops.core.drift.monitoring import ALPHA as ALPHA_OF_ALL
from prefect_mlops.core.drift.monitoring import level_of
from prefect_mlops.core.drift.table_drift import ALPHA, compare_profiles
from prefect_mlops.core.drift.table_profile import profile_chunks
from prefect_mlops.core.drift.training_profile import make_training_profile

BATCHES = (50, 500, 5_000, 50_000)
REFERENCE_ROWS = 20_000
LARGE = 50_000  # batches of this size get a reference of the same size, drawn from half a year
MONTH, HALF_A_YEAR = (7,), (4, 5, 6, 7, 8, 9)
SETS = {"10": TEN, "30": THIRTY}
LOOKS, LOOK_ROWS = 60, 500
BLOCKS = (500, 5_000)
LOOK_MONTHS = (1, 2, 3)  # a reference and sixty batches are more than a month has

Line = dict[str, Any]


def count(*, features: str, rows: int, trials: int, evidently: int, seed: int) -> Line:
    """Judge new tables in each trial and count what was found."""
    columns = SETS[features]
    months, reference_rows = (HALF_A_YEAR, LARGE) if rows >= LARGE else (MONTH, REFERENCE_ROWS)
    everything = pool(months, columns)
    chance = np.random.default_rng([seed, len(columns), rows])
    ours: list[tuple[Answer, Answer]] = []
    theirs: list[Answer] = []
    for trial in range(trials):
        reference, current = draws(everything, [reference_rows, rows], chance)
        plain = as_reference(reference)
        weighed = as_reference(plain.profile, weights=weights_for(columns))
        said = ask_ours(current, plain, multivariate=trial < evidently and rows > BATCHES[0])
        ours.append((said, ask_ours(current, weighed)))
        if trial < evidently:
            theirs.append(ask_evidently(current, reference))
    asked = evidently and rows > BATCHES[0]
    answered = [one for one in theirs if not one.failed]
    return {
        "features": features,
        "rows": rows,
        "reference": reference_rows,
        "trials": trials,
        "named": np.mean([one.named > 0 for one, _ in ours]),
        "alarm": np.mean([one.alarm for one, _ in ours]),
        "alarm weighed": np.mean([one.alarm for _, one in ours]),
        "classifier": np.mean([one.told_apart for one, _ in ours[:evidently]]) if asked else None,
        "evidently trials": len(answered),
        "evidently named": np.mean([one.named > 0 for one in answered]) if answered else None,
        "evidently count": np.mean([one.named for one in answered]) if answered else None,
        "evidently alarm": np.mean([one.alarm for one in answered]) if answered else None,
        "evidently errors": len(theirs) - len(answered),
    }


def look_again(*, sequences: int, evidently: int, seed: int, tell: Callable[[str], None]) -> list[Line]:
    """Look sixty times at new batches with one reference, and count the sequences in which anything was named."""
    everything = pool(LOOK_MONTHS, TEN)
    chance = np.random.default_rng([seed, LOOKS])
    found: dict[str, list[int | None]] = {"ours, `level_of(k)`": [], "ours, always 0.01": [], "Evidently": []}
    for sequence in range(sequences):
        reference, *batches = draws(everything, [REFERENCE_ROWS, *[LOOK_ROWS] * LOOKS], chance)
        before = profile_chunks([reference])
        p_values = []
        for batch in batches:
            changes = compare_profiles(current=profile_chunks([batch]), reference=before).changes
            large = [change for change in changes if change.measure.size >= change.minimum]
            p_values.append(min((one.corrected_p for one in large if one.corrected_p is not None), default=1.0))
        levels = [level_of(number) for number in range(1, LOOKS + 1)]
        found["ours, `level_of(k)`"].append(_first(p < level for p, level in zip(p_values, levels, strict=True)))
        found["ours, always 0.01"].append(_first(p < ALPHA for p in p_values))
        if sequence < evidently:
            found["Evidently"].append(_first(ask_evidently(batch, reference).named > 0 for batch in batches))
        if sequence % 20 == 0:
            tell(f"sequence {sequence}: {[places[-1] for places in found.values()]}")
    stated = {"ours, `level_of(k)`": f"{ALPHA_OF_ALL:.0%}", "ours, always 0.01": f"{1 - (1 - ALPHA) ** LOOKS:.0%}"}
    return [
        {
            "judge": judge,
            "sequences": len(places),
            "named": np.mean([place is not None for place in places]),
            "first": np.median([LOOKS + 1 if place is None else place for place in places]),
            "stated": stated.get(judge, "nothing"),
        }
        for judge, places in found.items()
        if places
    ]


def neighbours(*, blocks: int, seed: int) -> list[Line]:
    """Judge rows that follow one another, as files bring them, against random rows of their own month.

    Once without, once with what is usual between blocks of neighbours, which the reference keeps of rows in order.
    """
    everything = pool(MONTH, TEN)
    reference = draws(everything, [REFERENCE_ROWS], np.random.default_rng(seed))[0]
    judges = {"ours": as_reference(reference), "ours, with what is usual": make_training_profile(everything)}
    lines = []
    for rows in BLOCKS:
        starts = np.linspace(0, len(everything) - rows, blocks).astype(int)
        files = [everything.iloc[start : start + rows].reset_index(drop=True) for start in starts]
        found = {judge: [ask_ours(file, known) for file in files] for judge, known in judges.items()}
        found["Evidently"] = [ask_evidently(file, reference) for file in files]
        for judge, answers in found.items():
            seen = Counter(column for one in answers for column in one.columns)
            lines.append(
                {
                    "rows": rows,
                    "judge": judge,
                    "named": np.mean([one.named > 0 for one in answers]),
                    "count": np.mean([one.named for one in answers]),
                    "alarm": np.mean([one.alarm for one in answers]),
                    "columns": ", ".join(f"{column} {times}" for column, times in seen.most_common()) or "-",
                }
            )
    return lines


def neighbours_markdown(lines: list[Line], blocks: int) -> str:
    """Write the blocks as a table."""
    text = [
        f"| rows that follow one another, {blocks} blocks | judge | with any named column | columns | alarms "
        "| columns, and in how many blocks |",
        "|" + " --- |" * 6,
    ]
    for line in lines:
        cells = [f"{line['rows']:,}", line["judge"], _share(line["named"]), f"{line['count']:.1f}"]
        text.append("| " + " | ".join([*cells, _share(line["alarm"]), line["columns"]]) + " |")
    return "\n".join(text)


def _first(flags: Any) -> int | None:
    """Return the number of the first look with a finding."""
    return next((number for number, flag in enumerate(flags, 1) if flag), None)


def markdown(lines: list[Line]) -> str:
    """Write the counts as a table."""
    text = [
        "| features | batch | reference | trials | we name a column (stated: 1 %) | we alarm | with weights "
        "| our classifier warns | Evidently flags a column | columns it flags | it alarms | its trials, errors |",
        "|" + " --- |" * 12,
    ]
    for line in lines:
        cells = [
            line["features"],
            f"{line['rows']:,}",
            f"{line['reference']:,}",
            str(line["trials"]),
            *(_share(line[name]) for name in ("named", "alarm", "alarm weighed", "classifier", "evidently named")),
            "-" if line["evidently count"] is None else f"{line['evidently count']:.1f}",
            _share(line["evidently alarm"]),
            f"{line['evidently trials']}, {line['evidently errors']}",
        ]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def looks_markdown(lines: list[Line]) -> str:
    """Write the sequences as a table."""
    text = [
        f"| {LOOKS} looks at {LOOK_ROWS} rows | sequences | with any named column | stated | median first alarm |",
        "|" + " --- |" * 5,
    ]
    for line in lines:
        first = "none" if line["first"] > LOOKS else f"look {line['first']:.0f}"
        text.append(f"| {line['judge']} | {line['sequences']} | {_share(line['named'])} | {line['stated']} | {first} |")
    return "\n".join(text)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def main() -> None:
    """Run the study and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=200, help="tables for each line, and sequences of looks")
    parser.add_argument("--evidently", type=int, default=200, help="on how many of them Evidently is asked too")
    parser.add_argument("--features", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--looks", action="store_true", help="the repeated looks as well")
    parser.add_argument("--neighbours", type=int, default=0, metavar="BLOCKS", help="judge rows in their order as well")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    lines = []
    for features in given.features:
        for rows in given.batches:
            start = time.perf_counter()
            line = count(features=features, rows=rows, trials=given.trials, evidently=given.evidently, seed=given.seed)
            lines.append(line)
            tell(f"{line} {time.perf_counter() - start:.0f} s")
    if lines:
        print(markdown(lines))
    if given.looks:
        found = look_again(sequences=given.trials, evidently=given.evidently, seed=given.seed, tell=tell)
        print("\n" * bool(lines) + looks_markdown(found))
    if given.neighbours:
        print(neighbours_markdown(neighbours(blocks=given.neighbours, seed=given.seed), given.neighbours))


if __name__ == "__main__":
    main()
