from __future__ import annotations

from collections.abc import Callable

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from prefect_mlops.core.errors import DriftError
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.tasks import emit_event, publish_report, require

BAD = Report(
    kind="drift", subject="Flights of July <b>", checks=(Check(name="share of drifted columns", passed=False),)
)
GOOD = Report(kind="data", subject="a.csv", checks=(Check(name="has rows", passed=True),))


def test_require_stops_the_flow_and_carries_the_report(prefect_api: None) -> None:
    @flow
    def guarded() -> None:
        require(GOOD)
        require(BAD)

    with pytest.raises(DriftError) as stopped:
        guarded()
    assert stopped.value.report == BAD


@pytest.mark.parametrize("debug", [False, True])
def test_our_errors_are_logged_without_a_stack(
    prefect_api: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    monkeypatch.setenv("PREFECT_MLOPS_DEBUG", str(int(debug)))

    @flow
    def guarded() -> None:
        require(BAD)

    with pytest.raises(DriftError):
        guarded()
    assert "share of drifted columns" in caplog.text
    assert ("Traceback" in caplog.text) == debug


def test_other_errors_keep_their_stack(prefect_api: None, caplog: pytest.LogCaptureFixture) -> None:
    @flow
    def broken() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        broken()
    assert "Traceback" in caplog.text


def test_the_report_is_an_artifact_of_the_run(prefect_api: None) -> None:
    @flow
    def published() -> str:
        return publish_report(BAD)

    identity = published()
    with get_client(sync_client=True) as client:
        key = ArtifactFilterKey(any_=["drift-flights-of-july-b"])
        (artifact,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
    assert str(artifact.id) == identity
    assert "Flights of July &lt;b&gt;" in artifact.data
    assert artifact.flow_run_id is not None


def test_a_verdict_is_emitted_as_an_event(find_event: Callable[..., dict]) -> None:
    @flow
    def emitting() -> None:
        emit_event(BAD)
        emit_event(GOOD)

    emitting()
    assert find_event("prefect-mlops.data.passed", "prefect-mlops.data.a-csv")["payload"]["passed"] is True
    event = find_event("prefect-mlops.drift.failed", "prefect-mlops.drift.flights-of-july-b")
    assert event["payload"]["passed"] is False
    assert any(related["prefect.resource.role"] == "flow-run" for related in event["related"])


def test_a_verdict_is_found_by_what_it_is_about(find_event: Callable[..., dict]) -> None:
    """Its subject names files and versions, which no automation can know beforehand."""

    @flow
    def emitting() -> None:
        emit_event(BAD, about="Flights.late")

    emitting()
    event = find_event("prefect-mlops.drift.failed", "prefect-mlops.drift.flights-late")
    assert event["resource"]["prefect.resource.name"] == BAD.subject
