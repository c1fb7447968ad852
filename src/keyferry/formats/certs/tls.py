"""Certificate and private key, taken out of PEM or PKCS#12 for a TLS Secret. [pure]

The certificates are re-encoded; the key becomes PKCS#1 (RSA) or SEC1 (elliptic curve), as upstream
makes it. Six things differ on purpose: the certificate of the key comes first, and its issuers
follow; PKCS#12 of any common cipher is read, also as base64 text; bag attributes are not repeated
as PEM headers, which many parsers refuse; Ed25519 and Ed448 keys, which have no older form, stay
PKCS#8; a parameter block after the key does not hide it; and where upstream would write an empty
key there is an error.

No message repeats a byte of the contents, nor does it chain a foreign exception whose text could.

Source: docs/reference/upstream-driver.md#tls-secrets
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
from keyferry.formats.certs.pkcs12 import read_pkcs12
from keyferry.formats.certs.unrecognized import pem_damage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate


def certificate_pem(contents: bytes, source: str) -> bytes:
    """All certificates in `contents`, in their order, as PEM.

    Args:
        contents: PEM, PKCS#12 without a password, or the base64 text of that.
        source: where they come from, for messages: `file 'web.pem'`.

    Raises:
        SecretDataError: there is no certificate in it.
    """
    blocks = pem_blocks(contents, source)
    ders = [block.der for block in blocks if block.label == CERTIFICATE]
    if not ders and not blocks:
        ders = _pkcs12_certificates(contents, source)
    if not ders:
        remedy = "tls.crt needs a file with PEM blocks CERTIFICATE, or with PKCS#12."
        raise _missing_error("certificate", contents, blocks, source, remedy)
    return b"".join(encode_block(CERTIFICATE, der) for der in ders)


def private_key_pem(contents: bytes, source: str) -> bytes:
    """The private key in `contents` as PEM: the last one, when there are several.

    Args:
        contents: PEM, PKCS#12 without a password, or the base64 text of that.
        source: where it comes from, for messages.

    Raises:
        SecretDataError: there is no private key in it, it is encrypted, or it is of a kind that TLS
            does not use.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    key = _private_key(contents, source)
    match key:
        case rsa.RSAPrivateKey() | ec.EllipticCurvePrivateKey():
            form = serialization.PrivateFormat.TraditionalOpenSSL
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            form = serialization.PrivateFormat.PKCS8
        case _:
            raise SecretDataError(
                f"{source} holds a private key that is neither RSA, elliptic curve nor Ed25519",
                "Use a key of a kind that TLS servers know.",
            )
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def chain_of_key(certificates: bytes, private_key: bytes) -> bytes:
    """Return the certificates as TLS servers need them: that of the key first, then its issuers.

    Certificates that do not belong to the chain, or cannot be parsed, follow in their order.

    Args:
        certificates: the result of `certificate_pem`.
        private_key: the result of `private_key_pem`.

    Raises:
        SecretDataError: none of the certificates belongs to the key.
    """
    (block,) = pem_blocks(private_key, "tls.key")
    public = load_private_key(block.der, "tls.key").public_key()
    parsed: dict[Certificate, bytes] = {}
    unparsed: list[bytes] = []
    problem = "the private key does not belong to any of the certificates"
    for number, each in enumerate(pem_blocks(certificates, "tls.crt"), start=1):
        try:
            parsed.setdefault(load_certificate(each.der, "tls.crt"), each.der)
        except ValueError:
            unparsed.append(each.der)
            problem = f"certificate {number} of tls.crt cannot be parsed"
    matches = {has_public_key(certificate, public) for certificate in parsed}
    if True in matches:
        chain = order_chain(list(parsed), public).certificates
        ordered = [*(parsed[certificate] for certificate in chain), *unparsed]
        return b"".join(encode_block(CERTIFICATE, der) for der in ordered)
    # A certificate whose key the library cannot read (None) may or may not be that of the key.
    if unparsed or None not in matches:
        raise SecretDataError(
            problem, "Take tls.key and tls.crt from the same object, at the same version."
        )
    return certificates


def _private_key(contents: bytes, source: str) -> PrivateKeyTypes:
    blocks = pem_blocks(contents, source)
    candidates = [block for block in blocks if block.label.endswith(PRIVATE_KEY_SUFFIX)]
    candidates = candidates or [block for block in blocks if block.label != CERTIFICATE]
    if candidates:
        return _load_key(candidates[-1], source)
    key = None if blocks else read_pkcs12(contents, source)[0]
    if key is None:
        remedy = (
            "tls.key needs a file with one. In Azure Key Vault that is objectType: secret of a "
            "certificate whose key is exportable; objectType: cert gives only the certificate."
        )
        raise _missing_error("private key", contents, blocks, source, remedy)
    return key


def _missing_error(
    what: str, contents: bytes, blocks: Sequence[PemBlock], source: str, remedy: str
) -> SecretDataError:
    """Return the error for contents without a certificate or key; damaged PEM may be the cause."""
    damage = pem_damage(contents)
    if damage:
        return SecretDataError(f"{source} {damage.problem}", damage.remedy)
    labels = ", ".join(dict.fromkeys(block.label for block in blocks))
    note = f", only PEM blocks {labels}" if labels else ""
    return SecretDataError(f"{source} holds no {what}{note}", remedy)


def _load_key(block: PemBlock, source: str) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm

    remedy = "Store it unencrypted, as PKCS#8, PKCS#1 or SEC1: a Secret cannot carry its password."
    if block.encrypted:
        raise SecretDataError(f"the private key in {source} is encrypted", remedy)
    try:
        return load_private_key(block.der, source)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        problem = f"the private key in {source} cannot be parsed (a PEM block {block.label!r})"
        raise SecretDataError(problem, remedy) from None


def _pkcs12_certificates(contents: bytes, source: str) -> list[bytes]:
    from cryptography.hazmat.primitives.serialization import Encoding

    return [
        certificate.public_bytes(Encoding.DER) for certificate in read_pkcs12(contents, source)[1]
    ]
