"""Many volumes at once, with readers that run continuously during rotations."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from urllib.request import urlopen

import pytest

from tests.e2e.node import MACHINE, Driver, Files, Node, Volume

VOLUMES = 50
OBJECTS = 20
READERS = 4
ROTATIONS = 5
LATENCY_SECONDS = 0.02
NAMES = [f"object-{number:02}" for number in range(OBJECTS)]


@dataclass
class Readings:
    """The results of one reader.

    Attributes:
        whole: number of file sets that were read completely.
        overtaken: number of file sets that were replaced and removed during the read.
        torn: descriptions of file sets that mixed versions or lacked files.
        versions: all versions that the reader saw.
    """

    whole: int = 0
    overtaken: int = 0
    torn: tuple[str, ...] = ()
    versions: frozenset[str] = frozenset()


@pytest.mark.timeout(300)
async def test_fifty_concurrent_publishes_and_rotations_are_atomic_for_readers(
    node: Node, show: Callable[[str], None]
) -> None:
    """Every volume has the content of the vault, and no reader sees two versions in one set."""
    node.vault.tune(latency_seconds=LATENCY_SECONDS)
    rotate(node, "version-0")
    node.vault.grant("contoso", MACHINE)
    node.write_class("load", {name: f"folder/{name}" for name in NAMES})
    # Only publishes refresh: during a rotation the vault contains two versions.
    driver = await node.start_driver("--enable-secret-rotation", "--rotation-poll-interval=0")
    volumes = [node.volume("load", pod=f"web-{number}") for number in range(VOLUMES)]

    show(f"first mount: {await timed_publishes(node, driver, volumes)}")
    assert [expected("version-0")] * VOLUMES == [volume.files() for volume in volumes]

    with reading(volumes) as readings:
        for number in range(1, ROTATIONS + 1):
            rotate(node, f"version-{number}")
            show(f"refresh {number}: {await timed_publishes(node, driver, volumes)}")
            assert [expected(f"version-{number}")] * VOLUMES == [v.files() for v in volumes]
    show(
        f"readers: {sum(r.whole for r in readings)} complete sets of {OBJECTS} files,"
        f" {sum(r.overtaken for r in readings)} replaced during the read"
    )
    assert [()] * READERS == [reader.torn for reader in readings]
    seen = frozenset[str]().union(*(reader.versions for reader in readings))
    assert seen <= {f"version-{number}" for number in range(ROTATIONS + 1)}
    assert len(seen) > 1  # the readers did run during the rotations

    await asyncio.gather(*(driver.unpublish(volume) for volume in volumes))
    assert [[]] * VOLUMES == [node.left_overs(volume) for volume in volumes]
    await driver.stop()


def rotate(node: Node, version: str) -> None:
    """Set the value of every secret to `version`."""
    for name in NAMES:
        node.vault.set_secret("contoso", name, version)


def expected(version: str) -> Files:
    """Return the files of a volume at `version`."""
    return {f"folder/{name}": (0o644, version.encode()) for name in NAMES}


async def timed_publishes(node: Node, driver: Driver, volumes: Sequence[Volume]) -> str:
    """Publish all volumes at once; return the figures."""
    calls = await asyncio.to_thread(vault_calls, node)
    start = time.monotonic()
    seconds = await asyncio.gather(*(timed_publish(driver, volume) for volume in volumes))
    total = time.monotonic() - start
    calls = await asyncio.to_thread(vault_calls, node) - calls
    centiles = quantiles(seconds, n=100)
    return (
        f"{len(volumes)} volumes of {OBJECTS} objects in {total * 1000:.0f} ms,"
        f" p50 {centiles[49] * 1000:.0f} ms, p95 {centiles[94] * 1000:.0f} ms,"
        f" {calls} requests at {LATENCY_SECONDS * 1000:.0f} ms"
    )


async def timed_publish(driver: Driver, volume: Volume) -> float:
    """Publish a volume; return the seconds that it took."""
    start = time.monotonic()
    await driver.publish(volume)
    return time.monotonic() - start


def vault_calls(node: Node) -> int:
    """Return the number of requests to the development vault, including token requests."""
    address, port = node.vault.redirect.http
    with urlopen(f"http://{address}:{port}/devvault/requests") as response:
        counts: dict[str, int] = json.load(response)
    return sum(counts.values())


@contextmanager
def reading(volumes: Sequence[Volume]) -> Iterator[list[Readings]]:
    """Run readers that read all volumes in turn while the block runs."""
    stop = threading.Event()
    readings = [Readings() for _ in range(READERS)]
    threads = [
        threading.Thread(target=read_on, args=(volumes[number:], reader, stop))
        for number, reader in enumerate(readings)
    ]
    for thread in threads:
        thread.start()
    try:
        yield readings
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def read_on(volumes: Sequence[Volume], readings: Readings, stop: threading.Event) -> None:
    """Read the volumes in turn until `stop` is set."""
    while not stop.is_set():
        for volume in volumes:
            read_set(volume.path, readings)


def read_set(root: Path, readings: Readings) -> None:
    """Read all files of a volume as a careful application does: resolve `..data` once."""
    folder = os.open(root / "..data" / "folder", os.O_RDONLY | os.O_DIRECTORY)
    try:
        contents = [read_file(name, folder) for name in NAMES]
    except FileNotFoundError:
        # A set is complete when it is opened, and is removed once a newer one has replaced it.
        if (root / "..data" / "folder").stat().st_ino == os.fstat(folder).st_ino:
            readings.torn += (f"{root}: a file is missing",)
        readings.overtaken += 1
        return
    finally:
        os.close(folder)
    readings.whole += 1
    readings.versions |= set(contents)
    if len(set(contents)) != 1:
        readings.torn += (f"{root}: {sorted(set(contents))}",)


def read_file(name: str, folder: int) -> str:
    """Return the content of a file in an open folder."""
    descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    with os.fdopen(descriptor) as stream:
        return stream.read()
