"""Crash safety: SIGKILL of the driver, at random times and before every single effect.

After a restart, publishing a volume again makes it complete, and unpublishing removes it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.e2e.children import Child
from tests.e2e.node import MACHINE, Driver, Files, Node, Volume
from tests.fakes.mounts import mounted_below

SEED = 20261124
ROUNDS = 20
VOLUMES_IN_FLIGHT = 4
PATHS = {"db-password": "db/password", "db-user": "db/user", "api-key": "key"}
MODES = {"db/password": 0o640, "db/user": 0o644, "key": 0o644}


def set_values(node: Node, text: str) -> None:
    """Give every secret a new version whose value contains `text`."""
    for name in PATHS:
        node.vault.set_secret("contoso", name, f"{name}: {text}")


def expected(text: str) -> Files:
    """Return the files of a volume after `set_values(text)`."""
    return {path: (MODES[path], f"{name}: {text}".encode()) for name, path in PATHS.items()}


def expect_published(node: Node, volume: Volume, text: str) -> None:
    """Assert content, modes, mount, Secret and pod status of an undisturbed publish."""
    assert expected(text) == volume.files()
    assert [str(volume.path)] == mounted_below(volume.path.parent)
    assert {"..data", volume.path.joinpath("..data").readlink().name, "db", "key"} == {
        entry.name for entry in volume.path.iterdir()
    }
    assert {n: f"{n}: {text}".encode() for n in PATHS} == node.secret(volume.class_name)
    assert sorted(f"secret/{name}" for name in PATHS) == node.objects_in_status(volume)


def expect_removed(node: Node, volume: Volume) -> None:
    """Assert that nothing of the volume remains."""
    assert [] == node.left_overs(volume)
    assert None is node.secret(volume.class_name)


def write_classes(node: Node, count: int) -> list[str]:
    """Write SecretProviderClasses with the same files and one Secret each; return their names."""
    set_values(node, "first")
    node.vault.grant("contoso", MACHINE)
    names = [f"app-{number}" for number in range(count)]
    for name in names:
        node.write_class(
            name, PATHS, secret=name, fields={"db-password": {"filePermission": "0640"}}
        )
    return names


@pytest.mark.timeout(900)
async def test_twenty_kills_during_publish_and_unpublish_are_repaired(
    node: Node, show: Callable[[str], None]
) -> None:
    """Volumes in flight are complete after another publish, and removed after an unpublish."""
    rng = random.Random(SEED)
    node.vault.tune(latency_seconds=0.03)
    names = write_classes(node, VOLUMES_IN_FLIGHT)
    spans = await undisturbed_seconds(node, names)
    show(f"seed {SEED}; undisturbed: publish {spans[0]:.3f} s, unpublish {spans[1]:.3f} s")
    for number in range(ROUNDS):
        volumes = [node.volume(name, pod=f"{name}-{number}") for name in names]
        unpublishing = number % 2 == 1
        moment = rng.uniform(0, spans[unpublishing])
        answered = await killed_round(node, volumes, unpublishing=unpublishing, moment=moment)
        what = "unpublish" if unpublishing else "publish"
        show(f"{number:2}: killed {moment * 1000:5.1f} ms into {what}, {answered} answered")
        rng.shuffle(volumes)
        await expect_repair(node, volumes)


async def undisturbed_seconds(node: Node, names: Sequence[str]) -> tuple[float, float]:
    """Return the seconds to publish one volume per SecretProviderClass, and to unpublish them."""
    driver = await node.start_driver()
    volumes = [node.volume(name) for name in names]
    times = [time.monotonic()]
    for call in (driver.publish, driver.unpublish):
        await asyncio.gather(*(call(volume) for volume in volumes))
        times.append(time.monotonic())
    await driver.stop()
    return times[1] - times[0], times[2] - times[1]


async def killed_round(
    node: Node, volumes: Sequence[Volume], *, unpublishing: bool, moment: float
) -> int:
    """Kill a driver `moment` seconds after all calls started; return how many it answered."""
    driver = await node.start_driver()
    if unpublishing:
        await asyncio.gather(*(driver.publish(volume) for volume in volumes))
    call = driver.unpublish if unpublishing else driver.publish
    calls = [asyncio.ensure_future(call(volume)) for volume in volumes]
    await asyncio.sleep(moment)
    await driver.kill()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for outcome in outcomes:
        assert outcome is None or isinstance(outcome, grpc.aio.AioRpcError), outcome
    return outcomes.count(None)


async def expect_repair(node: Node, volumes: Sequence[Volume]) -> None:
    """A new driver completes the first half of the volumes, and can unpublish all of them."""
    driver = await node.start_driver()
    half = len(volumes) // 2
    republished, unpublished = volumes[:half], volumes[half:]
    await asyncio.gather(
        *(driver.publish(volume) for volume in republished),
        *(driver.unpublish(volume) for volume in unpublished),
    )
    for volume in republished:
        expect_published(node, volume, "first")
    for volume in unpublished:
        expect_removed(node, volume)
    await asyncio.gather(*(driver.unpublish(volume) for volume in republished))
    for volume in republished:
        expect_removed(node, volume)
    await driver.stop()


class DyingDriver:
    """Runs the drivers of `dying_driver.py` on one node, one at a time."""

    def __init__(self, node: Node, *flags: str) -> None:
        self._node = node
        self._child: Child = node.children.start(
            "dying-driver",
            "python",
            str(Path(__file__).with_name("dying_driver.py")),
            str(node.pods),
            str(node.manifests),
            *node.driver_flags(),
            *flags,
        )
        self._read = 0

    async def start(self, die_before: int) -> Driver:
        """Start a driver that is killed before effect `die_before`; 0 to not kill it."""
        self._read = len(self._child.text())
        self._child.write_line(str(die_before))
        return await self._node.reach(self._child, after=self._read)

    async def ended(self) -> tuple[int, list[str]]:
        """Wait for the exit; return the status and the effects as lines `effect N WHAT PATH`."""
        status = await self._child.says(r"ended (-?\d+)\n", after=self._read)
        output = self._child.text()[self._read : status.end()]
        return int(status[1]), [line for line in output.splitlines() if line.startswith("effect ")]

    async def stop(self, driver: Driver) -> list[str]:
        """Stop a running driver; return its effects."""
        status, effects = await self.terminate(driver)
        assert 0 == status
        return effects

    async def terminate(self, driver: Driver) -> tuple[int, list[str]]:
        """Stop a driver unless it is killed first; return its status and its effects."""
        started = await self._child.says(r"started (\d+)\n", after=self._read)
        await driver.close()
        with suppress(ProcessLookupError):
            os.kill(int(started[1]), signal.SIGTERM)
        return await self.ended()


@dataclass(frozen=True)
class Life:
    """The life cycle of a volume.

    Attributes:
        node: the node of the volume.
        rotating: whether the secrets are rotated between publish and unpublish.
    """

    node: Node
    rotating: bool

    async def live(self, driver: Driver, volume: Volume, number: int) -> None:
        """Publish, refresh after a rotation if `rotating`, unpublish."""
        set_values(self.node, f"old {number}")
        await driver.publish(volume)
        if self.rotating:
            set_values(self.node, f"new {number}")
            await driver.publish(volume)
        await driver.unpublish(volume)

    async def publish_again(self, driver: Driver, volume: Volume, number: int) -> None:
        """Publish as kubelet does after the crash; the volume must be complete."""
        if self.rotating:
            set_values(self.node, f"last {number}")
        await driver.publish(volume)
        expect_published(self.node, volume, f"{'last' if self.rotating else 'old'} {number}")

    def expect_whole(self, volume: Volume, number: int) -> None:
        """Assert that the files after the crash, if any, are all old or all new."""
        if (volume.path / "..data").exists():
            assert volume.files() in (expected(f"old {number}"), expected(f"new {number}"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rotating", [False, True])
async def test_a_kill_before_any_single_effect_is_repaired(
    node: Node, show: Callable[[str], None], *, rotating: bool
) -> None:
    """Kill the driver before each effect of a publish, a refresh and an unpublish in turn.

    A killed refresh leaves either all old files or all new files.
    """
    (name,) = write_classes(node, 1)
    life = Life(node, rotating)
    flags = ("--enable-secret-rotation", "--rotation-poll-interval=0") if rotating else ()
    drivers = DyingDriver(node, *flags)
    volume = node.volume(name)
    driver = await drivers.start(0)
    await life.live(driver, volume, 0)
    effects = await drivers.stop(driver)
    expect_removed(node, volume)
    kinds = {line.split(" ")[2] for line in effects}
    assert {"mount", "unmount", "open", "os.mkdir", "os.symlink", "os.rename"} <= kinds
    show(f"{len(effects)} effects: {', '.join(sorted(kinds))}")
    for number in range(1, len(effects) + 1):
        for unpublish_at_once in (False, True):
            volume = node.volume(name, pod=f"web-{number}")
            dying = await drivers.start(number)
            try:
                await life.live(dying, volume, number)
            except grpc.aio.AioRpcError:
                status, announced = await drivers.ended()
            else:  # the event of the deleted Secret is written after the last call, or not at all
                assert number > len(effects) - sum("/events" in line for line in effects)
                status, announced = await drivers.terminate(dying)
            assert status == 0 or (-signal.SIGKILL, number) == (status, len(announced))
            life.expect_whole(volume, number)
            driver = await drivers.start(0)
            if not unpublish_at_once:
                await life.publish_again(driver, volume, number)
            await driver.unpublish(volume)
            expect_removed(node, volume)
            await drivers.stop(driver)
