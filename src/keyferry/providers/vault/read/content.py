"""Renders responses into the files of a volume. [pure]

Keyferry extensions: a `secretKey` that begins with `/` and is not a key is a JSON pointer (RFC
6901) into nested JSON. In a file with the whole response, `request_id` is empty: it differs in each
read, so that each refresh would look like a change.

Source: docs/reference/upstream-vault-provider.md#content-of-files
"""

from __future__ import annotations

import base64
import binascii
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

from keyferry.content import ObjectVersion, SecretFile
from keyferry.errors import (
    KeyferryError,
    ObjectMissingError,
    ObjectUnusableError,
    combined,
    excerpt,
)
from keyferry.formats.encodings import encoding_mistake
from keyferry.formats.go_json import JsonNumber, NotJsonError, text_bytes, write_json
from keyferry.providers.api import MountResult
from keyferry.providers.sources.numbering import naming_object
from keyferry.providers.vault.objects import ValueEncoding
from keyferry.records import replace
from keyferry.rendering.entry_files import EntryFiles, Extraction, is_missing

if TYPE_CHECKING:
    from keyferry.content import FileLimit
    from keyferry.formats.go_json import Json
    from keyferry.providers.vault.http.response import VaultResponse
    from keyferry.providers.vault.objects import SourceRequest, VaultObject
    from keyferry.providers.vault.product import Product


def content_version(hmac_key: bytes, vault_object: VaultObject, content: bytes) -> str:
    """Return the version of an object.

    Args:
        hmac_key: HMAC key for object versions.
        vault_object: the object.
        content: content of its file.
    """
    digest = hmac.digest(hmac_key, vault_object.canonical_json + content, "sha256")
    return urlsafe_b64encode(digest).decode()


_AUTH_FIELDS = (
    "client_token", "accessor", "policies", "token_policies", "identity_policies", "metadata",
    "orphan", "entity_id", "lease_duration", "renewable", "mfa_requirement",
)  # fmt: skip
_WRAP_FIELDS = ("token", "accessor", "ttl", "creation_time", "creation_path", "wrapped_accessor")
_MISSING = object()
_MAX_COMPARED = 100
"""Keys, and characters of a key, that are compared with a missing one."""


def render(vault_object: VaultObject, response: VaultResponse, product: Product) -> bytes:
    """Return the content of an object's file.

    Args:
        vault_object: the object.
        response: response to the object's request.
        product: product that the provider is for.

    Raises:
        ObjectMissingError: the response lacks the key.
        ObjectUnusableError: the value has another encoding.
    """
    path = vault_object.request.path
    if response.data is None:
        raise ObjectUnusableError(
            f"{vault_object}: the response for {path} has no data",
            f"Check the response: {product.command} read {path}. The path may be write-only.",
        )
    try:
        if not vault_object.key:
            return _whole_response(response, product)
        value = _value_at_key(vault_object, response.data)
        text = value if type(value) is str else None
        raw = text_bytes(text) if text is not None else write_json(value)
    except NotJsonError:
        problem = f"{vault_object}: the value at {path} is nested too deeply"
        raise ObjectUnusableError(problem, "Store the value with less nesting.") from None
    return _decode_value(vault_object, raw)


def _whole_response(response: VaultResponse, product: Product) -> bytes:
    """Return the response as JSON, with its fields in upstream's order."""
    fields: list[tuple[str, bytes]] = [
        ("request_id", b'""'),
        ("lease_id", write_json(response.lease_id)),
        ("lease_duration", response.lease_duration.encode()),
        ("renewable", write_json(response.renewable)),
        ("data", write_json(response.data)),
        ("warnings", write_json(response.warnings)),
    ]
    if response.auth is not None:
        fields.append(("auth", _ordered_object(response.auth, _AUTH_FIELDS)))
    if response.wrap_info is not None:
        fields.append(("wrap_info", _ordered_object(response.wrap_info, _WRAP_FIELDS)))
    if response.mount_type and product.has_mount_type:
        fields.append(("mount_type", write_json(response.mount_type)))
    return b"{" + b",".join(f'"{name}":'.encode() + value for name, value in fields) + b"}"


def _ordered_object(values: Mapping[str, Json], names: tuple[str, ...]) -> bytes:
    pairs = (f'"{name}":'.encode() + write_json(values[name]) for name in names if name in values)
    return b"{" + b",".join(pairs) + b"}"


def _value_at_key(vault_object: VaultObject, data: Mapping[str, Json]) -> Json:
    """Return the value of the object's key; for KV version 2, from the inner `data`."""
    level = _level(data)
    if vault_object.key in level:
        return level[vault_object.key]
    if vault_object.key.startswith("/"):
        value = _resolve_pointer(level, vault_object.key)
        if value is not _MISSING:
            return value  # type: ignore[return-value]
    close = get_close_matches(vault_object.key[:_MAX_COMPARED], list(level)[:_MAX_COMPARED], n=1)
    question = f"Did you mean '{excerpt(close[0])}'? " if close else ""
    raise ObjectMissingError(
        f"{vault_object}: {vault_object.request.path} has no key '{excerpt(vault_object.key)}'; "
        f"its keys are: {_key_names(level)}",
        f"{question}Correct secretKey. Write a key of nested JSON as /outer/inner.",
    )


def _level(data: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the keys of a secret; those of KV version 2 are in the inner `data`."""
    inner = data.get("data")
    return inner if isinstance(inner, Mapping) else data


def _key_names(level: Mapping[str, Json]) -> str:
    """Return the first keys for a message. Keys are names and not secret."""
    names = [excerpt(name) for name in sorted(level)[:20]]
    more = len(level) - len(names)
    return (", ".join(names) or "none") + (f" and {more} more" if more else "")


def _resolve_pointer(level: Json, pointer: str) -> object:
    """Return the value at a JSON pointer; `_MISSING` without one."""
    value: Json = level
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif _is_list(value) and name.isascii() and name.isdigit() and len(name) < 10:
            assert isinstance(value, Sequence)
            if int(name) >= len(value):
                return _MISSING
            value = value[int(name)]
        else:
            return _MISSING
    return value


def _is_list(value: Json) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | JsonNumber)


def _decode_value(vault_object: VaultObject, raw: bytes) -> bytes:
    try:
        match vault_object.encoding:
            case ValueEncoding.UTF8:
                return raw
            case ValueEncoding.BASE64:
                # Like Go's decoder, ignore line breaks.
                return base64.b64decode(raw.translate(None, b"\r\n"), validate=True)
            case ValueEncoding.HEX:
                return binascii.unhexlify(raw)
            case _:
                assert_never(vault_object.encoding)
    except ValueError:
        is_hex = vault_object.encoding is ValueEncoding.HEX
        mistake = encoding_mistake(raw, "hex" if is_hex else "base64")
        raise ObjectUnusableError(
            f"{vault_object}: the value of '{excerpt(vault_object.key)}' at "
            f"{vault_object.request.path} "
            f"is not valid {vault_object.encoding.value}: {mistake}",
            "Remove encoding, or store the value in that encoding.",
        ) from None


# --- The content of a volume ----------------------------------------------------------------------


class RenderedVolume(Struct, frozen=True):
    """The content of a volume.

    Attributes:
        result: the files and versions.
        extractions: the values from which further files are made.
    """

    result: MountResult
    extractions: tuple[Extraction, ...] = ()


def render_all(
    objects: Sequence[VaultObject],
    responses: Mapping[SourceRequest, VaultResponse | KeyferryError],
    *,
    default_mode: int,
    product: Product,
    hmac_key: bytes,
    limit: FileLimit,
) -> RenderedVolume:
    """Render the files of all objects, in their order.

    Args:
        objects: objects of the SecretProviderClass.
        responses: response or error of each request.
        default_mode: permission bits for objects without filePermission.
        product: product that the provider is for.
        hmac_key: HMAC key for object versions.
        limit: counts the files.

    Raises:
        KeyferryError: an object failed. It is the first error, and names all objects that failed.
    """
    entries = EntryFiles(limit)
    versions: list[ObjectVersion] = []
    failures: list[tuple[VaultObject, KeyferryError]] = []
    for entry in objects:
        response = responses[entry.source_request]
        mode = default_mode if entry.mode is None else entry.mode
        file = SecretFile(entry.name, mode, b"", entry.options.owner)
        try:
            if isinstance(response, KeyferryError):
                raise response
            content = render(entry, response, product)
            value = _extraction_value(entry, response)
        except KeyferryError as error:
            if isinstance(error, ObjectMissingError) and is_missing(error, entry.options):
                versions.append(
                    entries.add_missing(error, str(entry), entry.id, file, entry.options)
                )
            else:
                failures.append((entry, error))
            continue
        # The keys of a secret are JSON, whatever language its values have.
        options = entry.options if entry.key else replace(entry.options, is_yaml=False)
        entries.add(str(entry), replace(file, contents=content), options, value=value)
        versions.append(ObjectVersion(entry.id, content_version(hmac_key, entry, content)))
    if failures:
        first, problem = failures[0]
        if first.vault:
            failures[0] = first, naming_object(problem, str(first), shown=str(first))
        raise combined([(str(failed), why) for failed, why in failures])
    result = MountResult(tuple(versions), tuple(entries.files), missing=tuple(entries.missing))
    return RenderedVolume(result, tuple(entries.extractions))


def _extraction_value(entry: VaultObject, response: VaultResponse) -> bytes | None:
    """Return what `jmesPath` and `expandKeys` read: without secretKey, the keys of the secret."""
    if not entry.options.extracts or entry.key:
        return None
    assert response.data is not None
    return write_json(_level(response.data))
