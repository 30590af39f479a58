from __future__ import annotations

import time

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from prefect_mlops.core.errors import DriftError
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.tasks import emit_event, emit_stop_event, publish_report, require

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


def test_a_verdict_is_announced_as_an_event(prefect_api: None) -> None:
    @flow
    def announced() -> list[str]:
        return [emit_event(BAD), emit_event(GOOD)]

    assert announced() == ["prefect-mlops.drift.failed", "prefect-mlops.data.passed"]
    event = _event("prefect-mlops.drift.failed", about="prefect-mlops.drift.flights-of-july-b")
    assert event["payload"]["passed"] is False
    assert any(related["prefect.resource.role"] == "flow-run" for related in event["related"])


def test_a_verdict_is_found_by_what_it_is_about(prefect_api: None) -> None:
    """Its subject names files and versions, which no automation can know beforehand."""

    @flow
    def announced() -> str:
        return emit_event(BAD, about="Flights.late")

    announced()
    event = _event("prefect-mlops.drift.failed", about="prefect-mlops.drift.flights-late")
    assert event["resource"]["prefect.resource.name"] == BAD.subject


def test_a_stopped_loop_is_announced(prefect_api: None) -> None:
    @flow
    def announced() -> str:
        return emit_stop_event("Flights.late", "3 refused in a row")

    assert announced() == "prefect-mlops.loop.stopped"
    event = _event("prefect-mlops.loop.stopped", about="prefect-mlops.loop.flights-late")
    assert event["payload"] == {"model": "Flights.late", "reason": "3 refused in a row"}


def _event(name: str, *, about: str) -> dict:
    """Ask the real API until the event, which is sent in the background, has arrived."""
    wanted = {"event": {"name": [name]}, "resource": {"id": [about]}}  # other tests announce verdicts here too
    deadline = time.monotonic() + 20
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            answer = client._client.post("/events/filter", json={"filter": wanted})
            if found := answer.json()["events"]:
                return found[0]
            time.sleep(0.3)
    raise AssertionError(f"{name} did not arrive")
