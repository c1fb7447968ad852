r"""Commands in containers and connections to pods, over the WebSockets of the Kubernetes API.

A message starts with the number of its channel. Version 5 of the protocol can close the standard
input; version 4, of clusters before 1.30, cannot. A command that reads its input must therefore
recognize the end by itself, such as by the end of a line.

    async with open_streams(config) as streams:
        result = await streams.run(ExecRequest("shop", "web-0", "app", ("cat", "/etc/hostname")))
        async with streams.connect("keyferry", "keyferry-0", 8080) as connection:
            await connection.send(b"GET / HTTP/1.0\r\n\r\n")

Source: https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/4006-transition-spdy-to-websockets
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import httpx2
import msgspec
from lightkube.config.client_adapter import user_auth, verify_cluster
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError
from yarl import URL

from keyferry.aio.http_library import aiohttp
from keyferry.errors import StoreError
from keyferry.kubernetes.api.api_errors import (
    ApiUnreachableError,
    RbacRemedy,
    driver_rbac_remedy,
    error_for_status,
)
from keyferry.kubernetes.api.client import USER_AGENT
from keyferry.net.connector import new_connector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from lightkube.config.kubeconfig import SingleConfig

MAX_OUTPUT_BYTES = 16 << 20
"""Limit of what a command may write to its standard output, and to its standard error."""
MAX_MESSAGE_BYTES = 4 << 20
CONNECT_SECONDS = 10.0

_CHUNK_BYTES = 32 << 10
_V5 = "v5.channel.k8s.io"
_V4 = "v4.channel.k8s.io"
_CLOSE_CHANNEL = 255
_PORT_BYTES = 2


class _Channel(IntEnum):
    """The channels of a command."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3


class _PortChannel(IntEnum):
    """The channels of a forwarded port."""

    DATA = 0
    ERROR = 1


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A command to run in a container.

    Attributes:
        namespace: of the pod.
        pod: its name.
        container: its name; "" for the default container.
        command: the program and its arguments. They appear in the audit log of the cluster.
        stdin: the standard input.
    """

    namespace: str
    pod: str
    container: str
    command: tuple[str, ...]
    stdin: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command returned.

    Attributes:
        exit_code: 0 for success.
    """

    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)


class ExecFailedError(StoreError):
    """The container runtime could not start the command."""


class ForwardedConnection:
    """A TCP connection to a port of a pod. The API cannot half-close it.

    Args:
        socket: carries the channels of one port.
        name: of the pod, for messages.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, name: str) -> None:
        self._socket = socket
        self._name = name
        self._started: set[int] = set()

    async def send(self, content: bytes) -> None:
        """Send bytes to the pod.

        Raises:
            ApiUnreachableError: the connection is lost.
        """
        for chunk in _chunks(content):
            await _send(self._socket, _PortChannel.DATA, chunk, self._name)

    async def receive(self) -> bytes:
        """Return the next bytes of the pod; b"" at the end.

        Raises:
            StoreError: the pod does not listen on this port, or the connection is lost.
        """
        while (message := await _receive(self._socket, self._name)) is not None:
            channel, content = message
            if channel not in self._started:  # its first message repeats the port
                self._started.add(channel)
                content = content[_PORT_BYTES:]
            if channel == _PortChannel.ERROR and content:
                raise StoreError(
                    f"pod {self._name} refuses the connection to the forwarded port",
                    "Check that a container of the pod listens on the port.",
                )
            if channel == _PortChannel.DATA and content:
                return content
        return b""


class PodStreams:
    """Opens streams to pods. Every method may raise a `StoreError`.

    Args:
        session: of the API server.
        config: the address and the credentials.
        rbac_remedy: returns how to grant a missing permission.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        config: SingleConfig,
        *,
        rbac_remedy: RbacRemedy = driver_rbac_remedy,
    ) -> None:
        self._session = session
        self._url = config.cluster.server.rstrip("/")
        self._auth = user_auth(config.user)
        self._rbac_remedy = rbac_remedy

    async def run(self, request: ExecRequest) -> ExecResult:
        """Run a command in a container and wait for its end.

        Raises:
            ExecFailedError: the command did not start.
            StoreError: the API refuses, or the connection is lost.
        """
        name = f"{request.namespace}/{request.pod}"
        query = [("container", request.container)] if request.container else []
        query += [("command", word) for word in request.command]
        query += [("stdout", "true"), ("stderr", "true")]
        query += [("stdin", "true")] if request.stdin else []
        async with self._open(name, "exec", query, (_V5, _V4)) as socket:
            sending = asyncio.create_task(_send_input(socket, request.stdin, name))
            try:
                return await _read_result(socket, name)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    @asynccontextmanager
    async def connect(
        self, namespace: str, pod: str, port: int
    ) -> AsyncIterator[ForwardedConnection]:
        """Connect to a port of a pod; leaving the block closes the connection.

        Each TCP connection needs a call of its own.

        Raises:
            StoreError: the API refuses, or the connection is lost.
        """
        name = f"{namespace}/{pod}"
        query = [("ports", str(port))]
        async with self._open(name, "portforward", query, (_V4,)) as socket:
            yield ForwardedConnection(socket, name)

    @asynccontextmanager
    async def _open(
        self,
        name: str,
        subresource: str,
        query: Sequence[tuple[str, str]],
        protocols: tuple[str, ...],
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        namespace, pod = (quote(part, safe="") for part in name.split("/"))
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/{subresource}"
        url = URL(f"{self._url}{path}?{urlencode(query)}", encoded=True)
        socket = await self._handshake(url, protocols, resource=f"pods/{subresource}", name=name)
        try:
            yield socket
        finally:
            await socket.close()

    async def _handshake(
        self, url: URL, protocols: tuple[str, ...], *, resource: str, name: str
    ) -> aiohttp.ClientWebSocketResponse:
        request = httpx2.Request("GET", str(url))
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                flow = self._auth.async_auth_flow(request) if self._auth else None
                sent = await anext(flow) if flow else request
                try:
                    return await self._connect(url, protocols, sent)
                except aiohttp.WSServerHandshakeError as error:
                    if error.status != 401 or flow is None:
                        raise
                    sent = await flow.asend(httpx2.Response(401, request=request))
                    return await self._connect(url, protocols, sent)
        except aiohttp.WSServerHandshakeError as error:
            # Not chained: the exception holds the headers of the request.
            raise error_for_status(
                error.status,
                "",
                verb="get and create",
                resource=resource,
                name=name,
                rbac_remedy=self._rbac_remedy,
            ) from None
        except StopAsyncIteration:  # the credentials cannot be renewed
            raise error_for_status(
                401, "", verb="get", resource=resource, name=name, rbac_remedy=self._rbac_remedy
            ) from None
        except ConfigError as error:
            raise StoreError(
                f"the credentials for {self._server} cannot be used", "Check the kubeconfig."
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnreachableError(
                f"cannot open {resource} of {name}: the Kubernetes API at {self._server} accepts"
                f" no WebSocket ({type(error).__name__})",
                "Check that the API server runs, and that no proxy before it refuses WebSockets.",
            ) from None

    async def _connect(
        self, url: URL, protocols: tuple[str, ...], request: httpx2.Request
    ) -> aiohttp.ClientWebSocketResponse:
        authorization = request.headers.get("Authorization")
        return await self._session.ws_connect(
            url,
            protocols=protocols,
            headers={"Authorization": authorization} if authorization else {},
            max_msg_size=MAX_MESSAGE_BYTES,
        )

    @property
    def _server(self) -> str:
        return urlsplit(self._url).netloc


@asynccontextmanager
async def open_streams(
    config: SingleConfig,
    *,
    rbac_remedy: RbacRemedy = driver_rbac_remedy,
) -> AsyncIterator[PodStreams]:
    """Yield the streams of a cluster; leaving the block closes its connections.

    Args:
        config: the address and the credentials.
        rbac_remedy: returns how to grant a missing permission.

    Raises:
        StoreError: a certificate or key of `config` cannot be used.
    """
    try:
        tls = verify_cluster(config.cluster, config.user or User(), config.abs_file)
    except (OSError, ssl.SSLError, ConfigError, ValueError) as error:
        raise StoreError(
            f"the certificates for {config.cluster.server} cannot be used ({type(error).__name__})",
            "Check certificate-authority, client-certificate and client-key of the kubeconfig.",
        ) from error
    async with aiohttp.ClientSession(
        connector=new_connector(tls=tls),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT},
    ) as session:
        yield PodStreams(session, config, rbac_remedy=rbac_remedy)


def _chunks(content: bytes) -> list[bytes]:
    return [content[at : at + _CHUNK_BYTES] for at in range(0, len(content), _CHUNK_BYTES)]


async def _send_input(socket: aiohttp.ClientWebSocketResponse, stdin: bytes, name: str) -> None:
    for chunk in _chunks(stdin):
        await _send(socket, _Channel.STDIN, chunk, name)
    if stdin and socket.protocol == _V5:
        await _send(socket, _CLOSE_CHANNEL, bytes((_Channel.STDIN,)), name)


async def _send(
    socket: aiohttp.ClientWebSocketResponse, channel: int, content: bytes, name: str
) -> None:
    try:
        await socket.send_bytes(bytes((channel,)) + content)
    except (aiohttp.ClientError, OSError) as error:
        raise _lost(name) from error


async def _receive(socket: aiohttp.ClientWebSocketResponse, name: str) -> tuple[int, bytes] | None:
    """Return a channel and its next bytes; None at the end."""
    while True:
        try:
            message = await socket.receive()
        except (aiohttp.ClientError, OSError) as error:
            raise _lost(name) from error
        match message.type:
            case aiohttp.WSMsgType.BINARY if message.data:
                return message.data[0], message.data[1:]
            case aiohttp.WSMsgType.CLOSE | aiohttp.WSMsgType.CLOSING | aiohttp.WSMsgType.CLOSED:
                return None
            case aiohttp.WSMsgType.ERROR:
                raise _lost(name)
            case _:
                continue  # ping, pong, and empty messages


def _lost(name: str) -> ApiUnreachableError:
    return ApiUnreachableError(
        f"the connection to pod {name} was closed", "Check that the pod runs, and retry."
    )


async def _read_result(socket: aiohttp.ClientWebSocketResponse, name: str) -> ExecResult:
    output = {_Channel.STDOUT: bytearray(), _Channel.STDERR: bytearray()}
    while (message := await _receive(socket, name)) is not None:
        channel, content = message
        if channel == _Channel.ERROR:
            code = _exit_code(content, name)
            return ExecResult(code, bytes(output[_Channel.STDOUT]), bytes(output[_Channel.STDERR]))
        if channel in (_Channel.STDOUT, _Channel.STDERR):
            received = output[_Channel(channel)]
            received += content
            if len(received) > MAX_OUTPUT_BYTES:
                raise StoreError(f"the command in pod {name} wrote more than 16 MiB")
    raise _lost(name)


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    """The last message of a command: a Status of the Kubernetes API."""

    status: str = ""
    reason: str = ""
    details: _Details | None = None


def _exit_code(content: bytes, name: str) -> int:
    """Return the exit code in the last message of a command.

    Raises:
        ExecFailedError: the command did not start.
    """
    try:
        status = msgspec.json.decode(content, type=_Status)
        if status.status == "Success":
            return 0
        causes: list[Any] = (status.details.causes if status.details else None) or []
        if status.reason == "NonZeroExitCode":
            return next(int(each.message) for each in causes if each.reason == "ExitCode")
    except (msgspec.DecodeError, ValueError, StopIteration):
        pass
    raise ExecFailedError(
        f"the command did not start in pod {name}",
        "Check that the container runs, and that its image contains the command.",
    )
