"""From what a vault holds to the bytes of files. [pure]

Source: azure, sections 5.3 to 5.7. Beyond upstream: a private key must belong to a certificate
beside it, PKCS#12 can come as bytes, and the separate files of PKCS#12 are not empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from keyferry.azure.contents import Content, LeafCertificate, PublicKey, Secret
from keyferry.azure.encodings import decode
from keyferry.azure.files import CERTIFICATE_SUFFIX, KEY_SUFFIX
from keyferry.azure.objects import Encoding, Format
from keyferry.certs.bundle import check_pem, check_pkcs12, pkcs12_to_pem, split_pem
from keyferry.certs.jwk import ec_public_key_pem, rsa_public_key_pem
from keyferry.certs.pem import CERTIFICATE, encode_block
from keyferry.errors import ObjectUnusableError, SecretDataError
from keyferry.excerpt import excerpt

if TYPE_CHECKING:
    from keyferry.azure.objects import VaultObject
    from keyferry.azure.options import BundleOptions

PEM_TYPE = "application/x-pem-file"
PKCS12_TYPE = "application/x-pkcs12"
_SOURCE = "the object"
_REMEDY = "Look at it in the vault, and import the certificate again."


@dataclass(frozen=True, slots=True)
class Rendered:
    """The files of one version of an object.

    Attributes:
        files: what follows the object's path in the path of each file, and the bytes.
        whole_chain: False where certificates are left over that the chain does not lead to.
    """

    files: tuple[tuple[str, bytes], ...] = field(repr=False)
    whole_chain: bool = True


def render(content: Content, wanted: VaultObject, options: BundleOptions) -> Rendered:
    """The files that `content` becomes.

    Raises:
        ObjectUnusableError: it cannot be delivered as the class asks; no value is repeated.
    """
    try:
        match content:
            case Secret(of_certificate=True):
                return _bundle(content, wanted, options)
            case Secret():
                return _single(_plain(content, wanted))
            case PublicKey():
                return _single(_public_key_pem(content))
            case LeafCertificate(cer):
                return _single(encode_block(CERTIFICATE, cer))
            case _:
                assert_never(content)
    except SecretDataError as error:
        raise ObjectUnusableError(error.problem, error.remedy or _REMEDY) from None


def _single(contents: bytes) -> Rendered:
    return Rendered((("", contents),))


def _plain(secret: Secret, wanted: VaultObject) -> bytes:
    if wanted.format is Format.PKCS12:
        raise ObjectUnusableError(
            "it does not belong to a certificate, so there is no PKCS#12 of it",
            "Remove objectFormat; for base64 text that you set yourself use objectEncoding: base64",
        )
    return decode(secret.value, wanted.encoding)


def _bundle(secret: Secret, wanted: VaultObject, options: BundleOptions) -> Rendered:
    """The secret behind a certificate: by its content type, then by the format of the class."""
    value = decode(secret.value, Encoding.UTF8)
    match secret.properties.content_type, wanted.format:
        case "application/x-pem-file", Format.PEM | Format.PFX:
            check_pem(value, _SOURCE)
            return _files(decode(secret.value, wanted.encoding), value, options)
        case "application/x-pem-file", _:
            raise ObjectUnusableError(
                "its certificate is kept as PEM, so there is no PKCS#12 of it",
                f"Remove objectFormat, or import the certificate with content type {PKCS12_TYPE}.",
            )
        case "application/x-pkcs12", Format.PEM:
            made = pkcs12_to_pem(value, _SOURCE, ordered=options.ordered)
            contents = decode(made.pem.decode(), wanted.encoding)
            return _files(contents, made.pem, options, whole_chain=made.complete)
        case "application/x-pkcs12", _:
            check_pkcs12(value, _SOURCE)
            encoding = Encoding.BASE64 if wanted.format is Format.PKCS12 else wanted.encoding
            contents = decode(secret.value, encoding)
            if not options.separate:
                return _single(contents)
            made = pkcs12_to_pem(value, _SOURCE, ordered=options.ordered)
            return _files(contents, made.pem, options, whole_chain=made.complete)
        case other, _:
            raise ObjectUnusableError(
                f"failed to get certificate. unknown content type '{excerpt(other)}'",
                f"The secret behind a certificate is {PEM_TYPE} or {PKCS12_TYPE}.",
            )


def _files(
    contents: bytes, pem: bytes, options: BundleOptions, *, whole_chain: bool = True
) -> Rendered:
    """`contents`, and before it the parts of `pem` where they are wanted."""
    if not options.separate:
        return Rendered((("", contents),), whole_chain)
    certificates, key = split_pem(pem, _SOURCE)
    parts = ((CERTIFICATE_SUFFIX, certificates), (KEY_SUFFIX, key), ("", contents))
    return Rendered(parts, whole_chain)


def _public_key_pem(key: PublicKey) -> bytes:
    match key.kind:
        case "RSA" | "RSA-HSM":
            return rsa_public_key_pem(key.number("n"), key.number("e"))
        case "EC" | "EC-HSM":
            return ec_public_key_pem(key.curve, key.number("x"), key.number("y"))
        case _:
            raise ObjectUnusableError(
                f"failed to get key. key type '{excerpt(key.kind)}' currently not supported",
                "A symmetric key never leaves the vault; objectType: key is for RSA and EC keys.",
            )
