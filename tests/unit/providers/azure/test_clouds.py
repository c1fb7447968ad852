"""keyferry.providers.azure.clouds: where vaults live and who issues their tokens."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import ClassInvalidError, PlatformError
from keyferry.providers.azure.cloud_file import (
    UnreadableEnvironmentError,
    misspelled_environment_keys,
    parse_environment,
    read_environment_file,
)
from keyferry.providers.azure.clouds import (
    CLOUDS,
    AzureCloud,
    EnvironmentFile,
    check_default_cloud,
    find_cloud,
)
from keyferry.providers.class_files import ClassFiles
from keyferry.providers.restrictions import ClassRestrictions
from tests.fakes.descriptors import spare_descriptors

STACK = b"""{
  "name": "AzureStackCloud",
  "activeDirectoryEndpoint": "https://login.microsoftonline.com/",
  "keyVaultEndpoint": "https://vault.azure.net/",
  "keyVaultDNSSuffix": "vault.azure.net",
  "resourceManagerEndpoint": "https://management.azure.com/"
}"""


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("", "testkv.vault.azure.net"),
        ("AzurePublicCloud", "testkv.vault.azure.net"),
        ("AZUREPUBLICCLOUD", "testkv.vault.azure.net"),
        ("AzureUSGovernmentCloud", "testkv.vault.usgovcloudapi.net"),
        ("azureusgovernmentcloud", "testkv.vault.usgovcloudapi.net"),
        ("AzureChinaCloud", "testkv.vault.azure.cn"),
        ("AZURECHINACLOUD", "testkv.vault.azure.cn"),
        ("AzureGermanCloud", "testkv.vault.microsoftazure.de"),
        ("AzureGERMANCloud", "testkv.vault.microsoftazure.de"),
    ],
)
def test_each_cloud_has_its_vault_domain(name: str, host: str) -> None:
    """Names are not case-sensitive; empty is the public cloud."""
    cloud = find_cloud(name, "")
    assert isinstance(cloud, AzureCloud)
    assert cloud.vault_host("testkv") == host


def test_every_cloud_has_its_own_authority() -> None:
    """Tokens of one cloud are invalid in another."""
    assert len({cloud.authority for cloud in CLOUDS}) == len(CLOUDS)


def test_unknown_cloud_is_an_error_with_the_known_clouds() -> None:
    """The message is enough to fix a typo."""
    with pytest.raises(
        ClassInvalidError, match="cloudName AzureCloud1 is not valid, error"
    ) as caught:
        find_cloud("AzureCloud1", "")
    assert "AzureUSGovernmentCloud" in caught.value.remedy


def test_azure_stack_refers_to_its_file() -> None:
    """The caller reads the file."""
    assert find_cloud("azurestackcloud", "/etc/cloud.json") == EnvironmentFile("/etc/cloud.json")


def test_azure_stack_without_a_file_is_an_error() -> None:
    """There is no process-wide default."""
    with pytest.raises(ClassInvalidError, match="cloudName AzureStackCloud is not valid, error"):
        find_cloud("AzureStackCloud", "")


def test_azure_stack_file_is_parsed() -> None:
    """Unknown keys are ignored."""
    assert parse_environment(STACK, path="/etc/cloud.json") == AzureCloud(
        "AzureStackCloud",
        "vault.azure.net",
        "https://vault.azure.net",
        "https://login.microsoftonline.com",
        from_class=True,
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"https://login", b"http://login", "activeDirectoryEndpoint is not an https URL"),
        (b"https://login", b"https://user@login", "activeDirectoryEndpoint is not an https URL"),
        (b"https://vault", b"http://vault", "keyVaultEndpoint is not an https URL"),
        (b'"vault.azure.net"', b'"vault.evil.test"', "is not the host of"),
        (b'"vault.azure.net"', b'"evilvault.azure.net"', "is not the host of"),
        (b'"vault.azure.net"', b'"evil.test/vault.azure.net"', "is not the host of"),
    ],
)
def test_inconsistent_azure_stack_file_is_rejected(old: bytes, new: bytes, words: str) -> None:
    """Tokens are sent only to https hosts of the resource that they are for."""
    with pytest.raises(ClassInvalidError, match=words):
        parse_environment(STACK.replace(old, new), path="/etc/cloud.json")


def test_case_of_the_keys_does_not_matter() -> None:
    """As in upstream, which is written in Go."""
    assert parse_environment(STACK, path="/c") == parse_environment(
        STACK.replace(b"activeDirectoryE", b"ActiveDirectorye").replace(b"keyVaultD", b"KEYVAULTd"),
        path="/c",
    )


def test_misspelled_keys_are_found() -> None:
    """A required one is named in the reason; only it, because the file may be another one."""
    wrong = STACK.replace(b"keyVaultEndpoint", b"keyvaultEndpont")
    with pytest.raises(UnreadableEnvironmentError, match=r"; you wrote keyvaultEndpont$"):
        parse_environment(wrong, path="/c")
    more = STACK.replace(b'"name"', b'"other2"')
    more = more.replace(b"{", b'{"nam": "x", "tokenAudience": "x", "other": {}, ', 1)
    assert [("nam", "name")] == [
        (field.name, field.suggestion) for field in misspelled_environment_keys(more)
    ]


@given(st.binary() | st.text().map(str.encode))
def test_malformed_cloud_file_is_an_error_without_its_content(content: bytes) -> None:
    """A SecretProviderClass may name a file that describes something else."""
    for begin in (b"canary-1f0c", b'{"canary-1f0c": 1}'):
        with pytest.raises(UnreadableEnvironmentError) as caught:
            parse_environment(begin + content, path="/etc/shadow")
        assert "canary-1f0c" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "resource"),
    [
        ("contoso.vault.azure.net", "https://vault.azure.net"),
        ("contoso.privatelink.vaultcore.azure.net", "https://vault.azure.net"),
        ("Contoso.ManagedHSM.azure.net", "https://managedhsm.azure.net"),
        ("contoso.notmanagedhsm.azure.net", "https://vault.azure.net"),
    ],
)
def test_token_resource_is_derived_from_the_host(host: str, resource: str) -> None:
    """A managed HSM has its own; a private endpoint has the one of its vault."""
    assert CLOUDS[0].token_resource(host) == resource


@pytest.mark.parametrize("name", ["AzurePublicCloud", "AZURECHINACLOUD", "AzureStackCloud", ""])
def test_known_default_cloud_is_accepted(name: str) -> None:
    """Also Azure Stack: each SecretProviderClass then names its file."""
    check_default_cloud(name)


def test_unknown_default_cloud_is_rejected_at_start() -> None:
    """The first mount would be too late."""
    with pytest.raises(PlatformError, match="--cloud-name: cloudName AzureCloud1 is not valid"):
        check_default_cloud("AzureCloud1")


async def test_lack_of_descriptors_is_no_fault_of_the_file(tmp_path: Path) -> None:
    """The remedy would be to correct the SecretProviderClass."""
    path = tmp_path / "cloud.json"
    path.write_bytes(STACK)
    class_files = ClassFiles(ClassRestrictions(file_folders=(str(tmp_path),)))
    file = EnvironmentFile(str(path))
    assert "vault.azure.net" == (await read_environment_file(file, class_files)).vault_suffix
    with spare_descriptors(0), pytest.raises(OSError, match="Too many open files") as caught:
        await read_environment_file(file, class_files)
    assert errno.EMFILE == caught.value.errno
