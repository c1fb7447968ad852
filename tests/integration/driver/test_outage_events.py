"""Events of an outage of a vault: few, with stable texts, and nothing of other namespaces.

Pods of two namespaces read one emulated vault, which responds 503 for five minutes of the clock.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyferry.kubernetes.api.event_budget import REPEAT_BURST, REPEAT_SECONDS
from keyferry.kubernetes.api.store import KubeStore, open_kube_store
from keyferry.net.http_client import HttpsClient
from keyferry.providers.azure.provider import AzureProvider
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.clock import ManualClock
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, RespondStatus, running_devvault
from tests.fakes.driver import Driver, running_driver
from tests.fakes.kube_api import KubeApiServer, class_manifest, running_api

CLIENT = "11111111-0000-4000-8000-000000000000"
OBJECTS = {"shop": ("app-a", "app-b", "app-c"), "pay": ("card-a", "card-b")}
RUNNING, STARTING = 15, 2
"""The number of pods in each namespace."""
OUTAGE_SECONDS = 300
KUBELET_SECONDS = 60


@dataclass
class Outage:
    """A node whose vault fails.

    Attributes:
        driver: of the node.
        api: its Kubernetes API.
        store: its object store.
        vault: the emulated vault.
    """

    driver: Driver
    api: KubeApiServer
    store: KubeStore
    vault: DevVault

    async def publish(self, namespace: str, name: str, number: int) -> None:
        message = self.driver.publish_request(name, f"{namespace}-{name}-{number}")
        message.volume_context["csi.storage.k8s.io/pod.namespace"] = namespace
        message.secrets.update({"clientid": CLIENT, "clientsecret": "canary-secret"})
        await self.driver.send_publish(message)

    async def publish_all(self, name: str, count: int) -> list[BaseException]:
        """Let kubelet call for the pods of a SecretProviderClass in both namespaces.

        Returns:
            The errors that kubelet gets.
        """
        calls = [
            asyncio.create_task(self.publish(namespace, name, number))
            for namespace in OBJECTS
            for number in range(count)
        ]
        while not all(call.done() for call in calls):
            await self.driver.clock.advance(0.1)
        return [error for call in calls if (error := call.exception())]

    async def live(self, seconds: float) -> None:
        """Let time pass; the timer refreshes volumes."""
        end = self.driver.clock.now + seconds
        while self.driver.clock.now < end or not self.driver.engine.publisher.is_idle:
            await self.driver.clock.advance(0.5)
        await self.store.drain()

    def events(self) -> list[dict[str, Any]]:
        return self.api.all_of("events")

    def writes(self) -> int:
        return sum(request.endswith(" events") for request in self.api.requests)


@pytest.fixture
async def node(tmp_path: Path, mount_home: Path) -> AsyncIterator[Outage]:
    clock = ManualClock()
    settings = ResilienceSettings(refresh_interval=60, tracks_volumes=True)
    fetcher = Fetcher(settings, clock)
    async with running_devvault(tmp_path) as vault, running_api(mount_home) as api:
        vault.add_app(CLIENT, tenant=DEFAULT_TENANT, secret="canary-secret")
        for namespace, names in OBJECTS.items():
            for name in names:
                vault.set_secret("contoso", name, "x")
            api.put("secretproviderclasses", azure_class("running", namespace, names))
            new = f"new-of-{namespace}"
            api.put("secretproviderclasses", azure_class("starting", namespace, (new,)))
        vault.grant("contoso", CLIENT)
        async with (
            azure_provider(vault, fetcher) as provider,
            open_kube_store(api.kubeconfig, node="node-1", clock=clock) as store,
            running_driver(
                mount_home,
                built_in={"azure": provider},
                rotation_interval=60,
                clock=clock,
                fetcher=fetcher,
                store=store,
            ) as driver,
        ):
            await store.wait_synced()
            yield Outage(driver, api, store, vault)
            await fetcher.close()


@asynccontextmanager
async def azure_provider(vault: DevVault, fetcher: Fetcher) -> AsyncIterator[AzureProvider]:
    provider = AzureProvider(HttpsClient(vault.emulator.https), fetcher, emulator=vault.emulator)
    try:
        yield provider
    finally:
        await provider.close()


def azure_class(name: str, namespace: str, names: tuple[str, ...]) -> dict[str, Any]:
    manifest = class_manifest(name, namespace)
    entries = [json.dumps({"objectName": name, "objectType": "secret"}) for name in names]
    manifest["spec"]["parameters"] = {
        "keyvaultName": "contoso",
        "tenantID": DEFAULT_TENANT,
        "objects": json.dumps({"array": entries}),
    }
    return manifest


async def test_outage_makes_one_event_for_each_pod(node: Outage) -> None:
    """30 running and 4 starting pods, 300 s: 34 event objects, at most 4 writes for each of them.

    The texts have no time and no counter, and name no object of the other namespace.
    """
    assert [] == await node.publish_all("running", RUNNING)
    assert [] == node.events()
    node.api.requests.clear()
    node.vault.add_fault("contoso.vault.azure.net", RespondStatus(503), times=None)
    end = node.driver.clock.now + OUTAGE_SECONDS
    while node.driver.clock.now < end:
        assert len(OBJECTS) * STARTING == len(await node.publish_all("starting", STARTING))
        assert [] == await node.publish_all("running", RUNNING)
        await node.live(KUBELET_SECONDS)
    events = node.events()
    pods = Counter(event["involvedObject"]["name"] for event in events)
    assert dict.fromkeys(pods, 1) == pods
    assert len(OBJECTS) * (RUNNING + STARTING) == len(events)
    assert node.writes() <= len(events) * (REPEAT_BURST + OUTAGE_SECONDS / REPEAT_SECONDS)
    for event in events:
        assert not re.search(r"\d\d:\d\d|UTC|\d tries|\d s\b", event["message"]), event["message"]
        for namespace, names in OBJECTS.items():
            if namespace != event["metadata"]["namespace"]:
                assert not any(name in event["message"] for name in names)
                assert namespace not in event["message"]
    node.vault.clear_faults()
    await node.live(120)
    assert [] == await node.publish_all("running", RUNNING)
    await node.live(1)
    assert len(events) == len(node.events())
