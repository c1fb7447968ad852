"""A whole node of pods at once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from keyferry_devvault.http_types import RequestKind
from tests.e2e.cluster.installation import Installation
from tests.e2e.cluster.manifests import VAULT, azure_class, deployment
from tests.e2e.cluster.namespace import new_namespace

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

PODS = 110
"""As many as a node has by default."""

OBJECTS = 10


async def test_110_pods_start_at_once(installed: Installation, show: Callable[[str], None]) -> None:
    """Ten objects each, of one class: all run, and each holds every object."""
    vault = installed.vault
    names = [f"full-node-{number}" for number in range(OBJECTS)]
    for name in names:
        vault.set_secret(VAULT, name, f"value of {name}")
    show(f"before, the driver has {installed.driver_memory():.0f} MiB")
    async with new_namespace(installed, "full-node") as shop:
        await shop.apply(azure_class("many", dict.fromkeys(names, "")))
        vault.clear_requests()
        start = time.monotonic()
        await shop.apply(deployment("many", "many", replicas=PODS))
        await shop.kubectl("rollout", "status", "deployment/many", "--timeout=170s")
        show(f"{PODS} pods run after {time.monotonic() - start:.1f} s")
        asked, tokens = vault.count(RequestKind.SECRET), vault.count(RequestKind.IMDS)
        show(f"the vault was asked {asked} times, the identity endpoint {tokens} times")
        show(f"the driver has {installed.driver_memory():.0f} MiB then")
        pods = await shop.pods("many")
        assert PODS == len(pods)
        assert asked >= OBJECTS
        root = installed.cluster.kubelet_root / "pods"
        for each in pods:
            volume = root / each["metadata"]["uid"] / "volumes/kubernetes.io~csi/many/mount"
            found = {path.name: path.read_text() for path in volume.glob("[!.]*")}
            assert {name: f"value of {name}" for name in names} == found
        start = time.monotonic()
        await shop.delete("deployment", "many", "--cascade=foreground")
        show(f"they are removed after {time.monotonic() - start:.1f} s more")
