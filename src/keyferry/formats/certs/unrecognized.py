"""Says what contents are that were expected to be a certificate or a key. [pure]

No message repeats a byte of the contents, except the names of JSON keys and of PEM blocks.
"""

from __future__ import annotations

import base64
import binascii
import re

from msgspec import Struct

from keyferry.errors import SecretDataError
from keyferry.formats.certs.der import DerError
from keyferry.formats.certs.loading import load_certificate, load_private_key
from keyferry.formats.certs.pfx import read_pfx

_BEGIN = b"-----BEGIN "
_END = b"-----END "
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_KEYSTORE_MARK = b"\xfe\xed\xfe\xed"
_JSON_KEY = re.compile(r"[-._A-Za-z0-9]{1,40}")
_MAX_KEYS = 5
_FROM_FILE = (
    "Store it in the vault from a file (az keyvault secret set --file, vault kv put KEY=@FILE): "
    "input fields of web pages and shells change line breaks."
)
_ENCODING = (
    "Set objectEncoding: base64 for the object (Vault: encoding: base64), or store it in the vault "
    "without base64."
)


class Diagnosis(Struct, frozen=True):
    """What contents are.

    Attributes:
        problem: a predicate, such as `is empty`.
        remedy: how to fix it, a sentence.
    """

    problem: str
    remedy: str


def diagnose(contents: bytes) -> Diagnosis | None:
    """Return what `contents` are that hold neither a certificate nor a key; None if unknown.

    1. Nothing, UTF-16 text, or JSON.
    2. PEM whose lines are damaged.
    3. The base64 text of PEM or JSON.
    4. PKCS#12 with a password, or a single certificate or key in DER.

    Args:
        contents: at most as large as `check_input_size` permits.
    """
    if not contents.strip():
        return Diagnosis("is empty", "Store the certificate with its key in the vault.")
    if contents.startswith(_UTF16_MARKS):
        return Diagnosis("is UTF-16 text", "Store it in the vault as UTF-8.")
    if contents.startswith(_KEYSTORE_MARK):
        return Diagnosis("is a Java keystore", "Convert it to PKCS#12: keytool -importkeystore.")
    return _json(contents) or pem_damage(contents) or _base64(contents) or _der(contents)


def pem_damage(contents: bytes) -> Diagnosis | None:
    """Return how the lines of PEM are damaged; None if they are not."""
    if _BEGIN not in contents:
        return None
    if b"\\n" in contents:
        return Diagnosis("holds PEM with the characters \\n instead of line breaks", _FROM_FILE)
    lines = [line.strip() for line in contents.splitlines()]
    begins = [line for line in lines if line.startswith(_BEGIN)]
    if any(line.count(b"-----") > 2 for line in lines) or len(begins) < contents.count(_BEGIN):
        return Diagnosis("holds PEM whose line breaks are lost", _FROM_FILE)
    if sum(line.startswith(_END) for line in lines) < len(begins):
        return Diagnosis("holds PEM without its last line, -----END ...-----", _FROM_FILE)
    return None


def _json(contents: bytes) -> Diagnosis | None:
    import msgspec  # takes 10 ms, only for what is not a certificate

    try:
        keys = list(msgspec.json.decode(contents, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _json_text(contents)
    names = [key for key in keys if _JSON_KEY.fullmatch(key)]
    shown = ", ".join(names[:_MAX_KEYS]) + (", ..." if len(keys) > _MAX_KEYS else "")
    return Diagnosis(
        f"is JSON with the keys {shown}" if names else "is JSON",
        "Store certificate and key as PEM, in one object or in two. In Vault, secretKey: /KEY "
        "selects a value of the JSON.",
    )


def _json_text(contents: bytes) -> Diagnosis | None:
    import msgspec  # takes 10 ms, only for what is not a certificate

    try:
        msgspec.json.decode(contents, type=str)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return Diagnosis("is a JSON string", "Store the text itself, without quotes and escapes.")


def _base64(contents: bytes) -> Diagnosis | None:
    try:
        decoded = base64.b64decode(b"".join(contents.split()), validate=True)
    except binascii.Error:
        return None
    if _BEGIN in decoded:
        return Diagnosis("is the base64 text of PEM", _ENCODING)
    return Diagnosis("is the base64 text of JSON", _ENCODING) if _json(decoded) else _der(decoded)


def _der(contents: bytes) -> Diagnosis | None:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        read_pfx(contents)
    except DerError:
        pass
    else:
        return Diagnosis(
            "is PKCS#12 that does not open without a password",
            "Export it with an empty password: a Secret has no password for it.",
        )
    try:
        load_certificate(contents, "")
    except (SecretDataError, ValueError):
        pass
    else:
        return Diagnosis(
            "is a certificate in DER, without its key",
            "Convert it to PEM: openssl x509 -inform DER -in cert.der.",
        )
    try:
        load_private_key(contents, "")
    except (SecretDataError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return Diagnosis(
        "is a private key in DER", "Convert it to PEM: openssl pkey -inform DER -in key.der."
    )
