"""Where TCP connections go: to the hosts of the URLs, or all to a development vault."""

from __future__ import annotations

import ssl
from asyncio import sslproto
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.abc import ResolveResult

from keyferry.errors import PlatformError, Stage

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from pathlib import Path

    from aiohappyeyeballs import AddrInfoType
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.tracing import Trace

KEEP_IDLE_SECONDS = 60.0
"""Idle connections live so long, less than the idle limit of the vaults' front ends."""

TLS_READ_BYTES = 32 * 1024
"""What a TLS connection reads into: two records, as long as TLS lets them be."""


def new_connector(
    *,
    https: tuple[str, int] | None = None,
    http: tuple[str, int] | None = None,
    ca_file: Path | None = None,
    tls: ssl.SSLContext | None = None,
) -> aiohttp.TCPConnector:
    """The pool of connections of one client. Whoever calls it bounds the number of its requests.

    Args:
        https: (address, port) to which every https connection goes instead; None: to the host of
            its URL.
        http: the same for http.
        ca_file: the CA to trust instead of those of the machine; needed with the two others.
        tls: how every server is verified, without the three others; None: by the CAs of the
            machine.

    Raises:
        PlatformError: `ca_file` cannot be read.
    """
    # asyncio would give each connection 256 KiB, of which a vault's answer fills one or two.
    sslproto.SSLProtocol.max_size = TLS_READ_BYTES
    if https is None or http is None:
        return aiohttp.TCPConnector(
            limit=0, keepalive_timeout=KEEP_IDLE_SECONDS, ssl=True if tls is None else tls
        )
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise PlatformError(
            f"the CA of the development vault cannot be read from {ca_file}: {error}",
            "Start the development vault anew.",
            stage=Stage.TLS,
        ) from error
    return _RedirectingConnector(https=https, http=http, context=context)


class _RedirectingConnector(aiohttp.TCPConnector):
    """Connects to fixed addresses, by scheme; URLs, SNI and certificate checks stay as they are."""

    def __init__(
        self, *, https: tuple[str, int], http: tuple[str, int], context: ssl.SSLContext
    ) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEP_IDLE_SECONDS, ssl=context)
        self._https = https
        self._http = http

    async def _resolve_host(
        self, host: str, port: int, traces: Sequence[Trace] | None = None
    ) -> list[ResolveResult]:
        """A stand-in, so that no name is looked up on a machine that may be offline."""
        return [_resolve_result(host, self._https)]

    async def _wrap_create_connection(
        self, *args: Any, addr_infos: list[AddrInfoType], req: aiohttp.ClientRequest, **kwargs: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        """Connect where the scheme says; only here aiohttp knows the request and the address."""
        target = self._https if req.is_ssl() else self._http
        redirected = self._convert_hosts_to_addr_infos([_resolve_result(req.host, target)])
        addr_infos[:] = redirected
        return await super()._wrap_create_connection(
            *args, addr_infos=addr_infos, req=req, **kwargs
        )


def _resolve_result(host: str, address: tuple[str, int]) -> ResolveResult:
    return ResolveResult(
        hostname=host, host=address[0], port=address[1], family=0, proto=0, flags=0
    )
