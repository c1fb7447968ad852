"""Certificates with their keys: create, parse and format. [pure]"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from keyferry.errors import RequestInvalidError
from keyferry.formats.base64url import encode_base64url
from keyferry_devvault.crypto.key_material import PrivateKey, key_pem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

PEM_TYPE = "application/x-pem-file"
PKCS12_TYPE = "application/x-pkcs12"
_VALIDITY_DAYS = 365


@dataclass(frozen=True, slots=True)
class CertificateMaterial:
    """A certificate with its key and its chain.

    Attributes:
        key: the key of the first certificate.
        certificates: the leaf, then the others in their original order.
    """

    key: PrivateKey = field(repr=False)
    certificates: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        """Return the certificate of the key."""
        return self.certificates[0]


@dataclass(frozen=True, slots=True)
class Signer:
    """A CA that signs certificates."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)


def issue_certificate(
    common_name: str, key: PrivateKey, *, hosts: Sequence[str], now: datetime, signer: Signer | None
) -> CertificateMaterial:
    """Create a certificate that is valid for one year.

    Args:
        common_name: its common name.
        key: its key.
        hosts: its DNS names.
        now: start of its validity.
        signer: its issuer; None for a self-signed certificate.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    issuer = subject if signer is None else signer.certificate.subject
    signing = key if signer is None else signer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=10))
        .not_valid_after(now + timedelta(days=_VALIDITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
            critical=False,
        )
    )
    if hosts:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(signing, SHA256())
    return CertificateMaterial(
        key, (certificate,) if signer is None else (certificate, signer.certificate)
    )


def parse_material(content: bytes, password: str | None) -> tuple[CertificateMaterial, str]:
    """Parse a certificate with its key, and return it with its content type.

    Args:
        content: PEM, PKCS#12, or either in base64.
        password: the password of PKCS#12, if any.

    Raises:
        RequestInvalidError: the content has no certificate or no RSA or EC key.
    """
    if b"-----BEGIN " not in content:
        # Microsoft's clients wrap PEM in base64, too.
        with suppress(binascii.Error):
            content = base64.b64decode(b"".join(content.split()), validate=True)
    if b"-----BEGIN " in content:
        key, certificates = _parse_pem(content)
        kind = PEM_TYPE
    else:
        key, certificates = _parse_pkcs12(content, password)
        kind = PKCS12_TYPE
    if not isinstance(key, PrivateKey) or not certificates:
        raise RequestInvalidError(
            "it holds no certificate with an unencrypted RSA or EC key",
            "Pass PEM with the key (PKCS#8) and the certificates, or PKCS#12.",
        )
    return CertificateMaterial(key, certificates), kind


def secret_value(material: CertificateMaterial, content_type: str) -> str:
    """Return the secret of a certificate: PEM with the key first, or PKCS#12 in base64.

    Raises:
        RequestInvalidError: the content type is unknown.
    """
    if content_type == PEM_TYPE:
        certificates = (
            certificate.public_bytes(serialization.Encoding.PEM).decode()
            for certificate in material.certificates
        )
        return key_pem(material.key) + "".join(certificates)
    if content_type == PKCS12_TYPE:
        content = pkcs12.serialize_key_and_certificates(
            None,
            material.key,
            material.leaf,
            material.certificates[1:],
            serialization.NoEncryption(),
        )
        return base64.b64encode(content).decode()
    raise RequestInvalidError(
        f"there is no content type {content_type[:60]!r}", f"Use {PEM_TYPE} or {PKCS12_TYPE}."
    )


def certificate_pem(der: bytes) -> str:
    """Return one certificate in PEM."""
    certificate = x509.load_der_x509_certificate(der)
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def thumbprint(certificate: x509.Certificate) -> str:
    """Return `x5t`: the SHA-1 digest of the DER in base64url, as Key Vault shows it."""
    digest = certificate.fingerprint(SHA1())  # noqa: S303 - the API says so
    return encode_base64url(digest)


def _parse_pem(content: bytes) -> tuple[object, tuple[x509.Certificate, ...]]:
    try:
        key = serialization.load_pem_private_key(content, None)
        return key, tuple(x509.load_pem_x509_certificates(content))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None, ()


def _parse_pkcs12(
    content: bytes, password: str | None
) -> tuple[object, tuple[x509.Certificate, ...]]:
    try:
        key, leaf, others = pkcs12.load_key_and_certificates(
            content, password.encode() if password else None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None, ()
    return key, (*((leaf,) if leaf else ()), *others)
