"""The cluster of the broken set-ups, with two installations of the chart, one after the other.

async with running_world(folder) as world:
    async with vault_installed(world, ...):
        ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.cluster.broken.listeners import broken_listeners
from tests.e2e.cluster.certificates import Authority
from tests.e2e.cluster.cluster_auth import enable_cluster_auth
from tests.e2e.cluster.installation import Installation, running_installation
from tests.e2e.cluster.waiting import eventually
from tests.e2e.vault.engines import enable_kv
from tests.e2e.vault.server import VaultServer, running_server

TLS_FILES = "vault-tls"


@dataclass
class World:
    """What set-ups are broken on.

    Attributes:
        installed: the cluster, with Keyferry and the development vault.
        folder: for files.
        addresses: the URLs of servers, by the names that documents use.
        openbao: a real server; only in the second installation.
    """

    installed: Installation
    folder: Path
    addresses: dict[str, str] = field(default_factory=dict)
    openbao: VaultServer | None = None

    @property
    def node(self) -> str:
        """The address of the node, on which the servers listen."""
        return self.installed.cluster.network.node

    @property
    def bao(self) -> VaultServer:
        """The real server."""
        assert self.openbao is not None
        return self.openbao

    async def make_namespaces(self, names: Sequence[str]) -> None:
        """Create namespaces, and wait until pods can be created in them."""
        documents = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names
        ]
        kubectl = self.installed.kubectl
        await kubectl.apply(*documents)

        async def exist() -> bool:
            found = await kubectl.get(
                "serviceaccounts", "-A", "--field-selector=metadata.name=default"
            )
            missing = set(names) - {each["metadata"]["namespace"] for each in found["items"]}
            assert not missing, f"no service account in {sorted(missing)}"
            return True

        await eventually(exist, "the service accounts")


@asynccontextmanager
async def running_world(folder: Path) -> AsyncIterator[World]:
    """A cluster whose driver reads from the development vault; removed after the block."""
    async with running_installation(folder) as installed:
        issuer = installed.cluster.server.address.url
        keys = await installed.kubectl("get", "--raw", "/openid/v1/jwks")
        installed.vault.data.identities.add_issuer(issuer, keys)
        yield World(installed, folder)


@asynccontextmanager
async def vault_installed(
    world: World, *, secrets_in: Sequence[str], syncs_in: Sequence[str]
) -> AsyncIterator[None]:
    """Let driver and SecretSync controller read from a real OpenBao server.

    Args:
        world: is changed.
        secrets_in: the namespaces in which the driver may write Secrets.
        syncs_in: those of the SecretSync controller.
    """
    async with AsyncExitStack() as stack:
        authority = Authority(world.folder / "vault-pki")
        openbao = await stack.enter_async_context(
            running_server(world.folder / "bao", host=world.node, authority=authority)
        )
        sealed = await stack.enter_async_context(
            running_server(world.folder / "sealed", host=world.node, authority=authority)
        )
        await sealed.seal()
        urls = await stack.enter_async_context(broken_listeners(world.node, authority))
        await enable_cluster_auth(openbao, world.installed.cluster.server)
        await enable_kv(openbao, "secret", version=2)
        world.openbao = openbao
        world.addresses |= urls | {
            "BAO": openbao.address,
            "MUTUAL": openbao.mutual_address,
            "SEALED": sealed.address,
            "HTTPBAO": openbao.address.replace("https:", "http:"),
            "CA": str(openbao.ca),
        }
        values = _values(world, secrets_in=secrets_in, syncs_in=syncs_in)
        await world.installed.install(**values)
        await world.installed.kubectl(
            *("rollout", "status", "deployment/keyferry-sync", "--namespace=kube-system"),
            "--timeout=120s",
        )
        yield


def _values(
    world: World, *, secrets_in: Sequence[str], syncs_in: Sequence[str]
) -> Mapping[str, Any]:
    linux = world.installed.values["linux"]
    assert isinstance(linux, dict)
    ca = str(world.bao.ca.parent)
    volumes = [{"name": TLS_FILES, "hostPath": {"path": ca}}]
    mounts = [{"name": TLS_FILES, "mountPath": ca, "readOnly": True}]
    proxies = proxy_variables(world)
    return {
        "linux": linux
        | {
            "extraArgs": [],
            "env": [{"name": name, "value": value} for name, value in proxies.items()],
            "volumes": volumes,
            "volumeMounts": mounts,
        },
        "classFiles": {"dirs": [ca]},
        "vault": {"allowedAddresses": [world.node, "*.example.com", "*.vault.azure.net"]},
        "tokenRequests": [{"audience": "vault"}],
        "syncSecret": {"enabled": True, "namespaces": list(secrets_in)},
        "secretSync": {
            "enabled": True,
            "replicas": 1,
            "namespaces": list(syncs_in),
            "tokenRequests": [{"audience": "vault"}],
            "serviceAccountOptIn": True,
            "extraVolumes": volumes,
            "extraVolumeMounts": mounts,
        },
    }


def proxy_variables(world: World) -> dict[str, str]:
    """Return the variables of the driver: two proxies for two hosts, which both fail."""
    api = urlsplit(world.installed.cluster.server.address.url).hostname
    return {
        "HTTPS_PROXY": world.addresses["PROXY"],
        "HTTP_PROXY": world.addresses["PROXY_CLOSED"],
        "NO_PROXY": f"{world.node},{api},127.0.0.1,no-proxy.example.com,.vault.azure.net",
    }
