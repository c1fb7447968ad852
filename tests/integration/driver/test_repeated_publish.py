"""Repeated publishes of kubelet: one with nothing to do is cheap, and the rest is noticed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry.driver.volumes.mounter import TmpfsMounter
from keyferry.driver.volumes.operations import THREADS
from keyferry.driver.volumes.state import VolumeState
from tests.fakes.driver import Driver, running_driver
from tests.fakes.mounts import mount_tmpfs, unmount_below
from tests.fakes.provider import ScriptedProvider
from tests.fakes.volume import read_through_links

pytestmark = pytest.mark.mounts

INTERVAL = 120.0
TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"
CONTENT = {"a": b"1"}


class CountingMounter(TmpfsMounter):
    """Counts inspections, and waits before each one for `may`."""

    def __init__(self) -> None:
        super().__init__()
        self.inspections = 0
        self.may = threading.Event()
        self.may.set()

    def inspect(self, target: Path) -> VolumeState:
        self.inspections += 1
        assert self.may.wait(60)
        return super().inspect(target)


@pytest.fixture
def mounter() -> CountingMounter:
    return CountingMounter()


@pytest.fixture
async def quiet(
    mount_home: Path, provider: ScriptedProvider, mounter: CountingMounter
) -> AsyncIterator[Driver]:
    """A driver with a volume that kubelet has published twice, so that the driver knows it."""
    async with running_driver(
        mount_home,
        built_in={"scripted": provider},
        rotation_interval=INTERVAL,
        mounter=mounter,
    ) as driver:
        driver.write_class("web")
        for _ in range(2):
            await driver.publish("web")
        yield driver
        mounter.may.set()


async def test_publish_with_nothing_to_do_waits_for_no_thread(
    quiet: Driver, mounter: CountingMounter, provider: ScriptedProvider
) -> None:
    """It succeeds while all threads of volumes are busy, and inspects nothing."""
    mounter.may.clear()
    busy = mounter.inspections + THREADS
    others = [
        asyncio.create_task(quiet.publish("web", f"web-{number}"))
        for number in range(1, THREADS + 1)
    ]
    while mounter.inspections < busy:  # noqa: ASYNC110 - a thread sends no notification
        await asyncio.sleep(0.001)
    for _ in range(3):
        await quiet.publish("web")
    assert (busy, 1) == (mounter.inspections, len(provider.calls))
    assert 5.0 == sum(quiet.metric_values("node_publish_total").values())
    mounter.may.set()
    await asyncio.gather(*others)


async def test_volume_that_somebody_unmounted_is_mounted_again(quiet: Driver) -> None:
    unmount_below(quiet.home)
    target = await quiet.publish("web")
    assert target.is_mount()
    assert CONTENT == read_through_links(target)


async def test_volume_that_somebody_removed_is_mounted_again(quiet: Driver) -> None:
    unmount_below(quiet.home)
    quiet.target().rmdir()
    assert CONTENT == read_through_links(await quiet.publish("web"))


async def test_mount_over_the_volume_is_filled(quiet: Driver) -> None:
    mount_tmpfs(quiet.target(), TmpfsMounter.source)
    assert CONTENT == read_through_links(await quiet.publish("web"))


async def test_volume_without_its_files_is_filled(quiet: Driver) -> None:
    (quiet.target() / "..data").unlink()
    assert CONTENT == read_through_links(await quiet.publish("web"))


async def test_due_volume_is_refreshed(quiet: Driver, provider: ScriptedProvider) -> None:
    provider.serves({"a": "2"})
    quiet.clock.now += INTERVAL
    assert {"a": b"2"} == read_through_links(await quiet.publish("web"))


async def test_volume_is_known_after_a_refresh_that_changed_it(
    quiet: Driver, provider: ScriptedProvider, mounter: CountingMounter
) -> None:
    """The first publish after the change inspects the volume, later ones do not."""
    provider.serves({"a": "2"})
    quiet.clock.now += INTERVAL
    for _ in range(2):
        await quiet.publish("web")
    before = mounter.inspections
    await quiet.publish("web")
    assert before == mounter.inspections


async def test_refresh_uses_the_tokens_of_the_last_publish(
    quiet: Driver, provider: ScriptedProvider
) -> None:
    """And the Secret of `nodePublishSecretRef`, although both publishes had nothing to do."""
    message = quiet.publish_request("web")
    message.volume_context[TOKENS] = "{}"
    message.secrets["clientid"] = "new"
    await quiet.send_publish(message)
    assert 1 == len(provider.calls)
    await quiet.clock.advance(INTERVAL)
    await provider.wait_for_calls(2)
    call = provider.calls[-1]
    assert ("{}", {"clientid": "new"}) == (call.attributes[TOKENS], call.secrets)


async def test_publish_waits_for_one_that_is_in_flight(
    quiet: Driver, provider: ScriptedProvider
) -> None:
    """It does not report a volume as up to date that is being refreshed."""
    provider.gate.clear()
    quiet.clock.now += INTERVAL
    first = asyncio.create_task(quiet.publish("web"))
    await provider.wait_for_calls(2)
    quiet.clock.now -= INTERVAL
    second = asyncio.create_task(quiet.publish("web"))
    done, _ = await asyncio.wait([second], timeout=0.1)
    assert not done
    provider.gate.set()
    await asyncio.gather(first, second)


async def test_unpublished_volume_is_mounted_by_the_next_publish(quiet: Driver) -> None:
    await quiet.unpublish()
    assert CONTENT == read_through_links(await quiet.publish("web"))
