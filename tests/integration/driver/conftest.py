"""Drivers with a scripted provider, called over their CSI socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.driver import Driver, running_driver
from tests.fakes.provider import ScriptedProvider
from tests.integration.driver.calls import DB_SECRET


@pytest.fixture
def provider() -> ScriptedProvider:
    """A provider that delivers the file `a` with content `1` by default."""
    return ScriptedProvider()


@pytest.fixture
async def driver(mount_home: Path, provider: ScriptedProvider) -> AsyncIterator[Driver]:
    """A driver without rotation, and a SecretProviderClass `web` with the Secret `db`."""
    async with running_driver(mount_home, built_in={"scripted": provider}) as running:
        running.write_class("web", secret_objects=[DB_SECRET])
        yield running


@pytest.fixture
async def rotating(mount_home: Path, provider: ScriptedProvider) -> AsyncIterator[Driver]:
    """A driver that refreshes every two minutes, and the SecretProviderClass `web`."""
    async with running_driver(
        mount_home, built_in={"scripted": provider}, rotation_interval=120
    ) as running:
        running.write_class("web", secret_objects=[DB_SECRET])
        yield running
