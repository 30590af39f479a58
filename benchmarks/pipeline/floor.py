"""The floor: the bare library calls of the best script, in a process that has everything imported.

    python floor.py FOLDER MODEL PAGE [train]

Imports what the warm worker imports, then does the work in a forked child, and prints its seconds. Each fork does the
work for the first time: what a library makes at its first call is part of the floor. With ``train``, instead of the
drift page, what our ready flow does beside the script's work: permutation importance, and a clean process that loads
the model and predicts.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import by_hand
import recipe

from prefect_mlops.deployments.fork_worker.pool import PRELOAD

if TYPE_CHECKING:
    import pandas as pd

ROWS, SHUFFLES = 10_000, 5  # as in a model card
LOAD = """
import sys, pandas, skops.io
model = skops.io.load(sys.argv[1], sys.argv[3:])
model.predict(pandas.read_parquet(sys.argv[2]))
"""


def train(folder: str, name: str) -> None:
    """Do what the ready flow does, by bare library calls."""
    from sklearn.inspection import permutation_importance

    rows = by_hand.read(folder)
    by_hand.validate(rows)
    learned, test = by_hand.split(recipe.prepare(rows))
    model = by_hand.train(learned)
    scores = by_hand.evaluate(model, test)
    by_hand.passes(scores, by_hand.find_champion(name), test)
    by_hand.log(model, scores, test, name)
    some = test.sample(ROWS, random_state=0)
    permutation_importance(model, some[recipe.FEATURES], some[recipe.TARGET], scoring="roc_auc", n_repeats=SHUFFLES)
    _try_apart(model, test[recipe.FEATURES].head(200))


def _try_apart(model: object, rows: pd.DataFrame) -> None:
    """Load the model in a clean process and let it predict."""
    import skops.io

    with tempfile.TemporaryDirectory() as scratch:
        file, asked = Path(scratch, "model.skops"), Path(scratch, "rows.parquet")
        skops.io.dump(model, file)
        rows.to_parquet(asked)
        command = [sys.executable, "-I", "-c", LOAD, str(file), str(asked), *by_hand.TRUSTED]
        subprocess.run(command, check=True)  # noqa: S603 - this Python and the program above


def main(folder: str, name: str, page: str, which: str = "") -> None:
    """Import, fork, work, print."""
    for module in PRELOAD:
        if not module.startswith("prefect"):
            importlib.import_module(module)
    gc.freeze()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
    start, used = time.perf_counter(), time.process_time()
    if which:
        train(folder, name)
    else:
        by_hand.main(folder, name, page)
    seen = {"seconds": time.perf_counter() - start, "processor": time.process_time() - used}
    print(json.dumps(seen), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
