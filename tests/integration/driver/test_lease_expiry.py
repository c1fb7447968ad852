"""Leases that only a refresh replaces: it is in time, or the pod gets a warning."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from keyferry.errors import VaultError
from keyferry.providers.expiry import ExpiringLease, Expiry
from tests.fakes.clock import START
from tests.fakes.driver import Driver, running_driver
from tests.fakes.provider import ScriptedProvider

RARELY = 1e9
"""An interval of which no refresh is due during a test."""
END = round(START.timestamp()) + 600
"""By the clock of rotation."""
REPORTED_END = round(time.time()) + 600
"""By the clock of what is reported."""


@pytest.fixture
def provider() -> ScriptedProvider:
    """Serves one file."""
    return ScriptedProvider()


def ends(provider: ScriptedProvider, target: Path, *, at: int = END) -> None:
    """From now on the vault renews no further what is in this volume."""
    provider.leases = (ExpiringLease(str(target), Expiry("secret database/creds/app", at, 600)),)


async def until(condition: Callable[[], bool], driver: Driver, *, step: float = 1.0) -> None:
    """Let time pass until it is so."""
    async with asyncio.timeout(100):
        while not condition():
            await driver.clock.advance(step)
            await asyncio.sleep(0.01)


def warnings(driver: Driver) -> list[str]:
    """The messages of the warnings on pods."""
    found = [
        yaml.safe_load(path.read_text()) for path in driver.manifests.glob("events/shop/*.yaml")
    ]
    return [one["message"] for one in found if one["reason"] == "ObjectNearExpiry"]


async def test_volume_is_refreshed_before_its_lease_expires(
    mount_home: Path, provider: ScriptedProvider
) -> None:
    """Within seconds, with a long rotation interval and ten minutes until expiry."""
    async with running_driver(
        mount_home, built_in={"scripted": provider}, rotation_interval=RARELY
    ) as driver:
        driver.write_class("web")
        target = await driver.publish("web")
        ends(provider, target)
        await until(lambda: 2 == len(provider.calls), driver)
        assert driver.clock.now < 30
        assert [] == warnings(driver)


async def test_failed_refresh_is_retried_with_a_delay_before_the_lease_expires(
    mount_home: Path, provider: ScriptedProvider
) -> None:
    """An unavailable vault is not called at every check."""
    async with running_driver(
        mount_home, built_in={"scripted": provider}, rotation_interval=RARELY
    ) as driver:
        driver.write_class("web")
        ends(provider, await driver.publish("web"))
        provider.fails(VaultError("unavailable", "wait"))
        await until(lambda: 4 == len(provider.calls), driver)
        assert 60 <= driver.clock.now < 300


async def test_volume_with_an_expired_lease_is_refreshed_without_haste(
    mount_home: Path, provider: ScriptedProvider
) -> None:
    """At once, and later rarely, as long as that fails."""
    async with running_driver(
        mount_home, built_in={"scripted": provider}, rotation_interval=RARELY
    ) as driver:
        driver.write_class("web")
        target = await driver.publish("web")
        ends(provider, target, at=round(START.timestamp()) - 60)
        provider.fails(VaultError("unavailable", "wait"))
        await until(lambda: 2 == len(provider.calls), driver)
        assert driver.clock.now < 30
        await until(lambda: 4 == len(provider.calls), driver, step=10)
        assert driver.clock.now >= 600


async def test_expiring_lease_is_reported_once_without_rotation(
    mount_home: Path, provider: ScriptedProvider
) -> None:
    """In an event, the log and a gauge; the vault is not called."""
    async with running_driver(mount_home, built_in={"scripted": provider}) as driver:
        driver.write_class("web")
        ends(provider, await driver.publish("web"), at=REPORTED_END)
        await until(lambda: bool(warnings(driver)), driver)
        await until(lambda: driver.clock.now > 100, driver, step=10)
        (message,) = warnings(driver)
        assert re.search("secret database/creds/app expire[sd] on ", message)  # the clock runs on
        assert "--enable-secret-rotation" in message
        assert "max_ttl" in message
        assert 1 == driver.log.getvalue().count("leases expire and rotation is off")
        assert 1 == len(provider.calls)
        assert 1.0 == _near_expiry(driver)
        await driver.unpublish()
        assert 0.0 == _near_expiry(driver)


def _near_expiry(driver: Driver) -> float:
    """Return the objects that expire soon or have expired: the clock runs on."""
    gauge = driver.metrics.registry.get_sample_value
    labels = {"os_type": "linux", "provider": "scripted"}
    return sum(
        gauge("keyferry_objects_near_expiry", {**labels, "state": state}) or 0.0
        for state in ("soon", "expired")
    )
