"""keyferry.providers.azure against the development vault: objects that become files."""

from __future__ import annotations

import asyncio

from keyferry.providers.api import MountResult, ObjectVersion, SecretFile
from keyferry.providers.azure.provider import AzureProvider
from keyferry_devvault.http_types import RequestKind
from tests.fakes.azure_mounts import call, entry
from tests.fakes.devvault import DevVault, Hang
from tests.integration.azure.calls import PRINCIPAL, STRANGER, VALUE, VAULT, VM, workload


async def test_a_secret_becomes_a_file(vault: DevVault, provider: AzureProvider) -> None:
    """The path is the alias, the id the object's own name, the mode what the class says."""
    version = vault.set_secret("contoso", "db-password", "new")
    wanted = call(VM, entry(objectAlias="SECRET_1", filePermission="0640"))
    assert await provider.mount(wanted) == MountResult(
        (ObjectVersion("secret/db-password", version),),
        (SecretFile("SECRET_1", 0o640, b"new"),),
    )


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


async def test_a_requested_version_is_the_one_that_comes(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Others are left alone."""
    old = vault.set_secret("contoso", "db-password", "old")
    vault.set_secret("contoso", "db-password", "new")
    result = await provider.mount(call(VM, entry(objectVersion=old)))
    assert result == MountResult(
        (ObjectVersion("secret/db-password", old),), (SecretFile("db-password", 0o644, b"old"),)
    )


async def test_encodings_are_undone(vault: DevVault, provider: AzureProvider) -> None:
    """base64 and hex become bytes, everything else stays."""
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


async def test_files_come_in_the_order_of_the_class(
    vault: DevVault, provider: AzureProvider
) -> None:
    """However the answers race."""
    names = [f"secret-{number}" for number in range(30)]
    for name in names:
        vault.set_secret("contoso", name, name)
    result = await provider.mount(call(VM, *map(entry, names)))
    assert [file.path for file in result.files] == names
    assert [file.contents.decode() for file in result.files] == names


async def test_one_object_in_two_files_is_fetched_once(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Two aliases, one call."""
    await provider.mount(call(VM, entry(), entry(objectAlias="b")))
    assert vault.count(RequestKind.SECRET) == 1


async def test_a_slow_object_does_not_hold_up_the_others(
    vault: DevVault, provider: AzureProvider
) -> None:
    """All are fetched at the same time: nine answers come while the first is still awaited."""
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


async def test_the_version_is_told(provider: AzureProvider) -> None:
    """The protocol's version and upstream's name."""
    version = await provider.version()
    assert version.api_version == "v1alpha1"
    assert version.runtime_name == "secrets-store-csi-driver-provider-azure"
