"""Loads keys and certificates with the cryptography library, within the limits. [pure]

RSA keys are loaded without the library's full validation, whose primality tests take 4 s of CPU for
8,192 bits: a key is delivered or signs once, and a wrong one harms only its owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.certs.der import DerError
from keyferry.formats.certs.limits import (
    check_certificate,
    check_input_size,
    check_key,
    check_key_bits,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate


def load_private_key(der: bytes, source: str, password: bytes | None = None) -> PrivateKeyTypes:
    """Return a private key in PKCS#8, PKCS#1 or SEC1.

    Args:
        der: the key.
        source: what contains it, for messages.
        password: the password of an encrypted key.

    Raises:
        SecretDataError: it exceeds a limit.
        ValueError: it is malformed, or the password is wrong.
        TypeError: it is encrypted and there is no password, or the reverse.
        UnsupportedAlgorithm: the library does not know its kind.
    """
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    check_input_size(der, source)
    try:
        check_key(der, source)
    except DerError:
        raise ValueError("malformed key") from None
    key = load_der_private_key(der, password, unsafe_skip_rsa_key_validation=True)
    check_loaded_key(key, source)
    return key


def check_loaded_key(key: PrivateKeyTypes | None, source: str) -> None:
    """Check the size of a key that was encrypted.

    Raises:
        SecretDataError: it exceeds the limit.
    """
    check_key_bits(getattr(key, "key_size", 0), source)


def load_certificate(der: bytes, source: str) -> Certificate:
    """Return a certificate.

    Raises:
        SecretDataError: its public key exceeds a limit.
        ValueError: it is malformed.
    """
    from cryptography.x509 import load_der_x509_certificate

    check_input_size(der, source)
    try:
        check_certificate(der, source)
    except DerError:
        raise ValueError("malformed certificate") from None
    return load_der_x509_certificate(der)
