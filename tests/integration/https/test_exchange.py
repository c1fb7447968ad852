"""keyferry.net.exchange: GET requests without a client session behave as with one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from yarl import URL

from keyferry.net.exchange import BodyTooLargeError, read_body
from keyferry.net.http_client import HttpsClient, HttpsSettings

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
BOTH: tuple[dict[str, Any], ...] = ({}, {"read_bufsize": 1 << 16})
"""Without a client session, and with one, because only that has the option."""
TIMEOUT = aiohttp.ClientTimeout(total=20, connect=10)


@dataclass
class Peer:
    """A server on loopback that answers with bytes.

    Attributes:
        url: of the server.
        answers: what it sends for each request, over all connections; the last one is repeated. An
            empty one closes the connection.
        heads: the requests.
        connections: how many were opened.
        closed: how many the client closed.
    """

    url: URL
    answers: list[bytes]
    heads: list[str] = field(default_factory=list)
    connections: int = 0
    closed: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if not answer:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):  # a reset, if not all was read
            self.closed += 1
        finally:
            writer.close()


@asynccontextmanager
async def peer(*answers: bytes) -> AsyncIterator[Peer]:
    made = Peer(URL(), list(answers))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a%2Fb?x=%20")
    async with server:
        yield made


@pytest.fixture
async def https() -> AsyncIterator[HttpsClient]:
    client = HttpsClient(HttpsSettings())
    yield client
    await client.close()


async def get(
    https: HttpsClient,
    url: URL,
    headers: Mapping[str, str] | None = None,
    *,
    timeout: aiohttp.ClientTimeout = TIMEOUT,  # noqa: ASYNC109
    **options: Any,
) -> tuple[int, bytes]:
    async with https.pool.request(
        "GET", url, headers=headers or {}, timeout=timeout, **options
    ) as response:
        return response.status, await read_body(response, max_bytes=1 << 20)


async def test_request_is_the_one_of_a_client_session(https: HttpsClient) -> None:
    """Path, headers and their values."""
    async with peer(OK) as server:
        headers = {"Authorization": "Bearer t\xf6ken", "X-Vault-Namespace": "team"}
        url = server.url.join(URL("/a%2Fb?x=%20", encoded=True))
        for options in BOTH:
            assert (200, b"fine") == await get(https, url, headers, **options)
        lean, session = server.heads
        assert "X-Vault-Namespace: team\r\n" in lean
        assert sorted(session.splitlines()) == sorted(lean.splitlines())
        assert session.splitlines()[0] == lean.splitlines()[0]
        assert 1 == server.connections


@pytest.mark.parametrize("text", ["a\r\nX-Vault-Token: other", "a\nb", "a\rb", "a\0b"])
async def test_header_that_adds_a_header_is_refused(https: HttpsClient, text: str) -> None:
    async with peer(OK) as server:
        with pytest.raises(ValueError, match="line break"):
            await get(https, server.url, {"X-Vault-Namespace": text})
        with pytest.raises(ValueError, match="line break"):
            await get(https, server.url, {f"X-{text}": "a"})
        assert [] == server.heads


async def test_header_that_aiohttp_sets_is_sent_once(https: HttpsClient) -> None:
    async with peer(OK) as server:
        await get(https, server.url, {"host": "other", "User-Agent": "own"})
        (head,) = server.heads
        assert ["host: other", "user-agent: own"] == sorted(
            line.lower()
            for line in head.splitlines()
            if line.lower().startswith(("host:", "user-agent:"))
        )


async def test_connection_that_the_server_closed_is_replaced_once(https: HttpsClient) -> None:
    """A vault closes idle connections, perhaps while the request is on its way."""
    async with peer(OK, b"", OK) as server:
        for _ in range(2):
            assert (200, b"fine") == await get(https, server.url)
        assert (3, 2) == (len(server.heads), server.connections)
    async with peer(b"") as server:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await get(https, server.url)
        assert 2 == len(server.heads)


async def test_informational_response_is_skipped(https: HttpsClient) -> None:
    async with peer(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK) as server:
        assert (200, b"fine") == await get(https, server.url)


async def test_redirect_is_returned(https: HttpsClient) -> None:
    redirect = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
    async with peer(redirect) as server:
        async with https.pool.request("GET", server.url, timeout=TIMEOUT) as response:
            assert (307, "/x") == (response.status, response.headers["location"])
        assert 1 == len(server.heads)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nA\r\n\r\n"])
async def test_response_that_is_not_http_is_an_error(https: HttpsClient, answer: bytes) -> None:
    async with peer(answer) as server:
        for options in BOTH:
            with pytest.raises(aiohttp.ClientResponseError):
                await get(https, server.url, **options)
        assert 2 == server.connections


async def test_connection_is_closed_unless_the_whole_body_was_read(https: HttpsClient) -> None:
    """The next request would get the rest of the body."""
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300000
    async with peer(long, OK) as server:
        async with https.pool.request("GET", server.url, timeout=TIMEOUT) as response:
            assert 200 == response.status
        assert (200, b"fine") == await get(https, server.url)
        assert 2 == server.connections
    async with peer(long, OK) as server:
        with pytest.raises(BodyTooLargeError):
            async with https.pool.request("GET", server.url, timeout=TIMEOUT) as response:
                await read_body(response, max_bytes=10)
        assert (200, b"fine") == await get(https, server.url)
        assert 2 == server.connections


async def test_total_limit_covers_the_body(https: HttpsClient) -> None:
    slow = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow"
    async with peer(slow) as server:
        for answer in (slow, b"HTTP/1.1 200 "):
            server.answers = [answer]
            with pytest.raises(TimeoutError):
                await get(https, server.url, timeout=aiohttp.ClientTimeout(total=0.05, connect=10))


async def test_cancelled_request_closes_its_connection(https: HttpsClient) -> None:
    async with peer(b"HTTP/1.1 200 ") as server:
        task = asyncio.create_task(get(https, server.url))
        while not server.heads:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        while not server.closed:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
