"""Metrics of a real driver for the cache, the rate limiter and the circuit breaker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.node import MACHINE, Driver, Node
from tests.fakes.devvault import CloseMidResponse

VAULT = "contoso.vault.azure.net"
NAMES = [f"object-{number}" for number in range(5)]
PATIENCE_SECONDS = 60


class Page:
    """The `/metrics` page of a driver."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def get(self, name: str, **labels: str) -> float | None:
        """Return the value of one series, or None if it does not exist."""

        def read() -> str:
            with urlopen(f"http://{self._driver.metrics}/metrics") as response:
                text: str = response.read().decode()
                return text

        for family in text_string_to_metric_families(await asyncio.to_thread(read)):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None

    async def object_requests(self, result: str) -> float:
        """Return the number of object requests with this result."""
        labels = {"vault": VAULT, "identity": "VmManagedIdentity", "result": result}
        return await self.get("keyferry_object_requests_total", **labels) or 0.0

    async def requests(self, outcome: str) -> float:
        """Return the number of requests to the vault with this outcome."""
        labels = {"vault": VAULT, "identity": "VmManagedIdentity", "outcome": outcome}
        return await self.get("keyferry_vault_requests_total", **labels) or 0.0

    async def becomes(self, fits: Callable[[float | None], bool], name: str, **labels: str) -> None:
        """Wait until the value of a series satisfies `fits`."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not fits(await self.get(name, **labels)):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.1)


def prepare(node: Node) -> None:
    """Create a vault that the node may read, and a SecretProviderClass with five objects."""
    for name in NAMES:
        node.vault.set_secret("contoso", name, name)
    node.vault.grant("contoso", MACHINE, "get", "list")
    node.write_class("app", {name: name for name in NAMES})


async def test_cache_metrics_count_misses_hits_and_negative_hits(node: Node) -> None:
    """Two pods at once, one later, one that fails; after the last unpublish the cache is empty."""
    prepare(node)
    node.write_class("bad", {NAMES[0]: "good", "missing": "bad"})
    flags = ("--enable-secret-rotation", "--rotation-poll-interval=1h", "--cache-ttl=15s")
    page = Page(driver := await node.start_driver(*flags))
    assert (0.0, None) == (
        await page.get("keyferry_cache_bytes"),
        await page.get("keyferry_oldest_content_age_seconds"),
    )
    volumes = [node.volume("app", pod=f"web-{number}") for number in range(3)]
    await asyncio.gather(*map(driver.publish, volumes[:2]))
    assert 5.0 == await page.object_requests("coalesced") + await page.object_requests("hit")
    await driver.publish(volumes[2])
    assert (5.0, 10.0) == (
        await page.object_requests("miss"),
        await page.object_requests("coalesced") + await page.object_requests("hit"),
    )
    assert 5.0 == await page.requests("answered")
    await page.becomes(lambda age: (age or 0.0) > 1.0, "keyferry_oldest_content_age_seconds")
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError, match="missing"):
            await driver.publish(node.volume("bad", pod="bad"))
    assert 1.0 == await page.object_requests("negative_hit")
    for volume in volumes:
        await driver.unpublish(volume)
    # The failed pods do not count either.
    assert await page.get("keyferry_oldest_content_age_seconds") is None
    await page.becomes(lambda cached: cached == 0.0, "keyferry_cache_bytes")
    await driver.stop()


async def test_rate_limit_metrics_show_throttling_and_recovery(node: Node) -> None:
    """Queue depth, backoff and tokens change while the vault throttles, and recover."""
    prepare(node)
    page = Page(driver := await node.start_driver("--cache-ttl=0s"))
    await driver.publish(node.volume("app", pod="first"))
    assert 1400 < (await page.get("keyferry_vault_rate_limit_tokens", vault=VAULT) or 0.0) <= 1500
    node.vault.tune(throttle_per_second=1, retry_after_seconds=10)
    waiting = asyncio.create_task(driver.publish(node.volume("app", pod="second")))
    await page.becomes(
        lambda paused: 0 < (paused or 0) <= 10, "keyferry_vault_backoff_seconds", vault=VAULT
    )
    name = "keyferry_vault_queue_depth"
    await page.becomes(lambda depth: (depth or 0) >= 1, name, vault=VAULT)
    assert (await page.get("keyferry_vault_rate_limit_tokens", vault=VAULT) or 0.0) <= 1.0
    assert 1 <= await page.requests("throttled")
    node.vault.tune()
    await waiting
    await page.becomes(lambda paused: paused == 0, "keyferry_vault_backoff_seconds", vault=VAULT)
    assert 0.0 == await page.get("keyferry_vault_queue_depth", vault=VAULT)
    assert (10.0, 0.0) == (await page.requests("answered"), await page.requests("failed"))
    await driver.stop()


async def test_circuit_breaker_metric_and_stale_objects_during_an_outage(node: Node) -> None:
    """Pods of the same identity start with stale objects; other identities fail meanwhile."""
    prepare(node)
    flags = ("--enable-secret-rotation", "--rotation-poll-interval=1h", "--cache-ttl=1s")
    page = Page(driver := await node.start_driver(*flags))
    running = node.volume("app", pod="running")
    await driver.publish(running)
    await page.becomes(lambda age: (age or 0.0) > 1.0, "keyferry_oldest_content_age_seconds")
    node.vault.add_fault(VAULT, CloseMidResponse(), times=None)
    new = node.volume("app", pod="new")
    await driver.publish(new)
    assert running.files() == new.files()
    assert 5.0 == await page.object_requests("stale")
    while (await page.get("keyferry_vault_circuit_breaker_open", vault=VAULT)) != 1.0:
        await driver.publish(node.volume("app", pod="new"))
    assert 5 <= await page.requests("failed")
    node.vault.clear_faults()
    node.write_class("other", {NAMES[0]: "other"}, sign_in={"useVMManagedIdentity": "true"})
    node.vault.add_managed_identity("88888888-0000-4000-8000-000000000001", system_assigned=True)
    node.vault.grant("contoso", "88888888-0000-4000-8000-000000000001")
    other = node.volume("other", pod="other")
    errors: set[str] = set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not other.path.is_dir():
            try:
                await driver.publish(other)
            except grpc.aio.AioRpcError as error:
                errors.add(error.details() or "")
                await asyncio.sleep(0.5)
    assert all("its circuit breaker is open" in text for text in errors)
    assert 0.0 == await page.get("keyferry_vault_circuit_breaker_open", vault=VAULT)
    await driver.stop()
