from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pandas as pd
import pytest
from prefect import flow
from prefect.client.schemas.objects import TaskRun

from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.core.tables.read import source_of, table_name
from prefect_mlops.core.values import TableRef
from prefect_mlops.tasks.tables import load_table


def test_load_table_reads_inside_a_flow_and_names_the_run(tmp_path: Path, recorded: Callable[[UUID], TaskRun]) -> None:
    (tmp_path / "january.csv").write_text("a,b\n1,2\n")
    task_runs: list[UUID] = []

    @flow
    def read() -> pd.DataFrame:
        state = load_table(tmp_path / "january.csv", columns=["b"], return_state=True)
        task_runs.append(state.state_details.task_run_id)
        return state.result()

    frame = read()
    assert frame["b"].tolist() == [2]
    source = source_of(frame)
    assert source is not None
    assert source.uri == str(tmp_path / "january.csv")
    assert recorded(task_runs[0]).name == "load-january.csv"


@pytest.mark.usefixtures("prefect_api")
def test_a_failing_backend_is_tried_again_and_a_wrong_request_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def fails(uri: str, **_: object) -> pd.DataFrame:
        calls.append(uri)
        if uri == "wrong":
            raise ConfigError("no such column")
        if len(calls) < 3:
            raise BackendError("database is locked")
        return pd.DataFrame({"a": [1]})

    monkeypatch.setattr(load_table, "fn", fails)
    patient = load_table.with_options(retry_delay_seconds=0)
    assert len(patient("locked")) == 1
    assert calls == ["locked"] * 3
    with pytest.raises(ConfigError):
        patient("wrong")
    assert calls[3:] == ["wrong"]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("postgresql://u:geheim@h/flights", "load-flights"),
        ("postgresql://u:gehe/im@h", "load-u:***@h"),
        ("https://h/a/f.csv?sig=geheim", "load-f.csv"),
        ("/data/lake/flights/", "load-flights"),
        (Path("/data/f.csv"), "load-f.csv"),
        ("/data/" + "x" * 999, "load-" + "x" * 60),
        (None, "load-table"),
    ],
)
def test_run_names_are_short_and_without_secrets(uri: object, name: str) -> None:
    assert load_table.task_run_name({"uri": uri}) == name


def test_tables_are_named_by_their_source() -> None:
    frame = pd.DataFrame({"a": [1]})
    assert table_name(frame) == "table"
    frame.attrs["prefect_mlops.source"] = {"uri": "/data/f.csv"}
    assert table_name(frame) == "f.csv"
    assert table_name(TableRef(uri="s3://bucket/flights", version=3)) == "flights"
