"""Parses one certificate or key of a vault, as a function from bytes to bytes. [pure]

The function runs in a parser process. Its argument and its result are therefore plain data, and an
error that concerns one object is part of the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from msgspec import Struct

from keyferry.errors import SecretDataError
from keyferry.formats.certs.bundle import check_pem, check_pkcs12, pkcs12_to_pem, split_pem
from keyferry.formats.certs.jwk import ec_public_key_pem, rsa_public_key_pem
from keyferry.formats.certs.pkcs12 import decode_if_base64, is_pkcs12

_SOURCE = "the object"


class MaterialKind(Enum):
    """What is parsed, and for what."""

    PEM = "pem"
    """PEM that is delivered as it is: check that key and certificates match."""
    PKCS12 = "pkcs12"
    """PKCS#12 that is delivered as it is: check that key and certificates match."""
    PLAIN_PKCS12 = "plain-pkcs12"
    """A plain secret that is delivered as PKCS#12: check that it is."""
    PKCS12_TO_PEM = "pkcs12-to-pem"
    RSA_KEY = "rsa-key"
    """The public key with the numbers n and e."""
    EC_KEY = "ec-key"
    """The public key with the coordinates x and y."""


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """One certificate or key.

    Attributes:
        kind: what is parsed.
        contents: the value of a secret; empty for a public key.
        ordered: whether certificates from PKCS#12 are sorted into a chain.
        separate: whether certificates and private key are also needed by themselves.
        curve: the curve of `EC_KEY`.
        numbers: the two numbers of a public key, big-endian.
    """

    kind: MaterialKind
    contents: bytes = field(default=b"", repr=False)
    ordered: bool = True
    separate: bool = False
    curve: str = ""
    numbers: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedMaterial:
    """What becomes of `KeyMaterial`.

    Attributes:
        pem: the converted PKCS#12 or the public key; empty for what is delivered as it is.
        certificates: the certificates as PEM, if `separate`.
        private_key: the private key as PEM, if `separate`.
        complete_chain: whether all certificates belong to one chain.
        problem: why it cannot be delivered; "" if it can.
        remedy: what to do about the problem; "" for the general remedy.
    """

    pem: bytes = field(default=b"", repr=False)
    certificates: bytes = b""
    private_key: bytes = field(default=b"", repr=False)
    complete_chain: bool = True
    problem: str = ""
    remedy: str = ""


class MaterialBatch(Struct, frozen=True):
    """The argument of `parse_batch`."""

    items: tuple[KeyMaterial, ...]


class ParsedBatch(Struct, frozen=True):
    """The result of `parse_batch`, in the same order."""

    items: tuple[ParsedMaterial, ...]


def parse_batch(batch: MaterialBatch) -> ParsedBatch:
    """Parse several certificates and keys."""
    return ParsedBatch(tuple(map(parse_material, batch.items)))


def parse_material(material: KeyMaterial) -> ParsedMaterial:
    """Parse one certificate or key. Problems are part of the result."""
    try:
        return _parse(material)
    except SecretDataError as error:
        return ParsedMaterial(problem=error.problem, remedy=error.remedy)


def _parse(material: KeyMaterial) -> ParsedMaterial:
    match material.kind:
        case MaterialKind.PEM:
            check_pem(material.contents, _SOURCE)
            return _with_parts(material, material.contents, ParsedMaterial())
        case MaterialKind.PKCS12:
            check_pkcs12(material.contents, _SOURCE)
            return ParsedMaterial()
        case MaterialKind.PLAIN_PKCS12:
            if not is_pkcs12(decode_if_base64(material.contents)):
                raise SecretDataError(
                    "the value is not PKCS#12 in base64, but objectFormat is pkcs12",
                    "Remove objectFormat; to decode base64 text, set objectEncoding: base64.",
                )
            return ParsedMaterial()
        case MaterialKind.PKCS12_TO_PEM:
            bundle = pkcs12_to_pem(material.contents, _SOURCE, ordered=material.ordered)
            parsed = ParsedMaterial(bundle.pem, complete_chain=bundle.complete)
            return _with_parts(material, bundle.pem, parsed)
        case MaterialKind.RSA_KEY:
            return ParsedMaterial(rsa_public_key_pem(*material.numbers))
        case MaterialKind.EC_KEY:
            return ParsedMaterial(ec_public_key_pem(material.curve, *material.numbers))
        case _:
            assert_never(material.kind)


def _with_parts(material: KeyMaterial, pem: bytes, parsed: ParsedMaterial) -> ParsedMaterial:
    """Add certificates and private key, which must not be empty: an empty file hides the cause."""
    if not material.separate:
        return parsed
    certificates, private_key = split_pem(pem, _SOURCE)
    for part, name in ((certificates, "certificate"), (private_key, "private key")):
        if not part:
            raise SecretDataError(
                f"{_SOURCE} holds no {name} for a separate file",
                "Check that it is PEM whose line ends are intact, and that its key is exportable; "
                'or set writeCertAndKeyInSeparateFiles: "false" in the SecretProviderClass.',
            )
    return ParsedMaterial(
        parsed.pem, certificates, private_key, complete_chain=parsed.complete_chain
    )
