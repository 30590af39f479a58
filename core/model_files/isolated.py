"""The smoke test in a clean process: started, given its input, awaited, and killed after a timeout."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import ValidationError

from prefect_mlops.core.model_files.smoke_test import SmokeTest

# Imports take ten seconds on a cold disk, loading a forest of gigabytes a minute, timing at most ten seconds and one
# prediction more. What takes longer than this hangs.
TIMEOUT_S = 300.0
MAX_OUTPUT_LENGTH = 300
# -I leaves out the current folder, the user's start-up files and PYTHON* variables; the path follows in the order, so
# classes of the project are found as they are here.
_PROGRAM = """
import json, os, sys
order = json.loads(sys.stdin.readline())
sys.path[:] = order["path"]
from prefect_mlops.core.model_files.smoke_test import answer
answer(order)
os._exit(0)
"""
# No address, password or key of this process reaches the model.
_KEPT = frozenset(
    {"HOME", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "PREFECT_MLOPS_TRUSTED_TYPES", "SYSTEMROOT"}
    | {"TEMP", "TMP", "TMPDIR", "TZ", "USERPROFILE"}
)
_KEPT_PREFIXES = ("LC_", "OMP_", "OPENBLAS_", "MKL_", "KMP_", "BLIS_", "VECLIB_", "LOKY_")  # threads change last digits


def smoke_test_isolated(*, model: Path, kept: Path | None, subject: str) -> SmokeTest | str:
    """Run the smoke test of a model in a process of its own.

    Args:
        model: folder of the model's files.
        kept: folder of the kept rows; None where there are none.
        subject: name of the model in messages.

    Returns:
        The result, or the reason why the process gave none.
    """
    path = [entry or str(Path.cwd()) for entry in sys.path]
    order = {"path": path, "model": str(model), "kept": str(kept) if kept else None, "subject": subject}
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(  # noqa: S603 - this Python and our own program
            [sys.executable, "-I", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
            start_new_session=True,  # so that it can be ended with whatever processes the model started
        )
        try:
            output, _ = child.communicate(json.dumps(order).encode() + b"\n", timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return f"it gave no answer within {TIMEOUT_S:g} seconds and was ended"
        finally:
            _end(child)
        return _read(output, child.returncode, _last_line(errors.fileno()))


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _KEPT or name.upper().startswith(_KEPT_PREFIXES)
    }


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the process and what it started, unless it has ended by itself: its number may be another's by then."""
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.communicate()


def _read(output: bytes, code: int, last_line: str) -> SmokeTest | str:
    also = f"; its last output: {last_line}" if last_line else ""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        memory = ", as a system does that runs out of memory" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{memory}{also}"
    if code:
        return f"the process ended with exit code {code}{also}"
    try:
        return SmokeTest.model_validate_json(output)
    except ValidationError:
        shown = output[:MAX_OUTPUT_LENGTH].decode(errors="replace").strip()
        return f"the process gave no answer that can be read: {shown!r}{also}"


def _last_line(file: int) -> str:
    end = os.lseek(file, 0, os.SEEK_END)
    os.lseek(file, max(end - 4 * MAX_OUTPUT_LENGTH, 0), os.SEEK_SET)
    lines = os.read(file, 4 * MAX_OUTPUT_LENGTH).decode(errors="replace").strip().splitlines()
    return lines[-1][-MAX_OUTPUT_LENGTH:] if lines else ""
