from __future__ import annotations

import pytest

from keyferry_devvault.clouds import (
    CLOUDS,
    LoginHost,
    UnknownHost,
    VaultHost,
    cloud_of_resource,
    parse_host,
    server_certificate_names,
)

PUBLIC = CLOUDS[0]


@pytest.mark.parametrize(
    ("host", "cloud", "vault"),
    [
        ("contoso.vault.azure.net", "AzurePublicCloud", "contoso"),
        ("Contoso.VAULT.azure.net:443", "AzurePublicCloud", "contoso"),
        ("kv.vault.usgovcloudapi.net", "AzureUSGovernmentCloud", "kv"),
        ("kv.vault.azure.cn", "AzureChinaCloud", "kv"),
        ("kv.vault.microsoftazure.de.", "AzureGermanCloud", "kv"),
        ("kv.vault.local", "AzureStackCloud", "kv"),
    ],
)
def test_a_vault_host_means_the_vault_of_its_cloud(host: str, cloud: str, vault: str) -> None:
    """Case, port and a final dot of the Host header do not matter."""
    station = parse_host(host)
    assert isinstance(station, VaultHost)
    assert (cloud, vault) == (station.cloud.name, station.vault)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_login_host_means_the_token_endpoint_of_its_cloud(cloud: object) -> None:
    """A cloud may have several login hosts."""
    for row in CLOUDS:
        if row is cloud:
            for host in row.login_hosts:
                assert LoginHost(row, host) == parse_host(host)


@pytest.mark.parametrize(
    "host", ["", "localhost:8443", "vault.azure.net", "a.b.vault.azure.net", "example.com"]
)
def test_other_hosts_are_unknown(host: str) -> None:
    """A vault name is one label in front of the suffix of its cloud."""
    assert isinstance(parse_host(host), UnknownHost)


@pytest.mark.parametrize("resource", ["https://vault.azure.net", "https://vault.azure.net/"])
def test_a_resource_means_its_cloud_with_or_without_a_slash(resource: str) -> None:
    """Clients write the resource in both ways."""
    assert PUBLIC == cloud_of_resource(resource)


def test_other_resources_belong_to_no_cloud() -> None:
    """Only vaults can be asked for."""
    assert cloud_of_resource("https://management.azure.com") is None


def test_the_certificate_covers_every_host() -> None:
    """Each login host by its name, each vault by the wildcard of its cloud."""
    names = server_certificate_names()
    for cloud in CLOUDS:
        assert {f"*.{cloud.vault_suffix}", *cloud.login_hosts} <= set(names)
