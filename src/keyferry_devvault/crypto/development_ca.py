"""The development CA and the server certificate, conforming to RFC 5280.

Newer versions of Python verify with `VERIFY_X509_STRICT`, which requires key usage, key
identifiers and critical basic constraints.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from keyferry.formats.private_files import write_private_file
from keyferry_devvault.clouds import server_certificate_names

if TYPE_CHECKING:
    from pathlib import Path

CA_FILE = "ca.pem"
_CA_KEY_FILE = "ca.key"
_SERVER_FILE = "server.pem"
_CA_DAYS = 3650
_SERVER_DAYS = 90
_RENEW_BEFORE = timedelta(days=180)
_BACKDATED = timedelta(minutes=5)


class CertificateAuthority(Struct, frozen=True):
    """A CA: its certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def write_server_certificate(folder: Path) -> Path:
    """Write a new certificate and its key, signed by the CA in `folder`; return the PEM file.

    The CA is created if it is missing, unreadable or about to expire.
    """
    now = datetime.now(UTC)
    authority = load_or_create_ca(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _issue_server_certificate(authority, key, now)
    path = folder / _SERVER_FILE
    write_private_file(path, _certificate_pem(certificate) + _key_pem(key))
    return path


def load_or_create_ca(folder: Path) -> CertificateAuthority:
    """Return the CA in `folder`; create it if it is missing, unreadable or about to expire."""
    now = datetime.now(UTC)
    return _load_ca(folder, now) or _create_ca(folder, now)


def _load_ca(folder: Path, now: datetime) -> CertificateAuthority | None:
    try:
        certificate = x509.load_pem_x509_certificate((folder / CA_FILE).read_bytes())
        key = serialization.load_pem_private_key((folder / _CA_KEY_FILE).read_bytes(), None)
    except (OSError, ValueError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    if key.public_key() != certificate.public_key():
        return None
    if certificate.not_valid_after_utc - now < _RENEW_BEFORE:
        return None
    return CertificateAuthority(certificate, key)


def _create_ca(folder: Path, now: datetime) -> CertificateAuthority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Keyferry development vault CA")])
    certificate = (
        _certificate_builder(name, name, key.public_key(), now, timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, SHA256())
    )
    write_private_file(folder / _CA_KEY_FILE, _key_pem(key))
    write_private_file(folder / CA_FILE, _certificate_pem(certificate))
    return CertificateAuthority(certificate, key)


def _issue_server_certificate(
    ca: CertificateAuthority, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.Certificate:
    names = [x509.DNSName(name) for name in server_certificate_names()]
    addresses = [x509.IPAddress(ip_address(text)) for text in ("127.0.0.1", "::1")]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Keyferry development vault")])
    issuer_key = ca.key.public_key()
    return (
        _certificate_builder(
            subject,
            ca.certificate.subject,
            key.public_key(),
            now,
            timedelta(days=_SERVER_DAYS),
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        .sign(ca.key, SHA256())
    )


def _certificate_builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
