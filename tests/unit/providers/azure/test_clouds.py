"""keyferry.providers.azure.clouds: where vaults live and who issues their tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import ClassInvalidError, PlatformError
from keyferry.providers.azure.clouds import (
    CLOUDS,
    AzureCloud,
    EnvironmentFile,
    check_default_cloud,
    find_cloud,
    parse_environment,
)

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
def test_each_cloud_has_its_vaults(name: str, host: str) -> None:
    """Names are compared without case; empty is the public cloud."""
    cloud = find_cloud(name, "")
    assert isinstance(cloud, AzureCloud)
    assert cloud.vault_host("testkv") == host


def test_every_cloud_has_its_own_authority() -> None:
    """Tokens of one cloud are nothing in another."""
    assert len({cloud.authority for cloud in CLOUDS}) == len(CLOUDS)


def test_an_unknown_cloud_is_an_error_that_lists_the_known_ones() -> None:
    """A typing error should be mended from the message alone."""
    with pytest.raises(
        ClassInvalidError, match="cloudName AzureCloud1 is not valid, error"
    ) as caught:
        find_cloud("AzureCloud1", "")
    assert "AzureUSGovernmentCloud" in caught.value.remedy


def test_azure_stack_stands_in_a_file() -> None:
    """The name alone says nothing; the file is read by the caller."""
    assert find_cloud("azurestackcloud", "/etc/cloud.json") == EnvironmentFile("/etc/cloud.json")


def test_azure_stack_without_a_file_is_an_error() -> None:
    """No process-wide setting fills in for it."""
    with pytest.raises(ClassInvalidError, match="cloudName AzureStackCloud is not valid, error"):
        find_cloud("AzureStackCloud", "")


def test_the_file_of_azure_stack_is_read() -> None:
    """Four keys count, others are ignored."""
    assert parse_environment(STACK, path="/etc/cloud.json") == AzureCloud(
        "AzureStackCloud",
        "vault.azure.net",
        "https://vault.azure.net",
        "https://login.microsoftonline.com",
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"keyVaultDNSSuffix"', b'"other"', "keys of a cloud"),
        (b"https://login", b"http://login", "activeDirectoryEndpoint is not an https URL"),
        (b"https://login", b"https://user@login", "activeDirectoryEndpoint is not an https URL"),
        (b"https://vault", b"http://vault", "keyVaultEndpoint is not an https URL"),
        (b'"vault.azure.net"', b'"vault.evil.test"', "is not the host of"),
        (b'"vault.azure.net"', b'"evilvault.azure.net"', "is not the host of"),
        (b'"vault.azure.net"', b'"evil.test/vault.azure.net"', "is not the host of"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(old: bytes, new: bytes, words: str) -> None:
    """Tokens must only go to https hosts of the resource that they are for."""
    with pytest.raises(ClassInvalidError, match=words):
        parse_environment(STACK.replace(old, new), path="/etc/cloud.json")


@given(st.binary() | st.text().map(str.encode))
def test_a_strange_file_is_an_error_that_quotes_nothing_of_it(content: bytes) -> None:
    """The class may name any file of the node, so its content stays out of messages."""
    with pytest.raises(ClassInvalidError) as caught:
        parse_environment(b"canary-1f0c" + content, path="/etc/shadow")
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
def test_the_resource_follows_from_the_host(host: str, resource: str) -> None:
    """A managed HSM has its own; a private endpoint has that of its vault."""
    assert CLOUDS[0].token_resource(host) == resource


@pytest.mark.parametrize("name", ["AzurePublicCloud", "AZURECHINACLOUD", "AzureStackCloud", ""])
def test_a_default_cloud_that_exists_is_taken(name: str) -> None:
    """Azure Stack too: each class then names its file."""
    check_default_cloud(name)


def test_a_default_cloud_that_does_not_exist_stops_the_start() -> None:
    """Before the first mount finds out."""
    with pytest.raises(PlatformError, match="--cloud-name: cloudName AzureCloud1 is not valid"):
        check_default_cloud("AzureCloud1")
