"""From what a vault holds to the bytes of files. [pure]

Beyond upstream: a private key must belong to a certificate beside it, PKCS#12 can come as bytes,
and the separate files of PKCS#12 are not empty.

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
    """The bytes that `value` stands for: nothing is added to it and nothing is cut off.

    Args:
        value: as it is in the vault.
        encoding: what the class says of it; base64 is the standard alphabet with its padding, in
            which line ends do not count.

    Raises:
        ObjectUnusableError: the value is not of that encoding; the message does not repeat it.
    """
    # Each `from None`: the foreign exceptions quote what they could not read.
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
        f"the value is not {encoding}, as objectEncoding says",
        f"Remove objectEncoding for the value as it is, or store it in {encoding}.",
    )


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


# --- From what came of a fetch to the content of a volume: all of it, or why not ------------------


@dataclass(frozen=True, slots=True)
class RenderedVolume:
    """The content of a volume.

    Attributes:
        result: it.
        incomplete_chains: the objects whose certificates do not form one chain.
    """

    result: MountResult
    incomplete_chains: tuple[ObjectRef, ...]


def needs_no_crypto(outcomes: Mapping[ObjectRequest, FetchOutcome]) -> bool:
    """Whether files are made of it without the library for keys and certificates."""
    return not any(
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
    """The files of all objects, in their order.

    Args:
        objects: as the class lists them.
        outcomes: what came for each.
        default_mode: of files whose entry names none.
        options: how certificates are wanted.

    Raises:
        KeyferryError: the first failure, which names the objects that failed as well.
        ClassInvalidError: separate files meet the path of another object.
    """
    files: list[SecretFile] = []
    versions: list[ObjectVersion] = []
    failures: list[tuple[ObjectRef, KeyferryError]] = []
    broken: list[ObjectRef] = []
    expiries: list[Expiry] = []
    for found in objects:
        contents = outcomes[request_for(found)]
        if isinstance(contents, KeyferryError):
            failures.append((found.ref, contents))
            continue
        chosen = default_mode if found.mode is None else found.mode
        try:
            for content, path, name in zip(contents, found.paths, found.ids, strict=False):
                rendered = render(content, found, options)
                files += (SecretFile(path + end, chosen, data) for end, data in rendered.files)
                versions += [ObjectVersion(name, content.version)] * len(rendered.files)
                broken += () if rendered.complete_chain else (found.ref,)
            # The older versions of a history are expected to end.
            expiries += _expiry_of(found, contents[0])
        except KeyferryError as error:
            failures.append((found.ref, error))
    if failures:
        ref = failures[0][0]
        context = fetch_error_prefix(ref.type.value, ref.name, ref.version)
        raise combined([(str(failed), error) for failed, error in failures], context)
    _check_path_clash(files)
    result = MountResult(tuple(versions), tuple(files), tuple(dict.fromkeys(expiries)))
    return RenderedVolume(result, tuple(dict.fromkeys(broken)))


def _expiry_of(vault_object: KeyVaultObject, newest: Content) -> tuple[Expiry, ...]:
    """When an object ends, if its class wants to know and it does end."""
    at = newest.properties.expires_at
    if at is None or not vault_object.expiry_warning:
        return ()
    return (Expiry(str(vault_object.ref), at, vault_object.expiry_warning),)


def _check_path_clash(files: Sequence[SecretFile]) -> None:
    """Only separate files can meet: which secrets have them is known only now."""
    clash = path_conflict(file.path for file in files)
    if clash is not None:
        raise ClassInvalidError(
            f"two files have the path '{clash[1]}', one of them the certificate or key of a secret",
            "Give one of the objects another objectAlias.",
        )
