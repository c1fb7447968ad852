"""keyferry.providers.azure.vault_address: names, URLs, and where a token may go."""

from __future__ import annotations

import pytest

from keyferry.errors import ClassInvalidError
from keyferry.providers.azure.clouds import CLOUDS
from keyferry.providers.azure.vault_address import VaultAddress, parse_vault_address


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.name)
def test_name_is_a_host_in_each_cloud(cloud: object) -> None:
    """With the domain of the cloud."""
    found = next(known for known in CLOUDS if known is cloud)
    assert f"testkv.{found.vault_suffix}" == parse_vault_address("testkv", "").netloc_in(found)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://Shop.managedhsm.azure.net/", VaultAddress("shop", "shop.managedhsm.azure.net")),
        ("https://shop.vault.azure.net:8443", VaultAddress("shop", "shop.vault.azure.net:8443")),
        ("https://localhost:8443", VaultAddress("localhost", "localhost:8443")),
        ("https://127.0.0.1:8443", VaultAddress("127.0.0.1", "127.0.0.1:8443")),
        ("https://[::1]:8443", VaultAddress("[::1]", "[::1]:8443")),
    ],
)
def test_url_is_used_with_its_host_and_port(url: str, address: VaultAddress) -> None:
    """Not case-sensitive; the first label is the name of the vault in messages."""
    found = parse_vault_address("", url)
    assert (address, address.netloc) == (found, found.netloc_in(CLOUDS[0]))


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.vault.azure.net",
        "https://",
        "https://user@shop.vault.azure.net",
        "https://shop.vault.azure.net/secrets",
        "https://shop.vault.azure.net?x=1",
        "https://shop.vault.azure.net#x",
        "https://shop.vault.azure.net:0",
        "https://shop.vault.azure.net:65536",
        "https://shop vault.azure.net",
        "shop.vault.azure.net",
    ],
)
def test_url_with_other_parts_is_rejected(url: str) -> None:
    """They would change where requests are sent."""
    with pytest.raises(ClassInvalidError, match="keyvaultURL is not an https URL"):
        parse_vault_address("", url)


@pytest.mark.parametrize(
    "host", ["shop.example.com", "vault.azure.net.example.com", "xvault.azure.net", "10.0.0.1"]
)
def test_url_outside_of_the_cloud_is_rejected(host: str) -> None:
    """The author of a SecretProviderClass must not get a token of the node."""
    address = parse_vault_address("", f"https://{host}")
    with pytest.raises(ClassInvalidError, match="not a host of AzurePublicCloud"):
        address.netloc_in(CLOUDS[0])


def test_name_and_url_conflict() -> None:
    """The message names both keys."""
    with pytest.raises(ClassInvalidError, match="keyvaultName and keyvaultURL are both set"):
        parse_vault_address("shop", "https://shop.vault.azure.net")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kv", "must be between 3 and 24 chars"),
        ("k" * 25, "must be between 3 and 24 chars"),
        ("kv_test", "must match"),
    ],
)
def test_invalid_name_is_rejected(name: str, words: str) -> None:
    """Upstream's texts."""
    with pytest.raises(ClassInvalidError, match=words):
        parse_vault_address(name, "")
