"""PKCS#12, checked against the limits before the library reads it. [pure]"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from keyferry.errors import SecretDataError
from keyferry.formats.certs.chain import has_public_key
from keyferry.formats.certs.der import DerError
from keyferry.formats.certs.limits import check_certificate, check_input_size, check_object_count
from keyferry.formats.certs.loading import check_loaded_key, load_private_key
from keyferry.formats.certs.pfx import read_pfx
from keyferry.formats.certs.unrecognized import diagnose

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
        if found := diagnose(contents):
            raise SecretDataError(f"{source} {found.problem}", found.remedy) from None
        raise SecretDataError(
            f"{source} holds neither PEM nor PKCS#12 that opens without a password",
            "Name an object in PEM, or in PKCS#12 with an empty password.",
        ) from None


def is_pkcs12(contents: bytes) -> bool:
    """Whether `contents` are PKCS#12 bytes, with any password. No key is derived."""
    try:
        check_input_size(contents, "")
        read_pfx(contents)
    except (DerError, SecretDataError):
        return False
    return True


def open_pkcs12(
    der: bytes, source: str, password: bytes | None
) -> tuple[PrivateKeyTypes | None, list[Certificate]]:
    """Return the key and the certificates, the key's own first.

    1. The private key is usually outside the encrypted contents. Then it is loaded by itself, which
       avoids the full validation of an RSA key: 0.3 s of CPU for 4,096 bits.
    2. The certificates are loaded from the rest of the file.
    3. Otherwise the library loads the whole file. That validates an RSA key in full.

    Args:
        der: PKCS#12.
        source: where it comes from, for messages.
        password: the password, or None.

    Raises:
        SecretDataError: it exceeds a limit.
        ValueError, TypeError, UnsupportedAlgorithm: the library cannot read it.
    """
    check_input_size(der, source)
    try:
        pfx = read_pfx(der)
        pfx.check(source)
        key_der = pfx.visible_key()
        rest = pfx.without_visible_keys(empty_password=not password)
    except DerError:
        raise ValueError("malformed PKCS#12") from None
    key = None if key_der is None else _load_visible_key(key_der, source, password)
    if key is not None:
        try:
            return key, _own_first(_load_with_library(rest, source, password)[1], key)
        except ValueError:
            # The certificates are encrypted with another password, or with none.
            pass
    return _load_with_library(der, source, password)


def _load_visible_key(der: bytes, source: str, password: bytes | None) -> PrivateKeyTypes | None:
    """Return the key; None if only the loader of PKCS#12 can decrypt it, or nobody."""
    from cryptography.exceptions import UnsupportedAlgorithm

    # The loader of keys takes no empty password. A zero byte has the same effect: the derivation of
    # PKCS#12 repeats, and PBKDF2 pads, a password of zeros to the size of a block.
    for tried in (None, password or b"\0"):
        try:
            return load_private_key(der, source, tried)
        except TypeError:
            continue
        except (ValueError, UnsupportedAlgorithm):
            return None
    return None


def _load_with_library(
    der: bytes, source: str, password: bytes | None
) -> tuple[PrivateKeyTypes | None, list[Certificate]]:
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    key, certificate, others = load_key_and_certificates(der, password)
    certificates = [certificate, *others] if certificate else others
    check_loaded_key(key, source)
    check_object_count(len(certificates), source)
    for each in certificates:
        check_certificate(each.public_bytes(Encoding.DER), source)
    return key, certificates


def _own_first(certificates: list[Certificate], key: PrivateKeyTypes | None) -> list[Certificate]:
    """Return the certificates with that of the key at the start, if there is one."""
    if key is None:
        return certificates
    public = key.public_key()
    own = next((each for each in certificates if has_public_key(each, public)), None)
    return certificates if own is None else [own, *(c for c in certificates if c is not own)]


def decode_if_base64(contents: bytes) -> bytes:
    """The bytes behind base64 text; anything else as it is."""
    try:
        return base64.b64decode(b"".join(contents.split()), validate=True)
    except binascii.Error:
        return contents
