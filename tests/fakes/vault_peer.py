"""What a test suite does to a vault, whichever vault it is; and certificates to put into it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from keyferry.azure.provider import AzureProvider
from keyferry.contract import POD_NAME, POD_NAMESPACE, MountCall, MountResult

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class VaultPeer(Protocol):
    """A running vault that lets one identity do everything."""

    provider: AzureProvider
    """Reaches the vault."""
    parameters: Mapping[str, str]
    """What a class says of vault and identity."""
    says_disabled: bool
    """Whether it tells a disabled version from one that is not there."""

    async def set_secret(self, name: str, value: str) -> str:
        """Store a new version, a second later than the last one; return its id."""

    async def create_key(self, name: str, kind: str, curve: str) -> str:
        """Make a new version of a key; return its id."""

    async def import_certificate(self, name: str, content: bytes, content_type: str) -> str:
        """Take a self-signed certificate out of PEM or PKCS#12; return its id."""

    async def disable(self, collection: str, name: str, version: str) -> None:
        """Disable one version of a secret or key."""

    async def delete(self, collection: str, name: str) -> None:
        """Delete an object."""


def entry(type_: str, name: str, **fields: str | int) -> str:
    """One item of `objects`."""
    return json.dumps({"objectType": type_, "objectName": name} | fields)


async def mount(vault: VaultPeer, *entries: str) -> MountResult:
    """A mount of these entries."""
    pod = {POD_NAME: "web-0", POD_NAMESPACE: "shop"}
    objects = json.dumps({"array": entries})
    return await vault.provider.mount(MountCall({**pod, "objects": objects, **vault.parameters}))


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def pkcs12(self, *others: x509.Certificate) -> bytes:
        """With these certificates, base64 as vaults keep it."""
        content = pkcs12.serialize_key_and_certificates(
            None, self.key, self.certificate, others, NoEncryption()
        )
        return base64.b64encode(content)


def new_ec() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def new_rsa() -> PrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def issue(
    name: str,
    key: PrivateKey,
    signer: Issued | None = None,
    *,
    authority: bool = False,
    identifiers: bool = True,
    hosts: Sequence[str] = ("test.domain.com",),
    until: timedelta = timedelta(days=30),
) -> Issued:
    """A certificate of `name`, signed by `signer` or by itself, that ends `until` from now."""
    issuer = signer.certificate.subject if signer else _name(name)
    signing = signer.key if signer else key
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + until)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if identifiers:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
        builder = builder.add_extension(own, critical=False).add_extension(theirs, critical=False)
    if not authority:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return Issued(builder.sign(signing, hashes.SHA256()), key)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
