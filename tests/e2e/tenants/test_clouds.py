"""Azure Key Vault: clouds that a tenant describes itself, at a token endpoint that all share."""

from __future__ import annotations

import json

from tests.e2e.tenants.keyvault import APP, AzureArena, azure_parameters, object_of


def cloud(authority: str) -> str:
    """Return a cloud with this token endpoint."""
    return json.dumps(
        {
            "name": "AzureStackCloud",
            "activeDirectoryEndpoint": authority,
            "keyVaultEndpoint": "https://vault.azure.net/",
            "keyVaultDNSSuffix": "vault.azure.net",
            "resourceIdentifiers": {"keyVault": "https://vault.azure.net"},
        }
    )


async def test_cloud_of_a_tenant_counts_for_nobody_else(azure: AzureArena) -> None:
    """A cloud file in an own ConfigMap volume is not read; one of the administrator is separate."""
    permitted = azure.class_files / "cloud.json"
    permitted.write_text(cloud("https://login.microsoftonline.com:444/"))
    volume = azure.attacker.pod("own")
    own = azure.attacker.folder_in_pod(volume, "configmap", "c") / "a"
    own.write_text(permitted.read_text())
    pods = []
    for name, path in (("own", own), ("permitted", permitted), ("none", own.with_name("b"))):
        azure.attacker.put_class(
            name,
            provider="azure",
            parameters=azure_parameters(
                "attacker",
                object_of("db"),
                cloudName="AzureStackCloud",
                cloudEnvFileName=str(path),
            ),
        )
        pods += [azure.attacker.pod(name, secrets=APP["attacker"]) for _ in range(4)]
    async with azure.attack(victim=azure.azure_volume):
        texts = {
            (await azure.publish(azure.attacker.pod(name, secrets=APP["attacker"]))).replace(
                str(path), "PATH"
            )
            for name, path in (("own", own), ("none", own.with_name("b")))
        }
        await azure.publish_repeatedly(pods, seconds=3)
    assert 1 == len(texts)
    assert "" not in texts


async def test_rejected_applications_count_for_nobody_else(azure: AzureArena) -> None:
    """Unknown applications, secrets and tenants, from many Pods at once."""
    azure.attacker.put_class(
        "unknown", provider="azure", parameters=azure_parameters("attacker", object_of("db"))
    )
    azure.attacker.put_class(
        "foreign", provider="azure", parameters=azure_parameters("victim", object_of("db"))
    )
    credentials = [
        {"clientid": f"cccccccc-0000-4000-8000-{number:012}", "clientsecret": "x"}
        for number in range(10)
    ]
    credentials += [{**APP["attacker"], "clientsecret": f"wrong-{n}"} for n in range(5)]
    pods = [azure.attacker.pod("unknown", secrets=each) for each in credentials]
    pods += [azure.attacker.pod("foreign", secrets=APP["attacker"]) for _ in range(5)]
    async with azure.attack(victim=azure.azure_volume):
        assert "" not in await azure.publish_repeatedly(pods, seconds=3)
