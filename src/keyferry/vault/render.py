"""What an object becomes: bytes out of an answer. [pure]

Source: vault, section 1.7. Two things are ours: a `secretKey` that begins with `/` and is no key
leads into nested JSON (a JSON pointer, RFC 6901); and the `request_id` of a whole answer is empty,
because a new one with every read would make every refresh look like a change.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, assert_never

from keyferry.errors import ObjectUnusableError
from keyferry.excerpt import excerpt
from keyferry.go_json import JsonNumber, NotJsonError, text_bytes, write_json
from keyferry.vault.objects import Encoding

if TYPE_CHECKING:
    from keyferry.go_json import Json
    from keyferry.vault.answer import Answer
    from keyferry.vault.objects import VaultObject
    from keyferry.vault.product import Product

_AUTH_FIELDS = (
    "client_token", "accessor", "policies", "token_policies", "identity_policies", "metadata",
    "orphan", "entity_id", "lease_duration", "renewable", "mfa_requirement",
)  # fmt: skip
_WRAP_FIELDS = ("token", "accessor", "ttl", "creation_time", "creation_path", "wrapped_accessor")
_MISSING = object()


def render(found: VaultObject, answer: Answer, product: Product) -> bytes:
    """The content of the file.

    Raises:
        ObjectUnusableError: the answer has no such key, or its value is not of that encoding.
    """
    path = found.request.path
    if answer.data is None:
        raise ObjectUnusableError(
            f"{found}: the answer at {path} has no data",
            f"Read it by hand: {product.command} read {path}; it may be a path for writing only.",
        )
    try:
        if not found.key:
            return _whole(answer, product)
        value = _value(found, answer.data)
        text = value if type(value) is str else None
        raw = text_bytes(text) if text is not None else write_json(value)
    except NotJsonError:
        problem = f"{found}: the value at {path} is nested too deeply"
        raise ObjectUnusableError(problem, "Store it in another form.") from None
    return _decoded(found, raw)


def _whole(answer: Answer, product: Product) -> bytes:
    """The answer as JSON, its fields in upstream's order."""
    fields: list[tuple[str, bytes]] = [
        ("request_id", b'""'),
        ("lease_id", write_json(answer.lease_id)),
        ("lease_duration", answer.lease_duration.encode()),
        ("renewable", write_json(answer.renewable)),
        ("data", write_json(answer.data)),
        ("warnings", write_json(answer.warnings)),
    ]
    if answer.auth is not None:
        fields.append(("auth", _ordered(answer.auth, _AUTH_FIELDS)))
    if answer.wrap_info is not None:
        fields.append(("wrap_info", _ordered(answer.wrap_info, _WRAP_FIELDS)))
    if answer.mount_type and product.tells_mount_type:
        fields.append(("mount_type", write_json(answer.mount_type)))
    return b"{" + b",".join(f'"{name}":'.encode() + value for name, value in fields) + b"}"


def _ordered(values: Mapping[str, Json], names: tuple[str, ...]) -> bytes:
    pairs = (f'"{name}":'.encode() + write_json(values[name]) for name in names if name in values)
    return b"{" + b",".join(pairs) + b"}"


def _value(found: VaultObject, data: Mapping[str, Json]) -> Json:
    """The value of the key, where KV v2 keeps its data if it is one."""
    inner = data.get("data")
    level = inner if isinstance(inner, Mapping) else data
    if found.key in level:
        return level[found.key]
    if found.key.startswith("/"):
        value = _pointed(level, found.key)
        if value is not _MISSING:
            return value  # type: ignore[return-value]
    raise ObjectUnusableError(
        f"{found}: {found.request.path} has no key '{excerpt(found.key)}'; "
        f"its keys are: {_names(level)}",
        "Correct secretKey; keys of nested JSON are written as /outer/inner.",
    )


def _names(level: Mapping[str, Json]) -> str:
    """The first keys there are; keys are names, not values."""
    names = [excerpt(name) for name in sorted(level)[:20]]
    more = len(level) - len(names)
    return (", ".join(names) or "none") + (f" and {more} more" if more else "")


def _pointed(level: Json, pointer: str) -> object:
    """The value that a JSON pointer leads to."""
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


def _decoded(found: VaultObject, raw: bytes) -> bytes:
    try:
        match found.encoding:
            case Encoding.UTF8:
                return raw
            case Encoding.BASE64:
                # Go's decoder passes over line ends.
                return base64.b64decode(raw.translate(None, b"\r\n"), validate=True)
            case Encoding.HEX:
                return binascii.unhexlify(raw)
            case _:
                assert_never(found.encoding)
    except ValueError:
        raise ObjectUnusableError(
            f"{found}: the value of '{excerpt(found.key)}' at {found.request.path} "
            f"is not {found.encoding.value}",
            "Remove encoding, or store the value in that encoding.",
        ) from None
