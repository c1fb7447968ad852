"""The pool of TCP connections of an HTTP client."""

from __future__ import annotations

from asyncio import sslproto
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    import ssl

    from aiohttp.abc import AbstractResolver

    from keyferry.net.address_guard import AddressGuard

KEEP_IDLE_SECONDS = 60.0
"""Idle connections are closed after this time, below the idle limit of vault front ends."""

TLS_READ_BYTES = 32 * 1024
"""What a TLS connection reads into: two records, as long as TLS lets them be."""


def new_connector(
    *,
    tls: ssl.SSLContext | None = None,
    resolver: AbstractResolver | None = None,
    guard: AddressGuard | None = None,
) -> aiohttp.TCPConnector:
    """Return a new connection pool without a limit; its caller bounds the number of its requests.

    Args:
        tls: how every server is verified; None: by the CAs of the machine.
        resolver: resolves host names; None: the one of aiohttp. It has its own cache.
        guard: refuses connections to some addresses; None for none.
    """
    # asyncio would give each connection 256 KiB, of which a vault's answer fills one or two.
    sslproto.SSLProtocol.max_size = TLS_READ_BYTES
    return aiohttp.TCPConnector(
        limit=0,
        keepalive_timeout=KEEP_IDLE_SECONDS,
        ssl=True if tls is None else tls,
        resolver=resolver,
        use_dns_cache=resolver is None,
        socket_factory=guard.new_socket if guard else None,
    )
