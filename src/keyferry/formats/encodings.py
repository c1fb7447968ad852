"""Says why a value is not base64 or hex. [pure]"""

from __future__ import annotations

import re
from typing import Literal

_OUTSIDE_BASE64 = re.compile(rb"[^A-Za-z0-9+/=\r\n]")
_OUTSIDE_HEX = re.compile(rb"[^A-Fa-f0-9]")


def encoding_mistake(value: bytes, encoding: Literal["base64", "hex"]) -> str:
    """Return why `value` is not valid, as a clause that repeats none of its characters.

    Args:
        value: a value that could not be decoded; line breaks are permitted in base64.
        encoding: its alleged encoding.
    """
    if b"-----BEGIN " in value:
        return "it is PEM"
    if not value.strip():
        return "it has only blanks or line breaks"
    return _base64_mistake(value) if encoding == "base64" else _hex_mistake(value)


def _base64_mistake(value: bytes) -> str:
    outside = set(_OUTSIDE_BASE64.findall(value))
    if outside and outside <= {b" ", b"\t"}:
        return "it contains blanks"
    if outside and outside <= {b"-", b"_"}:
        return "it has the URL-safe alphabet, with - and _"
    if outside:
        return "it contains characters that base64 does not have"
    if len(value.translate(None, b"\r\n")) % 4:
        return "its padding (=) is missing, or it is cut off"
    return "its padding (=) is in the wrong place"


def _hex_mistake(value: bytes) -> str:
    if value[:2] in (b"0x", b"0X"):
        return "it begins with 0x"
    outside = set(_OUTSIDE_HEX.findall(value))
    if outside and outside <= {b" ", b"\t", b"\r", b"\n"}:
        return "it contains blanks or line breaks"
    if outside:
        return "it contains characters that are not hexadecimal digits"
    return "it has an odd number of digits"
