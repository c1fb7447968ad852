"""Who shares calls and values of a Key Vault, and who never does: every identity mode, counted.

For each mode there are two mounts of the same object that may not share, however alike they look,
and one that is the same as the first and does. The development vault counts what it is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyferry.errors import AccessDeniedError, IdentityError, KeyferryError, ObjectMissingError
from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import MountCall
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from keyferry_devvault.http_types import RequestKind
from tests.fakes.app_certificate import new_certificate
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, running_devvault

MI = "11111111-0000-4000-8000-000000000001"
OTHER_MI = "11111111-0000-4000-8000-000000000009"
APP = "22222222-0000-4000-8000-000000000002"
OTHER_APP = "22222222-0000-4000-8000-000000000009"
BOUND = "33333333-0000-4000-8000-000000000003"
MACHINE = "44444444-0000-4000-8000-000000000004"
STRANGER = "55555555-0000-4000-8000-000000000005"
WEB = "system:serviceaccount:shop:web"
ADMIN = "system:serviceaccount:shop:admin"
BINDING = "api://AKSIdentityBinding"
VALUE = b"canary-value"
FIRST, SECOND = new_certificate(), new_certificate()


@dataclass(frozen=True)
class World:
    """A vault that every identity below may read, and one provider for all."""

    vault: DevVault
    provider: AzureProvider

    async def value(self, call: MountCall) -> bytes:
        """What the one file of a mount holds."""
        return (await self.provider.mount(call)).files[0].contents

    async def refusal(self, call: MountCall) -> KeyferryError:
        """How a mount fails."""
        return await mount_error(self.provider, call)

    @property
    def calls(self) -> int:
        """How often the vault was asked for a secret."""
        return self.vault.count(RequestKind.SECRET)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "db-password", VALUE.decode())
        vault.set_secret("fabrikam", "db-password", VALUE.decode())
        for client in (APP, OTHER_APP):
            vault.add_app(client, tenant=DEFAULT_TENANT, secret=f"canary-{client}")
        for certificate in (FIRST, SECOND):
            vault.add_app_certificate(APP, certificate.certificate_pem)
        for subject in (WEB, ADMIN):
            vault.federate(APP, subject=subject)
        for client in (MI, OTHER_MI, BOUND):
            vault.add_managed_identity(client)
        vault.add_managed_identity(MACHINE, system_assigned=True)
        vault.assign_to_pods(MI, namespace="shop", pod="*")
        for subject in (WEB, ADMIN):
            vault.federate(BOUND, subject=subject, audience=BINDING)
        for client in (APP, OTHER_APP, MI, OTHER_MI, BOUND, MACHINE):
            vault.grant("contoso", client)
            vault.grant("fabrikam", client)
        https = HttpsClient(vault.emulator.https)
        provider = AzureProvider(
            https, Fetcher(ResilienceSettings(refresh_interval=120.0)), emulator=vault.emulator
        )
        try:
            yield World(vault, provider)
        finally:
            await provider.close()


def pod(parameters: dict[str, str], secrets: dict[str, str] | None = None) -> MountCall:
    """A mount of `db-password` for a pod of the service account `web`."""
    return call({POD_UID: "1"} | parameters, secrets=secrets)


def principal(client: str = APP) -> MountCall:
    return pod({}, {"clientid": client, "clientsecret": f"canary-{client}"})


def certified(number: int) -> MountCall:
    return pod({}, {"clientid": APP, "clientcertificate": (FIRST, SECOND)[number].pem()})


def workload(vault: DevVault, account: str = "web", lifetime: int = 3600) -> MountCall:
    token = vault.service_account_token(
        f"system:serviceaccount:shop:{account}", lifetime_seconds=lifetime
    )
    named = {SERVICE_ACCOUNT: account, POD_NAME: f"{account}-0"}
    return pod({"clientID": APP, SERVICE_ACCOUNT_TOKENS: token} | named)


def bound(vault: DevVault, account: str = "web", lifetime: int = 3600) -> MountCall:
    token = vault.service_account_token(
        f"system:serviceaccount:shop:{account}", audience=BINDING, lifetime_seconds=lifetime
    )
    parameters = {"useAzureTokenProxy": "true", "clientID": BOUND, SERVICE_ACCOUNT: account}
    return pod(parameters | {SERVICE_ACCOUNT_TOKENS: token})


def managed(client: str = MI) -> MountCall:
    return pod({"useVMManagedIdentity": "true", "userAssignedIdentityID": client})


def nmi(name: str = "web-0", uid: str = "1") -> MountCall:
    return pod({"usePodIdentity": "true", POD_NAME: name, POD_UID: uid})


def machine() -> MountCall:
    return pod({"useVMManagedIdentity": "true"})


def arc() -> MountCall:
    return pod({"useArcManagedIdentity": "true"})


def elsewhere(call: MountCall, **parameters: str) -> MountCall:
    """The same pod, but for these parameters of its class."""
    return MountCall({**call.attributes, **parameters}, call.secrets)


Make = Callable[[DevVault], MountCall]
PAIRS: dict[str, tuple[Make, Make, Make]] = {
    "two service principals": (
        lambda _: principal(),
        lambda _: principal(),
        lambda _: principal(OTHER_APP),
    ),
    "a service principal with its secret, and with a certificate": (
        lambda _: principal(),
        lambda _: principal(),
        lambda _: certified(0),
    ),
    "one service principal with two certificates": (
        lambda _: certified(0),
        lambda _: certified(0),
        lambda _: certified(1),
    ),
    "two user-assigned managed identities": (
        lambda _: managed(),
        lambda _: managed(),
        lambda _: managed(OTHER_MI),
    ),
    "a user-assigned managed identity and that of the machine": (
        lambda _: machine(),
        lambda _: machine(),
        lambda _: managed(),
    ),
    "two service accounts that one client trusts": (
        workload,
        lambda vault: workload(vault, lifetime=1800),
        lambda vault: workload(vault, "admin"),
    ),
    "two service accounts behind one identity binding": (
        bound,
        lambda vault: bound(vault, lifetime=1800),
        lambda vault: bound(vault, "admin"),
    ),
    "workload identity and identity binding of one service account": (
        workload,
        workload,
        bound,
    ),
    "two pods of pod identity": (lambda _: nmi(), lambda _: nmi(), lambda _: nmi("web-1")),
    "a pod of pod identity and a later one of its name": (
        lambda _: nmi(),
        lambda _: nmi(),
        lambda _: nmi(uid="2"),
    ),
    "an Arc machine and a virtual machine": (lambda _: arc(), lambda _: arc(), lambda _: machine()),
    "one identity in two vaults": (
        lambda _: managed(),
        lambda _: managed(),
        lambda _: elsewhere(managed(), keyvaultName="fabrikam"),
    ),
    "one identity in two clouds": (
        lambda _: principal(),
        lambda _: principal(),
        lambda _: elsewhere(principal(), cloudName="AzureUSGovernmentCloud"),
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
async def test_only_equal_identities_share(world: World, pair: str) -> None:
    """Neither in flight nor from the cache; two requests for three mounts."""
    one, same, other = (make(world.vault) for make in PAIRS[pair])
    values = await asyncio.gather(*(world.value(wanted) for wanted in (one, same, other)))
    assert ([VALUE] * 3, 2) == (values, world.calls)
    for wanted in (same, other, one):
        assert VALUE == await world.value(wanted)
    assert 2 == world.calls


async def test_wrong_client_secret_gets_no_cached_content(world: World) -> None:
    """An equal client ID is not an equal identity."""
    assert VALUE == await world.value(principal())
    wrong = pod({}, {"clientid": APP, "clientsecret": "canary-wrong"})
    assert isinstance(await world.refusal(wrong), IdentityError)
    assert 1 == world.calls


async def test_untrusted_service_account_gets_no_cached_content(world: World) -> None:
    """The client is the same, and the value is cached for another service account."""
    assert VALUE == await world.value(workload(world.vault))
    assert isinstance(await world.refusal(workload(world.vault, "intruder")), IdentityError)
    assert VALUE == await world.value(bound(world.vault))
    assert isinstance(await world.refusal(bound(world.vault, "intruder")), IdentityError)
    assert 2 == world.calls


async def test_refused_identity_gets_no_cached_content(world: World) -> None:
    """Others are not affected by its refusal."""
    world.vault.add_managed_identity(STRANGER)
    assert VALUE == await world.value(managed())
    assert isinstance(await world.refusal(managed(STRANGER)), AccessDeniedError)
    assert VALUE == await world.value(managed(OTHER_MI))


async def test_another_tenant_is_another_identity(world: World) -> None:
    """Even if the identity of the machine is the same."""
    other = elsewhere(managed(), tenantID="99999999-2222-4333-8444-555555555555")
    await asyncio.gather(world.value(managed()), world.value(other))
    assert 2 == world.calls


async def test_missing_object_is_requested_once_for_all_pods(world: World) -> None:
    """For a short time; each pod gets an error of its own."""
    bad = elsewhere(managed(), objects=managed().attributes["objects"].replace("db-", "no-"))
    errors = [await world.refusal(bad) for _ in range(5)]
    assert {ObjectMissingError} == {type(error) for error in errors}
    assert {1} == {error.full_problem.count("failed to mount objects") for error in errors}
    assert 1 == world.calls
