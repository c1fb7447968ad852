"""Idle connections are limited, and a tenant gives up its own first."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from keyferry.aio.tenant import working_for
from keyferry.net.address_guard import AddressGuard
from keyferry.net.connection_pool import MAX_HOSTS, MAX_HOSTS_OF_TENANT
from keyferry.net.connector import new_connector
from keyferry.net.exchange import read_body
from keyferry.net.http_client import HttpsClient, HttpsSettings
from tests.integration.https.serving import ok, serving


class _EveryNameIsLocal(AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


def _connector(
    *, resolver: AbstractResolver | None = None, guard: AddressGuard | None = None
) -> Any:
    return new_connector(resolver=_EveryNameIsLocal(), guard=guard)


async def _get(https: HttpsClient, url: URL, host: str, tenant: str) -> None:
    with working_for(tenant):
        async with https.pool.request("GET", url.with_host(host)) as response:
            assert 200 == response.status


async def test_many_hosts_of_a_tenant_close_only_its_own_connections() -> None:
    async with serving(ok) as server:
        https = HttpsClient(HttpsSettings(connector=_connector))
        connections: Any = https._connections
        await _get(https, server.url, "vault.test", "shop")
        (victim,) = connections._hosts.values()
        for number in range(3 * MAX_HOSTS_OF_TENANT):
            await _get(https, server.url, f"{number}.test", "evil")
        assert MAX_HOSTS_OF_TENANT + 1 == len(connections._hosts)
        await _get(https, server.url, "vault.test", "shop")
        assert victim in connections._hosts.values()
        await https.close()


async def test_hosts_of_all_tenants_are_limited() -> None:
    async with serving(ok) as server:
        https = HttpsClient(HttpsSettings(connector=_connector))
        connections: Any = https._connections
        for number in range(MAX_HOSTS + 20):
            await _get(https, server.url, f"{number}.test", f"tenant-{number}")
        assert MAX_HOSTS == len(connections._hosts)
        await https.close()


async def test_connection_in_use_is_never_closed() -> None:
    """However many hosts come after it."""
    async with serving(ok) as server:
        https = HttpsClient(HttpsSettings(connector=_connector))
        with working_for("evil"):
            async with https.pool.request("GET", server.url.with_host("first.test")) as response:
                await asyncio.gather(
                    *(
                        _get(https, server.url, f"{number}.test", "evil")
                        for number in range(2 * MAX_HOSTS_OF_TENANT)
                    )
                )
                assert await read_body(response, max_bytes=1 << 20) is not None
        await https.close()
