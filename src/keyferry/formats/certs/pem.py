"""PEM, read leniently and written strictly (RFC 7468). [pure]

No message repeats a byte of the contents, nor does it chain a foreign exception whose text could.
"""

from __future__ import annotations

import base64
import binascii
import codecs
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.errors import SecretDataError
from keyferry.formats.certs.limits import check_input_size, check_object_count

if TYPE_CHECKING:
    from collections.abc import Sequence

CERTIFICATE = "CERTIFICATE"
PRIVATE_KEY_SUFFIX = "PRIVATE KEY"
_PEM_BEGIN = b"-----BEGIN "
_PEM_DASHES = b"-----"
_PEM_LINE = 64


@dataclass(frozen=True, slots=True)
class PemBlock:
    """One block of PEM.

    Attributes:
        label: text after BEGIN.
        encrypted: whether its headers or its label say so.
        der: what is in it.
        headers: the lines before the base64 text, such as `Proc-Type: 4,ENCRYPTED` (RFC 1421).
    """

    label: str
    encrypted: bool
    der: bytes = field(repr=False)
    headers: tuple[bytes, ...] = ()


def pem_blocks(contents: bytes, source: str) -> list[PemBlock]:
    """Every whole block, in order; text around the blocks is ignored.

    Args:
        contents: any bytes. A byte order mark at their start is ignored.
        source: where they come from, for messages: `file 'web.pem'`.

    Raises:
        SecretDataError: a block is not base64, or the contents exceed a limit.
    """
    check_input_size(contents, source)
    blocks: list[PemBlock] = []
    label: bytes | None = None
    body: list[bytes] = []
    for raw in contents.removeprefix(codecs.BOM_UTF8).splitlines():
        line = raw.strip()
        if line.startswith(_PEM_BEGIN) and line.endswith(_PEM_DASHES):
            label, body = line[len(_PEM_BEGIN) : -len(_PEM_DASHES)], []
        elif label is not None and line == b"-----END " + label + _PEM_DASHES:
            blocks.append(_decode_block(label.decode("ascii", "replace")[:60], body, source))
            label = None
            check_object_count(len(blocks), source)
        elif label is not None:
            body.append(line)
    return blocks


def _decode_block(label: str, body: list[bytes], source: str) -> PemBlock:
    # Base64 holds no colon, so a line with one is a header.
    headers = [line for line in body if b":" in line]
    try:
        der = base64.b64decode(b"".join(line for line in body if b":" not in line), validate=True)
    except binascii.Error:
        problem = f"{source} has a PEM block {label!r} that is not base64"
        if any(_PEM_DASHES in line for line in body):
            problem = f"{source} holds PEM without a line break between two blocks"
        remedy = "Store it in the vault from a file; each block needs lines of its own."
        raise SecretDataError(problem, remedy) from None
    encrypted = label.startswith("ENCRYPTED") or any(b"ENCRYPTED" in line for line in headers)
    return PemBlock(label, encrypted, der, tuple(headers))


def encode_block(label: str, der: bytes, headers: Sequence[bytes] = ()) -> bytes:
    """One block in lines of 64 characters, with a line end at its end."""
    text = base64.b64encode(der)
    lines = [text[start : start + _PEM_LINE] for start in range(0, len(text), _PEM_LINE)]
    begin, end = f"-----BEGIN {label}-----".encode(), f"-----END {label}-----".encode()
    above = (*headers, b"") if headers else ()
    return b"\n".join((begin, *above, *lines, end, b""))
