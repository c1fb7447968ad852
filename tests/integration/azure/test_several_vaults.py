"""Objects of several Key Vaults in one SecretProviderClass."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from keyferry.accesses import AccessOutcome, VaultAccess
from keyferry.errors import ClassInvalidError, IdentityError
from keyferry.net.addresses import AddressPattern
from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import MountCall
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.restrictions import ClassRestrictions
from keyferry.resilience.call_context import Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from keyferry_devvault.http_types import RequestKind
from tests.fakes.azure_mounts import call, entry, mount_error
from tests.fakes.clock import AutojumpClock, ManualClock
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, RespondStatus
from tests.integration.azure.calls import APP, MI, STRANGER, SUBJECT, VM, provider_for, workload

OTHER_TENANT = "99999999-2222-4333-8444-555555555555"
OTHER_APP = "22222222-0000-4000-8000-000000000009"
CONTOSO, FABRIKAM = "contoso.vault.azure.net", "fabrikam.vault.azure.net"
OTHER = entry("api-key", keyvaultName="fabrikam")


@pytest.fixture(autouse=True)
def fabrikam(vault: DevVault) -> None:
    """A second vault with `api-key`, which MI and APP may read."""
    vault.set_secret("fabrikam", "api-key", "canary-key")
    for principal in (MI, APP):
        vault.grant("fabrikam", principal)


@pytest.fixture
def passing() -> ManualClock:
    """The time of the cache."""
    return ManualClock()


@pytest.fixture
def fetcher(passing: ManualClock) -> Fetcher:
    """A cache with refresh slots."""
    return Fetcher(ResilienceSettings(refresh_interval=120.0, tracks_volumes=True), passing)


@pytest.fixture
async def caching(vault: DevVault, fetcher: Fetcher) -> AsyncIterator[AzureProvider]:
    """A provider with that cache."""
    made = AzureProvider(HttpsClient(vault.emulator.https), fetcher)
    try:
        yield made
    finally:
        await made.close()
        await fetcher.close()


def volume(*entries: str, purpose: Purpose = Purpose.FIRST) -> MountCall:
    """A call for a volume with these objects."""
    made = call(VM, *entries)
    return MountCall(made.attributes, target_path="/pods/1/volumes/v/mount", purpose=purpose)


def recorded(
    accesses: tuple[VaultAccess, ...],
) -> list[tuple[str, list[tuple[str, AccessOutcome]]]]:
    return [
        (access.vault, [(each.name, each.outcome) for each in access.objects])
        for access in accesses
    ]


async def test_objects_keep_their_order_and_share_one_token(
    vault: DevVault, provider: AzureProvider
) -> None:
    """One object in two entries is read once."""
    again = entry("api-key", objectAlias="again", keyvaultName="fabrikam")
    result = await provider.mount(call(VM, OTHER, entry(), again))
    assert [(file.path, file.contents) for file in result.files] == [
        ("api-key", b"canary-key"),
        ("db-password", b"canary-value"),
        ("again", b"canary-key"),
    ]
    assert ["fabrikam/secret/api-key", "contoso/secret/db-password", "fabrikam/secret/api-key"] == [
        version.id for version in result.versions
    ]
    assert (1, 2) == (vault.count(RequestKind.IMDS), vault.count(RequestKind.SECRET))


async def test_audit_log_has_each_object_with_its_vault(provider: AzureProvider) -> None:
    """By its name in the vault."""
    result = await provider.mount(call(VM, OTHER, entry()))
    delivered = AccessOutcome.DELIVERED
    assert recorded(result.accesses) == [
        (FABRIKAM, [("secret/api-key", delivered)]),
        (CONTOSO, [("secret/db-password", delivered)]),
    ]


async def test_entry_can_have_a_client_and_a_tenant_of_its_own(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The service account of the pod is exchanged for both."""
    vault.set_secret("overseas", "token", "canary-token")
    vault.add_app(OTHER_APP, tenant=OTHER_TENANT, secret=None)
    vault.federate(OTHER_APP, subject=SUBJECT)
    vault.grant("overseas", OTHER_APP)
    own = entry("token", keyvaultName="overseas", tenantID=OTHER_TENANT, clientID=OTHER_APP)
    result = await provider.mount(call(workload(vault), entry(), own))
    assert [b"canary-value", b"canary-token"] == [file.contents for file in result.files]
    assert 2 == vault.count(RequestKind.TOKEN)
    identities = [dict(access.identity) for access in result.accesses]
    assert [(DEFAULT_TENANT, APP), (OTHER_TENANT, OTHER_APP)] == [
        (identity["tenantID"], identity["clientID"]) for identity in identities
    ]


async def test_refused_identity_of_one_vault_names_the_objects_that_it_reads(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The other vault is read all the same, and the audit log has both."""
    own = entry("api-key", keyvaultName="fabrikam", clientID=STRANGER)
    more = entry("more", keyvaultName="fabrikam", clientID=STRANGER)
    error = await mount_error(provider, call(VM, entry(), own, more))
    assert isinstance(error, IdentityError)
    assert error.problem.startswith(
        f"secret api-key of vault fabrikam: the managed identity with client ID {STRANGER} is not"
    )
    assert error.problem.endswith("; also failed: secret more of vault fabrikam")
    assert recorded(error.accesses) == [
        (CONTOSO, [("secret/db-password", AccessOutcome.DELIVERED)]),
        (
            FABRIKAM,
            [("secret/api-key", AccessOutcome.DENIED), ("secret/more", AccessOutcome.DENIED)],
        ),
    ]


async def test_unavailable_vault_is_named_with_its_objects(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Its failures do not count against the other one."""
    vault.add_fault(FABRIKAM, RespondStatus(500), times=None)
    error = await mount_error(provider, call(VM, entry(), OTHER))
    assert error.problem == (
        f"failed to read secret api-key from vault fabrikam: {FABRIKAM} failed with status 500"
    )
    assert "db-password" not in error.problem
    await provider.mount(call(VM))


async def test_stale_content_is_reported_by_vault(
    vault: DevVault, caching: AzureProvider, passing: ManualClock
) -> None:
    """A pod that starts gets the new content of the vault that answers."""
    await caching.mount(volume(entry(), OTHER))
    await passing.advance(100.0)
    vault.set_secret("contoso", "db-password", "canary-new")
    vault.add_fault(FABRIKAM, RespondStatus(503), times=None)
    result = await passing.run(caching.mount(volume(entry(), OTHER)))
    assert [b"canary-new", b"canary-key"] == [file.contents for file in result.files]
    assert [FABRIKAM] == [content.vault for content in result.stale]


async def test_volume_has_one_refresh_slot_for_each_identity(
    vault: DevVault, caching: AzureProvider, fetcher: Fetcher
) -> None:
    """It keeps what both vaults gave, until an entry is removed."""
    vault.add_managed_identity(STRANGER)
    vault.grant("fabrikam", STRANGER)
    own = entry("api-key", keyvaultName="fabrikam", clientID=STRANGER)
    target = volume().target_path
    await caching.mount(volume(entry(), own))
    assert 2 == len(fetcher.refresh_slots(target))
    await caching.mount(volume(entry(), OTHER))
    assert 1 == len(fetcher.refresh_slots(target))


async def test_permitted_addresses_apply_to_entries(vault: DevVault, clock: AutojumpClock) -> None:
    """An entry may not name what the SecretProviderClass may not."""
    restrictions = ClassRestrictions(vault_addresses=(AddressPattern(CONTOSO, 443),))
    async with provider_for(vault.emulator.https, clock, restrictions=restrictions) as provider:
        await provider.mount(call(VM))
        error = await mount_error(provider, call(VM, entry(), OTHER))
    assert isinstance(error, ClassInvalidError)
    assert FABRIKAM in error.problem
