"""What is in the vault that all stacks read, and who may read it."""

from __future__ import annotations

import base64
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from keyferry_devvault.model import SecretAttributes
from tests.compat.stacks import PAIRINGS
from tests.fakes.certificates import IssuedCertificate, issue_certificate, new_ec_key, new_rsa_key
from tests.fakes.devvault import DEFAULT_TENANT, CertificateSpec, DevVault

VAULT = "contoso"
LOAD_VAULT = "fabrikam"
"""Another one, which is empty at first and may be throttled."""
TENANT = DEFAULT_TENANT
APP = "22222222-0000-4000-8000-000000000001"
APP_SECRET = "the client secret of the app"
STRANGER = "22222222-0000-4000-8000-000000000002"
"""An app with the same client secret that may read nothing."""
FEDERATED = "22222222-0000-4000-8000-000000000003"
"""An app that the service account of the pods stands for."""
SUBJECT = "system:serviceaccount:PAIRING:web"
MACHINE = "11111111-0000-4000-8000-000000000001"

PEM = "application/x-pem-file"
PKCS12 = "application/x-pkcs12"


@dataclass(frozen=True)
class Contents:
    """What a class, or a test, must know of it.

    Attributes:
        versions: of each object, the newest first, by what pod statuses call it. The third one of
            the secret `history` is disabled.
        p256k_pem: the public key `key-p-256k`.
        parts: certificate and private key as PEM, of the secrets kept as PKCS#12.
    """

    versions: Mapping[str, tuple[str, ...]]
    p256k_pem: bytes
    parts: Mapping[str, tuple[bytes, bytes]]

    @staticmethod
    def id_of(name: str) -> str:
        """What pod statuses call the secret or key of that name."""
        return f"key/{name}" if name.startswith("key-") else f"secret/{name}"


UNKNOWN = Contents(defaultdict(lambda: ("?",) * 9), b"", defaultdict(lambda: (b"", b"")))
"""Stands for the contents where only the names of cases matter."""


def fill(vault: DevVault, folder: Path) -> Contents:
    """Put everything in; `folder` takes files on the way."""
    _identities(vault)
    texts = {
        "plain": "s3cret",
        "other": "another s3cret",
        "empty": " ",
        "letters": 'Größe \u2603 <&> "quoted"',
        "lines": "first\nsecond\n",
        "big": "0123456789abcdef" * 1600,
        "base64": "QmFzZTY0RW5jb2RlZFN0cmluZw==",
        "base64-binary": "AAECA/9/",
        "hex": "486578456E636F646564537472696E67",
        "docker": '{"auths":{"registry.test":{"auth":"dTpw"}}}',
        "no-base64": "%%%",
        "removed": "was here",
        "off": "switched off",
    }
    for name, text in texts.items():
        vault.set_secret(VAULT, name, text)
    vault.delete(VAULT, "removed")
    vault.disable(VAULT, "off")
    versions = _history(vault)
    vault.disable(VAULT, "history", versions[2])
    parts = _certificates(vault, folder)
    for principal in (APP, FEDERATED, MACHINE):
        vault.grant(VAULT, principal, "get", "list")
    _keys(vault)
    found: dict[str, tuple[str, ...]] = {}
    for secret in vault.data.secrets.latest(VAULT):
        rows = vault.data.secrets.versions(VAULT, secret.name)
        found[f"secret/{secret.name}"] = tuple(row.version for row in reversed(rows))
    for key in vault.data.vault_keys.latest(VAULT):
        keys = vault.data.vault_keys.versions(VAULT, key.name)
        found[f"key/{key.name}"] = tuple(row.version for row in reversed(keys))
    found["secret/history"] = versions
    return Contents(found, _public_pem(vault, "key-p-256k"), parts)


def _identities(vault: DevVault) -> None:
    vault.add_app(APP, tenant=TENANT, secret=APP_SECRET)
    vault.add_app(STRANGER, tenant=TENANT, secret=APP_SECRET)
    vault.add_app(FEDERATED, tenant=TENANT, secret=None)
    for pairing in PAIRINGS:
        vault.federate(FEDERATED, subject=SUBJECT.replace("PAIRING", pairing.name))
    vault.add_managed_identity(MACHINE)


def _history(vault: DevVault) -> tuple[str, ...]:
    """Versions a second apart: their times have whole seconds, and decide about their order."""
    versions = []
    for number in range(5):
        if number:
            time.sleep(1)
        versions.append(vault.set_secret(VAULT, "history", f"version-{number}"))
    return tuple(reversed(versions))


def _keys(vault: DevVault) -> None:
    for _ in range(2):
        vault.create_key(VAULT, "key-rsa", "RSA")
        time.sleep(1)
    vault.create_key(VAULT, "key-hsm", "RSA-HSM")
    for curve in ("P-256", "P-384", "P-521", "P-256K"):
        vault.create_key(VAULT, f"key-{curve.lower()}", "EC", curve=curve)


def _public_pem(vault: DevVault, name: str) -> bytes:
    pem = str(vault.data.vault_keys.get(VAULT, name).document["pem"])
    public = load_pem_private_key(pem.encode(), None).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _certificates(vault: DevVault, folder: Path) -> dict[str, tuple[bytes, bytes]]:
    parts = {}
    for kind in ("RSA", "EC"):
        wish = CertificateSpec(hosts=["web.test"], kind=kind, content_type=PEM)
        vault.create_certificate(VAULT, f"pem-{kind.lower()}", wish)
        key = new_rsa_key() if kind == "RSA" else new_ec_key()
        made = issue_certificate("web.test", key)
        parts[f"pfx-{kind.lower()}"] = (made.pem, made.key_pem)
        _set_backed(vault, f"pfx-{kind.lower()}", PKCS12, _as_key_vault_packs(made, (), folder))
    root = issue_certificate("root", new_ec_key(), is_ca=True)
    middle = issue_certificate("middle", new_ec_key(), root, is_ca=True)
    leaf = issue_certificate("leaf", new_rsa_key(), middle)
    for name, others in {"chain": (root, middle), "chain-broken": (root,)}.items():
        _set_backed(vault, name, PKCS12, _as_key_vault_packs(leaf, others, folder))
    _set_backed(vault, "pem-lonely", PEM, (new_key_of_nobody() + leaf.pem).decode())
    _set_backed(vault, "pfx-modern", PKCS12, _packed(leaf, (), folder, *MODERN))
    parts["pfx-modern"] = (leaf.pem, leaf.key_pem)
    _set_backed(vault, "backed-oddly", "text/plain", "x")
    vault.set_secret(VAULT, "pem-unreadable", (UNREADABLE_KEY + leaf.pem).decode())
    return parts


UNREADABLE_KEY = (
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"
)


def new_key_of_nobody() -> bytes:
    """A private key that no certificate is made for."""
    return issue_certificate("nobody", new_ec_key()).key_pem


def _set_backed(vault: DevVault, name: str, content_type: str, value: str) -> None:
    """Store the secret behind a certificate, as it is."""
    attributes = SecretAttributes(enabled=True, content_type=content_type)
    vault.data.secrets.set(VAULT, name, value, attributes, certificate_version=token_hex(16))


def _as_key_vault_packs(
    made: IssuedCertificate, others: tuple[IssuedCertificate, ...], folder: Path
) -> str:
    """PKCS#12 with the ciphers of Key Vault and an empty password, which we cannot write."""
    return _packed(made, others, folder, *LEGACY)


LEGACY = ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1")
MODERN = ("-keypbe", "AES-256-CBC", "-certpbe", "AES-256-CBC", "-macalg", "sha256")


def _packed(
    made: IssuedCertificate, others: tuple[IssuedCertificate, ...], folder: Path, *ciphers: str
) -> str:
    """Base64 text of PKCS#12."""
    pem = folder / "packed.pem"
    pem.write_bytes(made.key_pem + made.pem + b"".join(other.pem for other in others))
    command = ["openssl", "pkcs12", "-export", "-in", str(pem), "-passout", "pass:", *ciphers]
    return base64.b64encode(
        subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    ).decode()
