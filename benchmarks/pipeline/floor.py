"""The floor: the bare library calls of the best script, in a process that has everything imported.

    python floor.py FOLDER MODEL PAGE

Imports first, then does the work in a forked child, as a worker that is warm would, and prints its seconds. Each
fork does the work for the first time: what a library makes at its first call is part of the floor.
"""

from __future__ import annotations

import json
import os
import sys
import time

import by_hand
import sklearn.compose
import sklearn.ensemble  # noqa: F401 - imported by the recipe when it is used
import skops.io  # noqa: F401 - imported by MLflow at the first save


def main(folder: str, name: str, page: str) -> None:
    """Fork, work, print."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
    start, used = time.perf_counter(), time.process_time()
    by_hand.main(folder, name, page)
    seen = {"seconds": time.perf_counter() - start, "processor": time.process_time() - used}
    print(json.dumps(seen), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
