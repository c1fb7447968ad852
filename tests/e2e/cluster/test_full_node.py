"""A full node of pods that start at the same time."""

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
"""The default maximum of a node."""

OBJECTS = 10


async def test_110_pods_start_at_once(installed: Installation, show: Callable[[str], None]) -> None:
    """Ten objects of one SecretProviderClass: all pods run, and each has every object."""
    vault = installed.vault
    names = [f"full-node-{number}" for number in range(OBJECTS)]
    for name in names:
        vault.set_secret(VAULT, name, f"value of {name}")
    show(f"driver memory before: {installed.driver_memory():.0f} MiB")
    async with new_namespace(installed, "full-node") as shop:
        await shop.apply(azure_class("many", dict.fromkeys(names, "")))
        vault.clear_requests()
        start = time.monotonic()
        await shop.apply(deployment("many", "many", replicas=PODS))
        await shop.kubectl("rollout", "status", "deployment/many", "--timeout=170s")
        show(f"{PODS} pods run after {time.monotonic() - start:.1f} s")
        requests, tokens = vault.count(RequestKind.SECRET), vault.count(RequestKind.IMDS)
        show(f"{requests} requests to the vault, {tokens} to the identity endpoint")
        show(f"driver memory after: {installed.driver_memory():.0f} MiB")
        pods = await shop.pods("many")
        assert PODS == len(pods)
        assert requests >= OBJECTS
        root = installed.cluster.kubelet_root / "pods"
        for each in pods:
            volume = root / each["metadata"]["uid"] / "volumes/kubernetes.io~csi/many/mount"
            files = {path.name: path.read_text() for path in volume.glob("[!.]*")}
            assert {name: f"value of {name}" for name in names} == files
        start = time.monotonic()
        await shop.delete("deployment", "many", "--cascade=foreground")
        show(f"pods removed after {time.monotonic() - start:.1f} s")
