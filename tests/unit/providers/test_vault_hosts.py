"""keyferry.providers.registry: the vaults of a SecretProviderClass, as metrics name them."""

from __future__ import annotations

import pytest

from keyferry.kubernetes.objects import SecretProviderClass
from keyferry.providers.registry import vault_hosts

OTHER = "array:\n  - |\n    objectName: a\n    objectType: secret\n    keyvaultName: other\n"
OWN = "  - |\n    objectName: b\n    objectType: secret\n"


@pytest.mark.parametrize(
    ("provider", "parameters", "expected"),
    [
        ("azure", {"keyvaultName": "contoso"}, ["contoso.vault.azure.net"]),
        ("azure", {"keyvaultName": "contoso", "objects": OTHER}, ["other.vault.azure.net"]),
        (
            "azure",
            {"keyvaultName": "contoso", "objects": OTHER + OWN},
            ["contoso.vault.azure.net", "other.vault.azure.net"],
        ),
        (
            "azure",
            {"keyvaultName": "contoso", "cloudName": "AzureChinaCloud"},
            ["contoso.vault.azure.cn"],
        ),
        (
            "azure",
            {"keyvaultURL": "https://Hsm.managedhsm.azure.net:443/"},
            ["hsm.managedhsm.azure.net"],
        ),
        ("azure", {}, []),
        ("azure", {"keyvaultName": "contoso", "objects": "array: [keyvault"}, []),
        ("azure", {"keyvaultName": "a/b"}, []),
        ("azure", {"keyvaultName": "contoso", "cloudName": "AzureStackCloud"}, []),
        ("vault", {"vaultAddress": "https://Vault.example.com:8200/a"}, ["vault.example.com:8200"]),
        ("vault", {"vaultAddress": "https://vault.example.com"}, ["vault.example.com"]),
        (
            "vault",
            {"objects": "- {objectName: a, secretPath: b, vaultAddress: 'https://c:1'}"},
            ["c:1"],
        ),
        ("vault", {"objects": "- {vaultAddress: ["}, []),
        ("vault", {"vaultAddress": "no address"}, []),
        ("vault", {}, []),
        ("openbao", {"baoAddress": "http://127.0.0.1:8200"}, ["127.0.0.1:8200"]),
        ("aws", {"keyvaultName": "contoso"}, []),
    ],
)
def test_hosts(provider: str, parameters: dict[str, str], expected: list[str]) -> None:
    """Those of all entries; none if a parameter is malformed."""
    spc = SecretProviderClass("shop", "web", provider, parameters)
    assert expected == list(vault_hosts(spc))
