"""What the result of an import depends on: variables that are read at import, and the files that were imported.

A fork of a process that imported under other variables, or from files that have changed since, would not be what a new
process is.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path

CHANGED = (0, -1)  # the state of no file

# What an interpreter or a library reads once, when it starts or is imported; a run that has another value of one of
# these needs another fork server. Everything else is read when it is used, and set in the run.
READ_AT_IMPORT = (
    *("PYTHON", "LD_", "DYLD_", "MALLOC_", "GLIBC_TUNABLES", "LANG", "LC_"),
    *("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "BLIS_", "VECLIB_", "NUMEXPR_", "NPY_", "SCIPY_", "SKLEARN_"),
    *("ARROW_", "MPL", "GX_", "DO_NOT_TRACK", "MLFLOW_CONFIGURE", "MLFLOW_LOGGING", "MLFLOW_DISABLE", "RUST_LOG"),
)


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """Pick the variables that are read when something is imported."""
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_IMPORT)}


def watched_files(since: int) -> dict[str, tuple[int, int] | None]:
    """Note the state of every file that was imported, of Prefect's profiles, and of the folders of packages.

    Args:
        since: when importing began (ns). What was written after that may have been read before: it counts as changed.
    """
    files = {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    folders = {*site.getsitepackages(), site.getusersitepackages()}
    # Installing or removing a package changes the folder; thousands of files need not be asked at each request.
    installed = tuple(
        str(Path(folder)) + os.sep for folder in (*folders, *map(sysconfig.get_path, ("stdlib", "platstdlib")))
    )
    files = {file for file in files if not file.startswith(installed)}
    if settings := sys.modules.get("prefect.settings"):
        files.add(str(settings.get_current_settings().profiles_path))
    found = {path: state_of(path) for path in sorted({*files, *folders})}
    now = time.time_ns()
    return {path: CHANGED if state and since <= state[0] <= now else state for path, state in found.items()}


def state_of(path: str) -> tuple[int, int] | None:
    """Return what changes about a file when it is written: time (ns) and size; None where it is not there."""
    try:
        found = os.stat(path)  # noqa: PTH116 - hundreds of them at each request
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
