"""The Prefect server that is configured: its address, a client for it, and its refusals as our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import BackendError, ConfigError

if TYPE_CHECKING:
    import httpx
    from prefect.client.orchestration import SyncPrefectClient

MAX_ANSWER = 500  # characters of an answer; some repeat the whole request


def server_address() -> str:
    """Name the Prefect API that is configured; without one Prefect would start a server that ends with us.

    Returns:
        Its address.

    Raises:
        ConfigError: when none is configured.
    """
    from prefect.settings import get_current_settings

    address = get_current_settings().api.url
    if not address:
        raise ConfigError(
            "no Prefect server is configured: start one with `prefect-mlops up`, or set PREFECT_API_URL, "
            "e.g. PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    return str(address)


@contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """Open the Prefect API that is configured.

    Yields:
        A client.

    Raises:
        ConfigError: when none is configured.
        BackendError: when it does not answer.
    """
    import httpx
    from prefect.client.orchestration import get_client

    address = server_address()
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.TransportError as error:
        raise BackendError(
            f"the Prefect server at {address} does not answer: {error or type(error).__name__}"
        ) from error


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Raise the server's refusal of a request as our error, with its reason.

    Args:
        what: what was being done, for the message.

    Raises:
        ConfigError: when the server refuses the request.
        BackendError: when the server failed.
    """
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        yield
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        kind = BackendError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ConfigError
        raise kind(f"{what}: Prefect answered {status}: {_detail(error.response)[:MAX_ANSWER]}") from error


def _detail(answer: httpx.Response) -> str:
    try:
        body: dict[str, Any] = answer.json()
        wrong = [f"{'.'.join(map(str, part['loc'][1:]))}: {part['msg']}" for part in body.get("exception_detail", ())]
        return "; ".join(wrong) or str(body["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):  # a proxy may answer anything
        return answer.text
