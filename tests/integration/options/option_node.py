"""A driver with the Azure provider and a Key Vault that counts requests; the test moves the time.

async with running_node(mount_home) as node:
    node.write("web", node.object("document", jmesPath=JMES_PATH))
    await node.publish("web")
    assert (1, 0) == await node.refresh("web")
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from keyferry.net.http_client import HttpsClient
from keyferry.providers.azure.provider import AzureProvider
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from keyferry_devvault.storage.data import DevVaultData
from tests.fakes.clock import ManualClock
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, running_devvault
from tests.fakes.driver import Driver, running_driver
from tests.fakes.volume import read_through_links

CLIENT = "11111111-0000-4000-8000-000000000001"
INTERVAL = 120.0
_LONGEST_PAUSE_SECONDS = 10.0  # less than the lifetime of cached content
DOCUMENT = {"database": {"user": "shop", "password": "s3cret"}, "port": 5432}
JMES_PATH = [{"path": "database.password", "objectAlias": "extracted"}]
TEXTS = {"document": json.dumps(DOCUMENT), "password": "s3cret", "greeting": "hello"}
SETTLED = 30 * INTERVAL
"""Seconds after which a list proves that the objects did not change."""


@dataclass
class OptionNode:
    """One node with one vault.

    Attributes:
        driver: called as by kubelet.
        vault: has the secrets of `TEXTS`.
    """

    driver: Driver
    vault: DevVault

    def set_secret(self, name: str, text: str) -> None:
        """Store a secret, at the time of the node."""
        folder = self.driver.home / "devvault"
        with DevVaultData(
            folder, wall_time=lambda: int(time.time() + self.driver.clock.now)
        ) as data:
            data.secrets.set("contoso", name, text)

    def write(
        self,
        name: str,
        *entries: Mapping[str, object],
        secret: Mapping[str, str] | None = None,
        kind: str = "Opaque",
        **parameters: str,
    ) -> None:
        """Apply a SecretProviderClass.

        Args:
            name: of the SecretProviderClass.
            entries: of `objects`.
            secret: of the Secret with the same name, the file of each key; None for no Secret.
            kind: type of the Secret.
            parameters: further parameters.
        """
        data = [{"key": key, "objectName": path} for key, path in (secret or {}).items()]
        self.driver.write_class(
            name,
            provider="azure",
            parameters={
                "keyvaultName": "contoso",
                "tenantID": DEFAULT_TENANT,
                "useVMManagedIdentity": "true",
                "userAssignedIdentityID": CLIENT,
                "objects": json.dumps({"array": [json.dumps(entry) for entry in entries]}),
                **parameters,
            },
            secret_objects=[{"secretName": name, "type": kind, "data": data}] if data else (),
        )

    async def publish(self, name: str, pod: str = "") -> Path:
        """Mount the volume of a pod, by default one with the name of the SecretProviderClass."""
        return await self.driver.publish(name, pod or name)

    async def refresh(self, *names: str) -> tuple[int, int]:
        """Refresh volumes one interval later; return the lists and the reads that it took."""
        self.driver.clock.now += INTERVAL
        self.vault.clear_requests()
        await asyncio.gather(*(self.publish(name) for name in names))
        return self.calls

    async def settle(self, *names: str) -> None:
        """Refresh volumes until no object is read because its last update is too recent."""
        self.driver.clock.now += SETTLED
        for _ in range(2):
            await self.refresh(*names)

    @property
    def calls(self) -> tuple[int, int]:
        """How often a list of secrets was requested, and how often a secret."""
        paths = [one.path for one in self.vault.requests if one.path.startswith("/secrets")]
        lists = sum(path == "/secrets" for path in paths)
        return lists, len(paths) - lists

    def files(self, pod: str) -> dict[str, str]:
        """Return what a pod reads."""
        found = read_through_links(self.driver.target(pod))
        return {path: content.decode() for path, content in found.items()}

    def secret(self, name: str) -> dict[str, str] | None:
        """Return the data of a Secret, or None."""
        manifest = self.driver.secret(name)
        if manifest is None:
            return None
        return {key: base64.b64decode(text).decode() for key, text in manifest["data"].items()}

    def reasons(self) -> list[str]:
        """Return the reason of each event."""
        return [reason for _, reason, _ in self.driver.events()]


def secret_entry(name: str, **fields: object) -> Mapping[str, object]:
    """Return an entry of `objects` for a secret."""
    return {"objectName": name, "objectType": "secret", **fields}


@dataclass
class _NodeClock:
    """The clock of the requests: pauses before a retry are over at once, long ones never.

    It starts with that of the driver, so that the slots of refreshes do not depend on the uptime.
    """

    clock: ManualClock
    start: float = field(default_factory=time.monotonic)

    def monotonic(self) -> float:
        return time.monotonic() - self.start + self.clock.now

    def wall(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self.clock.now, UTC)

    async def sleep(self, seconds: float) -> None:
        if seconds > _LONGEST_PAUSE_SECONDS:
            await asyncio.get_running_loop().create_future()
        self.clock.now += seconds
        await asyncio.sleep(0.001)


@asynccontextmanager
async def running_node(
    home: Path, names: Sequence[str] = tuple(TEXTS)
) -> AsyncIterator[OptionNode]:
    """Run a driver, and a vault with the secrets `names` of `TEXTS`."""
    clock = ManualClock()
    async with running_devvault(home) as vault:
        for name in names:
            vault.set_secret("contoso", name, TEXTS[name])
        vault.add_managed_identity(CLIENT)
        vault.grant("contoso", CLIENT, "get", "list")
        settings = ResilienceSettings(
            refresh_interval=INTERVAL, tracks_volumes=True, list_revalidation=True
        )
        times = _NodeClock(clock)
        fetcher = Fetcher(settings, times)
        provider = AzureProvider(
            HttpsClient(vault.emulator.https), fetcher, clock=times, emulator=vault.emulator
        )
        try:
            async with running_driver(
                home, built_in={"azure": provider}, rotation_interval=INTERVAL, clock=clock
            ) as driver:
                yield OptionNode(driver, vault)
        finally:
            await provider.close()
            await fetcher.close()
