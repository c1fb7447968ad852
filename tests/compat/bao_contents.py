"""What is in the OpenBao that all stacks read, and who may read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.e2e.cluster.api_server import ApiServer
from tests.e2e.cluster.cluster_auth import enable_cluster_auth, kubernetes_role
from tests.e2e.vault.engines import (
    allow,
    enable_approle,
    enable_database,
    enable_kv,
    enable_pki,
    jwt_role,
    put_kv,
)
from tests.e2e.vault.postgres import Postgres
from tests.e2e.vault.server import VaultServer

READER = "reader"
"""The role, and its policy, of the service accounts of all stacks."""
READABLE = (
    *("kv1/*", "kv2/data/*", "pki/issue/web", "database/creds/app"),
    *("kv1", "kv2/metadata/*"),
)


@dataclass(frozen=True)
class BaoContents:
    """What a class must know of it.

    Attributes:
        address: its URL.
        ca: the path of the PEM file that it is verified by.
        approle: what the Secret of a pod holds to log in as an AppRole.
    """

    address: str
    ca: str
    approle: Mapping[str, str]

    def parameters(self, product: str = "vault") -> Mapping[str, str]:
        """Of a class that reads as `READER` through auth/kubernetes."""
        prefix = {"vault": "vault", "openbao": "bao"}[product]
        return {
            f"{prefix}Address": self.address,
            f"{prefix}CACertPath": self.ca,
            "roleName": READER,
        }


UNKNOWN_BAO = BaoContents("", "", {})
"""Stands for the contents where only the names of cases matter."""


async def fill_bao(bao: VaultServer, api: ApiServer, postgres: Postgres) -> BaoContents:
    """Put everything in."""
    await enable_cluster_auth(bao, api)
    await enable_kv(bao, "kv1", version=1)
    await enable_kv(bao, "kv2", version=2)
    await put_kv(bao, "kv1/db", username="shop", password="of version 1")
    await put_kv(bao, "kv2/data/db", username="shop", password="first")
    await put_kv(bao, "kv2/data/db", username="shop", password="second")
    await put_kv(bao, "kv2/data/deep/er/one", value='Größe \u2603 <&> "quoted"\n')
    odd = {"number": 1, "large": 12345678901234567890, "part": 0.5, "yes": True, "none": None}
    await put_kv(bao, "kv2/data/odd", **odd, hosts=[{"name": "a"}, {"name": "b"}], empty="")
    await put_kv(bao, "kv2/data/encoded", base64="AAECA/9/", hex="00ff7f", not_base64="%%%")
    await put_kv(bao, "kv2/data/deleted", value="was here")
    await bao.delete("kv2/data/deleted")
    await put_kv(bao, "kv2/data/closed", value="not for you")
    await enable_pki(bao)
    await enable_database(bao, postgres)
    await allow(bao, READER, *READABLE, capabilities=("read", "update", "list"))
    await allow(bao, "closed", "kv2/data/closed", capabilities=("deny",))
    policies = (READER, "closed")
    for product in ("vault", "openbao"):
        name = READER if product == "vault" else f"{READER}-{product}"
        await kubernetes_role(
            bao, name, namespace="*", account="web", audience=product, policies=policies
        )
    await kubernetes_role(bao, "stranger", namespace="*", account="other", policies=policies)
    await jwt_role(bao, READER, *policies, subject="", audience="vault")
    approle = await enable_approle(bao, READER, *policies)
    return BaoContents(bao.address, str(bao.ca), approle)
