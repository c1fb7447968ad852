"""A pod whose object has a version; tests can recreate the pod.

async with versioned_pods(bao, "shop") as pods:
    first = await pods.version()
    assert first == await pods.version_of_a_new_pod()
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.e2e.cluster.manifests import pod
from tests.e2e.cluster.namespace import Namespace, new_namespace
from tests.e2e.cluster.vault_cluster import VaultCluster
from tests.e2e.cluster.waiting import eventually
from tests.e2e.vault.classes import Entry, entry
from tests.e2e.vault.engines import put_kv

CONTENT = "first"


@dataclass
class VersionedPods:
    """The pod `web` with the volume `web`.

    Attributes:
        shop: its namespace.
        wanted: its only entry of `objects`.
    """

    shop: Namespace
    wanted: Entry

    async def version(self) -> str:
        """Return the version in the pod status."""
        versions = await self.shop.versions("web", "web")
        assert [self.wanted["objectName"]] == list(versions)
        return versions["file"]

    async def version_of_a_new_pod(self) -> str:
        """Recreate the pod; return the version in the new pod status."""
        await self.shop.delete("pod/web")
        await self.shop.apply(pod("web", "web"))
        await self.shop.ready("web")
        return await self.version()

    async def version_with(self, key: bytes) -> str:
        """Recreate the pod until its version uses an HMAC key; return the version.

        A mount waits only two seconds for the key; later ones use it.
        """
        expected = version_by(key, self.wanted, CONTENT)

        async def look() -> str:
            assert expected == await self.version_of_a_new_pod()
            return expected

        return await eventually(look, "the version to use the key")


@asynccontextmanager
async def versioned_pods(bao: VaultCluster, name: str) -> AsyncIterator[VersionedPods]:
    """Create the pod in a namespace with this name, with `CONTENT` in its file."""
    await put_kv(bao.openbao, f"secret/data/{name}", bar=CONTENT)
    async with new_namespace(bao.installed, name) as shop:
        await bao.role(name, f"secret/data/{name}", namespace=shop.name)
        wanted = entry("file", f"secret/data/{name}", "bar")
        await shop.apply(bao.vault_class("web", wanted, role=name), pod("web", "web"))
        await shop.ready("web")
        yield VersionedPods(shop, wanted)


def version_by(key: bytes, wanted: Entry, content: str) -> str:
    """Return the version that upstream computes.

    Source: docs/reference/upstream-vault-provider.md#object-versions
    """
    configuration = {
        "ObjectName": wanted["objectName"],
        "SecretPath": wanted["secretPath"],
        "SecretKey": wanted["secretKey"],
        "Method": "",
        "SecretArgs": None,
        "FilePermission": 0,
        "Encoding": "",
    }
    text = json.dumps(configuration, separators=(",", ":")) + content
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode()
