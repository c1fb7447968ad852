"""From what a vault holds to the bytes of files. [pure]

Source: azure, sections 5.3 to 5.7. Beyond upstream: a private key must belong to a certificate
beside it, PKCS#12 can come as bytes, and the separate files of PKCS#12 are not empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from keyferry.errors import ObjectUnusableError, SecretDataError
from keyferry.excerpt import excerpt
from keyferry.formats.certs.bundle import check_pem, check_pkcs12, pkcs12_to_pem, split_pem
from keyferry.formats.certs.jwk import ec_public_key_pem, rsa_public_key_pem
from keyferry.formats.certs.pem import CERTIFICATE, encode_block
from keyferry.providers.azure.encodings import decode
from keyferry.providers.azure.files import CERTIFICATE_SUFFIX, KEY_SUFFIX
from keyferry.providers.azure.objects import ObjectEncoding, ObjectFormat
from keyferry.providers.azure.responses import Content, KeyVaultSecret, LeafCertificate, PublicKey

if TYPE_CHECKING:
    from keyferry.providers.azure.objects import KeyVaultObject
    from keyferry.providers.azure.options import BundleOptions

PEM_TYPE = "application/x-pem-file"
PKCS12_TYPE = "application/x-pkcs12"
_SOURCE = "the object"
_REMEDY = "Look at it in the vault, and import the certificate again."


@dataclass(frozen=True, slots=True)
class Rendered:
    """The files of one version of an object.

    Attributes:
        files: what follows the object's path in the path of each file, and the bytes.
        complete_chain: False where certificates are left over that the chain does not lead to.
    """

    files: tuple[tuple[str, bytes], ...] = field(repr=False)
    complete_chain: bool = True


def render(content: Content, vault_object: KeyVaultObject, options: BundleOptions) -> Rendered:
    """The files that `content` becomes.

    Raises:
        ObjectUnusableError: it cannot be delivered as the class asks; no value is repeated.
    """
    try:
        match content:
            case KeyVaultSecret(backs_certificate=True):
                return _render_bundle(content, vault_object, options)
            case KeyVaultSecret():
                return _single_file(_plain_bytes(content, vault_object))
            case PublicKey():
                return _single_file(_public_key_pem(content))
            case LeafCertificate(cer):
                return _single_file(encode_block(CERTIFICATE, cer))
            case _:
                assert_never(content)
    except SecretDataError as error:
        raise ObjectUnusableError(error.problem, error.remedy or _REMEDY) from None


def _single_file(contents: bytes) -> Rendered:
    return Rendered((("", contents),))


def _plain_bytes(secret: KeyVaultSecret, vault_object: KeyVaultObject) -> bytes:
    if vault_object.format is ObjectFormat.PKCS12:
        raise ObjectUnusableError(
            "it does not belong to a certificate, so there is no PKCS#12 of it",
            "Remove objectFormat; for base64 text that you set yourself use objectEncoding: base64",
        )
    return decode(secret.value, vault_object.encoding)


def _render_bundle(
    secret: KeyVaultSecret, vault_object: KeyVaultObject, options: BundleOptions
) -> Rendered:
    """The secret behind a certificate: by its content type, then by the format of the class."""
    value = decode(secret.value, ObjectEncoding.UTF8)
    match secret.properties.content_type, vault_object.format:
        case "application/x-pem-file", ObjectFormat.PEM | ObjectFormat.PFX:
            check_pem(value, _SOURCE)
            return _with_separate_files(decode(secret.value, vault_object.encoding), value, options)
        case "application/x-pem-file", _:
            raise ObjectUnusableError(
                "its certificate is kept as PEM, so there is no PKCS#12 of it",
                f"Remove objectFormat, or import the certificate with content type {PKCS12_TYPE}.",
            )
        case "application/x-pkcs12", ObjectFormat.PEM:
            made = pkcs12_to_pem(value, _SOURCE, ordered=options.ordered_chain)
            contents = decode(made.pem.decode(), vault_object.encoding)
            return _with_separate_files(contents, made.pem, options, complete_chain=made.complete)
        case "application/x-pkcs12", _:
            check_pkcs12(value, _SOURCE)
            encoding = (
                ObjectEncoding.BASE64
                if vault_object.format is ObjectFormat.PKCS12
                else vault_object.encoding
            )
            contents = decode(secret.value, encoding)
            if not options.separate_files:
                return _single_file(contents)
            made = pkcs12_to_pem(value, _SOURCE, ordered=options.ordered_chain)
            return _with_separate_files(contents, made.pem, options, complete_chain=made.complete)
        case other, _:
            raise ObjectUnusableError(
                f"failed to get certificate. unknown content type '{excerpt(other)}'",
                f"The secret behind a certificate is {PEM_TYPE} or {PKCS12_TYPE}.",
            )


def _with_separate_files(
    contents: bytes, pem: bytes, options: BundleOptions, *, complete_chain: bool = True
) -> Rendered:
    """`contents`, and before it the parts of `pem` where they are wanted."""
    if not options.separate_files:
        return Rendered((("", contents),), complete_chain)
    certificates, key = split_pem(pem, _SOURCE)
    parts = ((CERTIFICATE_SUFFIX, certificates), (KEY_SUFFIX, key), ("", contents))
    return Rendered(parts, complete_chain)


def _public_key_pem(key: PublicKey) -> bytes:
    match key.key_type:
        case "RSA" | "RSA-HSM":
            return rsa_public_key_pem(key.number("n"), key.number("e"))
        case "EC" | "EC-HSM":
            return ec_public_key_pem(key.curve, key.number("x"), key.number("y"))
        case _:
            raise ObjectUnusableError(
                f"failed to get key. key type '{excerpt(key.key_type)}' currently not supported",
                "A symmetric key never leaves the vault; objectType: key is for RSA and EC keys.",
            )
