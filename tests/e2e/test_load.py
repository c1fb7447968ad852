"""Many volumes at once, readers that never pause, and a rotation under their eyes."""

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
    """What the readers saw.

    Attributes:
        whole: sets of files that were read from the first file to the last.
        overtaken: sets that were replaced while they were read, so that a file was removed.
        torn: descriptions of sets that mixed versions or lacked files.
        versions: all versions that were seen.
    """

    whole: int = 0
    overtaken: int = 0
    torn: tuple[str, ...] = ()
    versions: frozenset[str] = frozenset()


@pytest.mark.timeout(300)
async def test_fifty_publishes_at_once_and_a_rotation_under_readers_are_all_right(
    node: Node, show: Callable[[str], None]
) -> None:
    """Every volume holds what the vault holds, and no reader ever sees two versions together."""
    node.vault.tune(latency_seconds=LATENCY_SECONDS)
    rotate(node, "version-0")
    node.vault.grant("contoso", MACHINE)
    node.write_class("load", {name: f"folder/{name}" for name in NAMES})
    # Each publish refreshes, and nothing else does: the vault is not whole while it is rotated.
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
        f"readers: {sum(r.whole for r in readings)} whole sets of {OBJECTS} files,"
        f" {sum(r.overtaken for r in readings)} overtaken"
    )
    assert [()] * READERS == [reader.torn for reader in readings]
    seen = frozenset[str]().union(*(reader.versions for reader in readings))
    assert seen <= {f"version-{number}" for number in range(ROTATIONS + 1)}
    assert len(seen) > 1  # they did read while the content changed

    await asyncio.gather(*(driver.unpublish(volume) for volume in volumes))
    assert [[]] * VOLUMES == [node.left_overs(volume) for volume in volumes]
    await driver.stop()


def rotate(node: Node, version: str) -> None:
    """Give every secret that version."""
    for name in NAMES:
        node.vault.set_secret("contoso", name, version)


def expected(version: str) -> Files:
    """The files of a volume that holds `version`."""
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
    """The seconds of one publish."""
    start = time.monotonic()
    await driver.publish(volume)
    return time.monotonic() - start


def vault_calls(node: Node) -> int:
    """How many requests the development vault has answered, token endpoints included."""
    address, port = node.vault.redirect.http
    with urlopen(f"http://{address}:{port}/devvault/requests") as answer:
        counts: dict[str, int] = json.load(answer)
    return sum(counts.values())


@contextmanager
def reading(volumes: Sequence[Volume]) -> Iterator[list[Readings]]:
    """Readers that read all volumes in turn while the block runs."""
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
    """Read one volume after the other until it is time to stop."""
    while not stop.is_set():
        for volume in volumes:
            read_set(volume.path, readings)


def read_set(root: Path, readings: Readings) -> None:
    """Read all files of a volume as a careful application does: `..data` is resolved once."""
    folder = os.open(root / "..data" / "folder", os.O_RDONLY | os.O_DIRECTORY)
    try:
        contents = [read_file(name, folder) for name in NAMES]
    except FileNotFoundError:
        # The set was complete when it was opened, and is removed once a newer one replaces it.
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
    """The content of a file in an open folder."""
    descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    with os.fdopen(descriptor) as stream:
        return stream.read()
