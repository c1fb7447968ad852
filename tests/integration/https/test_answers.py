"""keyferry.net.http_client: responses, retries and errors."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from aiohttp import web

from keyferry.errors import ConnectionFailedError, Stage, VaultError, VaultThrottledError
from keyferry.net.http_client import MAX_RESPONSE_BYTES, HttpsSettings
from keyferry.net.http_responses import ErrorResponse
from tests.fakes.clock import WALL_START, AutojumpClock
from tests.integration.https.serving import (
    CANARY,
    Document,
    client,
    failure,
    get,
    half,
    hang,
    ok,
    serving,
    status,
)


async def test_response_is_parsed() -> None:
    """The headers arrive, the document comes back."""
    async with serving(ok) as server, client() as made:
        assert await get(made, server.url) == Document("fine")
        assert [header for _, header in server.requests] == ["Bearer t"]


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
async def test_retryable_status_is_retried(code: int) -> None:
    """One failure and then success is a success."""
    clock = AutojumpClock()
    async with serving(status(code), ok) as server, client(clock=clock) as made:
        assert await get(made, server.url) == Document("fine")
    assert clock.sleeps == [0.8]


async def test_retry_after_of_the_server_is_respected() -> None:
    """Seconds, a date, milliseconds."""
    clock = AutojumpClock()
    date = datetime.fromtimestamp(WALL_START + 3 + 20, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    handlers = (
        status(429, **{"Retry-After": "3"}),
        status(429, **{"Retry-After": date}),
        status(503, **{"x-ms-retry-after-ms": "1500"}),
        ok,
    )
    async with serving(*handlers) as server, client(clock=clock) as made:
        assert await get(made, server.url) == Document("fine")
    assert clock.sleeps == [3.0, 20.0, 1.5]


async def test_retry_after_beyond_the_deadline_fails_immediately() -> None:
    """The error contains the Retry-After seconds."""
    clock = AutojumpClock()
    throttled = status(429, **{"Retry-After": "600"})
    async with serving(throttled) as server, client(clock=clock) as made:
        error = await failure(made, server.url)
    assert isinstance(error, VaultThrottledError)
    assert error.retry_after == 600.0
    assert "retry after 600 s" == error.detail
    assert (clock.sleeps, len(server.requests)) == ([], 1)


async def test_request_is_sent_at_most_four_times() -> None:
    """The message counts them."""
    clock = AutojumpClock()
    async with serving(status(500)) as server, client(clock=clock) as made:
        error = await failure(made, server.url)
    assert isinstance(error, VaultError)
    assert error.problem.endswith("127.0.0.1 failed with status 500")
    assert "4 tries" == error.detail
    assert clock.sleeps == [0.8, 1.6, 3.2]
    assert len(server.requests) == 4


@pytest.mark.parametrize("code", [301, 400, 401, 403, 404])
async def test_status_that_is_not_retryable_is_returned(code: int) -> None:
    """With its codes and its challenge; redirects are not followed."""
    headers = {"WWW-Authenticate": "Bearer x", "Location": "https://elsewhere.test/"}
    async with serving(status(code, **headers)) as server, client() as made:
        assert await get(made, server.url) == ErrorResponse(code, ("Code",), "Bearer x")
        assert len(server.requests) == 1


async def test_incomplete_response_is_retried() -> None:
    """A closed connection is a transient failure."""
    async with serving(half, ok) as server, client() as made:
        assert await get(made, server.url) == Document("fine")


async def test_incomplete_response_to_the_last_attempt_is_a_connection_failure() -> None:
    """The error names the host and does not quote the response."""
    async with serving(half) as server, client() as made:
        error = await failure(made, server.url)
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.CONNECT)
    assert "closed the connection before its response was complete" in error.problem


async def test_timeout_is_a_connection_failure() -> None:
    """Each try has its own limit."""
    settings = HttpsSettings(try_timeout=0.05)
    async with serving(hang) as server, client(settings) as made:
        error = await failure(made, server.url)
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.CONNECT)
    assert "127.0.0.1 did not answer in time" in error.problem
    assert "4 tries" == error.detail


async def test_response_beyond_the_limit_is_rejected() -> None:
    """A vault never sends that much."""

    async def endless(request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"x" * (MAX_RESPONSE_BYTES + 1))

    async with serving(endless) as server, client() as made:
        error = await failure(made, server.url)
    assert f"is larger than {MAX_RESPONSE_BYTES} bytes" in error.problem


async def test_response_that_is_not_json_is_not_quoted() -> None:
    """A proxy's page, for example."""

    async def page(request: web.BaseRequest) -> web.Response:
        return web.Response(text=CANARY)

    async with serving(page) as server, client() as made:
        error = await failure(made, server.url)
    assert "is not valid JSON of the vault API" in error.problem
