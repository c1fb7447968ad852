"""Resolves host names on threads of their own, so that slow name servers delay only one tenant."""

from __future__ import annotations

import socket
import time
from functools import partial
from typing import TYPE_CHECKING

from keyferry.aio.http_library import aiohttp
from keyferry.aio.single_flight import SharedCall
from keyferry.aio.tenant import current_tenant
from keyferry.aio.tenant_threads import TenantThreads
from keyferry.formats.bounded_dict import BoundedDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.abc import ResolveResult

MAX_LOOKUPS = 32
MAX_LOOKUPS_PER_TENANT = 4
CACHE_SECONDS = 10.0
_MAX_CACHED_NAMES = 1000
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class TenantResolver(aiohttp.abc.AbstractResolver):
    """Resolves names for the tenant of the current task.

    A tenant has a limited number of lookups at a time, and never waits for a lookup that another
    tenant started. Addresses are cached for a short time.

    Args:
        look_up: resolves a name, blocking; (host, port, family) as `socket.getaddrinfo`.
        monotonic: reads the time in seconds.
    """

    def __init__(
        self,
        look_up: Callable[[str, int, int], list[ResolveResult]] | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up or _look_up
        self._monotonic = monotonic
        self._threads = TenantThreads(
            "dns", max_threads=MAX_LOOKUPS, max_per_tenant=MAX_LOOKUPS_PER_TENANT
        )
        self._cache: BoundedDict[tuple[str, int, int], tuple[float, list[ResolveResult]]] = (
            BoundedDict(_MAX_CACHED_NAMES)
        )
        self._in_flight: dict[tuple[str, str, int, int], SharedCall[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of `host`.

        Raises:
            OSError: it has none.
        """
        name = (host, port, int(family))
        cached = self._cache.get(name)
        if cached is not None and self._monotonic() < cached[0]:
            return list(cached[1])
        key = (current_tenant(), *name)
        call = self._in_flight.get(key)
        if call is None:

            def done() -> None:
                self._in_flight.pop(key, None)

            call = self._in_flight[key] = SharedCall(self._resolve(*key), done)
        return list(await call.wait())

    async def close(self) -> None:
        """Do nothing: a lookup cannot be cancelled, and its thread does not keep the process."""

    async def _resolve(self, tenant: str, host: str, port: int, family: int) -> list[ResolveResult]:
        found = await self._threads.run(tenant, partial(self._look_up, host, port, family))
        self._cache[host, port, family] = (self._monotonic() + CACHE_SECONDS, found)
        return found


def _look_up(host: str, port: int, family: int) -> list[ResolveResult]:
    infos = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
    )
    return [
        aiohttp.abc.ResolveResult(
            hostname=host,
            host=socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0],
            port=port,
            family=found,
            proto=protocol,
            flags=_NUMERIC,
        )
        for found, _, protocol, _, address in infos
    ]
