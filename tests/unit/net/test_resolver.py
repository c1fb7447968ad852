"""DNS lookups: a slow name server delays only the tenant that asks it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp.abc import ResolveResult

from keyferry.aio.tenant import working_for
from keyferry.net.resolver import CACHE_SECONDS, MAX_LOOKUPS_PER_TENANT, TenantResolver


class _Names:
    """Names below `slow.test` are resolved when the test permits it."""

    def __init__(self) -> None:
        self.lookups: list[str] = []
        self.now = 0.0
        self._permitted = threading.Event()

    def look_up(self, host: str, port: int, family: int) -> list[ResolveResult]:
        self.lookups.append(host)
        if host.endswith("slow.test"):
            self._permitted.wait()
        if host == "missing.test":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            ResolveResult(
                hostname=host, host="192.0.2.1", port=port, family=family, proto=0, flags=0
            )
        ]

    @contextmanager
    def resolver(self) -> Iterator[TenantResolver]:
        try:
            yield TenantResolver(self.look_up, monotonic=lambda: self.now)
        finally:
            self._permitted.set()


async def test_addresses_are_cached_for_a_short_time() -> None:
    """Concurrent callers of a tenant share one lookup."""
    names = _Names()
    with names.resolver() as resolver:
        found = await asyncio.gather(*(resolver.resolve("vault.test", 443) for _ in range(5)))
        assert ["192.0.2.1"] * 5 == [each[0]["host"] for each in found]
        names.now = CACHE_SECONDS - 0.1
        await resolver.resolve("vault.test", 443)
        assert ["vault.test"] == names.lookups
        names.now = CACHE_SECONDS
        await resolver.resolve("vault.test", 443)
        assert ["vault.test"] * 2 == names.lookups


async def test_missing_name_is_an_error_each_time() -> None:
    names = _Names()
    with names.resolver() as resolver:
        for _ in range(2):
            with pytest.raises(socket.gaierror):
                await resolver.resolve("missing.test", 443)


async def test_slow_lookups_of_one_tenant_do_not_delay_another_one() -> None:
    """Not even for a name that both ask for, after the lookups of the first one."""
    names = _Names()
    with names.resolver() as resolver:
        with working_for("evil"):
            slow = [
                asyncio.create_task(resolver.resolve(f"{number}.slow.test", 443))
                for number in range(50)
            ]
            shared = asyncio.create_task(resolver.resolve("vault.test", 443))
        await asyncio.sleep(0.01)
        with working_for("shop"):
            assert await resolver.resolve("vault.test", 443)
        assert MAX_LOOKUPS_PER_TENANT == sum(1 for name in names.lookups if "slow" in name)
        assert not any(task.done() for task in (*slow, shared))
    await asyncio.gather(*slow, shared)


async def test_names_of_this_machine_are_resolved() -> None:
    """With the system's resolver."""
    (first, *_) = await TenantResolver().resolve("localhost", 443)
    assert first["host"] in ("127.0.0.1", "::1")
    assert 443 == first["port"]
