"""Keys and certificates that cost far more to read than to make, on every way into the node."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.tenants import hostile_keys as keys
from tests.e2e.tenants.arena import Arena
from tests.e2e.tenants.keyvault import APP, AzureArena, azure_parameters, object_of
from tests.e2e.tenants.tls_victim import tls_secret, tls_victim
from tests.e2e.vault.classes import entry

OWN_KEY = ec.generate_private_key(ec.SECP256R1())


def text(content: bytes) -> str:
    """Return PKCS #12 as vaults keep it."""
    return base64.b64encode(content).decode()


def with_certificate(key: str) -> str:
    return key + keys.certificate_pem(OWN_KEY)


HOSTILE: dict[str, Callable[[], str]] = {
    "iterations of the contents": lambda: text(keys.pkcs12_with_cipher_count()),
    "iterations of the MAC": lambda: text(keys.pkcs12_with_mac_count()),
    "iterations behind encryption": lambda: text(keys.pkcs12_with_hidden_count()),
    "many layers": lambda: text(keys.pkcs12_with_many_layers(20)),
    "RSA 16384": lambda: with_certificate(keys.key_pem(keys.rsa_key(16384))),
    "RSA 8192": lambda: keys.key_pem(keys.rsa_key(8192)) + keys.certificate_pem(keys.rsa_key(8192)),
    "iterations of PEM": lambda: with_certificate(
        keys.encrypted_key_pem(keys.pbkdf2(keys.HUGE_COUNT))
    ),
    "memory of scrypt": lambda: with_certificate(
        keys.encrypted_key_pem(keys.scrypt(1 << 24, 8, 1))
    ),
    "time of scrypt": lambda: with_certificate(keys.encrypted_key_pem(keys.scrypt(2, 1, 1 << 28))),
    "PEM of RFC 1421": lambda: with_certificate(keys.legacy_encrypted_key_pem()),
}


async def test_secrets_of_type_tls_delay_nobody(arena: Arena) -> None:
    """From any provider: the vault is the attacker's own."""
    pods = []
    for number, make in enumerate(HOSTILE.values()):
        (arena.files / f"{number}.pem").write_text(make())
        name = f"tls-{number}"
        arena.attacker.put_class(
            name,
            entry(name, f"file/{number}.pem", "value"),
            secret_objects=tls_secret(name, name),
        )
        pods += [arena.attacker.pod(name) for _ in range(2)]
    async with arena.attack(victim=tls_victim(arena)):
        await arena.publish_repeatedly(pods, seconds=8)


async def test_certificates_of_applications_delay_nobody(azure: AzureArena) -> None:
    """From the nodePublishSecretRef Secret, with and without a password."""
    azure.attacker.put_class(
        "own", provider="azure", parameters=azure_parameters("attacker", object_of("db"))
    )
    pods = []
    for make in HOSTILE.values():
        for password in ({}, {"clientcertificatepassword": "x"}):
            certificate = {"clientcertificate": make(), **password}
            secrets = {"clientid": APP["attacker"]["clientid"], **certificate}
            pods.append(azure.attacker.pod("own", secrets=secrets))
    async with azure.attack(victim=azure.azure_volume):
        assert "" not in await azure.publish_repeatedly(pods, seconds=8)


@pytest.mark.parametrize("kind", ["iterations of PEM", "memory of scrypt", "RSA 16384"])
async def test_client_certificates_for_vaults_delay_nobody(arena: Arena, kind: str) -> None:
    """OpenSSL would read the key with an empty password."""
    content = HOSTILE[kind]()
    address = arena.attacker.address.replace("http://", "https://")
    arena.attacker.put_class(
        "cert",
        entry("a", "value/a", "value"),
        parameters={"vaultAddress": address, "vaultAuthMethod": "cert"},
    )
    secrets = {"tls.crt": keys.certificate_pem(OWN_KEY), "tls.key": content}
    pods = [arena.attacker.pod("cert", secrets=secrets) for _ in range(8)]
    async with arena.attack(victim=tls_victim(arena)):
        results = await arena.publish_repeatedly(pods, seconds=5)
    assert results
    assert all("tls.crt and tls.key of the pod's Secret" in result for result in results)
