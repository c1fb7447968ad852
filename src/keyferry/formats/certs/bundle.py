"""A private key with its certificates, as PEM or PKCS#12. [pure]

Source: docs/reference/upstream-azure-provider.md#pkcs12-conversion
Source: docs/reference/upstream-azure-provider.md#separate-certificate-and-key-files
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import SecretDataError
from keyferry.formats.certs.chain import has_public_key, order_chain
from keyferry.formats.certs.loading import load_certificate, load_private_key
from keyferry.formats.certs.pem import CERTIFICATE, PRIVATE_KEY_SUFFIX, encode_block, pem_blocks
from keyferry.formats.certs.pkcs12 import read_pkcs12

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

_REMEDY = "Import the certificate again, together with the private key that belongs to it."


class PemBundle(Struct, frozen=True):
    """What a PKCS#12 file becomes.

    Attributes:
        pem: the key first (PKCS#8), then the certificates.
        complete: whether the certificates are one whole chain; always true where they were not put
            in order.
    """

    pem: bytes
    complete: bool


def pkcs12_to_pem(contents: bytes, source: str, *, ordered: bool) -> PemBundle:
    """The key and the certificates in PKCS#12 bytes, or in their base64 text.

    Args:
        contents: without a password.
        source: where they come from, for messages.
        ordered: whether the leaf is to come first, and after each certificate its issuer.

    Raises:
        SecretDataError: it is no such PKCS#12, it holds no certificate, or the key belongs to none.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key, certificates = read_pkcs12(contents, source)
    _check_pair(key, certificates, source)
    public = None if key is None else key.public_key()
    chain = order_chain(certificates, public)
    chosen = chain.certificates if ordered else tuple(certificates)
    head = (
        b"" if key is None else key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    blocks = (encode_block(CERTIFICATE, each.public_bytes(Encoding.DER)) for each in chosen)
    return PemBundle(head + b"".join(blocks), complete=chain.complete or not ordered)


def check_pkcs12(contents: bytes, source: str) -> None:
    """Refuse PKCS#12 whose key belongs to none of its certificates; what cannot be read passes.

    Raises:
        SecretDataError: key and certificates do not fit together.
    """
    try:
        key, certificates = read_pkcs12(contents, source)
    except SecretDataError:
        return
    _check_pair(key, certificates, source)


def check_pem(contents: bytes, source: str) -> None:
    """Refuse PEM whose key belongs to none of its certificates; what cannot be read passes.

    Raises:
        SecretDataError: key and certificates do not fit together.
    """
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        blocks = pem_blocks(contents, source)
        keys = [block.der for block in blocks if block.label.endswith(PRIVATE_KEY_SUFFIX)]
        certificates = [
            load_certificate(block.der, source) for block in blocks if block.label == CERTIFICATE
        ]
        key = load_private_key(keys[-1], source) if keys else None
    except (SecretDataError, ValueError, TypeError, UnsupportedAlgorithm):
        return
    _check_pair(key, certificates, source)


def split_pem(contents: bytes, source: str) -> tuple[bytes, bytes]:
    """Split into CERTIFICATE blocks and all others, re-encoded; text between blocks is dropped.

    Raises:
        SecretDataError: a block is not base64.
    """
    blocks = pem_blocks(contents, source)
    certificates = (block for block in blocks if block.label == CERTIFICATE)
    others = (block for block in blocks if block.label != CERTIFICATE)
    return (
        b"".join(encode_block(block.label, block.der) for block in certificates),
        b"".join(encode_block(block.label, block.der) for block in others),
    )


def _check_pair(
    key: PrivateKeyTypes | None, certificates: Sequence[Certificate], source: str
) -> None:
    if key is None or not certificates:
        return
    public = key.public_key()
    # None stands for a certificate whose key cannot be read: it may be the one.
    if all(has_public_key(certificate, public) is False for certificate in certificates):
        problem = f"the private key in {source} does not belong to any of its certificates"
        raise SecretDataError(problem, _REMEDY)
