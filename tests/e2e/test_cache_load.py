"""Vault requests of a full node: one per distinct object and identity.

The tests assert the numbers of requests. They only print the times, which depend on the machine.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from urllib.request import urlopen

import pytest

from tests.e2e.node import MACHINE, Driver, Node, Volume

RTT_SECONDS = 0.02
PODS = 110
OBJECTS = 10
IDENTITIES = 10
INTERVAL_SECONDS = 3

Show = Callable[[str], None]


def identity(number: int) -> str:
    """Return the client id of a managed identity of the node."""
    return f"77777777-0000-4000-8000-{number:012}"


def prepare(node: Node, objects: int, identities: int) -> None:
    """Create secrets and a SecretProviderClass per identity, with the latency of a remote vault."""
    names = [f"object-{number}" for number in range(objects)]
    for name in names:
        node.vault.set_secret("contoso", name, name)
    node.vault.grant("contoso", MACHINE)
    for number in range(identities):
        node.vault.add_managed_identity(identity(number))
        node.vault.grant("contoso", identity(number))
        signs_in = {"useVMManagedIdentity": "true", "userAssignedIdentityID": identity(number)}
        node.write_class(f"class-{number}", {name: name for name in names}, sign_in=signs_in)
    node.vault.tune(latency_seconds=RTT_SECONDS)


async def secret_calls(node: Node) -> int:
    """Return the number of requests for secrets that the vault has answered."""
    address, port = node.vault.redirect.http

    def read() -> Mapping[str, int]:
        with urlopen(f"http://{address}:{port}/devvault/requests") as response:
            counts: dict[str, int] = json.load(response)
            return counts

    counts = await asyncio.to_thread(read)
    return sum(count for what, count in counts.items() if what.endswith(" secret"))


async def publish(driver: Driver, volumes: Sequence[Volume]) -> str:
    """Publish all volumes at once; return the figures."""

    async def one(volume: Volume) -> float:
        start = time.monotonic()
        await driver.publish(volume)
        return time.monotonic() - start

    start = time.monotonic()
    seconds = await asyncio.gather(*map(one, volumes))
    total = time.monotonic() - start
    centiles = quantiles(seconds, n=100)
    shown = f"p50 {centiles[49] * 1e3:.1f} ms, p95 {centiles[94] * 1e3:.1f} ms"
    return f"{len(volumes)} volumes in {total * 1e3:.0f} ms, {shown}"


async def test_fifty_concurrent_publishes_of_one_identity_request_each_object_once(
    node: Node, show: Show
) -> None:
    """Twenty requests instead of a thousand."""
    prepare(node, 20, 1)
    driver = await node.start_driver()
    volumes = [node.volume("class-0", pod=f"web-{number}") for number in range(50)]
    show(f"50 x 20 of one identity: {await publish(driver, volumes)}")
    assert 20 == await secret_calls(node)
    assert {20} == {len(volume.files()) for volume in volumes}


@pytest.mark.timeout(300)
async def test_a_cold_node_requests_each_object_once_per_identity(node: Node, show: Show) -> None:
    """Once at the start, and once more in each refresh slot; an identity has one per interval."""
    prepare(node, OBJECTS, IDENTITIES)
    pairs = OBJECTS * IDENTITIES
    driver = await node.start_driver(
        "--enable-secret-rotation", f"--rotation-poll-interval={INTERVAL_SECONDS}s"
    )
    volumes = [
        node.volume(f"class-{number % IDENTITIES}", pod=f"web-{number}") for number in range(PODS)
    ]
    start = time.monotonic()
    show(f"cold node: {await publish(driver, volumes)}, RTT {RTT_SECONDS * 1e3:.0f} ms")
    assert pairs <= await secret_calls(node) <= pairs * (2 + refresh_slots_since(start))
    await asyncio.sleep(INTERVAL_SECONDS + 0.5)
    show(f"refresh: {await publish(driver, volumes)}")
    assert 2 * pairs <= await secret_calls(node) <= pairs * (2 + refresh_slots_since(start))


def refresh_slots_since(start: float) -> int:
    """Return the refresh slots of each identity since `start`; there may be one more."""
    return int((time.monotonic() - start) // INTERVAL_SECONDS)


async def test_a_mount_of_cached_objects_sends_no_request(node: Node, show: Show) -> None:
    """The latency of the vault does not matter."""
    prepare(node, OBJECTS, 1)
    driver = await node.start_driver("--cache-ttl=10m")
    await driver.publish(node.volume("class-0"))
    node.vault.tune(latency_seconds=60.0)
    seconds = []
    for number in range(100):
        volume = node.volume("class-0", pod=f"web-{number}")
        start = time.monotonic()
        await driver.publish(volume)
        seconds.append(time.monotonic() - start)
    show(f"sequential mounts of {OBJECTS} cached objects: p50 {median(seconds) * 1e3:.2f} ms")
    assert OBJECTS == await secret_calls(node)


@pytest.mark.parametrize("objects", [1, 5, 20, 50])
async def test_a_first_mount_takes_one_round_trip(node: Node, show: Show, objects: int) -> None:
    """All objects are requested concurrently; token and connections are reused."""
    prepare(node, objects, 1)
    driver = await node.start_driver("--cache-ttl=0s")
    await driver.publish(node.volume("class-0"))
    seconds = []
    for number in range(20):
        volume = node.volume("class-0", pod=f"web-{number}")
        start = time.monotonic()
        await driver.publish(volume)
        seconds.append(time.monotonic() - start)
    budget = 1.3 * RTT_SECONDS + 0.005
    shown = f"p50 {median(seconds) * 1e3:.1f} ms (budget {budget * 1e3:.0f})"
    show(f"first mount of {objects} objects: {shown}")
    assert 21 * objects == await secret_calls(node)
