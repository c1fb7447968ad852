"""Two nodes that share a Secret: cached content of one never replaces newer content of the other.

Each node has a driver and a cache of its own; both read one vault and one Kubernetes API.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyferry.aio.clock import SystemClock
from keyferry.driver.volumes.mounter import DirectoryMounter
from keyferry.kubernetes.api.store import open_kube_store
from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import Provider
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.vault.product import OPENBAO, VAULT, Product
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.azure_mounts import entry as azure_entry
from tests.fakes.clock import ManualClock
from tests.fakes.devvault import DEFAULT_TENANT, running_devvault
from tests.fakes.driver import NAMESPACE, Driver, running_driver
from tests.fakes.kube_api import KubeApiServer, class_manifest, running_api
from tests.fakes.kube_node import secret_object
from tests.fakes.vault_api import running_vault
from tests.fakes.vault_mounts import FakePod, entry, vault_mounts

MI = "11111111-0000-4000-8000-000000000001"
LIMITS = ResilienceSettings(
    cache_ttl=15.0, refresh_interval=120.0, tracks_volumes=True, list_revalidation=False
)


@dataclass
class Backend:
    """A vault with one secret, and how pods read it.

    Attributes:
        provider: name of the provider.
        parameters: of the SecretProviderClass.
        write: writes a new version of the secret.
        new_provider: creates a provider with a cache of its own.
        audience: of the service-account tokens; "" for none.
    """

    provider: str
    parameters: Mapping[str, str]
    write: Callable[[str], object]
    new_provider: Callable[[Fetcher, AsyncExitStack], Any]
    audience: str = ""


@asynccontextmanager
async def azure(folder: Path) -> AsyncIterator[Backend]:
    """Yield a Key Vault."""
    async with running_devvault(folder) as vault:
        vault.set_secret("contoso", "db-password", "0")
        vault.add_managed_identity(MI)
        vault.grant("contoso", MI)

        async def new_provider(fetcher: Fetcher, stack: AsyncExitStack) -> Provider:
            https = HttpsClient(vault.emulator.https)
            provider = AzureProvider(https, fetcher, emulator=vault.emulator)
            stack.push_async_callback(provider.close)
            return provider

        parameters = {
            "keyvaultName": "contoso",
            "tenantID": DEFAULT_TENANT,
            "useVMManagedIdentity": "true",
            "userAssignedIdentityID": MI,
            "objects": json.dumps({"array": [azure_entry(objectAlias="db")]}),
        }
        yield Backend(
            "azure",
            parameters,
            lambda value: vault.set_secret("contoso", "db-password", value),
            new_provider,
        )


@asynccontextmanager
async def vault_like(product: Product) -> AsyncIterator[Backend]:
    """Yield a Vault or OpenBao server."""
    async with running_vault() as vault:
        policy = {"secret/data/*": {"read"}}
        vault.add_role("app", accounts=["shop/web"], policy=policy, audience="")

        async def new_provider(fetcher: Fetcher, stack: AsyncExitStack) -> Provider:
            mounts = vault_mounts(vault, product=product, fetcher=fetcher)
            return (await stack.enter_async_context(mounts)).provider

        objects = [entry("db", "secret/data/app/db", secretKey="password")]
        parameters = {"roleName": "app", **vault.parameters, "objects": json.dumps(objects)}
        yield Backend(
            product.name,
            parameters,
            lambda value: vault.write("secret", "app/db", {"password": value}),
            new_provider,
            product.audience,
        )


@dataclass
class Node:
    """A driver with its cache."""

    name: str
    driver: Driver
    api: KubeApiServer
    audience: str

    async def start_pod(self, pod: str) -> str:
        """Publish the volume of a new pod, and return the value in its file."""
        volume: dict[str, Any] = {
            "driver": "secrets-store.csi.k8s.io",
            "volumeAttributes": {"secretProviderClass": "web"},
        }
        self.api.put(
            "pods",
            {
                "metadata": {"name": pod, "namespace": NAMESPACE, "uid": f"uid-of-{pod}"},
                "spec": {
                    "nodeName": self.name,
                    "serviceAccountName": "web",
                    "volumes": [{"name": "secrets", "csi": volume}],
                },
                "status": {"phase": "Pending"},
            },
        )
        message = self.driver.publish_request("web", pod)
        if self.audience:
            message.volume_context.update(FakePod(pod, audience=self.audience).attributes())
        await self.driver.send_publish(message)
        return (Path(message.target_path) / "db").read_text()


@asynccontextmanager
async def running_node(
    home: Path, api: KubeApiServer, backend: Backend, clock: ManualClock
) -> AsyncIterator[Node]:
    home.mkdir()
    fetcher = Fetcher(LIMITS, clock)
    async with AsyncExitStack() as stack:
        provider = await backend.new_provider(fetcher, stack)
        store = await stack.enter_async_context(
            open_kube_store(
                api.kubeconfig, node=home.name, clock=SystemClock(), backoff=lambda _: 0.05
            )
        )
        await store.wait_synced()
        driver = await stack.enter_async_context(
            running_driver(
                home,
                built_in={backend.provider: provider},
                rotation_interval=120.0,
                mounter=DirectoryMounter(),
                store=store,
                node=home.name,
                clock=clock,
                fetcher=fetcher,
            )
        )
        yield Node(home.name, driver, api, backend.audience)
    await fetcher.close()


@pytest.mark.parametrize("provider", ["azure", "vault", "openbao"])
async def test_cached_content_does_not_replace_newer_content_of_another_node(
    tmp_path: Path, mount_home: Path, provider: str
) -> None:
    """A pod that starts with cached content keeps it; the Secret keeps the newer value."""
    products = {"vault": VAULT, "openbao": OPENBAO}
    opened = vault_like(products[provider]) if provider in products else azure(tmp_path)
    clock = ManualClock()
    async with opened as backend, running_api(mount_home) as api, AsyncExitStack() as stack:
        spc = class_manifest("web", provider=backend.provider)
        spc["spec"]["parameters"] = dict(backend.parameters)
        spc["spec"]["secretObjects"] = [secret_object("db", "db")]
        api.put("secretproviderclasses", spc)
        first, second = [
            await stack.enter_async_context(running_node(mount_home / name, api, backend, clock))
            for name in ("n1", "n2")
        ]

        def shared_secret() -> str:
            manifest = api.get("secrets", NAMESPACE, "db")
            assert manifest is not None
            return b64decode(manifest["data"]["value"]).decode()

        backend.write("1")
        assert "1" == await first.start_pod("a-0")
        assert "1" == shared_secret()
        backend.write("2")
        clock.now += 10.0
        assert "2" == await second.start_pod("b-0")
        assert "2" == shared_secret()
        clock.now += 2.0
        assert "1" == await first.start_pod("a-1")
        assert "2" == shared_secret()
