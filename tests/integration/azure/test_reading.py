"""keyferry.providers.azure against the development vault: objects that become files."""

from __future__ import annotations

import asyncio

from keyferry.content import ObjectVersion, SecretFile
from keyferry.providers.azure.provider import AzureProvider
from keyferry_devvault.http_types import RequestKind
from tests.fakes.azure_mounts import call, entry
from tests.fakes.devvault import DevVault, Hang
from tests.integration.azure.calls import PRINCIPAL, STRANGER, VALUE, VAULT, VM, workload


async def test_secret_is_delivered_as_a_file(vault: DevVault, provider: AzureProvider) -> None:
    """The path is the alias, the ID has the name of the object, the mode is set by the entry."""
    version = vault.set_secret("contoso", "db-password", "new")
    wanted = call(VM, entry(objectAlias="SECRET_1", filePermission="0640"))
    result = await provider.mount(wanted)
    assert (ObjectVersion("secret/db-password", version),) == result.versions
    assert (SecretFile("SECRET_1", 0o640, b"new"),) == result.files


async def test_every_identity_mode_reads(vault: DevVault, provider: AzureProvider) -> None:
    """User-assigned, system-assigned, service principal, workload identity."""
    vault.add_managed_identity(STRANGER, system_assigned=True)
    vault.grant("contoso", STRANGER)
    calls = [
        call(VM),
        call({"useVMManagedIdentity": "true"}),
        call({}, secrets=PRINCIPAL),
        call(workload(vault)),
    ]
    for wanted in calls:
        result = await provider.mount(wanted)
        assert [file.contents for file in result.files] == [VALUE.encode()]


async def test_requested_version_is_delivered(vault: DevVault, provider: AzureProvider) -> None:
    """Not the current one."""
    old = vault.set_secret("contoso", "db-password", "old")
    vault.set_secret("contoso", "db-password", "new")
    result = await provider.mount(call(VM, entry(objectVersion=old)))
    assert (ObjectVersion("secret/db-password", old),) == result.versions
    assert (SecretFile("db-password", 0o644, b"old"),) == result.files


async def test_encoded_values_are_decoded(vault: DevVault, provider: AzureProvider) -> None:
    """Base64 and hex become bytes; other values are unchanged."""
    vault.set_secret("contoso", "b", "QmFzZTY0RW5jb2RlZFN0cmluZw==")
    vault.set_secret("contoso", "h", "486578456E636F646564537472696E67")
    wanted = call(
        VM,
        entry("b", objectEncoding="base64"),
        entry("h", objectEncoding="HEX"),
        entry("b", objectAlias="raw"),
    )
    result = await provider.mount(wanted)
    assert [file.contents for file in result.files] == [
        b"Base64EncodedString",
        b"HexEncodedString",
        b"QmFzZTY0RW5jb2RlZFN0cmluZw==",
    ]


async def test_files_have_the_order_of_the_entries(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Whatever the order of the responses."""
    names = [f"secret-{number}" for number in range(30)]
    for name in names:
        vault.set_secret("contoso", name, name)
    result = await provider.mount(call(VM, *map(entry, names)))
    assert [file.path for file in result.files] == names
    assert [file.contents.decode() for file in result.files] == names


async def test_one_object_in_two_files_is_fetched_once(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Two aliases, one request."""
    await provider.mount(call(VM, entry(), entry(objectAlias="b")))
    assert vault.count(RequestKind.SECRET) == 1


async def test_slow_object_does_not_delay_the_others(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Requests are concurrent: nine responses arrive while the first is pending."""
    names = [f"s{number}" for number in range(10)]
    for name in names:
        vault.set_secret("contoso", name, "x")
    vault.add_fault(f"{VAULT}/secrets/s0", Hang(), times=None)
    running = asyncio.create_task(provider.mount(call(VM, *map(entry, names))))
    try:
        while vault.count(RequestKind.SECRET, status=200) < 9:
            assert not running.done()
            await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled()


async def test_version_of_the_provider(provider: AzureProvider) -> None:
    """The protocol version and upstream's name."""
    version = await provider.version()
    assert version.api_version == "v1alpha1"
    assert version.runtime_name == "secrets-store-csi-driver-provider-azure"
