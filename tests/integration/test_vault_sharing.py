"""Which mounts share requests and values: every auth method, counted.

For each auth method there are two mounts of the same object that must not share, however similar
they are, and one that equals the first and shares. The vault counts its requests.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from keyferry.errors import IdentityError
from keyferry.providers.api import MountCall
from keyferry.records import replace
from keyferry.resilience.call_context import Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.certificates import IssuedCertificate, issue_certificate, new_ec_key
from tests.fakes.clock import ManualClock
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_auth import FakeToken
from tests.fakes.vault_certificates import SERVER_NAME_PARAMETER, VaultCertificates
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts

PATH = "secret/data/app/db"
POLICY = {"secret/data/app/*": {"read"}}
DB = entry("db", PATH, secretKey="password")
VALUE = b"canary-1"


@dataclass(frozen=True)
class World:
    """A vault that all identities of this module may read, and one provider for all.

    Attributes:
        vault: the vault.
        mounts: creates the mount calls.
        certificates: CA of the vault.
        clients: two client certificates that may log in.
    """

    vault: VaultApi
    mounts: VaultMounts
    certificates: VaultCertificates
    clients: list[IssuedCertificate] = field(default_factory=list)

    def call(
        self, pod: str = "web-0", account: str = "shop/web", secret: Any = None, **over: str
    ) -> MountCall:
        """Return the mount call of a pod."""
        found = FakePod(pod, account, over.pop("token_for", "vault"))
        parameters: dict[str, Any] = {
            **SERVER_NAME_PARAMETER,
            "vaultCACertPath": str(self.certificates.ca),
            **over,
        }
        return replace(self.mounts.call(DB, pod=found, **parameters), secrets=secret)

    async def value(self, call: MountCall, purpose: Purpose = Purpose.FIRST) -> bytes:
        """Return the content of the only file of a mount."""
        result = await self.mounts.provider.mount(replace(call, purpose=purpose))
        return result.files[0].contents

    @property
    def calls(self) -> int:
        """Return the number of requests for the object."""
        return self.vault.request_count(PATH)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = VaultCertificates(tmp_path)
    settings = ResilienceSettings(refresh_interval=120.0, tracks_volumes=True)
    fetcher = Fetcher(settings, ManualClock())  # no refresh slot passes
    async with (
        running_vault(context=made.context(wants_client=True)) as vault,
        vault_mounts(vault, fetcher=fetcher) as mounts,
    ):
        vault.write("secret", "app/db", {"password": VALUE.decode()})
        for mount, kind in (("kubernetes", ""), ("other", "kubernetes"), ("jwt", "")):
            for role in ("app", "second"):
                accounts = ["shop/web", "shop/admin", "bank/web"]
                vault.add_role(
                    role, mount=mount, kind=kind, accounts=accounts, policy=POLICY, audience=""
                )
        for number in "12":
            secret = (f"role-{number}", f"canary-secret-{number}")
            vault.add_role(f"app-{number}", mount="approle", policy=POLICY, secret=secret)
            vault.tokens[f"canary-token-{number}"] = FakeToken(POLICY, 0, float("inf"), False)
        for role in ("role-1", "role-3"):
            pair = (role, "canary-same")
            vault.add_role(f"same-{role}", mount="approle", policy=POLICY, secret=pair)
        vault.add_role("third", mount="approle", policy=POLICY, secret=("role-1", "canary-third"))
        clients = [
            issue_certificate(f"client-{number}", new_ec_key(), made.authority) for number in "12"
        ]
        for client in clients:
            der = client.certificate.public_bytes(Encoding.DER)
            fingerprint = hashlib.sha256(der).hexdigest()
            vault.add_role(
                client.pem.decode(), mount="cert", policy=POLICY, fingerprint=fingerprint
            )
        yield World(vault, mounts, made, clients)
        await fetcher.close()


Make = Callable[[World], MountCall]


def approle(role: str, secret: str, pod: str = "web-0") -> Make:
    given = {"role_id": role, "secret_id": secret}
    return lambda world: world.call(pod, secret=given, vaultAuthMethod="approle", roleName="")


def token(text: str, pod: str = "web-0") -> Make:
    return lambda world: world.call(
        pod, secret={"token": text}, vaultAuthMethod="token", roleName=""
    )


def certificate(index: int, pod: str = "web-0", role: str = "") -> Make:
    def make(world: World) -> MountCall:
        client = world.clients[index]
        given = {"tls.crt": client.pem.decode(), "tls.key": client.key_pem.decode()}
        return world.call(pod, secret=given, vaultAuthMethod="cert", roleName=role)

    return make


def pod(name: str = "web-0", account: str = "shop/web", **over: str) -> Make:
    return lambda world: world.call(name, account, **over)


PAIRS: dict[str, tuple[Make, Make, Make]] = {
    # The first, one that is the same, and one that is not.
    "kubernetes: service account": (pod(), pod("web-1"), pod("admin-0", "shop/admin")),
    "kubernetes: namespace of the pod": (pod(), pod("web-1"), pod("web-2", "bank/web")),
    "kubernetes: role": (pod(), pod("web-1"), pod("web-2", roleName="second")),
    "kubernetes: auth mount": (pod(), pod("web-1"), pod("web-2", vaultAuthMountPath="other")),
    "kubernetes: audience": (
        pod(),
        pod("web-1"),
        pod("web-2", audience="else", token_for="else"),
    ),
    "kubernetes: certificate is not checked": (
        pod(),
        pod("web-1"),
        pod("web-2", vaultSkipTLSVerify="true"),
    ),
    "jwt: pod": (
        pod(vaultAuthMountPath="jwt"),
        pod(vaultAuthMountPath="jwt"),
        pod("web-1", vaultAuthMountPath="jwt"),
    ),
    "jwt: service account": (
        pod(vaultAuthMountPath="jwt"),
        pod(vaultAuthMountPath="jwt"),
        pod(account="shop/admin", vaultAuthMountPath="jwt"),
    ),
    "approle: secret id": (
        approle("role-1", "canary-secret-1"),
        approle("role-1", "canary-secret-1", "web-1"),
        approle("role-1", "canary-third", "web-2"),
    ),
    "approle: role id": (
        approle("role-1", "canary-same"),
        approle("role-1", "canary-same", "web-1"),
        approle("role-3", "canary-same", "web-2"),
    ),
    "token": (
        token("canary-token-1"),
        token("canary-token-1", "web-1"),
        token("canary-token-2", "web-2"),
    ),
    "cert: certificate": (certificate(0), certificate(0, "web-1"), certificate(1, "web-2")),
    "cert: role": (certificate(0), certificate(0, "web-1"), certificate(0, "web-2", "app")),
}


@pytest.mark.parametrize("pair", PAIRS)
async def test_only_equal_identities_share(world: World, pair: str) -> None:
    """Neither requests in flight nor cached values, for first mounts and refreshes."""
    one, same, other = (make(world) for make in PAIRS[pair])
    values = await asyncio.gather(*(world.value(call) for call in (one, same, other)))
    assert ([VALUE] * 3, 2) == (values, world.calls)
    for purpose in Purpose:
        for call in (same, other, one):
            assert VALUE == await world.value(call, purpose)
    assert 2 == world.calls


async def test_namespaces_never_share(world: World) -> None:
    """The same path leads to another secret."""
    assert VALUE == await world.value(pod()(world))
    world.vault.namespace = "team"
    assert VALUE == await world.value(pod("web-1", vaultNamespace="team")(world))
    assert 2 == world.calls


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (approle("role-1", "canary-secret-1"), approle("role-1", "canary-wrong")),
        (pod(), pod(account="shop/intruder")),
        (pod(vaultAuthMountPath="jwt"), pod(account="x/web", vaultAuthMountPath="jwt")),
    ],
)
async def test_denied_identity_gets_no_cached_secret(
    world: World, right: Make, wrong: Make
) -> None:
    """However similar the identities are."""
    assert VALUE == await world.value(right(world))
    for purpose in Purpose:
        with pytest.raises(IdentityError):
            await world.value(wrong(world), purpose)
    assert 1 == world.calls


async def test_unknown_token_gets_no_cached_secret(world: World) -> None:
    """A token needs no login, so the vault has not verified it before the cache lookup."""
    assert VALUE == await world.value(token("canary-token-1")(world))
    with pytest.raises(Exception, match="permission denied"):
        await world.value(token("canary-wrong")(world))
