"""Key material that costs much CPU time to read, from each place where a tenant can put it."""

from __future__ import annotations

import base64
import os

from keyferry_devvault.model import SecretAttributes
from tests.e2e.tenants import hostile_keys as keys
from tests.e2e.tenants.arena import Arena
from tests.e2e.tenants.keyvault import APP, AzureArena, azure_parameters, object_of
from tests.e2e.tenants.tls_victim import VICTIMS_KEY, tls_secret, tls_victim
from tests.e2e.vault.classes import entry


def pkcs12_files() -> dict[str, bytes]:
    """Return hostile PKCS #12 by name."""
    return {
        "cipher-count": keys.pkcs12_with_cipher_count(),
        "mac-count": keys.pkcs12_with_mac_count(),
        "hidden-count": keys.pkcs12_with_hidden_count(),
        "many-layers": keys.pkcs12_with_many_layers(),
        "truncated": keys.pkcs12_with_cipher_count()[:-5],
        "random": b"\x30\x82\xff\xff" + os.urandom(1000),
    }


def pem_files() -> dict[str, str]:
    """Return hostile PEM by name, each at most 1 MiB in JSON."""
    small = keys.certificate_pem(VICTIMS_KEY)
    key = keys.key_pem(VICTIMS_KEY)
    certificates = {
        f"rsa-{bits}": keys.certificate_pem(rsa) + keys.key_pem(rsa)
        for bits in (8192, 16384)
        for rsa in [keys.rsa_key(bits)]
    }
    return certificates | {
        "many-certificates": small * (900_000 // len(small)) + key,
        "many-keys": small + key * (900_000 // len(key)),
        "empty-certificates": keys.pem("CERTIFICATE", b"\x30\x00") * 10_000 + key,
        "encrypted": small + keys.encrypted_key_pem(keys.pbkdf2(keys.HUGE_COUNT)),
        "scrypt": small + keys.encrypted_key_pem(keys.scrypt(1 << 20, 8, 1 << 12)),
        "scrypt-memory": small + keys.encrypted_key_pem(keys.scrypt(1 << 30, 1 << 10, 1)),
        "legacy": small + keys.legacy_encrypted_key_pem(),
        "unfinished": "-----BEGIN CERTIFICATE-----\n" * 30_000,
        "dashes": "-" * 900_000,
    }


async def test_key_material_in_a_tls_secret(arena: Arena) -> None:
    """Every hostile file in a Secret of type kubernetes.io/tls, four Pods each at once."""
    files = pem_files() | {
        name: base64.b64encode(content).decode() for name, content in pkcs12_files().items()
    }
    volumes = []
    for name, text in files.items():
        (arena.files / name).write_text(text)
        arena.attacker.put_class(
            name, entry(name, f"file/{name}", "value"), secret_objects=tls_secret(name, name)
        )
        volumes += [arena.attacker.pod(name) for _ in range(4)]
    async with arena.attack(victim=tls_victim(arena)):
        await arena.publish_repeatedly(volumes, seconds=5, growth=2)


async def test_binary_pkcs12_in_a_tls_secret(arena: Arena) -> None:
    """PKCS #12 that the SecretProviderClass decodes from base64, in ten Pods each at once."""
    volumes = []
    for name, content in pkcs12_files().items():
        (arena.files / name).write_text(base64.b64encode(content).decode())
        arena.attacker.put_class(
            name,
            entry(name, f"file/{name}", "value", encoding="base64"),
            secret_objects=tls_secret(name, name),
        )
        volumes += [arena.attacker.pod(name) for _ in range(10)]
    async with arena.attack(victim=tls_victim(arena)):
        await arena.publish_repeatedly(volumes, seconds=5, growth=2)


async def test_client_certificate_of_a_vault(arena: Arena) -> None:
    """Every hostile PEM as tls.key and tls.crt of the nodePublishSecretRef Secret."""
    arena.attacker.put_class(
        "cert",
        entry("a", "value/a", "value"),
        parameters={"vaultAuthMethod": "cert", "vaultAddress": "https://127.0.0.1:1"},
    )
    small = keys.certificate_pem(VICTIMS_KEY)
    volumes = [
        arena.attacker.pod("cert", secrets={"tls.crt": small, "tls.key": text})
        for text in pem_files().values()
    ]
    volumes += [
        arena.attacker.pod("cert", secrets={"tls.crt": text, "tls.key": text})
        for text in pem_files().values()
    ]
    async with arena.attack(victim=tls_victim(arena)):
        results = await arena.publish_repeatedly(volumes, seconds=5, growth=2)
    assert "" not in results


async def test_pkcs12_from_a_key_vault(azure: AzureArena) -> None:
    """Certificates of the attacker's own Key Vault, rendered in each format."""
    volumes = []
    for number, (name, content) in enumerate(pkcs12_files().items()):
        azure.keyvault.data.secrets.set(
            "attacker",
            name,
            base64.b64encode(content).decode(),
            SecretAttributes(content_type="application/x-pkcs12"),
            certificate_version=f"{number:032x}",
        )
        for form in ("pem", "pfx"):
            azure.attacker.put_class(
                f"{name}-{form}",
                provider="azure",
                parameters=azure_parameters("attacker", object_of(name, objectFormat=form)),
            )
            volumes += [
                azure.attacker.pod(f"{name}-{form}", secrets=APP["attacker"]) for _ in range(3)
            ]
    async with azure.attack(victim=azure.azure_volume):
        await azure.publish_repeatedly(volumes, seconds=5, growth=2)


async def test_client_certificate_of_an_application(azure: AzureArena) -> None:
    """Every hostile file as `clientcertificate` of the nodePublishSecretRef Secret."""
    azure.attacker.put_class(
        "certificate", provider="azure", parameters=azure_parameters("attacker", object_of("a"))
    )
    texts = [*pem_files().values()]
    texts += [base64.b64encode(content).decode() for content in pkcs12_files().values()]
    volumes = [
        azure.attacker.pod(
            "certificate",
            secrets={"clientid": APP["attacker"]["clientid"], "clientcertificate": text},
        )
        for text in texts
        for _ in range(3)
    ]
    async with azure.attack(victim=azure.azure_volume):
        await azure.publish_repeatedly(volumes, seconds=5, growth=2)


async def test_other_key_material_in_each_pod(arena: Arena) -> None:
    """Eighty Pods whose PKCS #12 files differ, so that no file is known from another Pod."""
    volumes = []
    for number in range(80):
        name = f"hidden-{number}"
        content = base64.b64encode(keys.pkcs12_with_hidden_count()).decode()
        (arena.files / name).write_text(content)
        arena.attacker.put_class(
            name,
            entry(name, f"file/{name}", "value", encoding="base64"),
            secret_objects=tls_secret(name, name),
        )
        volumes.append(arena.attacker.pod(name))
    async with arena.attack(victim=tls_victim(arena)):
        await arena.publish_repeatedly(volumes, seconds=5, growth=2)
