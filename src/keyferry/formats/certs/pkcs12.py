"""PKCS#12 without a password. [pure]"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from keyferry.errors import SecretDataError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate


def read_pkcs12(contents: bytes, source: str) -> tuple[PrivateKeyTypes | None, list[Certificate]]:
    """The key and the certificates, the key's own first, of PKCS#12 bytes or their base64 text.

    Args:
        contents: the bytes, or the text.
        source: where they come from, for messages.

    Raises:
        SecretDataError: it is no PKCS#12 that opens without a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    try:
        # None stands for both ways of writing "no password": the empty text, and none at all.
        key, certificate, others = load_key_and_certificates(decode_if_base64(contents), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SecretDataError(
            f"{source} holds neither PEM nor PKCS#12 that opens without a password",
            "Name an object in PEM, or in PKCS#12 with an empty password.",
        ) from None
    return key, [certificate, *others] if certificate else others


def decode_if_base64(contents: bytes) -> bytes:
    """The bytes behind base64 text; anything else as it is."""
    try:
        return base64.b64decode(b"".join(contents.split()), validate=True)
    except binascii.Error:
        return contents
