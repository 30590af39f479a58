from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import TaskRun

from prefect_mlops.core.drift.monitoring import MonitoringRun, level_of, read_monitoring_runs
from prefect_mlops.core.errors import BackendError
from prefect_mlops.tasks.loop import number_monitoring_run, record_monitoring_run, show_monitoring

SHOP = "Shop <b>"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_MLOPS_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


def look(key: str, model_name: str, number: int) -> MonitoringRun:
    return MonitoringRun(
        model=model_name,
        kind="drift",
        champion=2,
        number=number,
        key=key,
        at=datetime.now(timezone.utc),
        subject=f"{key}.csv",
        passed=True,
        level=level_of(number),
        sizes={"dep_time": 0.1},
    )


@flow
def look_at(key: str, model_name: str) -> tuple[MonitoringRun, str]:
    number = number_monitoring_run(model_name, kind="drift", champion=2, key=key)
    return record_monitoring_run(look(key, model_name, number)), show_monitoring(model_name)


def test_a_flow_numbers_its_look_keeps_it_and_shows_all_of_them(prefect_api: None, home: Path) -> None:
    assert [look_at(key, SHOP)[0].number for key in ("july", "august", "july")] == [1, 2, 1]
    assert [look.subject for look in read_monitoring_runs(SHOP)] == ["july.csv", "august.csv"]
    identity = look_at("september", SHOP)[1]
    with get_client(sync_client=True) as client:
        key = ArtifactFilterKey(any_=["drift-history-shop-b"])
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
    (artifact,) = [one for one in found if str(one.id) == identity]
    assert len(found) == 4
    assert artifact.type == "markdown"
    assert "Monitoring runs of Shop &lt;b&gt;" in artifact.data
    assert "| 3 at v2 | passed | 0 of 1 | dep\\_time 0.10 | september.csv |" in artifact.data
    assert "data:image/svg+xml;base64," in artifact.data
    assert artifact.description == "3 looks at Shop <b>, 0 failed"


def test_storage_that_fails_is_tried_again(recorded: Callable[[UUID], TaskRun], home: Path) -> None:
    home.write_text("a file where the lake should be")
    state = record_monitoring_run.with_options(retry_delay_seconds=0)(look("july", "shop", 1), return_state=True)
    with pytest.raises(BackendError, match="the lake at"):
        state.result()
    assert recorded(state.state_details.task_run_id).run_count == 3
