"""The public tasks have types that two checkers agree on: `user_flow.py` passes both, a wrong call passes neither."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = Path(sys.prefix) / "rooms"  # `make setup` links them: checkers do not see through an editable install
WRONG_CALLS = [
    "split_table(rows)",
    "split_table(rows, 'late', test_part=0.2)",
    "evaluate_model(None, rows, rows['late'], metrics=['f1']).scores",
    "draw_drift_page(validate_table(rows, []))",
    "train_model.submit(None, rows, rows['late']).results()",
]

pytestmark = pytest.mark.slow  # each checker reads Prefect and pandas


def mypy(file: Path, scratch: Path) -> str:
    return said(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(scratch / "cache"), str(file))


def pyright(file: Path, scratch: Path) -> str:
    settings = {
        "include": [str(file)],
        "extraPaths": [str(ROOMS)],
        "typeCheckingMode": "standard",
        "reportPrivateImportUsage": False,  # the way Great Expectations' own pages import its expectations
    }
    config = scratch / "pyrightconfig.json"
    config.write_text(json.dumps(settings))
    return said(sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--project", str(config))


def said(*command: str) -> str:
    """Return what a checker found, run where `pyproject.toml` names the libraries without types."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_users_flow_needs_no_cast_and_wrong_calls_are_refused(
    checker: Callable[[Path, Path], str], tmp_path: Path
) -> None:
    assert ROOMS.is_dir(), "run `make setup`"
    assert checker(Path(__file__).parent / "user_flow.py", tmp_path) == ""

    wrong = tmp_path / "wrong.py"
    lines = [
        "import pandas as pd",
        "from prefect_mlops.tasks import draw_drift_page, evaluate_model, split_table, train_model, validate_table",
        "def use(rows: pd.DataFrame) -> None:",
        *(f"    {call}" for call in WRONG_CALLS),
    ]
    wrong.write_text("\n".join(lines) + "\n")
    found = checker(wrong, tmp_path)
    named = [line for line in found.splitlines() if "error" in line]
    for number, call in enumerate(WRONG_CALLS, 4):
        assert any(f"wrong.py:{number}:" in line for line in named), call
