"""Renders the content of a vault as the files of a volume. [pure]

Differences from upstream: a private key must match one of its certificates, PKCS#12 can be
delivered as bytes, and the separate files of PKCS#12 are not empty.

Source: docs/reference/upstream-azure-provider.md#content-of-files
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from keyferry.content import ObjectVersion, SecretFile
from keyferry.errors import (
    ClassInvalidError,
    KeyferryError,
    ObjectUnusableError,
    SecretDataError,
    combined,
    excerpt,
)
from keyferry.formats.certs.bundle import check_pem, check_pkcs12, pkcs12_to_pem, split_pem
from keyferry.formats.certs.jwk import ec_public_key_pem, rsa_public_key_pem
from keyferry.formats.certs.pem import CERTIFICATE, encode_block
from keyferry.formats.volume_paths import path_conflict
from keyferry.providers.api import MountResult
from keyferry.providers.azure.objects import (
    CERTIFICATE_SUFFIX,
    KEY_SUFFIX,
    KeyVaultObject,
    ObjectEncoding,
    ObjectFormat,
    ObjectRef,
    fetch_error_prefix,
)
from keyferry.providers.azure.responses import Content, KeyVaultSecret, LeafCertificate, PublicKey
from keyferry.providers.azure.versions import FetchOutcome, ObjectRequest, request_for
from keyferry.providers.expiry import Expiry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from keyferry.providers.azure.params import BundleOptions


def decode(value: str, encoding: ObjectEncoding) -> bytes:
    """Decode `value`; nothing is trimmed or added.

    Args:
        value: the value in the vault.
        encoding: `objectEncoding` of the SecretProviderClass. Base64 is the standard alphabet with
            padding; line breaks are ignored.

    Raises:
        ObjectUnusableError: the value does not have that encoding; the message does not quote it.
    """
    # `from None`, because the caught exceptions quote the value.
    match encoding:
        case ObjectEncoding.UTF8:
            try:
                return value.encode()
            except UnicodeEncodeError:
                raise ObjectUnusableError("the value is not valid Unicode") from None
        case ObjectEncoding.BASE64:
            compact = value.replace("\r", "").replace("\n", "")
            try:
                return binascii.a2b_base64(compact.encode("ascii"), strict_mode=True)
            except ValueError:
                raise _decoding_error("base64") from None
        case ObjectEncoding.HEX:
            try:
                return binascii.unhexlify(value.encode("ascii"))
            except ValueError:
                raise _decoding_error("hex") from None
        case _:
            assert_never(encoding)


def _decoding_error(encoding: str) -> ObjectUnusableError:
    return ObjectUnusableError(
        f"the value is not valid {encoding}, but objectEncoding is {encoding}",
        f"Remove objectEncoding to deliver the value as it is, or store {encoding} in the vault.",
    )


PEM_TYPE = "application/x-pem-file"
PKCS12_TYPE = "application/x-pkcs12"
_SOURCE = "the object"
_REMEDY = "Check the object in the vault, and import the certificate again."


@dataclass(frozen=True, slots=True)
class Rendered:
    """The files of one version of an object.

    Attributes:
        files: (suffix that is appended to the object's path, content) of each file.
        complete_chain: False if the chain does not contain all certificates.
    """

    files: tuple[tuple[str, bytes], ...] = field(repr=False)
    complete_chain: bool = True


def render(content: Content, vault_object: KeyVaultObject, options: BundleOptions) -> Rendered:
    """Render `content` as files.

    Raises:
        ObjectUnusableError: it cannot be delivered as the SecretProviderClass requires; the message
            quotes no value.
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
            "it does not belong to a certificate, so it is not available as PKCS#12",
            "Remove objectFormat; to decode base64 text, set objectEncoding: base64.",
        )
    return decode(secret.value, vault_object.encoding)


def _render_bundle(
    secret: KeyVaultSecret, vault_object: KeyVaultObject, options: BundleOptions
) -> Rendered:
    """Render the secret behind a certificate. There are six cases.

    1. PEM in the vault, PEM or PFX requested: the PEM as it is.
    2. PEM in the vault, PKCS#12 requested: an error.
    3. PKCS#12 in the vault, PEM requested: converted to PEM.
    4. PKCS#12 in the vault, PFX requested: its base64 text.
    5. PKCS#12 in the vault, PKCS#12 requested: its bytes.
    6. Any other content type: an error.
    """
    value = decode(secret.value, ObjectEncoding.UTF8)
    match secret.properties.content_type, vault_object.format:
        case "application/x-pem-file", ObjectFormat.PEM | ObjectFormat.PFX:
            check_pem(value, _SOURCE)
            return _with_separate_files(decode(secret.value, vault_object.encoding), value, options)
        case "application/x-pem-file", _:
            raise ObjectUnusableError(
                "its certificate is stored as PEM, so it is not available as PKCS#12",
                f"Remove objectFormat, or import the certificate with content type {PKCS12_TYPE}.",
            )
        case "application/x-pkcs12", ObjectFormat.PEM:
            bundle = pkcs12_to_pem(value, _SOURCE, ordered=options.ordered_chain)
            contents = decode(bundle.pem.decode(), vault_object.encoding)
            return _with_separate_files(
                contents, bundle.pem, options, complete_chain=bundle.complete
            )
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
            bundle = pkcs12_to_pem(value, _SOURCE, ordered=options.ordered_chain)
            return _with_separate_files(
                contents, bundle.pem, options, complete_chain=bundle.complete
            )
        case other, _:
            raise ObjectUnusableError(
                f"failed to get certificate. unknown content type '{excerpt(other)}'",
                f"Import the certificate with content type {PEM_TYPE} or {PKCS12_TYPE}.",
            )


def _with_separate_files(
    contents: bytes, pem: bytes, options: BundleOptions, *, complete_chain: bool = True
) -> Rendered:
    """Return `contents`, preceded by certificates and key of `pem` if the options ask for them."""
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
                "Use objectType: key only for RSA and EC keys; a symmetric key cannot be exported.",
            )


# --- The content of a volume: all objects, or an error --------------------------------------------


@dataclass(frozen=True, slots=True)
class RenderedVolume:
    """The content of a volume.

    Attributes:
        result: the files and versions.
        incomplete_chains: the objects whose certificates do not form one chain.
    """

    result: MountResult
    incomplete_chains: tuple[ObjectRef, ...]


def needs_crypto(outcomes: Mapping[ObjectRequest, FetchOutcome]) -> bool:
    """Return whether rendering requires the cryptography library, which is slow to import."""
    return any(
        isinstance(content, PublicKey)
        or (isinstance(content, KeyVaultSecret) and content.backs_certificate)
        for contents in outcomes.values()
        if not isinstance(contents, KeyferryError)
        for content in contents
    )


def render_all(
    objects: Sequence[KeyVaultObject],
    outcomes: Mapping[ObjectRequest, FetchOutcome],
    *,
    default_mode: int,
    options: BundleOptions,
) -> RenderedVolume:
    """Render the files of all objects, in the order of `objects`.

    Args:
        objects: the entries of the SecretProviderClass.
        outcomes: the fetch outcome of each entry.
        default_mode: permission bits of files whose entry sets none.
        options: how certificates are delivered.

    Raises:
        KeyferryError: the first failure; its message also names the other objects that failed.
        ClassInvalidError: a separate file has the path of another object.
    """
    files: list[SecretFile] = []
    versions: list[ObjectVersion] = []
    failures: list[tuple[ObjectRef, KeyferryError]] = []
    incomplete_chains: list[ObjectRef] = []
    expiries: list[Expiry] = []
    for vault_object in objects:
        contents = outcomes[request_for(vault_object)]
        if isinstance(contents, KeyferryError):
            failures.append((vault_object.ref, contents))
            continue
        mode = default_mode if vault_object.mode is None else vault_object.mode
        try:
            # A history may have fewer versions than paths.
            for content, path, object_id in zip(
                contents, vault_object.paths, vault_object.ids, strict=False
            ):
                rendered = render(content, vault_object, options)
                files += (SecretFile(path + suffix, mode, data) for suffix, data in rendered.files)
                versions += [ObjectVersion(object_id, content.version)] * len(rendered.files)
                incomplete_chains += () if rendered.complete_chain else (vault_object.ref,)
            # Only the newest version of a history counts; older ones are expected to expire.
            expiries += _expiry_of(vault_object, contents[0])
        except KeyferryError as error:
            failures.append((vault_object.ref, error))
    if failures:
        ref = failures[0][0]
        context = fetch_error_prefix(ref.type.value, ref.name, ref.version)
        raise combined([(str(failed), error) for failed, error in failures], context)
    _check_path_clash(files)
    result = MountResult(tuple(versions), tuple(files), tuple(dict.fromkeys(expiries)))
    return RenderedVolume(result, tuple(dict.fromkeys(incomplete_chains)))


def _expiry_of(vault_object: KeyVaultObject, newest: Content) -> tuple[Expiry, ...]:
    """Return when an object expires; empty if it does not or its entry wants no warning."""
    at = newest.properties.expires_at
    if at is None or not vault_object.expiry_warning:
        return ()
    return (Expiry(str(vault_object.ref), at, vault_object.expiry_warning),)


def _check_path_clash(files: Sequence[SecretFile]) -> None:
    """Reject separate files that collide; which secrets have them is known only after the fetch."""
    clash = path_conflict(file.path for file in files)
    if clash is not None:
        raise ClassInvalidError(
            f"two files have the path '{clash[1]}', one of them the certificate or key of a secret",
            "Give one of the objects another objectAlias.",
        )
