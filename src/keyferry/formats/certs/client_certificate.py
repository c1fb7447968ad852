"""A certificate with its RSA key, with which a client signs its token requests. [pure]

No message repeats a byte of the contents, nor does it chain a foreign exception whose text could.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from keyferry.errors import SecretDataError
from keyferry.formats.base64url import encode_base64url
from keyferry.formats.certs.loading import check_loaded_key, load_certificate, load_private_key
from keyferry.formats.certs.pem import (
    CERTIFICATE,
    PRIVATE_KEY_SUFFIX,
    PemBlock,
    encode_block,
    pem_blocks,
)
from keyferry.formats.certs.pkcs12 import open_pkcs12
from keyferry.formats.certs.unrecognized import pem_damage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate


@dataclass(frozen=True, slots=True)
class AssertionRequest:
    """A request to sign a JSON Web Token with a certificate.

    Attributes:
        certificate: PEM with certificate and private key, or PKCS#12.
        password: the password of the private key; empty for none.
        claims: the claims as JSON.
        legacy: whether to sign with RS256 and to name the SHA-1 thumbprint, for AD FS; otherwise
            with PS256 and SHA-256.
    """

    certificate: bytes = field(repr=False)
    password: bytes = field(repr=False)
    claims: bytes
    legacy: bool = False


def sign_assertion(request: AssertionRequest) -> str:
    """Return a signed JSON Web Token that identifies the certificate by its thumbprint.

    Raises:
        SecretDataError: the certificate cannot be used, see `read_client_certificate`.
    """
    certificate = read_client_certificate(request.certificate, request.password)
    if request.legacy:
        header = {"alg": "RS256", "x5t": encode_base64url(certificate.sha1)}
    else:
        header = {"alg": "PS256", "x5t#S256": encode_base64url(certificate.sha256)}
    head = msgspec.json.encode({"typ": "JWT"} | header)
    signed = f"{encode_base64url(head)}.{encode_base64url(request.claims)}"
    sign = certificate.sign_rs256 if request.legacy else certificate.sign_ps256
    return f"{signed}.{encode_base64url(sign(signed.encode()))}"


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Signs in the name of a certificate.

    Attributes:
        sha1: the digest of the certificate (RFC 7515, section 4.1.7).
        sha256: the same (section 4.1.8).
    """

    key: RSAPrivateKey = field(repr=False)
    sha1: bytes
    sha256: bytes

    def sign_ps256(self, data: bytes) -> bytes:
        """The signature PS256 (RFC 7518, section 3.5)."""
        from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
        from cryptography.hazmat.primitives.hashes import SHA256

        return self.key.sign(data, PSS(MGF1(SHA256()), SHA256.digest_size), SHA256())

    def sign_rs256(self, data: bytes) -> bytes:
        """The signature RS256 (RFC 7518, section 3.3)."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        return self.key.sign(data, PKCS1v15(), SHA256())


def read_client_certificate(contents: bytes, password: bytes) -> ClientCertificate:
    """The certificate that belongs to the private key in `contents`, with that key.

    Args:
        contents: PEM with both, in any order, or PKCS#12.
        password: of the private key; empty for none.

    Raises:
        SecretDataError: the key does not open, is missing or not RSA, or no certificate fits it.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256

    read = _read_pem if b"-----BEGIN" in contents else _read_pkcs12
    key, certificates = read(contents, password or None)
    if key is None and (damage := pem_damage(contents)):
        raise SecretDataError(f"it {damage.problem}", damage.remedy)
    if not isinstance(key, RSAPrivateKey):
        kind = "no private key" if key is None else "a private key that is not RSA"
        raise SecretDataError(f"it holds {kind}", "Put certificate and RSA private key into it.")
    certificate = _matching_certificate(key, certificates)
    sha1 = certificate.fingerprint(SHA1())  # noqa: S303 - a name, which AD FS knows it by
    return ClientCertificate(key, sha1, certificate.fingerprint(SHA256()))


def _read_pem(
    contents: bytes, password: bytes | None
) -> tuple[PrivateKeyTypes | None, list[Certificate]]:
    from cryptography.exceptions import UnsupportedAlgorithm

    blocks = pem_blocks(contents, "it")
    keys = [block for block in blocks if block.label.endswith(PRIVATE_KEY_SUFFIX)]
    if not keys:
        return None, []
    try:
        key = _load_key(keys[0], password)
    except TypeError:
        # Whether there is a password and whether the key is encrypted do not go together.
        raise _password_error(has_password=password is not None) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _unreadable_error(has_password=password is not None) from None
    try:
        return key, [
            load_certificate(block.der, "it") for block in blocks if block.label == CERTIFICATE
        ]
    except ValueError:
        return key, []


def _load_key(block: PemBlock, password: bytes | None) -> PrivateKeyTypes:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not block.headers:
        return load_private_key(block.der, "it", password)
    # The encryption of RFC 1421, which is part of PEM: one round of a hash, so without a limit.
    pem = encode_block(block.label, block.der, block.headers)
    key = load_pem_private_key(pem, password, unsafe_skip_rsa_key_validation=True)
    check_loaded_key(key, "it")
    return key


def _read_pkcs12(
    contents: bytes, password: bytes | None
) -> tuple[PrivateKeyTypes | None, list[Certificate]]:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return open_pkcs12(contents, "it", password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unreadable_error(has_password=password is not None) from None


def _matching_certificate(key: RSAPrivateKey, certificates: Iterable[Certificate]) -> Certificate:
    from cryptography.exceptions import UnsupportedAlgorithm

    public = key.public_key()
    for certificate in certificates:
        try:
            if certificate.public_key() == public:
                return certificate
        except (ValueError, UnsupportedAlgorithm):
            continue
    raise SecretDataError(
        "it holds no certificate that belongs to its private key",
        "Put the certificate of that key into it, beside the key.",
    )


def _password_error(*, has_password: bool) -> SecretDataError:
    if has_password:
        return SecretDataError(
            "its private key is not encrypted, and a password is given", "Remove the password."
        )
    return SecretDataError(
        "its private key is encrypted, and no password is given", "Give the password."
    )


def _unreadable_error(*, has_password: bool) -> SecretDataError:
    problem = "it is neither PEM nor PKCS#12 with a private key"
    if has_password:
        return SecretDataError(f"{problem}, or the password is wrong", "Check both.")
    return SecretDataError(
        f"{problem}, or it needs a password", "Set the password, or fix the file."
    )
