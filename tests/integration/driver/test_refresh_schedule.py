"""The driver's timer, the fetcher and the providers of Azure and Vault, by one clock.

Pods of each identity are in two namespaces, and there are more than are refreshed at once.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from keyferry.driver.rotation.rotator import MAX_CONCURRENT_REFRESHES
from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import Provider
from keyferry.providers.azure.provider import AzureProvider
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from keyferry_devvault.http_types import RequestKind
from tests.fakes.clock import ManualClock
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, running_devvault
from tests.fakes.driver import Driver, running_driver
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_mounts import vault_mounts

INTERVAL = 60
KUBELET_SECONDS = 25
IDENTITIES = [f"11111111-0000-4000-8000-{number:012}" for number in range(3)]
NAMESPACES = ("shop", "pay")
OBJECTS = ("db", "key")
PODS = MAX_CONCURRENT_REFRESHES // len(NAMESPACES) + 1
"""Of each identity in each namespace."""
PAIRS = len(IDENTITIES) * len(OBJECTS)
ONE_CALL_EACH = ResilienceSettings(
    refresh_interval=INTERVAL, tracks_volumes=True, list_revalidation=False
)


@dataclass(frozen=True)
class Azure:
    """A Key Vault that service principals read."""

    provider: AzureProvider
    vault: DevVault
    name: str = "azure"

    def write(self, value: str) -> None:
        """A new version of each object."""
        for name in OBJECTS:
            self.vault.set_secret("contoso", name, value)

    def parameters(self) -> dict[str, str]:
        entries = [json.dumps({"objectName": o, "objectType": "secret"}) for o in OBJECTS]
        return {
            "keyvaultName": "contoso",
            "tenantID": DEFAULT_TENANT,
            "objects": json.dumps({"array": entries}),
        }

    def secrets(self, identity: str) -> dict[str, str]:
        return {"clientid": identity, "clientsecret": f"canary-{identity}"}

    def calls(self) -> int:
        return self.vault.count(RequestKind.SECRET)


@dataclass(frozen=True)
class Vault:
    """A Vault that AppRoles read."""

    provider: Provider
    vault: VaultApi
    name: str = "vault"

    def write(self, value: str) -> None:
        """A new version of each object."""
        for name in OBJECTS:
            self.vault.write("secret", name, {"value": value})

    def parameters(self) -> dict[str, str]:
        entries = [
            {"objectName": o, "secretPath": f"secret/data/{o}", "secretKey": "value"}
            for o in OBJECTS
        ]
        return {
            **self.vault.parameters,
            "vaultAuthMethod": "approle",
            "objects": json.dumps(entries),
        }

    def secrets(self, identity: str) -> dict[str, str]:
        return {"role_id": identity, "secret_id": f"canary-{identity}"}

    def calls(self) -> int:
        return sum(self.vault.request_count(f"secret/data/{name}") for name in OBJECTS)


@dataclass(frozen=True)
class Node:
    """A driver whose volumes are those of all identities in all namespaces."""

    driver: Driver
    source: Azure | Vault
    fetcher: Fetcher

    async def publish(self) -> None:
        """Kubelet calls once for each pod."""
        for identity, namespace, number in product(IDENTITIES, NAMESPACES, range(PODS)):
            pod = f"{identity}-{namespace}-{number}"
            message = self.driver.publish_request(f"web-{namespace}", pod)
            message.volume_context["csi.storage.k8s.io/pod.namespace"] = namespace
            message.secrets.update(self.source.secrets(identity))
            await self.driver.send_publish(message)

    async def live(self, seconds: int, *, kubelet: bool) -> float:
        """Let time pass; the greatest age of content that was seen."""
        oldest = 0.0
        for _ in range(seconds):
            await self.driver.clock.advance(1)
            oldest = max(oldest, self.fetcher.oldest_content_age or 0)
            await self.wait_idle()
            if kubelet and not self.driver.clock.now % KUBELET_SECONDS:
                await self.publish()
        return oldest

    async def wait_idle(self) -> None:
        """Wait until no refresh is in progress or queued."""
        quiet = 0
        while quiet < 3:
            await self.driver.clock.run_ready_tasks()
            quiet = quiet + 1 if self.driver.engine.publisher.is_idle else 0

    def contents(self) -> set[str]:
        """What the files of all volumes hold."""
        pods = self.driver.home / "pods"
        return {path.read_text() for name in OBJECTS for path in pods.glob(f"*/**/mount/{name}")}


@asynccontextmanager
async def azure(folder: Path, fetcher: Fetcher) -> AsyncIterator[Azure]:
    async with running_devvault(folder) as vault:
        source = Azure(
            AzureProvider(HttpsClient(vault.emulator.https), fetcher, emulator=vault.emulator),
            vault,
        )
        source.write("first")
        for identity in IDENTITIES:
            vault.add_app(identity, tenant=DEFAULT_TENANT, secret=f"canary-{identity}")
            vault.grant("contoso", identity)
        try:
            yield source
        finally:
            await source.provider.close()


@asynccontextmanager
async def vault_of(_: Path, fetcher: Fetcher) -> AsyncIterator[Vault]:
    async with running_vault() as vault, vault_mounts(vault, fetcher=fetcher) as mounts:
        source = Vault(mounts.provider, vault)
        source.write("first")
        for identity in IDENTITIES:
            secret = (identity, f"canary-{identity}")
            policy = {"secret/data/*": {"read"}}
            vault.add_role(identity, mount="approle", policy=policy, secret=secret)
        yield source


@pytest.fixture(params=[azure, vault_of])
async def node(
    request: pytest.FixtureRequest, tmp_path: Path, mount_home: Path
) -> AsyncIterator[Node]:
    clock = ManualClock()
    fetcher = Fetcher(ONE_CALL_EACH, clock)
    async with (
        request.param(tmp_path, fetcher) as source,
        running_driver(
            mount_home,
            built_in={source.name: source.provider},
            rotation_interval=INTERVAL,
            clock=clock,
            fetcher=fetcher,
        ) as driver,
    ):
        for namespace in NAMESPACES:
            driver.write_class(
                f"web-{namespace}",
                provider=source.name,
                parameters=source.parameters(),
                namespace=namespace,
            )
        yield Node(driver, source, fetcher)
        await fetcher.close()


@pytest.mark.parametrize("kubelet", [False, True])
async def test_each_object_is_fetched_once_per_interval(node: Node, kubelet: bool) -> None:
    """For each identity and object, whatever the number of pods and the trigger of the refresh."""
    await node.publish()
    assert PAIRS == node.source.calls()
    for round_ in range(1, 4):
        node.source.write(f"new-{round_}")
        oldest = await node.live(INTERVAL, kubelet=kubelet)
        assert {f"new-{round_}"} == node.contents()
        assert oldest <= INTERVAL
        assert (1 + round_) * PAIRS == node.source.calls()
