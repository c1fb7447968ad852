"""A cluster whose driver reads from a real OpenBao server that trusts the cluster.

async with running_vault_cluster(folder) as bao:
    await put_kv(bao.openbao, "secret/data/foo", bar="hello")
    await bao.role("foo", "secret/data/foo", account="web", namespace="shop")
    await bao.installed.kubectl.apply(bao.vault_class("foo", entry("bar", ...)), namespace="shop")
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from keyferry.providers.vault.product import VAULT
from tests.e2e.cluster.cluster_auth import enable_cluster_auth, kubernetes_role
from tests.e2e.cluster.installation import NAMESPACE, Installation, running_installation
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import secret_provider_class
from tests.e2e.vault.classes import Entry
from tests.e2e.vault.engines import enable_database, enable_kv, enable_pki
from tests.e2e.vault.postgres import Postgres, running_postgres
from tests.e2e.vault.server import VaultServer, running_server

AUDIENCES = ("vault", "team-vault")
"""The audiences of the tokens that kubelet sends with each call."""

TLS_FILES = "/vault-tls"
"""The folder of the TLS files in the driver's container."""


@dataclass
class VaultCluster:
    """A cluster, a server, and a database in which the server creates users.

    Attributes:
        installed: the cluster, with Keyferry.
        openbao: has the engines `kv` (version 1), `secret` (version 2), `pki` and `database`, and
            the auth methods `kubernetes` and `jwt`.
        postgres: the database of the engine `database`.
    """

    installed: Installation
    openbao: VaultServer
    postgres: Postgres

    async def install(self, **changes: object) -> None:
        """Install the chart with these values in addition to the required ones."""
        await self.installed.install(**_values(self.installed.values, self.openbao) | changes)

    async def hmac_key(
        self, name: str = VAULT.default_hmac_secret, *, namespace: str = NAMESPACE
    ) -> bytes:
        """Return the HMAC key for object versions from a Secret like upstream's."""
        secret = await self.installed.kubectl.get("secret", name, f"--namespace={namespace}")
        assert secret["immutable"]
        assert ["key"] == list(secret["data"])
        return base64.b64decode(secret["data"]["key"])

    async def hmac_key_exists(
        self, name: str = VAULT.default_hmac_secret, *, namespace: str = NAMESPACE
    ) -> None:
        """Wait until the Secret with the HMAC key exists."""
        await self.installed.kubectl(
            *("wait", "--for=create", f"secret/{name}", f"--namespace={namespace}"),
            "--timeout=90s",
        )

    async def role(self, name: str, *paths: str, namespace: str, **options: str) -> None:
        """Create a role of auth/kubernetes with access to `paths`; see `kubernetes_role`."""
        await kubernetes_role(self.openbao, name, *paths, namespace=namespace, **options)

    def vault_class(
        self,
        name: str,
        *objects: Entry,
        role: str,
        secret_objects: Sequence[Document] = (),
        mutual: bool = False,
        **parameters: str,
    ) -> Document:
        """Return a SecretProviderClass for the server, by default with auth/kubernetes.

        Args:
            name: of the SecretProviderClass.
            objects: its entries.
            role: of the auth method.
            secret_objects: the entries of `secretObjects`.
            mutual: whether to use the listener that requires client certificates.
            parameters: additional parameters.
        """
        tls = {"vaultCACertPath": f"{TLS_FILES}/ca.crt"}
        if mutual:
            tls |= {
                "vaultTLSClientCertPath": f"{TLS_FILES}/driver.crt",
                "vaultTLSClientKeyPath": f"{TLS_FILES}/driver.key",
            }
        all_parameters = {
            "vaultAddress": self.openbao.mutual_address if mutual else self.openbao.address,
            "roleName": role,
            "audience": "vault",
            "objects": yaml.safe_dump(list(objects)),
            **tls,
            **parameters,
        }
        return secret_provider_class(name, "vault", all_parameters, secret_objects)


@asynccontextmanager
async def running_vault_cluster(folder: Path) -> AsyncIterator[VaultCluster]:
    """A cluster with Keyferry and a server that trusts it; removed after the block.

    Args:
        folder: for all files; a short path.
    """
    async with running_installation(folder) as installed, running_postgres() as postgres:
        cluster = installed.cluster
        async with running_server(folder / "bao", host=cluster.network.node) as openbao:
            for file in openbao.authority.issue("driver", user="driver"):
                copy = openbao.ca.parent / file.name
                copy.write_bytes(file.read_bytes())
                copy.chmod(0o644)  # for the unprivileged user of the provider worker
            bao = VaultCluster(installed, openbao, postgres)
            await bao.install()
            await enable_cluster_auth(openbao, cluster.server)
            await enable_kv(openbao, "kv", version=1)
            await enable_kv(openbao, "secret", version=2)
            await enable_pki(openbao)
            await enable_database(openbao, postgres)
            yield bao


def _values(values: Mapping[str, object], openbao: VaultServer) -> dict[str, object]:
    """Return the values that differ for a driver that reads from a real server."""
    linux = values["linux"]
    assert isinstance(linux, dict)
    folder = str(openbao.ca.parent)
    files = {
        "extraArgs": [],
        "volumes": [{"name": "vault-tls", "hostPath": {"path": folder}}],
        "volumeMounts": [{"name": "vault-tls", "mountPath": TLS_FILES, "readOnly": True}],
    }
    return {
        "linux": linux | files,
        "classFiles": {"dirs": [TLS_FILES]},
        "vault": {"allowedAddresses": [urlsplit(openbao.address).hostname]},
        "builtinProviders": ["vault"],
        "tokenRequests": [{"audience": audience} for audience in AUDIENCES],
    }
