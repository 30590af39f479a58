from __future__ import annotations

from collections.abc import Callable

from prefect import flow

from prefect_mlops.tasks.loop import emit_stop_event


def test_a_stopped_loop_is_an_event(find_event: Callable[..., dict]) -> None:
    @flow
    def emitting() -> None:
        emit_stop_event("Flights.late", "3 refused in a row")

    emitting()
    event = find_event("prefect-mlops.loop.stopped", "prefect-mlops.loop.flights-late")
    assert event["payload"] == {"model": "Flights.late", "reason": "3 refused in a row"}
