"""Commands in containers and connections to pods, against a server that speaks the channels."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import Cluster, Context, User

from keyferry.errors import StoreError
from keyferry.kubernetes.api.api_errors import ApiPermissionError, ApiStatusError
from keyferry.kubernetes.api.streams import (
    ExecFailedError,
    ExecRequest,
    ForwardedConnection,
    PodStreams,
    open_streams,
)

Talk = Callable[[web.Request, web.WebSocketResponse], Awaitable[None]]

SUCCESS = {"status": "Success"}
EXIT_3 = {
    "status": "Failure",
    "reason": "NonZeroExitCode",
    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
}
NO_PROGRAM = {"status": "Failure", "reason": "InternalError", "message": "exec: token abc"}
CAT = ExecRequest("shop", "web-0", "app", ("cat", "a b&c"), stdin=b"x" * 100_000)
TOKEN = "token-of-the-user"


@asynccontextmanager
async def pods(
    talk: Talk, *, protocols: tuple[str, ...] = ("v5.channel.k8s.io", "v4.channel.k8s.io")
) -> AsyncIterator[PodStreams]:
    """An API server that accepts one user, and streams to its pods."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized
        if "forbidden" in request.path:
            raise web.HTTPForbidden(text="secret reason")
        socket = web.WebSocketResponse(protocols=protocols)
        await socket.prepare(request)
        await talk(request, socket)
        await socket.close()
        return socket

    application = web.Application()
    application.router.add_get("/api/v1/namespaces/{namespace}/pods/{pod}/{action}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with open_streams(config(server)) as streams:
            yield streams
    finally:
        await runner.cleanup()


def config(server: str, token: str = TOKEN) -> SingleConfig:
    """A kubeconfig with a token."""
    return SingleConfig("user", Context("cluster"), Cluster(server), User(token=token))


def status(document: dict[str, Any]) -> bytes:
    """The last message of a command."""
    return b"\x03" + json.dumps(document).encode()


async def read_input(socket: web.WebSocketResponse, size: int) -> bytes:
    """Read the standard input, and its end if the protocol has one."""
    received = b""
    async for message in socket:
        assert WSMsgType.BINARY is message.type
        if message.data[:1] == b"\xff":
            assert b"\xff\x00" == message.data
            break
        assert b"\x00" == message.data[:1]
        received += message.data[1:]
        if len(received) == size and socket.ws_protocol == "v4.channel.k8s.io":
            break
    return received


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
async def test_a_command_gets_its_input_and_returns_its_output(protocol: str) -> None:
    """Both versions of the protocol."""
    seen: list[tuple[str, list[tuple[str, str]]]] = []

    async def echo(request: web.Request, socket: web.WebSocketResponse) -> None:
        seen.append((request.path, list(request.query.items())))
        await socket.send_bytes(b"\x01")  # kubelet starts with an empty message
        received = await read_input(socket, len(CAT.stdin))
        await socket.send_bytes(b"\x01" + received[:5])
        await socket.send_bytes(b"\x02warning")
        await socket.send_bytes(b"\x01" + received[5:])
        await socket.send_bytes(status(SUCCESS))

    async with pods(echo, protocols=(protocol,)) as streams:
        result = await streams.run(CAT)
    assert (0, CAT.stdin, b"warning") == (result.exit_code, result.stdout, result.stderr)
    path, query = seen[0]
    assert "/api/v1/namespaces/shop/pods/web-0/exec" == path
    assert [("container", "app"), ("command", "cat"), ("command", "a b&c")] == query[:3]
    assert {"stdin", "stdout", "stderr"} == {key for key, _ in query[3:]}


async def test_the_exit_code_of_a_command_is_returned() -> None:
    """A failed command is a result, too."""

    async def fail(_: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(status(EXIT_3))

    async with pods(fail) as streams:
        assert 3 == (await streams.run(CAT)).exit_code


async def test_a_command_that_does_not_start_is_an_error_without_texts_of_the_server() -> None:
    """The text of the runtime can repeat the arguments."""

    async def fail(_: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(status(NO_PROGRAM))

    async with pods(fail) as streams:
        with pytest.raises(ExecFailedError) as caught:
            await streams.run(CAT)
    assert "abc" not in str(caught.value)


async def test_a_connection_that_ends_early_is_an_error() -> None:
    """Without its last message, the outcome of a command is unknown."""

    async def leave(_: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01half")

    async with pods(leave) as streams:
        with pytest.raises(StoreError, match="was closed"):
            await streams.run(CAT)


async def test_a_missing_permission_names_verbs_and_resource() -> None:
    """And not the answer of the server."""

    async def never(_: web.Request, __: web.WebSocketResponse) -> None:
        raise AssertionError

    async with pods(never) as streams:
        with pytest.raises(ApiStatusError, match="pods/exec shop/forbidden") as caught:
            await streams.run(ExecRequest("shop", "forbidden", "", ("true",)))
    assert not isinstance(caught.value, ApiPermissionError)
    assert "get and create" in caught.value.remedy
    assert "secret reason" not in str(caught.value)


async def test_the_token_of_the_user_is_in_no_error() -> None:
    """An exception of a handshake holds the headers of the request."""

    async def never(_: web.Request, __: web.WebSocketResponse) -> None:
        raise AssertionError

    async with pods(never) as streams:
        server = streams._url
        async with open_streams(config(server, token="wrong-token")) as other:
            with pytest.raises(ApiStatusError) as caught:
                await other.run(CAT)
    assert 401 == caught.value.http_status
    error: BaseException | None = caught.value
    while error is not None:
        assert "wrong-token" not in repr(error)
        error = error.__cause__


async def receive_all(connection: ForwardedConnection) -> bytes:
    """Read until the end."""
    received = b""
    while chunk := await connection.receive():
        received += chunk
    return received


async def test_a_port_of_a_pod_can_be_connected_to() -> None:
    """The first message of each channel repeats the port, and is no content."""

    async def serve(request: web.Request, socket: web.WebSocketResponse) -> None:
        assert "8080" == request.query["ports"]
        assert "v4.channel.k8s.io" == socket.ws_protocol
        for channel in (b"\x00", b"\x01"):
            await socket.send_bytes(channel + (8080).to_bytes(2, "little"))
        received = b""
        while len(received) < 100_000:
            message = await socket.receive_bytes()
            assert b"\x00" == message[:1]
            received += message[1:]
        for part in (received[:10], received[10:]):
            await socket.send_bytes(b"\x00" + part)

    content = b"y" * 100_000
    async with pods(serve) as streams, streams.connect("shop", "web-0", 8080) as connection:
        await connection.send(content)
        assert content == await receive_all(connection)


async def test_a_port_without_a_listener_is_an_error() -> None:
    """The text of kubelet is not repeated."""

    async def refuse(_: web.Request, socket: web.WebSocketResponse) -> None:
        for channel in (b"\x00", b"\x01"):
            await socket.send_bytes(channel + (8080).to_bytes(2, "little"))
        await socket.send_bytes(b"\x01error forwarding port")

    async with pods(refuse) as streams, streams.connect("shop", "web-0", 8080) as connection:
        with pytest.raises(StoreError, match="pod shop/web-0 refuses the connection"):
            await connection.receive()
