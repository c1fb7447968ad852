"""The certificates of a cluster: one certificate authority, and the certificates that it signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=7)
_USAGES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


class Authority:
    """A certificate authority whose certificates and keys are files in one folder.

    Attributes:
        certificate: the PEM file of the authority.
        key: the PEM file of its key, which the cluster also signs with.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("keyferry-cluster")
        self.certificate = folder / "ca.crt"
        self.key = folder / "ca.key"
        own = (
            _builder(self._name, self._key.public_key())
            .issuer_name(self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate.write_bytes(own.public_bytes(Encoding.PEM))
        _write_key(self.key, self._key)

    def issue(
        self,
        name: str,
        *,
        user: str,
        group: str = "",
        addresses: tuple[str, ...] = (),
        lifetime: timedelta = _LIFE,
    ) -> tuple[Path, Path]:
        """Issue a certificate for servers and clients.

        Args:
            name: of the two files.
            user: the common name, which Kubernetes uses as the name of the user.
            group: the organisation, which Kubernetes uses as a group of the user.
            addresses: host names and IP addresses.
            lifetime: negative for a certificate that expired a moment ago.

        Returns:
            The files of the certificate and of its key.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usages = x509.ExtendedKeyUsage(_USAGES)
        builder = (
            _builder(_name(user, group), key.public_key(), lifetime)
            .issuer_name(self._name)
            .add_extension(usages, critical=False)
        )
        if addresses:
            names = x509.SubjectAlternativeName([_general_name(text) for text in addresses])
            builder = builder.add_extension(names, critical=False)
        certificate, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        signed = builder.sign(self._key, hashes.SHA256())
        certificate.write_bytes(signed.public_bytes(Encoding.PEM))
        _write_key(key_file, key)
        return certificate, key_file


def write_token_keys(folder: Path) -> tuple[Path, Path]:
    """Write the private and the public key of service account tokens.

    The keys are RSA keys, because every verifier of such tokens supports RS256.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, public = folder / "service-accounts.key", folder / "service-accounts.pub"
    _write_key(private, key)
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def _builder(
    name: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    lifetime: timedelta = _LIFE,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + lifetime)
    )


def _name(common_name: str, organisation: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
