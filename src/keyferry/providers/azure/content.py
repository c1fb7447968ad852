"""Renders the content of a vault as the files of a volume. [pure]

Differences from upstream: a private key must match one of its certificates, PKCS#12 can be
delivered as bytes, and separate files are never empty.

Source: docs/reference/upstream-azure-provider.md#content-of-files
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, assert_never

from msgspec import Struct

from keyferry.content import ObjectVersion, SecretFile
from keyferry.errors import (
    ClassInvalidError,
    KeyferryError,
    MountLimitError,
    ObjectMissingError,
    ObjectUnusableError,
    combined,
    excerpt,
)
from keyferry.formats.certs.material import KeyMaterial, MaterialKind, ParsedMaterial
from keyferry.formats.certs.pem import CERTIFICATE, encode_block
from keyferry.formats.encodings import encoding_mistake
from keyferry.formats.volume_paths import path_conflict
from keyferry.providers.api import MountResult
from keyferry.providers.azure.objects import (
    CERTIFICATE_SUFFIX,
    KEY_SUFFIX,
    KeyVaultObject,
    ObjectEncoding,
    ObjectFormat,
    fetch_error_prefix,
)
from keyferry.providers.azure.responses import Content, KeyVaultSecret, LeafCertificate, PublicKey
from keyferry.providers.azure.versions import FetchOutcome, ObjectRequest, request_for
from keyferry.providers.expiry import Expiry
from keyferry.providers.sources.numbering import naming_object
from keyferry.records import replace
from keyferry.rendering.entry_files import EntryFiles, Extraction, is_missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from keyferry.content import FileLimit
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
                raise _decoding_error(value, "base64") from None
        case ObjectEncoding.HEX:
            try:
                return binascii.unhexlify(value.encode("ascii"))
            except ValueError:
                raise _decoding_error(value, "hex") from None
        case _:
            assert_never(encoding)


def _decoding_error(value: str, encoding: Literal["base64", "hex"]) -> ObjectUnusableError:
    mistake = encoding_mistake(value.encode(errors="replace"), encoding)
    return ObjectUnusableError(
        f"the value is not valid {encoding}, but objectEncoding is {encoding}: {mistake}",
        f"Remove objectEncoding to deliver the value as it is, or store {encoding} in the vault.",
    )


PEM_TYPE = "application/x-pem-file"
PKCS12_TYPE = "application/x-pkcs12"
YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})
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


Parse = Callable[[KeyMaterial], ParsedMaterial]
"""Returns the result of a parse job that has run, or parses now."""


def material_of(
    content: Content, vault_object: KeyVaultObject, options: BundleOptions
) -> KeyMaterial | None:
    """Return what must be parsed to render `content`; None for plain values and certificates.

    Raises:
        VaultError: it cannot be delivered as the SecretProviderClass requires.
    """
    match content:
        case KeyVaultSecret(backs_certificate=True):
            return _bundle_material(content, vault_object, options)
        case PublicKey():
            return _public_key_material(content)
        case KeyVaultSecret() if vault_object.format is ObjectFormat.PKCS12:
            value = decode(content.value, ObjectEncoding.UTF8)
            return KeyMaterial(MaterialKind.PLAIN_PKCS12, value)
        case KeyVaultSecret() | LeafCertificate():
            return None
        case _:
            assert_never(content)


def render(
    content: Content, vault_object: KeyVaultObject, options: BundleOptions, parse: Parse
) -> Rendered:
    """Render `content` as files.

    Args:
        content: what the vault holds.
        vault_object: the entry of the SecretProviderClass.
        options: how certificates are delivered.
        parse: parses the result of `material_of`.

    Raises:
        VaultError: it cannot be delivered as the SecretProviderClass requires; the message quotes
            no value.
    """
    material = material_of(content, vault_object, options)
    parsed = ParsedMaterial() if material is None else parse(material)
    if parsed.problem:
        raise ObjectUnusableError(parsed.problem, parsed.remedy or _REMEDY)
    match content:
        case KeyVaultSecret(backs_certificate=True):
            return _render_bundle(content, vault_object, options, parsed)
        case KeyVaultSecret():
            return _single_file(_plain_bytes(content, vault_object))
        case PublicKey():
            return _single_file(parsed.pem)
        case LeafCertificate(cer):
            return _single_file(encode_block(CERTIFICATE, cer))
        case _:
            assert_never(content)


def _single_file(contents: bytes) -> Rendered:
    return Rendered((("", contents),))


def _plain_bytes(secret: KeyVaultSecret, vault_object: KeyVaultObject) -> bytes:
    # PKCS#12 is base64 text in the vault, also without a certificate, as App Service stores it.
    is_pkcs12 = vault_object.format is ObjectFormat.PKCS12
    return decode(secret.value, ObjectEncoding.BASE64 if is_pkcs12 else vault_object.encoding)


def _bundle_material(
    secret: KeyVaultSecret, vault_object: KeyVaultObject, options: BundleOptions
) -> KeyMaterial:
    """Return what to parse of the secret behind a certificate. There are six cases.

    1. PEM in the vault, PEM or PFX requested: the PEM as it is.
    2. PEM in the vault, PKCS#12 requested: an error.
    3. PKCS#12 in the vault, PEM requested: converted to PEM.
    4. PKCS#12 in the vault, PFX requested: its base64 text.
    5. PKCS#12 in the vault, PKCS#12 requested: its bytes.
    6. Any other content type: an error.

    Cases 4 and 5 convert it, too, if certificate and key are also delivered as separate files.
    """
    value = decode(secret.value, ObjectEncoding.UTF8)
    ordered, separate = options.ordered_chain, options.separate_files
    match secret.properties.content_type, vault_object.format:
        case "application/x-pem-file", ObjectFormat.PEM | ObjectFormat.PFX:
            return KeyMaterial(MaterialKind.PEM, value, separate=separate)
        case "application/x-pem-file", _:
            raise ObjectUnusableError(
                "its certificate is stored as PEM, so it is not available as PKCS#12",
                f"Remove objectFormat, or import the certificate with content type {PKCS12_TYPE}.",
            )
        case "application/x-pkcs12", format_:
            converts = separate or format_ is ObjectFormat.PEM
            kind = MaterialKind.PKCS12_TO_PEM if converts else MaterialKind.PKCS12
            return KeyMaterial(kind, value, ordered=ordered, separate=separate)
        case other, _:
            raise ObjectUnusableError(
                f"failed to get certificate. unknown content type '{excerpt(other)}'",
                f"Import the certificate with content type {PEM_TYPE} or {PKCS12_TYPE}.",
            )


def _render_bundle(
    secret: KeyVaultSecret,
    vault_object: KeyVaultObject,
    options: BundleOptions,
    parsed: ParsedMaterial,
) -> Rendered:
    """Render the secret behind a certificate, preceded by the separate files, if any."""
    text = secret.value
    encoding = vault_object.encoding
    if secret.properties.content_type == PKCS12_TYPE:
        if vault_object.format is ObjectFormat.PEM:
            text = parsed.pem.decode()
        elif vault_object.format is ObjectFormat.PKCS12:
            encoding = ObjectEncoding.BASE64
    whole = ("", decode(text, encoding))
    if not options.separate_files:
        return Rendered((whole,), parsed.complete_chain)
    parts = ((CERTIFICATE_SUFFIX, parsed.certificates), (KEY_SUFFIX, parsed.private_key), whole)
    return Rendered(parts, parsed.complete_chain)


def _public_key_material(key: PublicKey) -> KeyMaterial:
    match key.key_type:
        case "RSA" | "RSA-HSM":
            return KeyMaterial(MaterialKind.RSA_KEY, numbers=(key.number("n"), key.number("e")))
        case "EC" | "EC-HSM":
            numbers = (key.number("x"), key.number("y"))
            return KeyMaterial(MaterialKind.EC_KEY, curve=key.curve, numbers=numbers)
        case _:
            raise ObjectUnusableError(
                f"failed to get key. key type '{excerpt(key.key_type)}' currently not supported",
                "Use objectType: key only for RSA and EC keys; a symmetric key cannot be exported.",
            )


# --- The content of a volume: all objects, or an error --------------------------------------------


class RenderedVolume(Struct, frozen=True):
    """The content of a volume.

    Attributes:
        result: the files and versions.
        incomplete_chains: the objects whose certificates do not form one chain.
        extractions: the values from which further files are made.
    """

    result: MountResult
    incomplete_chains: tuple[KeyVaultObject, ...]
    extractions: tuple[Extraction, ...] = ()


def materials(
    objects: Sequence[KeyVaultObject],
    outcomes: Mapping[ObjectRequest, FetchOutcome],
    options: BundleOptions,
) -> dict[KeyMaterial, KeyVaultObject]:
    """Return what must be parsed before `render_all`, each with the first object that needs it.

    What cannot be delivered anyway is left out; `render_all` reports it.
    """
    found: dict[KeyMaterial, KeyVaultObject] = {}
    for vault_object in objects:
        contents = outcomes[request_for(vault_object)]
        if isinstance(contents, KeyferryError):
            continue
        for content in contents:
            try:
                material = material_of(content, vault_object, options)
            except KeyferryError:
                continue
            if material is not None:
                found.setdefault(material, vault_object)
    return found


def render_all(
    objects: Sequence[KeyVaultObject],
    outcomes: Mapping[ObjectRequest, FetchOutcome],
    *,
    default_mode: int,
    options: BundleOptions,
    parse: Parse,
    limit: FileLimit,
) -> RenderedVolume:
    """Render the files of all objects, in the order of `objects`.

    Args:
        objects: the entries of the SecretProviderClass.
        outcomes: the fetch outcome of each entry.
        default_mode: permission bits of files whose entry sets none.
        options: how certificates are delivered.
        parse: returns the parsed form of each of `materials`.
        limit: counts the files.

    Raises:
        KeyferryError: the first failure; its message also names the other objects that failed.
        ClassInvalidError: a separate file has the path of another object.
    """
    entries = EntryFiles(limit)
    versions: list[ObjectVersion] = []
    failures: list[tuple[KeyVaultObject, KeyferryError]] = []
    incomplete_chains: list[KeyVaultObject] = []
    expiries: list[Expiry] = []
    taken = {path for each in objects for path in (*each.paths, *each.file_paths)}
    for vault_object in objects:
        contents = outcomes[request_for(vault_object)]
        mode = default_mode if vault_object.mode is None else vault_object.mode
        if isinstance(contents, KeyferryError):
            if is_missing(contents, vault_object.options):
                versions.append(_add_missing(entries, contents, vault_object, mode, taken))
            else:
                failures.append((vault_object, contents))
            continue
        try:
            # A history may have fewer versions than paths.
            for index, (content, path, object_id) in enumerate(
                zip(contents, vault_object.paths, vault_object.ids, strict=False)
            ):
                rendered = render(content, vault_object, options, parse)
                history = f"/{index}" if vault_object.history > 1 else ""
                file = SecretFile(path, mode, b"", vault_object.options.owner)
                is_yaml = _is_yaml(content, vault_object)
                _add_files(entries, rendered, vault_object, file, history=history, is_yaml=is_yaml)
                versions += [ObjectVersion(object_id, content.version)] * len(rendered.files)
                incomplete_chains += () if rendered.complete_chain else (vault_object,)
            # Only the newest version of a history counts; older ones are expected to expire.
            expiries += _expiry_of(vault_object, contents[0])
        except MountLimitError:
            raise
        except KeyferryError as error:
            failures.append((vault_object, error))
    if failures:
        raise _combined(failures)
    _check_path_clash(entries.files)
    files, missing = tuple(entries.files), tuple(entries.missing)
    result = MountResult(tuple(versions), files, tuple(dict.fromkeys(expiries)), missing=missing)
    chains = tuple(dict.fromkeys(incomplete_chains))
    return RenderedVolume(result, chains, tuple(entries.extractions))


def _combined(failures: Sequence[tuple[KeyVaultObject, KeyferryError]]) -> KeyferryError:
    first, problem = failures[0]
    ref = first.ref
    if first.vault:
        problem = naming_object(problem, str(ref), shown=str(first))
    context = fetch_error_prefix(ref.type.value, ref.name, ref.version)
    others = [(str(failed), error) for failed, error in failures[1:]]
    return combined([(str(first), problem), *others], context)


def _add_files(
    entries: EntryFiles,
    rendered: Rendered,
    vault_object: KeyVaultObject,
    file: SecretFile,
    *,
    history: str,
    is_yaml: bool,
) -> None:
    """Add the files of one version; only the whole value has values inside of it."""
    options = replace(vault_object.options, is_yaml=is_yaml)
    separate = replace(options, jmes_paths=(), expand_keys=False)
    for suffix, data in rendered.files:
        entries.add(
            str(vault_object),
            replace(file, path=file.path + suffix, contents=data),
            separate if suffix else options,
            suffix=history,
        )


def _is_yaml(content: Content, vault_object: KeyVaultObject) -> bool:
    """Return whether `jmesPath` and `expandKeys` read YAML: the entry or the content type says so.

    Portal and command line set any content type, with parameters: `text/yaml; charset=utf-8`.
    """
    content_type = content.properties.content_type.partition(";")[0].strip().lower()
    return vault_object.options.is_yaml or content_type in YAML_TYPES


def _add_missing(
    entries: EntryFiles,
    error: KeyferryError,
    vault_object: KeyVaultObject,
    mode: int,
    taken: AbstractSet[str],
) -> ObjectVersion:
    """Add a missing object.

    Args:
        entries: the files so far.
        error: why it is missing.
        vault_object: the object.
        mode: permission bits of its file.
        taken: paths that objects have, which are no separate file of this one.
    """
    assert isinstance(error, ObjectMissingError)
    path = vault_object.paths[0]
    separate = {path + CERTIFICATE_SUFFIX, path + KEY_SUFFIX} - taken
    return entries.add_missing(
        error,
        str(vault_object),
        vault_object.ids[0],
        SecretFile(path, mode, b"", vault_object.options.owner),
        vault_object.options,
        further_paths=(*sorted(separate), vault_object.path),
        further_ids=vault_object.ids[1:],
        suffix="/0" if vault_object.history > 1 else "",
    )


def _expiry_of(vault_object: KeyVaultObject, newest: Content) -> tuple[Expiry, ...]:
    """Return when an object expires; empty if it does not."""
    at = newest.properties.expires_at
    if at is None:
        return ()
    return (Expiry(str(vault_object), at, vault_object.expiry_warning, vault_object.ids[0]),)


def _check_path_clash(files: Sequence[SecretFile]) -> None:
    """Reject separate files that collide; which secrets have them is known only after the fetch."""
    clash = path_conflict(file.path for file in files)
    if clash is not None:
        raise ClassInvalidError(
            f"two files have the path '{clash[1]}', one of them the certificate or key of a secret",
            "Give one of the objects another objectAlias.",
        )
