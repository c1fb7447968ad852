"""A whole node against its vault: as many calls as there are distinct objects and identities.

The counts are held; the times are shown, because a busy machine is no defect.
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
    """The client id of a managed identity of this machine."""
    return f"77777777-0000-4000-8000-{number:012}"


def prepare(node: Node, objects: int, identities: int) -> None:
    """Secrets, a class for each identity, and a vault with the latency of a cloud."""
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
    """How often the vault was asked for a secret."""
    address, port = node.vault.redirect.http

    def read() -> Mapping[str, int]:
        with urlopen(f"http://{address}:{port}/devvault/requests") as answer:
            counts: dict[str, int] = json.load(answer)
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


async def test_fifty_publishes_of_one_identity_ask_once_for_each_object(
    node: Node, show: Show
) -> None:
    """Twenty calls, not a thousand."""
    prepare(node, 20, 1)
    driver = await node.start_driver()
    volumes = [node.volume("class-0", pod=f"web-{number}") for number in range(50)]
    show(f"50 x 20 of one identity: {await publish(driver, volumes)}")
    assert 20 == await secret_calls(node)
    assert {20} == {len(volume.files()) for volume in volumes}


@pytest.mark.timeout(300)
async def test_cold_node_requests_each_object_once_per_identity(node: Node, show: Show) -> None:
    """At the start, and once per interval for each identity."""
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
    assert pairs <= await secret_calls(node) <= pairs * (2 + refreshes_since(start))
    await asyncio.sleep(INTERVAL_SECONDS + 0.5)
    show(f"refresh: {await publish(driver, volumes)}")
    assert 2 * pairs <= await secret_calls(node) <= pairs * (2 + refreshes_since(start))


def refreshes_since(start: float) -> int:
    """Return the completed refresh intervals since `start`."""
    return int((time.monotonic() - start) // INTERVAL_SECONDS)


async def test_mount_of_cached_objects_sends_no_request(node: Node, show: Show) -> None:
    """Even if the vault is slow."""
    prepare(node, OBJECTS, 1)
    driver = await node.start_driver()
    await driver.publish(node.volume("class-0"))
    node.vault.tune(latency_seconds=60.0)
    seconds = []
    for number in range(100):
        volume = node.volume("class-0", pod=f"web-{number}")
        start = time.monotonic()
        await driver.publish(volume)
        seconds.append(time.monotonic() - start)
    show(f"one after the other, {OBJECTS} cached objects: p50 {median(seconds) * 1e3:.2f} ms")
    assert OBJECTS == await secret_calls(node)


@pytest.mark.parametrize("objects", [1, 5, 20, 50])
async def test_a_first_mount_takes_one_round_trip(node: Node, show: Show, objects: int) -> None:
    """All objects at once; the token and the connections are there."""
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
