"""An arena whose tenants share a real OpenBao server."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from tests.e2e.node import Volume
from tests.e2e.tenants.arena import ATTACKER, VICTIM, VICTIM_VALUE, Arena, running_arena
from tests.e2e.vault.classes import Entry, entry
from tests.e2e.vault.engines import allow, enable_jwt, enable_kv, jwt_role, put_kv
from tests.e2e.vault.server import VaultServer, running_server
from tests.e2e.vault.tokens import TokenSigner

DB = entry("db", "kv/victim", "value")
OWN = entry("own", "kv/attacker", "value")
ALONE = 6.0
"""Seconds in which the attacker can open a circuit breaker before the victim comes."""


class BaoArena(Arena):
    """An arena whose tenants share a server.

    Attributes:
        server: the server, with a role for each namespace and the secrets `kv/NAMESPACE`.
        signer: signs the service account tokens.
        ca: the CA of the server, in a folder that SecretProviderClasses may name.
    """

    server: VaultServer
    signer: TokenSigner
    ca: Path
    _accounts = itertools.count()

    def put_bao_class(self, namespace: str, name: str, *objects: Entry, **parameters: str) -> None:
        """Write a SecretProviderClass that reads from the server; `parameters` override."""
        tenant = self.attacker if namespace == ATTACKER else self.victim
        wishes = {
            "vaultAddress": self.server.address,
            "vaultCACertPath": str(self.ca),
            "vaultAuthMethod": "jwt",
            "roleName": namespace,
            **parameters,
        }
        tenant.put_class(
            name, *objects, parameters={key: text for key, text in wishes.items() if text}
        )

    def bao_pod(self, namespace: str, name: str, *, account: str = "") -> Volume:
        """Return the volume of a new Pod, by default with a service account of its own."""
        tenant = self.attacker if namespace == ATTACKER else self.victim
        account = account or f"web-{next(self._accounts)}"
        tokens = self.signer.kubelet_json(namespace, account)
        context = {SERVICE_ACCOUNT_TOKENS: tokens}
        return tenant.pod(name, account=account, context=context, secrets={})

    def bao_victim(self) -> tuple[Volume, dict[str, bytes]]:
        """Return a volume of the victim, which logs in for itself."""
        return self.bao_pod(VICTIM, "bao"), {"db": VICTIM_VALUE.encode()}


@asynccontextmanager
async def running_shared_server(folder: Path, signer: TokenSigner) -> AsyncIterator[VaultServer]:
    """Run a server with a role and a secret for each namespace."""
    async with running_server(folder) as server:
        await enable_kv(server, "kv", version=1)
        await enable_jwt(server, signer)
        for namespace in (VICTIM, ATTACKER):
            await put_kv(server, f"kv/{namespace}", value=f"value-of-the-{namespace}")
            await allow(server, namespace, f"kv/{namespace}")
            claims = {"/kubernetes.io/namespace": namespace}
            await jwt_role(server, namespace, namespace, subject="", bound_claims=claims)
        yield server


@asynccontextmanager
async def running_bao_arena(
    folder: Path, show: Callable[[str], None], server: VaultServer, signer: TokenSigner
) -> AsyncIterator[BaoArena]:
    """Run a node whose tenants share `server`."""
    async with running_arena(folder, show, BaoArena) as arena:
        arena.server, arena.signer = server, signer
        arena.ca = arena.class_files / "ca.pem"
        shutil.copy(server.ca, arena.ca)
        arena.put_bao_class(VICTIM, "bao", DB)
        yield arena
