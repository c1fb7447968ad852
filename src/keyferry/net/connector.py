"""The pool of TCP connections of an HTTP client."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from functools import cache
from typing import TYPE_CHECKING

from keyferry.aio.http_library import aiohttp

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from aiohappyeyeballs import AddrInfoType
    from aiohttp.abc import AbstractResolver

    from keyferry.net.address_guard import AddressGuard

KEEP_IDLE_SECONDS = 60.0
"""Idle connections are closed after this time, below the idle limit of vault front ends."""

TLS_READ_BYTES = 32 * 1024
"""What a TLS connection reads into: two records, as long as TLS lets them be."""


@cache
def system_tls() -> ssl.SSLContext:
    """Return the context that verifies servers by the CAs of the machine.

    The first call reads the CAs, which takes 30 ms. They are those of `SSL_CERT_FILE` and
    `SSL_CERT_DIR`, if set. A process without privileges calls `preload_system_tls` first.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    return context


def preload_system_tls(environment: Mapping[str, str]) -> None:
    """Read CAs that the environment names, which may be readable by root only.

    Args:
        environment: of the process.
    """
    if environment.get("SSL_CERT_FILE") or environment.get("SSL_CERT_DIR"):
        system_tls()


def load_system_tls_soon() -> None:
    """Read the CAs on a thread of the running loop, so that the first connection need not."""
    asyncio.get_running_loop().run_in_executor(None, system_tls)


def new_connector(
    *,
    tls: ssl.SSLContext | None = None,
    resolver: AbstractResolver | None = None,
    guard: AddressGuard | None = None,
    new_socket: Callable[[AddrInfoType], socket.socket] | None = None,
) -> aiohttp.TCPConnector:
    """Return a new connection pool without a limit; its caller bounds the number of its requests.

    Args:
        tls: how every server is verified; None: `system_tls`.
        resolver: resolves host names; None: the one of aiohttp. It has its own cache.
        guard: refuses connections to some addresses; None for none.
        new_socket: returns the socket of a connection; None for one with the usual options.
    """
    # asyncio would give each connection 256 KiB, of which a vault's answer fills one or two.
    sslproto.SSLProtocol.max_size = TLS_READ_BYTES
    return aiohttp.TCPConnector(
        limit=0,
        keepalive_timeout=KEEP_IDLE_SECONDS,
        ssl=system_tls() if tls is None else tls,
        resolver=resolver,
        use_dns_cache=resolver is None,
        socket_factory=guard.new_socket if guard else new_socket,
    )
