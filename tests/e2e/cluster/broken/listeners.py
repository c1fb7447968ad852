"""Servers that are broken: closed, silent, with a bad certificate, or a proxy that refuses.

And a DNS server that knows no name.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from tests.e2e.cluster.api_server import free_ports
from tests.e2e.cluster.certificates import Authority

_DNS = ("127.0.0.1", 53)
"""The server that a container with an empty `resolv.conf` asks, here in a network of its own."""
_Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def broken_listeners(host: str, authority: Authority) -> AsyncIterator[dict[str, str]]:
    """Run the servers; yields their URLs by name.

    Args:
        host: the address on which they listen.
        authority: signs their certificates.
    """
    expired = _context(authority, "expired", host, lifetime=timedelta(minutes=-1))
    misnamed = _context(authority, "misnamed", "vault.example.net")
    (closed,) = free_ports(1)
    urls = {"CLOSED": f"https://{host}:{closed}", "PROXY_CLOSED": f"http://{host}:{closed}"}
    async with AsyncExitStack() as stack:
        for name, scheme, handler, context in (
            ("SILENT", "https", _silent, None),
            ("PLAIN", "https", _plain, None),
            ("EXPIRED", "https", _silent, expired),
            ("MISNAMED", "https", _silent, misnamed),
            ("PROXY", "http", _refuses, None),
        ):
            server = await asyncio.start_server(handler, host, 0, ssl=context)
            await stack.enter_async_context(server)
            urls[name] = f"{scheme}://{host}:{server.sockets[0].getsockname()[1]}"
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(_NoNames, local_addr=_DNS)
        stack.callback(transport.close)
        yield urls


class _NoNames(asyncio.DatagramProtocol):
    """A DNS server that answers NXDOMAIN."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transport of the selector loop is not a DatagramTransport by its class.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        # The header of the answer: the id, "response, no such name", and one question.
        header = data[:2] + b"\x81\x83" + data[4:6] + bytes(6)
        question = data[12 : data.index(0, 12) + 5]
        self._transport.sendto(header + question, addr)


def _context(
    authority: Authority, name: str, address: str, lifetime: timedelta = timedelta(days=1)
) -> ssl.SSLContext:
    files: tuple[Path, Path] = authority.issue(
        name, user=name, addresses=(address,), lifetime=lifetime
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read everything and never respond."""
    while await reader.read(4096):
        pass
    writer.close()


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond as a server of plain HTTP does to a TLS handshake."""
    await reader.read(4096)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def _refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond as a proxy that does not permit the host."""
    await reader.read(4096)
    writer.write(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()
