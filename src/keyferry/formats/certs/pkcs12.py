"""PKCS#12, checked against the limits before the library reads it. [pure]"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from keyferry.errors import SecretDataError
from keyferry.formats.certs.der import DerError
from keyferry.formats.certs.limits import (
    check_certificate,
    check_input_size,
    check_object_count,
    check_pkcs12,
)
from keyferry.formats.certs.loading import check_loaded_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate


def read_pkcs12(contents: bytes, source: str) -> tuple[PrivateKeyTypes | None, list[Certificate]]:
    """The key and the certificates, the key's own first, of PKCS#12 bytes or their base64 text.

    Args:
        contents: the bytes, or the text.
        source: where they come from, for messages.

    Raises:
        SecretDataError: it is no PKCS#12 that opens without a password, or it exceeds a limit.
    """
    from cryptography.exceptions import UnsupportedAlgorithm

    check_input_size(contents, source)
    try:
        # None stands for both ways of writing "no password": the empty text, and none at all.
        return open_pkcs12(decode_if_base64(contents), source, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SecretDataError(
            f"{source} holds neither PEM nor PKCS#12 that opens without a password",
            "Name an object in PEM, or in PKCS#12 with an empty password.",
        ) from None


def open_pkcs12(
    der: bytes, source: str, password: bytes | None
) -> tuple[PrivateKeyTypes | None, list[Certificate]]:
    """Return the key and the certificates, the key's own first.

    The library validates an RSA key here in full, which cannot be switched off: 0.3 s of CPU for
    4,096 bits.

    Args:
        der: PKCS#12.
        source: where it comes from, for messages.
        password: the password, or None.

    Raises:
        SecretDataError: it exceeds a limit.
        ValueError, TypeError, UnsupportedAlgorithm: the library cannot read it.
    """
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    check_input_size(der, source)
    try:
        check_pkcs12(der, source)
    except DerError:
        raise ValueError("malformed PKCS#12") from None
    key, certificate, others = load_key_and_certificates(der, password)
    certificates = [certificate, *others] if certificate else others
    check_loaded_key(key, source)
    check_object_count(len(certificates), source)
    for each in certificates:
        check_certificate(each.public_bytes(Encoding.DER), source)
    return key, certificates


def decode_if_base64(contents: bytes) -> bytes:
    """The bytes behind base64 text; anything else as it is."""
    try:
        return base64.b64decode(b"".join(contents.split()), validate=True)
    except binascii.Error:
        return contents
