"""X.509 certificates and keys for tests."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class IssuedCertificate:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def pkcs12(self, *others: x509.Certificate) -> bytes:
        """Return a PKCS #12 bundle in base64, as Key Vault stores it.

        Args:
            others: further certificates to add to the bundle.
        """
        content = pkcs12.serialize_key_and_certificates(
            None, self.key, self.certificate, others, NoEncryption()
        )
        return base64.b64encode(content)


def new_ec_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def new_rsa_key() -> PrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def issue_certificate(
    common_name: str,
    key: PrivateKey,
    signer: IssuedCertificate | None = None,
    *,
    is_ca: bool = False,
    key_identifiers: bool = True,
    hosts: Sequence[str] = ("test.domain.com",),
    valid_for: timedelta = timedelta(days=30),
) -> IssuedCertificate:
    """Issue a certificate for `common_name`, signed by `signer` or self-signed."""
    issuer = signer.certificate.subject if signer else _common_name(common_name)
    signing = signer.key if signer else key
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_common_name(common_name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + valid_for)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if key_identifiers:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
        builder = builder.add_extension(own, critical=False).add_extension(theirs, critical=False)
    if not is_ca:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return IssuedCertificate(builder.sign(signing, hashes.SHA256()), key)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
