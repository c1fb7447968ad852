"""The connections of an HTTP client: one connector for each host, and few hosts at a time.

Idle connections of a host are closed when other hosts need the place. A tenant gives up its own
hosts first, so that it cannot close the connections of another one by naming many hosts.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Struct
from yarl import URL

from keyferry.aio.http_library import aiohttp
from keyferry.aio.tenant import current_tenant
from keyferry.net.connector import new_connector
from keyferry.net.exchange import exchange, is_plain, new_template
from keyferry.net.inspection.connecting import InspectionTarget, inspect
from keyferry.net.proxies import Proxies
from keyferry.net.resolver import TenantResolver

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from aiohttp.abc import AbstractResolver

    from keyferry.net.address_guard import AddressGuard
    from keyferry.net.exchange import HttpResponse
    from keyferry.net.inspection.observed import Inspection

MAX_HOSTS = 128
"""Maximum number of hosts with idle connections."""
MAX_HOSTS_OF_TENANT = 32
"""Maximum number of these that one tenant connected to first."""


class NewConnector(Protocol):
    """Makes a connection pool."""

    def __call__(
        self, *, resolver: AbstractResolver | None = None, guard: AddressGuard | None = None
    ) -> aiohttp.TCPConnector:
        """Return a new connection pool; see `new_connector`."""


class HttpsSettings(Struct, frozen=True):
    """How connections to vaults are made. All times in seconds."""

    connector: NewConnector = msgspec.field(default_factory=lambda: new_connector)
    """Makes the connection pools of a client."""
    proxies: Proxies = msgspec.field(default_factory=Proxies)
    """The proxies of the environment."""
    connect_timeout: float = 5.0
    """For DNS, TCP and TLS together."""
    try_timeout: float = 15.0
    """For one request and its answer."""


@dataclass(frozen=True, slots=True)
class _HostKey:
    """What may share a connector.

    Attributes:
        pool: the pool; each TLS context has one.
        origin: scheme, host and port.
        server_name: the TLS server name if it is not the host.
        proxy: URL of the proxy; "" for none.
        guarded: whether the guard checks the addresses.
    """

    pool: ConnectionPool
    origin: tuple[str, str, int]
    server_name: str
    proxy: str = field(repr=False)
    guarded: bool


class _Host(Struct, eq=False):
    """The connections to one host, of the tenant that connected to it first."""

    session: aiohttp.ClientSession
    connector: aiohttp.TCPConnector
    tenant: str
    users: int = 0
    template: aiohttp.ClientRequest | None = None
    """What identifies its connections; see `exchange`."""
    tls: object = None
    """The TLS context of `template`."""

    def send(
        self,
        method: str,
        url: URL,
        *,
        server_hostname: str | None,
        is_proxied: bool,
        options: Mapping[str, Any],
    ) -> AbstractAsyncContextManager[HttpResponse]:
        """Send a request: a GET without further options needs no client session."""
        if method != "GET" or is_proxied or not _is_lean(options):
            return self.session.request(
                method, url, allow_redirects=False, server_hostname=server_hostname, **options
            )
        tls = options.get("ssl")
        if self.template is None or self.tls is not tls:
            self.template = new_template(url, tls=tls, server_hostname=server_hostname)
            self.tls = tls
        return exchange(
            self.connector,
            self.template,
            url,
            headers=options.get("headers") or {},
            timeout=options["timeout"],
        )


class Connections:
    """The connections of one client, in several pools.

    Args:
        settings: settings of the connections.
        guard: refuses connections to some addresses for guarded requests; None for none.

    Attributes:
        resolver: resolves host names.
    """

    def __init__(self, settings: HttpsSettings, guard: AddressGuard | None) -> None:
        self.settings = settings
        self.guard = guard
        self.resolver = TenantResolver()
        self._hosts: dict[_HostKey, _Host] = {}  # least recently used first
        self._closing: set[asyncio.Task[None]] = set()

    def host(self, key: _HostKey) -> _Host:
        """Return the connections to a host, opened on first use."""
        host = self._hosts.pop(key, None)
        if host is None:
            connector = self.settings.connector(
                resolver=self.resolver, guard=self.guard if key.guarded else None
            )
            # By default aiohttp reads the environment and ~/.netrc for each request, in a thread.
            session = aiohttp.ClientSession(
                connector=connector, proxy=key.proxy or None, cookie_jar=aiohttp.DummyCookieJar()
            )
            host = _Host(session, connector, current_tenant())
        self._hosts[key] = host
        return host

    def evict(self, tenant: str) -> None:
        """Close the least recently used idle connections beyond the limits.

        Args:
            tenant: the tenant whose request has ended.
        """
        if len(self._hosts) <= MAX_HOSTS_OF_TENANT:
            return
        own = [key for key, host in self._hosts.items() if host.tenant == tenant and not host.users]
        excess = own[: max(0, len(own) - MAX_HOSTS_OF_TENANT)]
        self._close(excess)
        idle = [key for key, host in self._hosts.items() if not host.users]
        self._close(idle[: max(0, len(idle) - MAX_HOSTS)])

    async def close_pool(self, pool: ConnectionPool) -> None:
        """Close the connections of one pool."""
        for key in [key for key in self._hosts if key.pool is pool]:
            await self._hosts.pop(key).session.close()

    async def close(self) -> None:
        """Close all connections."""
        while self._hosts:
            _, host = self._hosts.popitem()
            await host.session.close()
        await asyncio.gather(*self._closing)

    def _close(self, keys: list[_HostKey]) -> None:
        for key in keys:
            task = asyncio.create_task(self._hosts.pop(key).session.close(), name="close host")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class ConnectionPool:
    """Connections that share a TLS context.

    Args:
        connections: all connections of the client.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: URL,
        *,
        proxied: bool = True,
        guarded: bool = False,
        proxy: str = "",
        server_hostname: str | None = None,
        **options: Any,
    ) -> AsyncIterator[HttpResponse]:
        """Send a request without following redirects; yield the response.

        Args:
            method: HTTP method.
            url: absolute, encoded.
            proxied: whether the proxies of the environment apply. Link-local services such as IMDS
                are never behind one.
            guarded: whether a SecretProviderClass names the host, so that the guard applies. A
                proxy resolves the name itself; then only the name is checked.
            proxy: URL of the proxy to use instead of those of the environment; "" for none.
            server_hostname: TLS server name if it is not the host; None for the host.
            **options: further options of aiohttp.

        Raises:
            ForbiddenAddressError: the guard refuses the host.
            PlatformError: the connection pool cannot be made.
            aiohttp.ClientError, TimeoutError, OSError: no response arrived.
        """
        connections = self._connections
        if guarded and connections.guard is not None:
            connections.guard.check_host(url.raw_host or "")
        if proxied and not proxy:
            proxy = connections.settings.proxies.proxy_for(url.scheme, url.host or "")
        host = connections.host(
            _HostKey(
                self,
                (url.scheme, url.raw_host or "", url.port or 0),
                server_hostname or "",
                proxy,
                guarded and not proxy,
            )
        )
        host.users += 1
        try:
            async with host.send(
                method,
                url,
                server_hostname=server_hostname,
                is_proxied=bool(proxy),
                options=options,
            ) as response:
                yield response
        finally:
            host.users -= 1
            connections.evict(current_tenant())

    async def inspect(
        self,
        url: URL,
        *,
        name: str,
        proxied: bool = True,
        guarded: bool = False,
        proxy: str = "",
        server_hostname: str | None = None,
        tls: ssl.SSLContext | None = None,
        resolves: bool = True,
    ) -> Inspection:
        """Open a connection as `request` does, and return what there is to see.

        Args:
            url: as for `request`.
            name: the host in messages.
            proxied: as for `request`.
            guarded: as for `request`.
            proxy: as for `request`.
            server_hostname: as for `request`.
            tls: verifies the server; None for the context of the pool.
            resolves: whether the host is looked up. An emulator answers for hosts without
                addresses.

        Raises:
            ForbiddenAddressError: the guard refuses the host.
        """
        connections = self._connections
        if guarded and connections.guard is not None:
            connections.guard.check_host(url.raw_host or "")
        if proxied and not proxy:
            proxy = connections.settings.proxies.proxy_for(url.scheme, url.host or "")
        key = _HostKey(
            self,
            (url.scheme, url.raw_host or "", url.port or 0),
            server_hostname or "",
            proxy,
            guarded and not proxy,
        )
        host = connections.host(key)
        host.users += 1
        try:
            return await inspect(
                InspectionTarget(
                    url,
                    name=name,
                    proxy=URL(proxy) if proxy else None,
                    server_hostname=server_hostname,
                    tls=tls,
                    seconds=connections.settings.connect_timeout,
                ),
                host.session,
                connections.resolver if resolves else None,
            )
        finally:
            host.users -= 1

    async def close(self) -> None:
        """Close every connection of this pool."""
        await self._connections.close_pool(self)


_LEAN_OPTIONS = frozenset({"headers", "timeout", "ssl", "data", "skip_auto_headers"})


def _is_lean(options: Mapping[str, Any]) -> bool:
    """Return whether a GET request with these options of aiohttp needs no client session."""
    return (
        options.keys() <= _LEAN_OPTIONS
        and options.get("data") is None
        and "timeout" in options
        and is_plain(options.get("headers") or {})
    )
