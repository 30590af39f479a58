from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.promotion.history import EntryKind, NoteKind, champion_entry, read_history
from prefect_mlops.tasks.loop import note_entry


@pytest.fixture(autouse=True)
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))


@pytest.mark.parametrize("kind", get_args(NoteKind))
def test_what_is_no_decision_can_be_noted(kind: NoteKind) -> None:
    noted = note_entry.fn("shop", kind, version=2, reason="seen", details={"a": 1})
    assert read_history("shop") == [noted]
    assert (noted.kind, noted.version, noted.reason, noted.details) == (kind, 2, "seen", {"a": 1})


@pytest.mark.parametrize("kind", sorted({*get_args(EntryKind), "anything"} - set(get_args(NoteKind))))
def test_a_decision_cannot_be_noted(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"shop: '{kind}' is not noted but decided; notes are closed, drifted"):
        note_entry.fn("shop", kind, version=2)
    assert read_history("shop") == []
    assert champion_entry(read_history("shop")) is None
