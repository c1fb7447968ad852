"""Transport: under httpx, against servers on loopback: as httpx's own way."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from aiohttp import web

from keyferry.kubernetes.api.transport import KEEPALIVE, KubeTransport
from keyferry_devvault.crypto.development_ca import CA_FILE, write_server_certificate

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
SOON = httpx2.Timeout(10.0, read=0.05)


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server, and where it is."""
    runner = web.ServerRunner(web.Server(handler, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield "{}://127.0.0.1:{}".format("https" if tls else "http", runner.addresses[0][1])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """What lightkube makes of a kubeconfig."""
    transport = KubeTransport(tls or ssl.create_default_context())
    async with httpx2.AsyncClient(base_url=url, transport=transport, trust_env=False) as made:
        yield made


async def test_a_request_and_its_answer_arrive_as_they_were_sent() -> None:
    """Method, path, headers and body; then status, headers and body."""

    async def echo(request: web.BaseRequest) -> web.Response:
        headers = [request.headers[name] for name in ("Content-Type", "User-Agent", "X-Two")]
        body = await request.text()
        text = "|".join([request.method, request.raw_path, *headers, body])
        return web.Response(status=409, text=text, headers={"X-Answer": "yes"})

    async with serving(echo) as url, client(url) as made:
        answer = await made.patch(
            "/api/v1/a%2Fb?force=true",
            content=b"{}",
            headers={"Content-Type": "application/apply-patch+yaml", "X-Two": "2"},
        )
    agent = f"python-httpx2/{httpx2.__version__}"
    assert (409, "yes") == (answer.status_code, answer.headers["X-Answer"])
    expected = f"PATCH|/api/v1/a%2Fb?force=true|application/apply-patch+yaml|{agent}|2|{{}}"
    assert expected == answer.text


async def test_the_system_probes_a_silent_connection() -> None:
    """A watch may be silent for minutes, and the machine of its peer may have stopped."""

    async def nothing(_: web.BaseRequest) -> web.Response:
        return web.Response()

    async with serving(nothing) as url, client(url) as made:
        await made.get("/")
        found = keepalive_options(httpx2.URL(url).port)
    assert [[1, 30, 15, 3]] == found


def keepalive_options(peer_port: int | None) -> list[list[int]]:
    """The options of the connections of this process to a port."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as copy:
            if copy.family == socket.AF_INET and copy.getpeername()[1] == peer_port:
                options = [copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
                numbers = [getattr(socket, name) for name in KEEPALIVE]
                options += [copy.getsockopt(socket.IPPROTO_TCP, number) for number in numbers]
                found.append(options)
    return found


async def test_a_packed_answer_is_unpacked_once() -> None:
    """The API server packs long lists."""

    async def packed(request: web.BaseRequest) -> web.Response:
        assert "gzip" in request.headers["Accept-Encoding"]
        body = gzip.compress(b"a list" * 1000)
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async with serving(packed) as url, client(url) as made:
        assert b"a list" * 1000 == (await made.get("/")).content


async def test_a_stream_is_read_as_it_arrives() -> None:
    """A watch reports a change when it happens, and may be silent for long."""
    heard = asyncio.Event()

    async def watch(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first\n")
        await heard.wait()
        await response.write(b"second\n")
        return response

    async with serving(watch) as url, client(url) as made, asyncio.timeout(100):
        lines = []
        async with made.stream("GET", "/") as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
                heard.set()
    assert ["first", "second"] == lines


async def test_connections_are_used_again_unless_a_body_was_left() -> None:
    """The rest of it would be taken for the next answer."""
    peers: list[object] = []

    async def long(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        return web.Response(body=b"x" * (1 << 20))

    async with serving(long) as url, client(url) as made:
        for _ in range(2):
            await made.get("/")
        async with made.stream("GET", "/"):
            pass
        await made.get("/")
    assert peers[0] == peers[1] == peers[2] != peers[3]


async def test_a_server_that_is_not_there_cannot_be_reached() -> None:
    """As httpx says it."""

    async def nothing(_: web.BaseRequest) -> web.Response:
        return web.Response()

    async with serving(nothing) as url:
        pass
    async with client(url) as made:
        with pytest.raises(httpx2.ConnectError):
            await made.get("/")


async def test_a_certificate_that_is_not_trusted_is_no_connection(tmp_path: Path) -> None:
    """The same server answers who trusts its CA."""

    async def fine(_: web.BaseRequest) -> web.Response:
        return web.Response(text="fine")

    certificate = write_server_certificate(tmp_path)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=tmp_path / CA_FILE)
    trusting.check_hostname = False  # the development vault has no name for 127.0.0.1
    async with serving(fine, served) as url:
        async with client(url) as made:
            with pytest.raises(httpx2.ConnectError):
                await made.get("/")
        async with client(url, trusting) as made:
            assert "fine" == (await made.get("/")).text


async def test_an_answer_that_breaks_off_is_an_error_of_reading() -> None:
    """Whether it breaks off before the headers or in the body."""

    async def broken(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        if request.path == "/body":
            await response.prepare(request)
            await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(broken) as url, client(url) as made:
        for path in ("/head", "/body"):
            with pytest.raises(httpx2.ReadError):
                await made.get(path)


async def test_a_server_that_says_nothing_is_given_up() -> None:
    """After the time that the request has for it, in the head or in the body."""

    async def quiet(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        if request.path == "/body":
            await response.prepare(request)
        await asyncio.Event().wait()
        return response

    async with serving(quiet) as url, client(url) as made:
        for path in ("/head", "/body"):
            with pytest.raises(httpx2.ReadTimeout):
                await made.get(path, timeout=SOON)
