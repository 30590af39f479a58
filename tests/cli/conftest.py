"""A shop's project, and the command line in the test's own process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefect_mlops.cli import app


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A shop's project with a lake and a landing folder of its own. Returns the module of its specs."""
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("PREFECT_MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "projects"))
    import shop

    (tmp_path / "landing").mkdir()
    return shop


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    """The command line in this process: its code and what it wrote."""

    def called(*words: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["prefect-mlops", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        written = capsys.readouterr()
        return SimpleNamespace(code=int(ended.value.code or 0), out=written.out, err=written.err)

    return called
