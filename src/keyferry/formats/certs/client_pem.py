"""Checks a TLS client certificate with its key, and encodes it for OpenSSL. [pure]

The ssl module of Python accepts a key only as PEM, and OpenSSL then does the work that the PEM asks
for. The result of this module contains one key, unencrypted and of limited size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import SecretDataError
from keyferry.formats.certs.chain import has_public_key, order_chain
from keyferry.formats.certs.loading import load_certificate, load_private_key
from keyferry.formats.certs.pem import (
    CERTIFICATE,
    PRIVATE_KEY_SUFFIX,
    PemBlock,
    encode_block,
    pem_blocks,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_SOURCE = "it"
_REMEDY = "Use a certificate and its unencrypted private key in PEM."


def normalized_client_pem(contents: bytes) -> bytes:
    """Return the first private key as PKCS#8, its certificate, and the certificates of its issuers.

    Args:
        contents: PEM with certificates and a private key, in any order.

    Raises:
        SecretDataError: there is no such pair, the key is encrypted, or a limit is exceeded.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    blocks = pem_blocks(contents, _SOURCE)
    keys = [block for block in blocks if block.label.endswith(PRIVATE_KEY_SUFFIX)]
    if not keys:
        raise SecretDataError("it holds no private key in PEM", _REMEDY)
    key = _load_key(keys[0])
    public = key.public_key()
    try:
        certificates = [
            load_certificate(block.der, _SOURCE) for block in blocks if block.label == CERTIFICATE
        ]
    except ValueError:
        raise SecretDataError("a certificate cannot be parsed", _REMEDY) from None
    if not any(has_public_key(certificate, public) for certificate in certificates):
        raise SecretDataError("it holds no certificate of its private key", _REMEDY)
    chain = order_chain(certificates, public).certificates
    head = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return head + b"".join(
        encode_block(CERTIFICATE, each.public_bytes(Encoding.DER)) for each in chain
    )


def _load_key(block: PemBlock) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm

    if block.encrypted:
        raise SecretDataError("its private key is encrypted", _REMEDY)
    try:
        return load_private_key(block.der, _SOURCE)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SecretDataError("its private key cannot be parsed", _REMEDY) from None
