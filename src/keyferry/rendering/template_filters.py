"""The filters of templates: functions from content to content. [pure]

No message contains content.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from msgspec import Struct

from keyferry.errors import ClassInvalidError, ObjectUnusableError, SecretDataError, excerpt
from keyferry.formats.certs.pem import CERTIFICATE, PRIVATE_KEY_SUFFIX, encode_block, pem_blocks
from keyferry.formats.encodings import encoding_mistake

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from keyferry.formats.certs.pem import PemBlock

MAX_INDENT = 100
_NUMBER = re.compile("[0-9]{1,3}")
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class Filter(Struct, frozen=True):
    """One filter.

    Attributes:
        apply: makes new content of old content; its second argument is that of the filter.
        argument: what the argument is, for messages; "" for a filter without one.
        example: how it is written.
    """

    apply: Callable[[bytes, str], bytes]
    argument: str = ""
    example: str = ""


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ObjectUnusableError(
            "the content is not UTF-8 text", "Put the filter b64 before it."
        ) from None


def _b64(content: bytes, _: str) -> bytes:
    return base64.b64encode(content)


def _b64decode(content: bytes, _: str) -> bytes:
    try:
        return base64.b64decode(content.translate(None, b"\r\n \t"), validate=True)
    except binascii.Error:
        mistake = encoding_mistake(content, "base64")
        raise ObjectUnusableError(
            f"the content is not base64: {mistake}", "Remove the filter b64decode."
        ) from None


def _json(content: bytes, _: str) -> bytes:
    return json.dumps(_text(content), ensure_ascii=False).encode()


def _yaml(content: bytes, _: str) -> bytes:
    # A JSON text is one of YAML, but for characters that YAML does not let stand for themselves.
    quoted = json.dumps(_text(content), ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted).encode()


def _url(content: bytes, _: str) -> bytes:
    return quote(content, safe="").encode()


def _sql(content: bytes, _: str) -> bytes:
    text = _text(content)
    if "\0" in text:
        raise ObjectUnusableError(
            "the content has a zero byte, which no SQL text can have", "Store it without one."
        )
    return b"'" + text.replace("'", "''").encode() + b"'"


def _trim(content: bytes, _: str) -> bytes:
    return content.strip()


def _indent(content: bytes, argument: str) -> bytes:
    if not _NUMBER.fullmatch(argument) or int(argument) > MAX_INDENT:
        problem = f"indent({excerpt(argument)}) is not a number from 0 to {MAX_INDENT}"
        raise ClassInvalidError(problem, "Write the number of blanks, such as indent(4).")
    return content.replace(b"\n", b"\n" + b" " * int(argument))


def _pem(content: bytes) -> list[PemBlock]:
    try:
        return pem_blocks(content, "the content")
    except SecretDataError as error:
        raise ObjectUnusableError(error.problem, error.remedy) from None


def _chosen(blocks: Sequence[PemBlock], noun: str) -> bytes:
    if not blocks:
        raise ObjectUnusableError(
            f"the content has no {noun} in PEM", "Check the object, or use another file."
        )
    return b"".join(encode_block(block.label, block.der, block.headers) for block in blocks)


def _pem_key(content: bytes, _: str) -> bytes:
    blocks = [block for block in _pem(content) if block.label.endswith(PRIVATE_KEY_SUFFIX)]
    return _chosen(blocks, "private key")


def _pem_certificates(content: bytes, _: str) -> bytes:
    blocks = [block for block in _pem(content) if block.label == CERTIFICATE]
    return _chosen(blocks, "certificate")


FILTERS: dict[str, Filter] = {
    "b64": Filter(_b64),
    "b64decode": Filter(_b64decode),
    "json": Filter(_json),
    "yaml": Filter(_yaml),
    "url": Filter(_url),
    "sql": Filter(_sql),
    "trim": Filter(_trim),
    "indent": Filter(_indent, "the number of blanks", "indent(4)"),
    "pemkey": Filter(_pem_key),
    "pemcerts": Filter(_pem_certificates),
}
"""All filters by name."""
