"""Opens one connection as a request would, and describes it."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.aio.http_library import aiohttp
from keyferry.errors import Stage
from keyferry.net.addresses import parse_ip
from keyferry.net.connection_errors import (
    ConnectionProblem,
    connection_problem,
    is_forbidden_address,
)
from keyferry.net.inspection.observed import Inspection
from keyferry.records import replace

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver
    from yarl import URL

_TCP_SECONDS = 1.0
_MAX_LOOKS = 3


@dataclass(frozen=True, slots=True)
class InspectionTarget:
    """What to connect to.

    Attributes:
        url: its scheme, host and port count.
        name: the host in messages.
        proxy: the proxy with its credentials, or None.
        server_hostname: TLS server name if it is not the host.
        tls: verifies the server; None for the context of the session.
        seconds: time limit for DNS, TCP and TLS together.
    """

    url: URL
    name: str
    proxy: URL | None = field(default=None, repr=False)
    server_hostname: str | None = None
    tls: ssl.SSLContext | None = None
    seconds: float = 5.0


async def inspect(
    target: InspectionTarget, session: aiohttp.ClientSession, resolver: AbstractResolver | None
) -> Inspection:
    """Open a connection and close it. No request is sent, except to a proxy.

    1. Resolve the name of the host, or of the proxy.
    2. Connect as the session does: proxy, TCP, TLS.
    3. If the certificate is not accepted, connect without verification, only to look at it.
    4. If time ran out, find out whether TCP alone works.

    Args:
        target: what to connect to.
        session: its connector opens the connection.
        resolver: resolves names; None if the connector connects somewhere else.

    Raises:
        ForbiddenAddressError: the guard of the connector refuses the address.
    """
    url = target.url
    first = target.proxy or url
    is_address = parse_ip(first.host or "") is not None
    seen = Inspection(
        target.name, url.scheme == "https", _display(target.proxy), is_address=is_address
    )
    if resolver is not None and not is_address:
        try:
            async with asyncio.timeout(target.seconds):
                found = await resolver.resolve(first.host or "", first.port or 0)
        except TimeoutError:
            problem = ConnectionProblem(
                Stage.DNS,
                f"the name servers did not answer for {first.host} within {target.seconds:g} s",
                f"Check the DNS of this machine: getent hosts {first.host}.",
                transient=True,
                host=target.name,
            )
            return replace(seen, problem=problem)
        except OSError:
            found = []  # the connector fails, too, with the error of a request
        seen = replace(seen, addresses=tuple(dict.fromkeys(each["host"] for each in found)))
    try:
        return await _open(target, session, target.tls, seen)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if is_forbidden_address(error):
            raise
        timed_out = isinstance(error, TimeoutError)
        shown = aiohttp.ConnectionTimeoutError() if timed_out else error
        problem = connection_problem(shown, host=target.name)
    if problem.certificate_fault is not None:
        seen = await _presented(target, session, seen)
    elif timed_out and seen.is_https and not seen.proxy:
        problem = await _located(problem, target, seen.addresses)
    return replace(seen, problem=problem)


async def _open(
    target: InspectionTarget,
    session: aiohttp.ClientSession,
    tls: ssl.SSLContext | None,
    seen: Inspection,
) -> Inspection:
    """Open a connection, and return `seen` with what it shows."""
    request = aiohttp.ClientRequest(
        "GET",
        target.url,
        loop=asyncio.get_running_loop(),
        session=session,
        proxy=target.proxy,
        ssl=True if tls is None else tls,
        server_hostname=target.server_hostname,
    )
    assert session.connector is not None
    timeout = aiohttp.ClientTimeout(connect=target.seconds)
    connection = await session.connector.connect(request, [], timeout)
    try:
        transport = connection.transport
        if transport is None:
            return seen
        peer = transport.get_extra_info("peername")
        seen = replace(seen, peer=_address(peer))
        tls_object = transport.get_extra_info("ssl_object")
        if tls_object is None:
            return seen
        return replace(
            seen,
            tls_version=tls_object.version() or "",
            certificate=tls_object.getpeercert(binary_form=True) or b"",
            verifies=tls_object.context.verify_mode != ssl.CERT_NONE,
        )
    finally:
        connection.close()


async def _presented(
    target: InspectionTarget, session: aiohttp.ClientSession, seen: Inspection
) -> Inspection:
    """Return `seen` with the certificate that the server presents, which requests refuse.

    Tries again, because OpenSSL keeps errors by thread: the refusal of a connection of a mount can
    be reported for this one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for _ in range(_MAX_LOOKS):
        try:
            return replace(await _open(target, session, context, seen), verifies=True)
        except TimeoutError:
            break
        except (aiohttp.ClientError, OSError):
            continue
    return seen


async def _located(
    problem: ConnectionProblem, target: InspectionTarget, addresses: tuple[str, ...]
) -> ConnectionProblem:
    """Return the problem of a timeout at its stage: TLS if TCP works."""
    host = addresses[0] if addresses else target.url.host or ""
    try:
        async with asyncio.timeout(_TCP_SECONDS):
            _, writer = await asyncio.open_connection(host, target.url.port)
    except (TimeoutError, OSError):
        return problem
    writer.close()
    return replace(
        problem,
        stage=Stage.TLS,
        problem=f"{target.name} accepts connections but does not answer the TLS handshake",
        remedy=f"Check the health of {target.name} and of any firewall that inspects TLS.",
    )


def _display(proxy: URL | None) -> str:
    """Return a proxy without its credentials."""
    return "" if proxy is None else f"{proxy.scheme}://{proxy.host}:{proxy.port}"


def _address(peer: object) -> str:
    """Return the address and port of a socket; "" for others."""
    if not isinstance(peer, tuple) or len(peer) < 2:
        return ""
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
